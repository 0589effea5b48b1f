"""``predict``: classify image files."""

import argparse
import json
from typing import Any

import torch

from resnet_lib import UserError, checkpoint, device, folders
from resnet_lib.augment import normalize
from resnet_lib.cli import options


def add(commands: Any) -> None:
    """The options of ``predict``."""
    command = commands.add_parser(
        "predict",
        help="classify image files",
        description="Classify image files: the most probable classes with their probabilities.",
    )
    command.set_defaults(run=run)
    command.add_argument(
        "--checkpoint",
        default=checkpoint.SHIPPED,
        help="best.safetensors or last.pt of a run (the network that comes with the package)",
    )
    command.add_argument("images", nargs="+", metavar="IMAGE", help="image files")
    command.add_argument("--top", type=options.positive, default=3, help="classes to print (3)")
    command.add_argument("--json", action="store_true", help="print one JSON object an image")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (auto)")


@torch.inference_mode()
def run(args: argparse.Namespace) -> None:
    """Classify image files one by one, so that a bad one costs only itself."""
    model, metadata = checkpoint.restore_model(args.checkpoint)
    place = device.choose_device(args.device)
    model.to(place)
    images, bad = metadata["data"], []
    top = min(args.top, len(images["classes"]))
    for path in args.images:
        try:
            pixels = folders.decode_all([path], images["image_size"], images["channels"])
        except UserError as error:
            bad.append(str(error))
            continue
        inputs = normalize(pixels.to(place), images["mean"], images["std"])
        values, indices = model(inputs).softmax(1)[0].topk(top)
        ranked = [
            (images["classes"][index], value)
            for index, value in zip(indices.tolist(), values.tolist(), strict=True)
        ]
        if args.json:
            print(json.dumps({"image": path, "top": [list(pair) for pair in ranked]}))
        else:
            print(f"{path}  " + "  ".join(f"{name} {value:.3f}" for name, value in ranked))
    if bad:
        raise UserError("; ".join(bad))
