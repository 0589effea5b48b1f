"""Checks of chapter 8, ResNet-50 and ResNet-101."""

import copy
import functools
import itertools
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_lib import models
from resnet_lib.blocks import BasicBlock, Bottleneck
from resnet_lib.checks.answers import (
    Mistakes,
    function,
    number,
    numbers,
    same_number,
    yes_or_no,
)
from resnet_lib.checks.verdict import Draw, Mismatch, check

BLOCKS = 23  # in stage 3 of ResNet-101


@check
def check_resnet26(layers: int, convolutions: int, bottlenecks_of_74: int) -> str:
    """Exercise 8.1: layers and convolutions of ResNet-26, bottlenecks of a ResNet-74."""
    in_layers = [
        (30, "projections run beside the branch, so they are not counted as layers"),
        (25, "the linear layer is one of the 26"),
        (24, "the first convolution and the linear layer count, too"),
        (18, "a bottleneck has three convolutions"),
    ]
    same_number(layers, 26, "the number of layers", in_layers)
    in_all = [
        (25, "each of the four stages begins with a projection, a convolution, too"),
        (28, "the first stage has a projection, too: its number of channels changes"),
        (30, "the linear layer is no convolution"),
        (33, "only the first block of a stage has a projection"),
    ]
    same_number(convolutions, 29, "the number of convolutions", in_all)
    others = [
        (36, "a bottleneck has three convolutions"),
        (74 / 3, "take off the first convolution and the linear layer before you divide"),
        (22, "that would leave six layers for the two ends"),
        (25, "25 bottlenecks alone have 75 layers"),
    ]
    same_number(bottlenecks_of_74, 24, "the number of bottlenecks in a ResNet-74", others)
    return "26 layers, 29 convolutions, and 24 bottlenecks for 74 layers"


def _layers(depths: tuple) -> Iterator[tuple[str, int, int, int]]:
    """Of all convolutions: what it is, channels in and out, and the kernel's size."""
    yield "stem", 3, 64, 7
    channels = 64
    for index, depth in enumerate(depths):
        width = 64 * 2**index
        for block in range(depth):
            yield "branch", channels, width, 1
            yield "branch", width, width, 3
            yield "branch", width, 4 * width, 1
            if block == 0:
                yield f"projection {index + 1}", channels, 4 * width, 1
            channels = 4 * width


def _parameter_mistakes(depths: tuple, num_classes: int) -> Mistakes:
    layers = list(_layers(depths))
    weights = {name: 0 for name, *_ in layers}
    norms = dict.fromkeys(weights, 0)
    for name, channels, out, size in layers:
        weights[name] += channels * out * size**2
        norms[name] += 2 * out
    all_norms, linear = sum(norms.values()), 512 * 4 * num_classes + num_classes
    total = sum(weights.values()) + all_norms + linear
    projections = [name for name in weights if name.startswith("projection")]
    in_projections = sum(weights[name] for name in projections)
    norms_there = sum(norms[name] for name in projections)
    first = weights["projection 1"] + norms["projection 1"]
    words = {
        "the linear layer has a bias": num_classes,
        "a batch norm stands behind every convolution, with two numbers a channel": all_norms,
        "no batch norm after the projections": norms_there,
        "a batch norm has a scale and a shift for each channel": all_norms // 2,
        "stage 1 begins with a projection, too: its number of channels changes": first,
        "the projections are missing": in_projections + norms_there,
        "the stem is missing": weights["stem"] + norms["stem"],
        "the batch norm of the stem is missing": norms["stem"],
        "the linear layer is missing": linear,
    }
    for text, lack in words.items():
        yield total - lack, f"{text}: {lack:,} parameters too few"
    yield total + all_norms // 2, "the convolutions have no bias: a batch norm follows"
    yield total + all_norms, "running means and variances are buffers, not parameters"
    yield total, ""


@functools.cache
def _count(depths: tuple, num_classes: int) -> int:
    with torch.device("meta"):
        return models.parameter_count(models.ResNet(Bottleneck, depths, num_classes))


@check
def check_network_parameters(parameters: Callable) -> str:
    """Exercise 8.2: parameters(depths, num_classes) of a bottleneck ResNet, by arithmetic."""
    parameters = function(parameters, "parameters(depths, num_classes)")
    cases = [((3, 4, 6, 3), 1000), ((3, 4, 23, 3), 10), ((3, 8, 36, 3), 1000), ((1, 2, 1, 3), 7)]
    for depths, num_classes in cases:
        what = f"parameters({depths}, {num_classes})"
        expected = _count(depths, num_classes)
        found = parameters(depths, num_classes)
        same_number(found, expected, what, _parameter_mistakes(depths, num_classes))
    return f"the number of parameters is right for {len(cases)} networks"


@functools.cache
def _stem_factor(num_classes: int) -> float:
    """Of the whole ResNet-50 on 32 pixels: the small stem over the other one."""
    work = {}
    for stem in models.STEMS:
        with torch.device("meta"):
            work[stem] = models.multiply_adds(models.resnet50(num_classes, stem=stem), 32)
    return work["small"] / work["imagenet"]


