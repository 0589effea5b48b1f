"""``evaluate``: measure a checkpoint on a part of a data set."""

import argparse
import json
from dataclasses import replace
from typing import Any

from resnet_lib import UserError, checkpoint, device, metrics, splits, train
from resnet_lib.cli import options


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
        default=checkpoint.SHIPPED,
        help="best.safetensors or last.pt of a run (the network that comes with the package)",
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
    part = options.load_data(
        args,
        args.split,
        limit=args.limit,
        image_size=images["image_size"],
        channels=images["channels"],
    )
    if list(part.classes) != images["classes"]:
        raise UserError(
            f"{args.checkpoint} knows the classes {', '.join(images['classes'][:3])}, …; "
            f"{args.data} has {', '.join(part.classes[:3])}, …: evaluate on the data it learned"
        )
    part = replace(part, mean=tuple(images["mean"]), std=tuple(images["std"]))
    evaluation = train.evaluate(model, part, place)
    matrix = metrics.confusion_matrix(evaluation.labels, evaluation.predictions, len(part.classes))
    hits = (evaluation.predictions == evaluation.labels).double()
    low, high = metrics.bootstrap_interval(hits)
    precision, recall = metrics.precision(matrix), metrics.recall(matrix)
    report = {
        "checkpoint": str(args.checkpoint),
        "data": args.data,
        "split": args.split,
        "images": len(part),
        "loss": evaluation.loss,
        "accuracy": evaluation.accuracy,
        "accuracy_interval": [low, high],
        "mean_precision": float(metrics.mean_precision(matrix)),
        "mean_accuracy": float(metrics.mean_accuracy(matrix)),
        "confusion_matrix": matrix.tolist(),
    }
    if args.json:
        print(json.dumps(report))
        return
    print(f"{len(part):,} images of {args.data}, {args.split} part")
    print(f"accuracy        {evaluation.accuracy:.4f}  (95 % interval {low:.4f} to {high:.4f})")
    print(f"mean precision  {report['mean_precision']:.4f}")
    print(f"mean accuracy   {report['mean_accuracy']:.4f}")
    print(f"loss            {evaluation.loss:.4f}")
    width = max(map(len, part.classes))
    print(f"\n{'class':{width}}  precision  recall")
    for name, p, r in zip(part.classes, precision.tolist(), recall.tolist(), strict=True):
        print(f"{name:{width}}  {p:9.4f}  {r:6.4f}")
