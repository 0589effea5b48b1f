"""Checks of chapter 1, the introduction."""

import copy
import statistics
from collections.abc import Callable

import torch
from torch import Tensor, nn

from resnet_lib import models
from resnet_lib.blocks import Bottleneck
from resnet_lib.checks.answers import (
    function,
    kind,
    near,
    number,
    numbers,
    same_number,
    table,
    tensor,
)
from resnet_lib.checks.verdict import Draw, Mismatch, check

SEEDS, IMAGES = 10, 500  # of exercise 1.4
NAMES = ("better", "over-fitting", "degradation")


@check
def check_named_layers(named_layers: Callable, *, draw: Draw) -> str:
    """Exercise 1.1: named_layers(blocks, convolutions_per_block) -> the number in the name."""
    named_layers = function(named_layers, "named_layers(blocks, convolutions_per_block)")
    cases = [
        (name, blocks, 3 if block is Bottleneck else 2)
        for name, (block, blocks) in models.DEPTHS.items()
    ]
    own = tuple(draw.integers(1, 9, 4).tolist())
    for name, blocks, convolutions in (*cases, (f"a network of {own} blocks", own, 3)):
        expected = 2 + convolutions * sum(blocks)
        mistakes = [
            (expected - 2, f"{name}: the first convolution and the linear layer count, too"),
            (expected - 1, f"{name}: one layer is missing, before or after the stages"),
            (
                expected + len(blocks),
                f"{name}: a projection runs beside its block, so it adds nothing to the depth",
            ),
            (
                2 + (5 - convolutions) * sum(blocks),
                f"{name}: convolutions_per_block is given; use it instead of a fixed number",
            ),
            (2 + convolutions * len(blocks), f"{name}: a stage has several blocks"),
        ]
        same_number(named_layers(blocks, convolutions), expected, name, mistakes)
    return f"the number is right for all {len(cases)} networks and for one without a name"


@check
def check_blind_rules(accuracies: dict) -> str:
    """Exercise 1.2: {"coin", "shares", "healthy"}: expected accuracies of the three rules."""
    table(accuracies, ("coin", "shares", "healthy"))
    right = {"coin": 0.5, "shares": 0.02 * 0.02 + 0.98 * 0.98, "healthy": 0.98}
    mistakes = {
        "coin": [(0.02, "a coin is right for half of the ill and for half of the healthy")],
        "shares": [
            (0.98, "the rule sometimes says 'ill', and then it is mostly wrong"),
            (0.98 * 0.98, "the ill whom it happens to name are right answers, too"),
            (0.02 * 0.02, "that is the share of ill people it names; the healthy count, too"),
            (0.5, "that is the accuracy of the coin"),
        ],
        "healthy": [
            (0.02, "that is the share of wrong answers"),
            (1.0, "it is wrong for the 20 who are ill"),
        ],
    }
    for name, expected in right.items():
        found = number(accuracies[name], f"the accuracy of {name!r}")
        wrong = [*mistakes[name], (100 * expected, "give the accuracy from 0 to 1, not in percent")]
        same_number(found, expected, f"the accuracy of {name!r}", wrong, tolerance=1e-6)
    return "0.5, 0.9608 and 0.98: the number to beat is the largest"


def _shallow(channels: int, draw: Draw) -> nn.Sequential:
    layers = []
    for inputs in (3, channels, channels):
        conv = nn.Conv2d(inputs, channels, 3, padding=1).double()
        with torch.no_grad():
            for parameter in conv.parameters():
                parameter.copy_(0.5 * draw.normal(*parameter.shape))
        layers += [conv, nn.ReLU()]
    return nn.Sequential(*layers)


def _convolutions(model: nn.Module) -> int:
    return sum(isinstance(module, nn.Conv2d) for module in model.modules())


@check
def check_append_copies(append_copies: Callable, *, draw: Draw) -> str:
    """Exercise 1.3: append_copies(shallow, count) -> the deeper network."""
    append_copies = function(append_copies, "append_copies(shallow, count)")
    for channels, count in ((4, 5), (6, 2)):
        shallow, x = _shallow(channels, draw), draw.normal(2, 3, 20, 18)
        expected = copy.deepcopy(shallow)(x)
        deep = append_copies(shallow, count)
        if not isinstance(deep, nn.Module):
            raise Mismatch(f"append_copies should return the network; it returns {kind(deep)}")
        deep = deep.double()
        found, wanted = _convolutions(deep), 3 + count
        if found != wanted:
            raise Mismatch(f"the deeper network has {found} convolutions, expected {wanted}")
        if not torch.equal(shallow(x), expected):
            raise Mismatch("the shallow network itself has changed: copy it, or leave its weights")
        _same_output(tensor(deep(x.clone()), "the output"), expected.detach(), shallow, x)
    return "the deeper network puts out exactly what the shallow one does"


