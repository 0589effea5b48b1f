"""Checks of chapter 2, setup: the machine, its numbers and its random generators."""

import functools
import math
import platform
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from resnet_lib import models
from resnet_lib.checks.answers import (
    function,
    kind,
    number,
    same_number,
    table,
)
from resnet_lib.checks.verdict import Draw, Mismatch, check

GIB = 2**30
FACTOR = 2.0**16  # of the loss scaling
BATCHES = (1, 2, 4, 8, 16, 32, 64)


@check
def check_device_report(device_report: Callable) -> str:
    """Exercise 2.1: device_report(device) with "CUDA cards", "system" and "cuDNN"."""
    device_report = function(device_report, "device_report(device)")
    before = (
        "Python",
        "torch",
        "torch built for CUDA",
        "device",
        "name",
        "memory of the card",
        "CPU threads",
        "bfloat16 in hardware",
    )
    new = {
        "CUDA cards": torch.cuda.device_count(),
        "system": platform.system(),
        "cuDNN": torch.backends.cudnn.version() or "none",
    }
    report = device_report(torch.device("cpu"))
    table(report, (*before, *new), "the report")
    if isinstance(report["CUDA cards"], bool):
        raise Mismatch("'CUDA cards' is how many there are, not whether there is one")
    if report["cuDNN"] in (None, False, True):
        raise Mismatch(f"'cuDNN' should be its version, or 'none'; it is {report['cuDNN']}")
    for name, value in new.items():
        found = str(report[name])
        if name == "system" and value in found and not found.startswith("posix"):
            continue  # a longer name, such as that of platform.platform()
        if found != str(value):
            raise Mismatch(f"{name!r} is {found!r} here, expected {value!r}")
    return "the report has its eight lines and the three new ones"


def _three(answer: Any, call: str) -> list[float]:
    if isinstance(answer, (torch.Tensor, np.ndarray)):
        answer = answer.tolist()
    if not isinstance(answer, (list, tuple)) or len(answer) != 3:
        raise Mismatch(f"{call} should return three numbers; it returns {kind(answer)}")
    return [number(value, "one of the three numbers") for value in answer]


@check
def check_three_numbers(three_numbers: Callable, *, draw: Draw) -> str:
    """Exercise 2.2: three_numbers(seed), whatever was drawn before, and without a trace."""
    three_numbers = function(three_numbers, "three_numbers(seed)")
    call = "three_numbers(seed)"
    seeds = [draw.integer(0, 1000), draw.integer(1001, 2000)]
    first = [_three(three_numbers(seed), call) for seed in seeds]
    if len(set(first[0])) < 3:
        raise Mismatch("the three numbers are not all different: are they random?")
    if first[0] == first[1]:
        raise Mismatch("two seeds give the same numbers: the seed is not used")
    torch.rand(7)  # as building a network would
    if _three(three_numbers(seeds[0]), call) != first[0]:
        raise Mismatch(
            "the numbers change when something is drawn from the global generator before"
        )
    torch.rand(7)  # else the state could be that of the same seed before
    before = torch.get_rng_state()
    three_numbers(seeds[0])
    if not torch.equal(before, torch.get_rng_state()):
        raise Mismatch(
            "your function seeds or uses PyTorch's global generator, and so disturbs all who draw "
            "from it afterwards"
        )
    return "the numbers depend on the seed alone, and nobody else's numbers depend on them"


def _by_halves(values: np.ndarray) -> np.float32:
    """For a power of two as the length, every way to halve gives this sum."""
    if len(values) == 1:
        return values[0]
    middle = len(values) // 2
    return _by_halves(values[:middle]) + _by_halves(values[middle:])


@check
def check_pairwise_sum(pairwise_sum: Callable, *, draw: Draw) -> str:
    """Exercise 2.3: pairwise_sum(values) of a NumPy array in float32."""
    pairwise_sum = function(pairwise_sum, "pairwise_sum(values)")
    sums: dict[str, list[float]] = {"found": [], "halves": [], "in turn": [], "exact": []}
    for length in 8 * (64, 512, 256):  # often, since two ways can agree by chance
        values = (1000 * draw.normal(length)).float().numpy()  # both signs: rounding shows more
        found, exact = pairwise_sum(values.copy()), math.fsum(values.tolist())
        if abs(number(found, "the sum") - exact) > 1:
            raise Mismatch(f"the sum of {length} numbers is {float(found):g}, expected {exact:g}")
        if getattr(found, "dtype", None) not in (np.dtype(np.float32), torch.float32):
            raise Mismatch("the sum should be a float32 number: every addition is rounded to it")
        sums["found"].append(float(found))
        sums["halves"].append(float(_by_halves(values)))
        sums["in turn"].append(float(functools.reduce(lambda a, b: np.float32(a + b), values)))
        sums["exact"].append(float(np.float32(exact)))
    if sums["found"] == sums["in turn"]:
        raise Mismatch("the values are added one after the other, not by halves")
    if sums["found"] == sums["exact"]:
        raise Mismatch("the sums are exact: they are added in a wider format and rounded once")
    if sums["found"] != sums["halves"]:
        raise Mismatch(
            "the sums differ in their last digits from those by halves: is each half summed in the "
            "same way again, down to single values?"
        )
    for length in (1, 3, 1000):
        values = np.full(length, 0.1, dtype=np.float32)
        if not np.isclose(float(pairwise_sum(values)), 0.1 * length, rtol=1e-5):
            raise Mismatch(f"{length} values of 0.1 don't add up to {0.1 * length:g}")
    return "the sums are those by halves, to the last digit"


