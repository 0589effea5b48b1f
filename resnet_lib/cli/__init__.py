"""The command line: a module a command, each with ``add`` (its options) and ``run``.

A user's mistake ends with one line and exit code 2; a traceback is a bug.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from resnet_lib import UserError, __version__, distributed
from resnet_lib.cli import (
    author,
    bench,
    evaluate,
    experiment,
    export,
    finetune,
    grade,
    predict,
    report,
    train,
)

EXAMPLES = """examples:
  A quarter-width ResNet-50 on the images that come with the package, about a minute:
    python -m resnet_lib train --width 16 --stem imagenet --data fashion --out runs/1
  The same, continued after an interruption: the same line and --resume.
  What came out, as one page with curves, figures and the worst mistakes:
    python -m resnet_lib report runs/1
  How good is it on the test part, and what does it say of a picture?
    python -m resnet_lib evaluate --checkpoint runs/1/best.safetensors --data fashion
    python -m resnet_lib predict --checkpoint runs/1/best.safetensors shoe.png
  A classifier of your own pictures, from a folder with one sub-folder a class:
    python -m resnet_lib finetune --data pictures --from IMAGENET1K_V2 --out runs/2
  The network as a file for other programs, and what that file says of the picture:
    python -m resnet_lib export --checkpoint runs/1/best.safetensors --precision int8
    python -m resnet_lib predict --checkpoint runs/1/best-int8.onnx shoe.png
  How fast is training on this machine, beside a tutorial's loop and the machine's peak?
    python -m resnet_lib bench --json speed.json
  Mark a folder of students' notebooks:
    python -m resnet_lib grade handed-in --assignment a2 --variant 2027 --out marks

DATA is fashion, scaled-shapes, cifar10, imagenette, or a folder with one sub-folder a class."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is one line."""

    def error(self, message: str):
        raise UserError(f"{message} (try {self.prog} --help)")


def make_parser() -> Parser:
    """All commands with their options; the help text is a user's first manual."""
    parser = Parser(
        prog="python -m resnet_lib",
        description="Train, evaluate and use residual networks: the package behind the book.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in (
        train, finetune, report, evaluate, predict, export, experiment, bench, author, grade,
    ):  # fmt: skip
        module.add(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0, 2 for a user's mistake, 130 for Ctrl-C."""
    line = list(sys.argv[1:] if arguments is None else arguments)
    try:
        args = make_parser().parse_args(line)
        args.line = line
        args.run(args)
    except UserError as error:
        rank = int(os.environ.get("RANK", 0))  # torchrun's number of the process
        print(f"resnet_lib: {error}{f' (process {rank})' if rank else ''}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        if distributed.rank() == 0:
            said = "; ".join(["interrupted", *map(str, stop.args)])
            print(f"\nresnet_lib: {said}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone: nothing to complain about
        sys.stderr.close()
        return 0
    return 0