def _same_output(found: Tensor, expected: Tensor, shallow: nn.Module, x: Tensor) -> None:
    if torch.equal(found, expected):
        return
    if found.shape != expected.shape:
        raise Mismatch(
            f"the deeper network's output is {found.shape[-1]} wide, expected "
            f"{expected.shape[-1]}: a 3×3 convolution needs a padding of 1"
        )
    if torch.equal(found, shallow(x.relu())):
        raise Mismatch("the copies come first: their ReLU cuts off what is negative in the images")
    if near(found, expected, 1e-5):
        raise Mismatch("the outputs are nearly, but not exactly equal: a copy needs no rounding")
    gap = (found - expected).abs().max()
    raise Mismatch(f"the outputs differ by up to {gap:.2g}: does each new layer copy its input?")


@check
def check_untrained(accuracies: list) -> str:
    """Exercise 1.4: the accuracies on 500 validation images of ten untrained ResNet-18."""
    values = numbers(accuracies, "the accuracies", SEEDS)
    if max(values) > 1:
        raise Mismatch("give the accuracies as shares from 0 to 1, not in percent")
    if min(values) < 0:
        raise Mismatch("an accuracy is not negative")
    if len(set(values)) == 1:
        raise Mismatch("all ten are equal: does the seed come before the network is built?")
    if any(abs(value * IMAGES - round(value * IMAGES)) > 1e-3 for value in values):
        raise Mismatch(f"an accuracy on {IMAGES} images is a multiple of 1/{IMAGES}; one is not")
    mean, spread = statistics.mean(values), statistics.stdev(values)
    if not min(values) <= 0.1 <= max(values):
        raise Mismatch(
            f"the chance level 0.1 is outside of {min(values):.3f} to {max(values):.3f}: are these "
            "untrained networks with ten classes, on images of all classes?"
        )
    if abs(mean - 0.1) > 0.06:
        raise Mismatch(f"a mean of {mean:.3f} is too far from the chance level of 0.1")
    return (
        f"mean {mean:.3f}, standard deviation {spread:.3f}, "
        f"smallest {min(values):.3f}, largest {max(values):.3f}"
    )


def _diagnose(shallow: tuple, deep: tuple) -> str:
    if deep[0] > shallow[0]:
        return "degradation"
    return "over-fitting" if deep[1] > shallow[1] else "better"


@check
def check_diagnose(diagnose: Callable, *, draw: Draw) -> str:
    """Exercise 1.5: diagnose(shallow, deep), each a pair (training error, test error)."""
    diagnose = function(diagnose, "diagnose(shallow, deep)")
    gaps = [(t, s) for t in (-1, 1) for s in (-1, 1)]
    words = {
        (-1, -1): "both errors fall",
        (-1, 1): "the training error falls and the test error rises",
        (1, -1): "the training error rises, although the test error falls",
        (1, 1): "both errors rise, the pattern of He et al.",
    }
    for change in gaps:
        for _ in range(3):
            # Far apart: the margin within which two errors count as equal is the learner's choice.
            train, test = draw.uniform(0.15, 0.3), draw.uniform(0.35, 0.5)
            steps = draw.uniform(0.06, 0.12), draw.uniform(0.06, 0.12)
            shallow = round(train, 3), round(test, 3)
            moved = (e + c * s for e, c, s in zip(shallow, change, steps, strict=True))
            deep = tuple(round(error, 3) for error in moved)
            found, right = diagnose(shallow, deep), _diagnose(shallow, deep)
            if not isinstance(found, str):
                raise Mismatch(f"diagnose should return a text; it returns {kind(found)}")
            if found != right:
                raise Mismatch(f"{shallow} → {deep}, where {words[change]}: {found!r} is not right")
    same = diagnose((0.1, 0.2), (0.1, 0.2))
    if same in NAMES:
        raise Mismatch(f"two equal networks are diagnosed as {same!r}")
    return "all four patterns are named, and two equal networks are none of them"