@functools.cache
def _needs(name: str) -> tuple[int, float]:
    """Parameters of a network, and bytes of activations for one image of 224 pixels."""
    with torch.device("meta"):
        model, image = models.build(name), torch.empty(1, 3, 224, 224)
    kept = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dim() == 4 and not isinstance(tensor, nn.Parameter):
            storage = tensor.untyped_storage()
            kept[storage] = tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(image)
    return models.parameter_count(model), float(sum(kept.values()))


def _about(found: float, value: float) -> bool:
    """To one image or 1.5 percent, since activations can be counted in several ways."""
    return abs(found - math.floor(value)) <= max(1.0, 0.015 * value)


@check
def check_largest_batch(largest_batch: Callable) -> str:
    """Exercise 2.4: largest_batch(name, memory): images of 224 pixels that fit in training."""
    largest_batch = function(largest_batch, "largest_batch(name, memory)")
    # The first is a case in which every mistake makes a difference of several images.
    cases = ("resnet34", 2), ("resnet50", 16), ("resnet101", 16), ("resnet50", 8)
    for name, gibibytes in cases:
        memory = int(gibibytes * GIB)
        count, image = _needs(name)
        found = number(largest_batch(name, memory), f"the batch of {name}")
        if found != int(found):
            raise Mismatch("a batch has a whole number of images: round down")
        right = (0.9 * memory - 12 * count) / image
        if _about(found, right):
            continue
        numbers = 4 * count  # bytes of as many numbers as there are parameters
        mistakes = {
            "10 percent of the memory should stay free": (memory - 3 * numbers) / image,
            "gradients and momentum need memory, too": (0.9 * memory - numbers) / image,
            "the momentum needs memory, too": (0.9 * memory - 2 * numbers) / image,
            "parameters, gradients and momentum need memory, too": 0.9 * memory / image,
            "the activations grow with the number of pixels, (224 / 64)²": right * 12.25,
            "the side grows by 224 / 64, but the number of pixels by its square": right * 3.5,
            "two images were measured: take half of it for one": right / 2,
            "a value in float32 has four bytes": right * 4,
        }
        nearest = min(mistakes, key=lambda words: abs(found - math.floor(mistakes[words])))
        if _about(found, mistakes[nearest]):
            raise Mismatch(nearest)
        raise Mismatch(
            f"{found:.0f} images for {name} and {gibibytes} GiB; parameters, gradients, momentum "
            f"and activations leave room for about {right:.0f}"
        )
    return "the batch is right for both networks, on cards of several sizes"


@check
def check_loss_scaling(smallest: float, largest: float) -> str:
    """Exercise 2.5: the smallest and largest power of two that float16 keeps with the factor."""
    low, high = number(smallest, "the smallest"), number(largest, "the largest")
    right = 2.0**-24 / FACTOR, 2.0**15 / FACTOR
    if (low, high) == (-40, -1):
        raise Mismatch("these are exponents; hand in the powers of two themselves")
    if low > high:
        raise Mismatch("the smallest comes first")
    mistakes = [
        (2.0**-24, "that is the smallest without the factor"),
        (2.0**-14 / FACTOR, "float16 has smaller numbers than its smallest normal one: go on"),
        (2.0**-14, "that is float16's smallest normal number, without the factor"),
        (2.0**-41, "half of it lies exactly between zero and the smallest, and becomes zero"),
    ]
    same_number(low, right[0], "the smallest power of two", mistakes)
    others = [
        (2.0**15, "that is the largest without the factor"),
        (1.0, "with the factor it is 2 ** 16, which is infinite in float16"),
        (65504 / FACTOR, "that is the largest number of all; the largest power of two is smaller"),
        (65504.0, "that is float16's largest number, without the factor"),
    ]
    same_number(high, right[1], "the largest power of two", others)
    return "from 2 ** -40 to 2 ** -1"


@check
def check_throughput(rates: dict) -> str:
    """Exercise 2.6: {batch: images per second} for batches of 1, 2, 4, ..., 64."""
    table(rates, BATCHES, "rates")
    values = {batch: number(rates[batch], f"the rate for a batch of {batch}") for batch in BATCHES}
    if min(values.values()) <= 0:
        raise Mismatch("a throughput is above zero")
    growth = values[BATCHES[-1]] / values[BATCHES[0]]
    if growth > 1.5 * BATCHES[-1]:
        raise Mismatch(
            f"a batch of {BATCHES[-1]} is {growth:.0f} times as fast as one of 1, more than its "
            "images: was the first measurement warmed up?"
        )
    best = max(values.values()) / values[1]
    if values[BATCHES[-1]] < 0.7 * values[1]:
        raise Mismatch(
            "the numbers fall with the batch: are these steps per second, or seconds per image? "
            "Images per second are the batch over the seconds of a step"
        )
    if best < 1.1:
        raise Mismatch("no batch is faster than that of one image: are these images per second?")
    if max(values.values()) < 1:
        raise Mismatch("less than an image per second: are these the seconds of a step?")
    return f"the best batch is {best:.1f} times as fast as a batch of one"
