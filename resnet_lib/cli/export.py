"""``export``: write a network as a file that runs without this package."""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resnet_lib import UserError, checkpoint, data, deployed, export
from resnet_lib.cli import options, report

SUFFIX = {form: suffix for suffix, form in deployed.SUFFIXES.items()}


def add(commands: Any) -> None:
    """The options of ``export``."""
    command = commands.add_parser(
        "export",
        help="write a network as a file for ONNX Runtime or torch.export",
        description="Write a network as one file that runs without this package, and compare it "
        "with the network itself before the file gets its name. fp16 halves the file, not the "
        "time: on a CPU the weights are widened to float32. int8 (onnx only) computes in eight "
        "bits; it is calibrated on training images. A .pt2 file (torch-export) can hold code that "
        "runs when it is opened: open those of people you trust.",
    )
    command.set_defaults(run=run)
    command.add_argument(
        "--checkpoint",
        type=options.network,
        default=checkpoint.SHIPPED,
        help="a run's folder, or a checkpoint in it (the network that comes with the package)",
    )
    command.add_argument("--format", default="onnx", help=f"{', '.join(export.FORMATS)} (onnx)")
    command.add_argument(
        "--precision", default="fp32", help=f"{', '.join(export.PRECISIONS)} (fp32)"
    )
    command.add_argument(
        "--out",
        type=Path,
        help="the file, .onnx or .pt2; one of that name is replaced (beside the checkpoint)",
    )
    command.add_argument(
        "--data",
        metavar="DATA",
        help="a name, or a folder: what to calibrate and compare on (what the checkpoint learned)",
    )
    command.add_argument("--root", help="where downloaded data sets are kept")
    command.add_argument(
        "--calibration", type=options.positive, default=256, help="training images for int8 (256)"
    )
    command.add_argument(
        "--limit", type=options.positive, default=2000, help="test images to compare on (2000)"
    )
    command.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> None:
    """Export a checkpoint, and print how far the file agrees with it."""
    export.choose(args.format, args.precision)
    if args.format == "onnx":
        deployed.require(*deployed.PACKAGES)
    out = destination(args)
    model, about = checkpoint.restore_model(args.checkpoint)
    test, labels = images_of(args, about["data"], "test", args.limit)
    given: dict[str, Any] = {"check": test}
    if args.precision == "int8":
        given["calibration"], _ = images_of(args, about["data"], "train", args.calibration)
        if given["calibration"] is None:
            raise UserError("int8 is calibrated on training images: name the data with --data")
    found = export.WRITERS[args.format](model, out, about, args.precision, **given)
    figures = {
        "file": str(out),
        "format": args.format,
        "precision": args.precision,
        "bytes": out.stat().st_size,
        "compared_on": "noise" if test is None else "test part",
        "images": len(found.eager),
        "max_error": found.max_error,
        "equal_predictions": found.equal,
    }
    if labels is not None:
        figures["accuracy"], figures["exported_accuracy"] = found.accuracies(labels)
    print(json.dumps(figures) if args.json else in_words(figures))


def in_words(figures: dict[str, Any]) -> str:
    """The report in two or three lines."""
    where = "images of noise" if figures["compared_on"] == "noise" else "images of the test part"
    lines = [
        f"{figures['file']}: {figures['bytes'] / 1e6:.2f} MB, {figures['precision']}",
        f"on {figures['images']:,} {where}: logits differ by up to {figures['max_error']:.2g}, "
        f"the same class for {100 * figures['equal_predictions']:.2f} %",
    ]
    if "accuracy" in figures:
        lines.append(
            f"accuracy {figures['accuracy']:.4f}, exported {figures['exported_accuracy']:.4f}"
        )
    return "\n".join(lines)


def destination(args: argparse.Namespace) -> Path:
    """Where the file goes; UserError where it can't go there, before anything is computed."""
    suffix = SUFFIX[args.format]
    if args.out is None:
        name = f"{Path(args.checkpoint).stem}-{args.precision}{suffix}"
        beside = Path(args.checkpoint).parent if args.checkpoint != checkpoint.SHIPPED else Path()
        return beside / name
    if args.out.suffix != suffix:
        raise UserError(f"a file for {args.format} must end in {suffix}, got {args.out}")
    if not args.out.parent.is_dir():
        raise UserError(f"there is no folder {args.out.parent}: make it, or choose another")
    if args.out.is_dir():
        raise UserError(f"{args.out} is a folder: choose another name")
    return args.out


def images_of(
    args: argparse.Namespace, learned: dict[str, Any], split: str, limit: int
) -> tuple[Tensor | None, Tensor | None]:
    """Images and labels of a part of the data that was learned; None where they are not at hand.

    UserError where the user names data that are not what was learned.
    """
    name = args.data or learned["name"]
    limit = max(limit, len(learned["classes"]))
    try:
        asked = {"root": args.root, "limit": limit}
        found = report.part_of_run(args.checkpoint, learned, split, args.data, **asked)
    except UserError:
        if args.data:
            raise
        return None, None  # the folder is no longer there
    if found:
        return of_part(found[0])
    if not args.data and name not in data.LOADERS:
        return None, None
    sizes = {"image_size": learned["image_size"], "channels": learned["channels"]}
    try:
        part = data.load(name, split, limit=limit, root=args.root, **sizes)
    except UserError:
        if args.data:
            raise
        return None, None  # a set that was not downloaded
    if args.data:
        options.check_classes(args, part, learned, "name the data it learned")
    elif list(part.classes) != list(learned["classes"]):
        return None, None  # of the same name, and yet another set
    return of_part(part)


def of_part(part: Any) -> tuple[Tensor, Tensor]:
    """All images and labels."""
    images, labels = zip(*data.batches(part, 256), strict=True)
    return torch.cat(images), torch.cat(labels)
