"""``author``: make the notebook that students get from a master with solutions."""

import argparse
from pathlib import Path
from typing import Any

from resnet_lib import UserError
from resnet_lib.authoring import files, installs_nothing, questions, solved


def add(commands: Any) -> None:
    """The options of ``author``."""
    command = commands.add_parser(
        "author",
        help="make the students' notebook from a master with solutions",
        description="Make the notebook that students get: without solutions and teachers' cells, "
        "with the sizes and questions of a variant. It refuses whatever resembles a mark for a "
        "solution and isn't one, and a file in which a line of a solution is left.",
    )
    command.set_defaults(run=run)
    command.add_argument("master", type=Path, help="the master notebook")
    command.add_argument("student", type=Path, nargs="?", help="the students' notebook to write")
    command.add_argument(
        "--variant", type=int, metavar="SEED", help="what is asked (the master's own variant)"
    )
    command.add_argument(
        "--assignment", metavar="NAME", help="a2, for example (as the master's folder says)"
    )
    command.add_argument(
        "--solution",
        type=Path,
        metavar="OUT",
        help="also, or instead, write the solved notebook for teachers, of the same variant",
    )


def run(args: argparse.Namespace) -> None:
    """Write the notebooks, and say what was written."""
    if args.student is None and args.solution is None:
        raise UserError(
            "say where to write: author MASTER STUDENT, or author MASTER --solution OUT"
        )
    if args.variant is not None and args.variant < 0:
        raise UserError(f"--variant must be 0 or more, got {args.variant}")
    for target in filter(None, (args.student, args.solution)):
        if target.resolve() == args.master.resolve():
            raise UserError(f"{target} is the master itself: write to another file")
    if args.student is not None:
        made = questions(args.master, args.variant, args.assignment)
        files.write(made, args.student)
        print(f"{args.student}: for students, no line of a solution is in it")
        if installs_nothing(made):
            print(
                "warning: its set-up cell knows no address to install resnet_lib from, so hand "
                "out the package, too: python -m pip wheel --no-deps . -w dist"
            )
    if args.solution is not None:
        files.write(solved(args.master, args.variant, args.assignment), args.solution)
        print(f"{args.solution}: for teachers, with the solutions")
