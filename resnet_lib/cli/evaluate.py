"""``evaluate``: measure a checkpoint on a part of a data set."""

import argparse
import json
from dataclasses import replace
from typing import Any

from resnet_lib import checkpoint, device, splits, train
from resnet_lib.cli import figures, options, report


def add(commands: Any) -> None:
    """The options of ``evaluate``."""
    command = commands.add_parser(
        "evaluate",
        help="measure a checkpoint on a part of a data set",
        description="Measure a checkpoint: accuracy with a 95 % bootstrap interval over the "
        "images, mean precision, mean accuracy (balanced), and each class.",
    )
    command.set_defaults(run=run)
    command.add_argument(
        "--checkpoint",
        type=options.network,
        default=checkpoint.SHIPPED,
        help="a run's folder, or a checkpoint in it (the network that comes with the package)",
    )
    options.add_data(command)
    command.add_argument("--split", default="test", help=f"{', '.join(splits.SPLITS)} (test)")
    command.add_argument("--seed", type=int, default=0, help="of the validation split (0)")
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (auto)")


def run(args: argparse.Namespace) -> None:
    """Measure a checkpoint and print the figures."""
    model, metadata = checkpoint.restore_model(args.checkpoint)
    place = device.choose_device(args.device)
    images = metadata["data"]
    settings = {key: images[key] for key in ("image_size", "channels")}
    divided, asked = None, {"root": args.root, "limit": args.limit}
    if args.split in report.PARTS:
        divided = report.part_of_run(args.checkpoint, images, args.split, args.data, **asked)
    part, groups = divided or (
        options.load_data(args, args.split, limit=args.limit, **settings),
        None,
    )
    options.check_classes(args, part, images, "evaluate on the data it learned")
    part = replace(part, mean=tuple(images["mean"]), std=tuple(images["std"]))
    evaluation = train.evaluate(model, part, place)
    about = {"checkpoint": str(args.checkpoint), "data": args.data, "split": args.split}
    found = about | figures.measure(evaluation, part.classes, groups)
    if args.json:
        print(json.dumps(found))
        return
    print(f"{len(part):,} images of {args.data}, {args.split} part")
    print("\n".join(figures.lines(found)))