@check
def check_stem_factors(stages: float, whole: float) -> str:
    """Exercise 8.3: multiply-adds with the small stem over those with the other one."""
    for name, value in (("the stages", stages), ("the whole network", whole)):
        if 0 < number(value, f"the factor of {name}") < 1:
            raise Mismatch(f"the factor of {name}: small stem over the other one, not the reverse")
    mistakes = [
        (4, "the resolution is four times as high *and* four times as wide"),
        (2, "the stem halves twice, by its stride and by its pooling, in both directions"),
        (64, "the resolution is four times as high and as wide; the channels stay"),
    ]
    same_number(stages, 16, "the factor of the stages", mistakes, tolerance=1e-6)
    right, with_ten_classes = (_stem_factor(classes) for classes in (1000, 10))
    if abs(whole / with_ten_classes - 1) < 1e-3:
        return "16 for the stages, and a little less for the whole network (with ten classes)"
    others = [(16, "stem and linear layer don't grow as much as the stages: count them, too")]
    same_number(whole, right, "the factor of the whole network", others, tolerance=1e-3)
    return "16 for the stages, and a little less for the whole network"


class _LateAddition(Bottleneck):
    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.branch(x)) + self.downsample(x)


class _LateAdditionBasic(BasicBlock):
    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.branch(x)) + self.downsample(x)


class _Rewritten(Bottleneck):
    def forward(self, x: Tensor) -> Tensor:
        return torch.clamp(self.downsample(x) + self.branch(x), min=0)


@check
def check_block_property(passes: Callable) -> str:
    """Exercise 8.4: passes(block, in_channels) -> whether the block has the property."""
    passes = function(passes, "passes(block, in_channels)")
    shapes = ((64, 16, 1), (64, 32, 2), (12, 3, 1), (10, 4, 2))
    kinds = {
        Bottleneck: True,
        _Rewritten: True,
        _LateAddition: False,
        BasicBlock: True,
        _LateAdditionBasic: False,
    }
    for (block, right), (channels, width, stride) in itertools.product(kinds.items(), shapes):
        made = block(channels, width, stride)
        found = yes_or_no(passes(copy.deepcopy(made), channels), "the property")
        if found == right:
            continue
        where = f"with {channels} channels, width {width} and stride {stride}"
        if right:
            raise Mismatch(f"a correct block {where} fails your property")
        raise Mismatch(f"a block that adds after the last ReLU passes your property, {where}")
    return "correct blocks have your property, and network D's blocks haven't"


@check
def check_variances(evaluation: list, training: list) -> str:
    """Exercise 8.5: the variances after the 23 blocks of stage 3, in both modes."""
    sequences = {}
    for name, values in (("evaluation", evaluation), ("training", training)):
        found = torch.tensor(numbers(values, f"the sequence in {name} mode", BLOCKS))
        if (found <= 0).any():
            raise Mismatch(f"the sequence in {name} mode has a variance that is not positive")
        sequences[name] = found.double()
    factors = {name: (v[-1] / v[0]).item() ** (1 / (BLOCKS - 1)) for name, v in sequences.items()}
    if factors["training"] > 1.5 > factors["evaluation"]:
        raise Mismatch("the two sequences are exchanged: evaluation mode comes first")
    growth = factors["evaluation"]
    if not 1.7 < growth < 3:
        raise Mismatch(
            f"in evaluation mode the numbers grow by a factor of {growth:.2f} a block, expected "
            "about 2: are these variances (not their roots) of an untrained stage, before any pass "
            "in training mode?"
        )
    steps = sequences["training"].diff()
    if (steps < 0.1).any() or (steps > 0.8).any():
        raise Mismatch(
            f"in training mode the steps go from {steps.min():.2f} to {steps.max():.2f}, but each "
            "block adds about as much as any other. Is this the output of the whole block?"
        )
    return f"a factor of about {growth:.1f}, and steps of about {steps.mean():.2f}"


def _waiting(model: nn.Module, images: Tensor) -> set[str]:
    F.cross_entropy(model(images), torch.arange(len(images))).backward()
    return {name for name, p in model.named_parameters() if not p.grad.any()}


@check
def check_waits(waits: Callable, *, draw: Draw) -> str:
    """Exercise 8.6: waits(name) -> whether that parameter of a ResNet-50 waits for a step."""
    waits = function(waits, "waits(name)")
    # Many pixels a channel, so that nothing is zero by chance.
    model = models.build("resnet50", 10, width=8, stem="small", zero_init=True)
    expected = _waiting(model, draw.normal(4, 3, 16, 16).float())
    for name, _ in model.named_parameters():
        found = yes_or_no(waits(name), f"waits({name!r})")
        if found and name not in expected:
            reason = ""
            if "bn3" in name:
                reason = ": the zeros stand here, and they do get a gradient"
            if "downsample" in name:
                reason = ": the projection is not behind the zeros, but beside them"
            raise Mismatch(f"{name} does not wait{reason}")
        if not found and name in expected:
            reason = ": it is before the zeros of its branch, like the convolutions"
            raise Mismatch(f"{name} waits{reason if 'bn' in name else ''}")
    return f"{len(expected)} parameters wait, and your rule names them all"
