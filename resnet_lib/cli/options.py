"""Options that several commands share, and what is made of them."""

import argparse
from pathlib import Path
from typing import Any

from resnet_lib import UserError, checkpoint, data, device


def positive(text: str) -> int:
    """A whole number above zero, for argparse."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


positive.__name__ = "whole number above 0"  # argparse puts it in its message


def share(text: str) -> float:
    """A number between 0 and 1, for argparse."""
    number = float(text)
    if not 0 < number < 1:
        raise ValueError
    return number


share.__name__ = "number between 0 and 1"


def network(text: str) -> str:
    """A trained network's file; the folder of a run stands for its best weights."""
    names = (checkpoint.SHIPPED, checkpoint.SHIPPED_SMALL_STEM)
    return str(Path(text) / checkpoint.BEST) if Path(text).is_dir() and text not in names else text


def add_data(command: argparse.ArgumentParser) -> None:
    """The options that choose images, the same for training and evaluation."""
    command.add_argument("--data", required=True, metavar="DATA", help="a name, or a folder")
    command.add_argument("--limit", type=positive, help="use so many images, balanced over classes")
    command.add_argument("--root", help="where downloaded data sets are kept")
    command.add_argument("--download", action="store_true", help="download the data set if missing")
    command.add_argument("--strict", action="store_true", help="refuse a folder with damaged files")


def add_device(command: argparse.ArgumentParser) -> None:
    """Where and in which number format to compute."""
    command.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (auto)")
    known = ", ".join(["auto", *device.PRECISIONS])
    command.add_argument("--precision", default="auto", help=f"{known} (auto)")


def load_data(args: argparse.Namespace, split: str, **options: Any):
    """``data.load`` with the options that all commands share."""
    return data.load(
        args.data,
        split,
        seed=args.seed,
        root=args.root,
        download=args.download,
        strict=args.strict,
        **options,
    )


def check_classes(
    args: argparse.Namespace, part: Any, learned: dict[str, Any], remedy: str
) -> None:
    """UserError where the data have other classes than ``args.checkpoint`` learned."""
    if list(part.classes) != list(learned["classes"]):
        raise UserError(
            f"{args.checkpoint} knows the classes {', '.join(learned['classes'][:3])}, …; "
            f"{args.data} has {', '.join(part.classes[:3])}, …: {remedy}"
        )
