"""``grade``: run and mark a folder of notebooks."""

import argparse
import importlib.util
import secrets
from pathlib import Path
from typing import Any

import resnet_lib
from resnet_lib import UserError, assignments
from resnet_lib.assignments.items import HIDDEN_JUDGE
from resnet_lib.cli import options
from resnet_lib.grading import lms
from resnet_lib.grading.grade import Outcome, grade
from resnet_lib.grading.settings import SEED_BITS, Options

FORMATS = ("canvas", "moodle", "gradescope")


def above_zero(text: str) -> float:
    """A number above zero, for argparse."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError
    return value


above_zero.__name__ = "number above 0"  # argparse puts it in its message


def add(commands: Any) -> None:
    """The options of ``grade``."""
    command = commands.add_parser(
        "grade",
        help="run and mark a folder of notebooks",
        description="Run each notebook of a folder in a sandbox, judge what its objects return, "
        "and write marks.csv with feedback for each student. A second run grades what changed.",
    )
    command.set_defaults(run=run)
    command.add_argument("folder", nargs="?", help="the students' notebooks, or one of them")
    command.add_argument("--assignment", required=True, help="a1, a2, ..., or a Python file")
    command.add_argument("--out", help="folder for marks and feedback; a second run continues it")
    command.add_argument("--variant", type=int, help="of this year's sheet (that in --out, else 0)")
    hidden = command.add_mutually_exclusive_group()
    hidden.add_argument(
        "--coursework", help="folder with the hidden items (coursework, beside the package)"
    )
    hidden.add_argument("--no-hidden", action="store_true", help="grade without hidden items")
    command.add_argument("--seed", type=int, help="of the questions (drawn, and kept in --out)")
    command.add_argument(
        "--again", action="append", default=[], metavar="NAME",
        help="grade this submission again, after an appeal; may be repeated",
    )  # fmt: skip
    limits = "(the assignment's)"
    command.add_argument("--time", type=above_zero, metavar="S", help=f"for a notebook {limits}")
    command.add_argument("--cell-time", type=above_zero, metavar="S", help=f"for a cell {limits}")
    command.add_argument("--memory", type=above_zero, metavar="GB", help=f"for a notebook {limits}")
    command.add_argument("--jobs", type=options.positive, default=1, help="notebooks at a time (1)")
    command.add_argument(
        "--no-sandbox", action="store_true", help="trust the students: their code may do anything"
    )
    command.add_argument(
        "--as-user", metavar="NAME", help="with --no-sandbox, as root: run as NAME"
    )
    command.add_argument(
        "--format", action="append", default=[], choices=FORMATS, help="also for this platform"
    )
    command.add_argument("--roster", metavar="CSV", help="the table that the platform exported")
    command.add_argument(
        "--autograder", metavar="ZIP", help="write Gradescope's zip, grade nothing"
    )


def hidden_folder(args: argparse.Namespace, name: str) -> Path | None:
    """The folder with the hidden items of the assignment; UserError where it isn't clear."""
    if args.no_hidden:
        return None
    beside = Path(resnet_lib.__file__).resolve().parent.parent / "coursework"
    base = Path(args.coursework) if args.coursework else beside
    if not base.is_dir() and args.coursework:
        raise UserError(f"no folder {base}: --coursework names the one with the hidden items")
    below = [base, base / name, *sorted(base.glob(f"{name}_*"))]
    found = [folder for folder in below if (folder / HIDDEN_JUDGE).is_file()]
    if not found:
        reason = f"are not in {base}" if args.coursework else "do not come with the package"
        raise UserError(
            f"the hidden items of {name} {reason}: name their folder with --coursework, or say "
            "--no-hidden"
        )
    return found[0]


def run(args: argparse.Namespace) -> None:
    """Grade a folder, or write the zip for Gradescope."""
    if importlib.util.find_spec("IPython") is None:
        raise UserError("grading needs IPython: run 'pip install ipython'")
    assignment = assignments.find(args.assignment)
    folder = hidden_folder(args, assignment.name)
    if args.autograder:
        if args.assignment != assignment.name:
            raise UserError("the zip for Gradescope is made for assignments of the package only")
        seed = secrets.randbits(SEED_BITS) if args.seed is None else args.seed
        complete = assignment.with_hidden(folder) if folder else assignment
        lms.autograder(args.autograder, complete, args.variant or 0, seed, folder)
        print(f"{args.autograder}: upload it to Gradescope as the autograder of {assignment.name}")
        return
    if not args.folder or not args.out:
        raise UserError("name the folder of the notebooks, and one for the marks with --out")
    if args.roster and not set(args.format) & {"canvas", "moodle"}:
        raise UserError("--roster goes with --format canvas or --format moodle")
    if args.roster and "moodle" in args.format:  # before hours of grading
        lms.check_roster(args.roster, assignment.with_hidden(folder) if folder else assignment)
    if args.as_user and not args.no_sandbox:
        raise UserError("--as-user goes with --no-sandbox")
    chosen = Options(
        args.assignment,
        Path(args.out),
        variant=args.variant,
        coursework=folder,
        seed=args.seed,
        seconds=args.time,
        cell_seconds=args.cell_time,
        gigabytes=args.memory,
        trusting=args.no_sandbox,
        user=args.as_user,
        jobs=args.jobs,
        again=tuple(args.again),
    )
    if args.no_sandbox:
        print("without a sandbox: the notebooks can read, write and send what you can")
    try:
        outcome = grade(args.folder, chosen, report=lambda text: print(text, flush=True))
    except KeyboardInterrupt:
        print("\ninterrupted: what was graded is kept, and the same line continues")
        raise SystemExit(130) from None
    conclude(outcome, args)


def conclude(outcome: Outcome, args: argparse.Namespace) -> None:
    """The files for platforms, and a summary."""
    out = outcome.marks.folder
    for name in dict.fromkeys(args.format):
        if name == "gradescope":
            lms.gradescope(outcome.results, out)
            continue
        write = {"canvas": lms.canvas, "moodle": lms.moodle}[name]
        lost = write(outcome.results, outcome.assignment, out, args.roster)
        if lost:
            print(f"in no row of {args.roster}: {', '.join(lost)}")
    if outcome.others:
        more = f" and {len(outcome.others) - 5} more" if len(outcome.others) > 5 else ""
        print(f"not looked at, since they are no notebooks: {', '.join(outcome.others[:5])}{more}")
    totals = [result.total for result in outcome.results]
    unusual = [result for result in outcome.results if result.status != "ok"]
    print(
        f"{len(totals)} submissions, {len(outcome.graded)} graded now, "
        f"mean {sum(totals) / len(totals):.1f} of {outcome.assignment.points:g} points, "
        f"{len(unusual)} not ok: {out / 'marks.csv'}"
    )
