"""Checks of chapter 13, scaling out."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from resnet_lib.checks.answers import (
    function,
    kind,
    number,
    returned,
    same_number,
    same_tensor,
    shaped,
    tensor,
)
from resnet_lib.checks.verdict import Draw, Mismatch, check
from resnet_lib.scaling import ring_bytes


@check
def check_sent(sent: Callable, *, draw: Draw) -> str:
    """Exercise 13.1: sent(parameters, devices, bytes_per_number) -> bytes."""
    sent = function(sent, "sent(parameters, devices, bytes_per_number)")
    cases = [(44_549_160, devices, size) for devices in (8, 2, 1024) for size in (4, 2)]
    cases += [(draw.integer(1_000, 99_999), draw.integer(3, 60), 4), (25_557_032, 1, 4)]
    for parameters, devices, size in cases:
        expected, whole = ring_bytes(size * parameters, devices), size * parameters
        mistakes = [
            (expected / 2, "is one turn around the ring; the sums must go around as well"),
            (2 * whole, "sends every part in every round; one part stays at home"),
            (whole, "is all gradients once, as if one device collected them"),
            (expected / size, "counts numbers, not bytes"),
            (expected * devices, "is what all devices send together"),
            ((devices - 1) * whole, "sends everything to everybody"),
        ]
        what = f"the bytes of {parameters:,} parameters of {size} bytes on {devices} devices"
        same_number(sent(parameters, devices, size), expected, what, mistakes, tolerance=1e-4)
    return "the bytes are those of a ring, for every number of devices and both formats"


@check
def check_combine(combine: Callable, *, draw: Draw) -> str:
    """Exercise 13.2: combine(gradients, counts) -> the gradient of the mean of all."""
    combine = function(combine, "combine(gradients, counts)")
    for counts in ([8, 8], [7, 2, 1], [draw.integer(1, 9) for _ in range(4)] + [11], [5]):
        gradients = [draw.normal(6) for _ in counts]
        kept = [gradient.clone() for gradient in gradients]
        weights = torch.tensor(counts, dtype=torch.float64)
        stacked = torch.stack(gradients)
        expected = (weights[:, None] * stacked).sum(0) / weights.sum()
        mistakes = [
            (stacked.mean(0), "is the plain average: each device weighs alike, not each image"),
            (stacked.sum(0), "is the sum of the gradients: weigh them, so that it is a mean"),
            ((weights[:, None] * stacked).sum(0), "is not divided by the number of all images"),
            (
                (weights[:, None] * stacked).mean(0),
                "is divided by the number of devices, not of images",
            ),
        ]
        same_tensor(combine(gradients, counts), expected, f"for shares of {counts}", mistakes)
        for before, after in zip(kept, gradients, strict=True):
            if not torch.equal(before, after):
                raise Mismatch("your function changed the gradients that it was given")
    return "every image weighs alike, with even and uneven shares"


@check
def check_statistics(summary: Callable, statistics: Callable, *, draw: Draw) -> str:
    """Exercise 13.3: summary(x) to add up, statistics(total) -> (mean, variance) of all."""
    summary = function(summary, "summary(x)")
    statistics = function(statistics, "statistics(total)")
    for sizes in ([5, 2], [4, 4], [3, 1, 6]):
        channels = draw.integer(2, 5)
        scale, shift = 1 + draw.normal(channels, 1, 1).square(), 2 * draw.normal(channels, 1, 1)
        shares = [scale * draw.normal(size, channels, 3, 2) + shift + 0.7 * size for size in sizes]
        found = [_summed(summary(share)) for share in shares]
        if len({part.shape for part in found}) > 1:
            raise Mismatch(
                "the summaries of shares of different sizes have different shapes, so they cannot "
                "be added up: send sums over the images, not the images"
            )
        mean, variance = returned(statistics(sum(found)), 2, "statistics(total)")
        whole = torch.cat(shares)
        means = torch.stack([share.mean((0, 2, 3)) for share in shares])
        parts = torch.stack([share.var((0, 2, 3), unbiased=False) for share in shares])
        what = f"for shares of {sizes} images"
        same_tensor(
            shaped(mean, (channels,), f"the mean {what}"),
            whole.mean((0, 2, 3)),
            f"the mean {what}",
            [
                (means.mean(0), "is the mean of the devices' means: weigh them by their images"),
                (means.sum(0), "is the sum of the devices' means"),
            ],
        )
        same_tensor(
            shaped(variance, (channels,), f"the variance {what}"),
            whole.var((0, 2, 3), unbiased=False),
            f"the variance {what}",
            [
                (
                    whole.var((0, 2, 3)),
                    "is divided by one less than the count; batch norm divides by the count",
                ),
                (parts.mean(0), "is the mean of the devices' variances: their means differ too"),
                (
                    whole.square().mean((0, 2, 3)),
                    "is the mean of the squares: subtract the square of the mean",
                ),
                (whole.std((0, 2, 3), unbiased=False), "is the standard deviation"),
            ],
            tolerance=1e-5,
        )
    return "mean and variance are those of all images, from sums alone"


def _summed(answer: Any) -> Tensor:
    """A summary as a tensor that can be added to others."""
    if isinstance(answer, (tuple, list)):
        raise Mismatch(
            f"summary(x) should return one tensor, which an all-reduce can add up; it is "
            f"{kind(answer)}: use torch.stack or torch.cat"
        )
    return tensor(answer, "summary(x)")


@check
def check_ring(ring: Callable, *, draw: Draw) -> str:
    """Exercise 13.4: ring(values) -> (the sums, the most elements that a device sent)."""
    ring = function(ring, "ring(values)")
    for devices, length in ((2, 8), (4, 12), (3, 10), (draw.integer(5, 8), draw.integer(30, 50))):
        values = [draw.normal(length) for _ in range(devices)]
        kept = [value.clone() for value in values]
        sums, sent = returned(ring(values), 2, "ring(values)")
        what = f"with {devices} devices and {length} numbers"
        expected = torch.stack(kept).sum(0)
        for rank, found in enumerate(returned(list(sums), devices, f"the first value {what}")):
            same_tensor(
                found,
                expected,
                f"the result of device {rank} {what}",
                [
                    (kept[rank], "is what the device had before"),
                    (expected / devices, "is the mean; an all-reduce gives the sum"),
                    (expected + kept[rank], "has the device's own numbers in it twice"),
                ],
            )
        for before, after in zip(kept, values, strict=True):
            if not torch.equal(before, after):
                raise Mismatch("your function changed the tensors that it was given: copy them")
        _like_a_ring(number(sent, f"the elements sent {what}"), devices, length, what)
    return "every device ends with the sum, and sends no more than a ring needs"


def _like_a_ring(sent: float, devices: int, length: int, what: str) -> None:
    """Mismatch unless a device sends so many elements; parts may be longer by one."""
    least = 2 * (devices - 1) * (length // devices)
    most = 2 * (devices - 1) * -(-length // devices)
    if least <= sent <= most:
        return
    if sent * 2 in range(least, most + 1):
        raise Mismatch(f"{sent:g} elements {what} are those of one turn; count both turns")
    if sent >= (devices - 1) * length:
        raise Mismatch(
            f"{sent:g} elements sent {what}: a device sends whole tensors, so cut them into "
            f"{devices} parts"
        )
    raise Mismatch(f"{sent:g} elements sent {what}; a ring needs {least} to {most}")
