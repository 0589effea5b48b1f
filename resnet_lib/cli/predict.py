"""``predict``: classify image files."""

import argparse
import json
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from resnet_lib import UserError, checkpoint, deployed, device, folders
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
        type=options.network,
        default=checkpoint.SHIPPED,
        help="a run's folder, or a checkpoint in it, or an exported .onnx or .pt2 file "
        "(the network that comes with the package)",
    )
    command.add_argument("images", nargs="+", metavar="IMAGE", help="image files")
    command.add_argument("--top", type=options.positive, default=3, help="classes to print (3)")
    command.add_argument("--json", action="store_true", help="print one JSON object an image")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (auto)")


def classifier(path: str, where: str = "auto") -> tuple[Callable[[Tensor], Tensor], dict[str, Any]]:
    """Normalised images (N, C, S, S) -> logits, of a checkpoint or an exported file; and metadata.

    UserError where an exported file is to run elsewhere than on the CPU.
    """
    if deployed.is_exported(path):
        if where not in ("auto", "cpu"):
            raise UserError(f"exported files run on the CPU: leave --device {where} out")
        run_file, metadata = deployed.load(path)
        return lambda inputs: run_file(inputs)[0], metadata
    model, metadata = checkpoint.restore_model(path)
    place = device.choose_device(where)
    model.to(place)
    return lambda inputs: model(inputs.to(place)).cpu(), metadata


@torch.inference_mode()
def run(args: argparse.Namespace) -> None:
    """Classify image files one by one, so that a bad one costs only itself."""
    classify, metadata = classifier(args.checkpoint, args.device)
    images, bad = metadata["data"], []
    top = min(args.top, len(images["classes"]))
    for path in args.images:
        try:
            pixels = folders.decode_all([path], images["image_size"], images["channels"])
        except UserError as error:
            bad.append(str(error))
            continue
        inputs = normalize(pixels, images["mean"], images["std"])
        values, indices = classify(inputs).softmax(1)[0].topk(top)
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
