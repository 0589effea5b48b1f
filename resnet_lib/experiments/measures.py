"""What experiments measure of a network beside its accuracy, as plain data for a record."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from resnet_lib import data, explain, locate, metrics, pyramid, signals, train
from resnet_lib.augment import normalize


def signals_of_a_batch(model: nn.Module, val: data.ImageSet) -> dict[str, Any]:
    """``signals.block_signals`` for the first 256 images of the validation part."""
    images, labels = next(iter(data.batches(val, 256)))
    place = next(model.parameters()).device
    images = normalize(images.to(place), val.mean, val.std)
    return signals.block_signals(model, images, labels.to(place))


def fields_of_view(model: nn.Module, val: data.ImageSet) -> dict[str, Any]:
    """Stage -> the effective receptive field of its middle unit, on sheets of validation images.

    A sheet has five by five images of 96 pixels, large enough for the fields. "width" is the
    Gaussian width in pixels, "square" the side of the smallest centred square with 95 % of the
    heat. The map around the unit has "side" times "side" cells of "cell" pixels: "heat" holds the
    square roots of their sums, from 0 to 255, as two hexadecimal digits each, row by row.
    """
    place, rows, sheets = next(model.parameters()).device, 5, 8
    images, _ = next(iter(data.batches(val, sheets * rows**2)))
    images = images[: len(images) // rows**2 * rows**2]  # whole sheets
    pictures = normalize(images.to(place), val.mean, val.std)
    channels, side = pictures.shape[1:3]
    sheets = pictures.view(-1, rows, rows, channels, side, side).permute(0, 3, 1, 4, 2, 5)
    sheets = sheets.reshape(-1, channels, rows * side, rows * side)
    model = pyramid.with_statistics_of(model, pictures)
    measured = {}
    for stage, field in pyramid.receptive_field(model).items():
        heat = pyramid.effective_receptive_field(model, sheets, stage)
        middle = sum(field.span(heat.shape[0] // field.jump // 2)) // 2
        cell = math.ceil(min(field.size, heat.shape[0]) / 57)
        cells = math.ceil(min(field.size, heat.shape[0]) / cell) | 1  # odd: one in the middle
        measured[stage] = {
            "width": pyramid.gaussian_width(heat),
            "square": pyramid.square_of_share(heat, middle, 0.95),
            "cell": cell,
            "side": cells,
            "heat": pyramid.to_bytes(pyramid.cells_around(heat, middle, cell, cells)).hex(),
        }
    return measured


def accuracy_by_size(
    model: nn.Module, evaluation: train.Evaluation, test: data.ImageSet
) -> dict[str, Any]:
    """Test accuracy and number of test images for each size of the objects in pixels."""
    right, sizes = evaluation.predictions == evaluation.labels, test.attributes["size"]
    return {
        "accuracy_by_size": locate.by_size(right, sizes),
        "images_by_size": {f"{size:g}": int((sizes == size).sum()) for size in sizes.unique()},
    }


def right_by_image(
    model: nn.Module, evaluation: train.Evaluation, test: data.ImageSet
) -> dict[str, Any]:
    """ "right": a bit for each test image, in order, eight to a byte, in hexadecimal digits.

    With it two networks are compared image by image; ``bits`` reads it.
    """
    right = (evaluation.predictions == evaluation.labels).numpy()
    return {"right": np.packbits(right).tobytes().hex()}


def bits(digits: str, count: int) -> Tensor:
    """What ``right_by_image`` wrote: bool (count,)."""
    values = np.unpackbits(np.frombuffer(bytes.fromhex(digits), np.uint8), count=count)
    return torch.from_numpy(values.astype(bool))


def quality(model: nn.Module, evaluation: train.Evaluation, test: data.ImageSet) -> dict[str, Any]:
    """Of the probabilities on the test part: expected calibration error and Brier score."""
    scores = evaluation.logits, evaluation.labels
    return {
        "calibration_error": metrics.expected_calibration_error(*scores),
        "brier_score": metrics.brier_score(*scores),
    }


def attention(
    model: nn.Module, evaluation: train.Evaluation, test: data.ImageSet
) -> dict[str, Any]:
    """``explain.energy_by_size``, for 1,000 test images and for as many whose objects roam.

    The objects of a set have the room of the largest one, so a wide range of sizes keeps all of
    them near the middle, where a map could lie by habit.
    """
    some = data.subset(test, range(len(test))[:1_000])
    each = max(1, len(some) // len(some.attributes["size"].unique()))
    return {
        "energy_by_size": explain.energy_by_size(model, some),
        "energy_roaming": explain.energy_by_size(model, explain.roaming(test, each)),
    }
