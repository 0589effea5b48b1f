"""Checks of chapter 7, the bottleneck: what blocks and networks cost."""

import copy
import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from resnet_lib import models
from resnet_lib.blocks import Bottleneck
from resnet_lib.checks.answers import (
    function,
    kind,
    number,
    returned,
    same_number,
    same_tensor,
    table,
)
from resnet_lib.checks.verdict import Draw, Mismatch, check, short

PARTS = ("stem", "first blocks", "other blocks", "linear")


@check
def check_stage3_block(answers: dict) -> str:
    """Exercise 7.1: {"convolutions", "batch norms", "multiply-adds"} of a block in stage 3."""
    table(answers, ("convolutions", "batch norms", "multiply-adds"))
    w, pixels = 256, 14 * 14
    convolutions, norms, work = 17 * w * w, 12 * w, 17 * w * w * pixels
    counts = [
        (9 * w * w, "both 1×1 convolutions have weights, too"),
        (13 * w * w, "one of the two 1×1 convolutions is missing"),
        (33 * w * w, "a block inside a stage has no projection: its shape stays"),
        (convolutions + 6 * w, "the convolutions have no bias: a batch norm follows"),
        (
            convolutions + norms,
            "that is the whole block; the batch norms are asked for on their own",
        ),
    ]
    same_number(answers["convolutions"], convolutions, "the convolutions' parameters", counts)
    in_norms = [
        (6 * w, "a batch norm has a scale and a shift for each channel"),
        (24 * w, "running means and variances are buffers, not parameters"),
        (4 * w, "there are three batch norms, and the third has four times the channels"),
        (20 * w, "a block inside a stage has no projection, and no batch norm behind it"),
    ]
    same_number(answers["batch norms"], norms, "the batch norms' parameters", in_norms)
    works = [
        (2 * work, "twice too many: a multiplication and its addition count as one"),
        (convolutions * 14, "each weight is used at 14 × 14 positions"),
        (work + norms * pixels, "the batch norms are not counted"),
    ]
    same_number(answers["multiply-adds"], work, "the number of multiply-adds", works)
    return "parameters and multiply-adds are as counted"


@check
def check_projection_factors(bottleneck: float, basic: float) -> str:
    """Exercise 7.2: the factors of a bottleneck and of a basic block, in multiply-adds."""
    right = {"the bottleneck": 33 / 17, "the basic block": 19 / 18}
    found = {"the bottleneck": bottleneck, "the basic block": basic}
    values = [number(value, f"the factor of {name}") for name, value in found.items()]
    if values[0] < values[1]:
        raise Mismatch("the bottleneck's factor is the larger one, and comes first")
    for name, without, extra in (("the bottleneck", 17, 16), ("the basic block", 18, 1)):
        mistakes = [
            (
                without / (without + extra),
                "that is without over with the projection: turn it round",
            ),
            (extra / without, f"that is the share that {name} gains; the factor is of the whole"),
            ((without + 4) / without, "the projection goes from all 4w channels to 4w channels"),
            ((without + 9 * extra) / without, "the projection is a 1×1 convolution"),
        ]
        what = f"the factor of {name}"
        same_number(found[name], right[name], what, mistakes, tolerance=1e-3)
    return "33/17 and 19/18"


@functools.cache
def _parts(name: str) -> dict[str, int]:
    with torch.device("meta"):
        model, image = models.build(name).eval(), torch.empty(1, 3, 224, 224)
    found, projections = dict.fromkeys(PARTS, 0), 0
    for path, module in model.named_modules():
        if not isinstance(module, (nn.Conv2d, nn.Linear)):
            continue

        def note(layer: nn.Module, inputs: tuple, output: Tensor, path: str = path) -> None:
            nonlocal projections
            stage = path.split(".")
            part = {"conv1": "stem", "fc": "linear"}.get(path)
            part = part or ("first blocks" if stage[1] == "0" else "other blocks")
            work = layer.weight.numel() * output[0, 0].numel()
            found[part] += work
            projections += work * ("downsample" in stage)

        module.register_forward_hook(note)
    model(image)
    return found | {"projections": projections}


@check
def check_parts(parts: Callable) -> str:
    """Exercise 7.5: parts(name) -> {part of the network: multiply-adds}, for 224 pixels."""
    parts = function(parts, "parts(name)")
    for name in ("resnet34", "resnet50", "resnet18"):
        found, right = table(parts(name), PARTS, f"parts({name!r})"), _parts(name)
        projections = right["projections"]
        for part in PARTS:
            expected = right[part]
            mistakes = [
                (2 * expected, "twice too many: a multiplication and its addition count as one"),
                (expected - projections, f"{name}: the projections are part of the first blocks"),
                (expected + projections, f"{name}: the projections are part of the first blocks"),
                (
                    right["first blocks"] if part == "other blocks" else right["other blocks"],
                    f"{name}: first and other blocks are exchanged",
                ),
            ]
            same_number(found[part], expected, f"{name}: {part!r}", mistakes)
        if extra := sorted(str(part) for part in found if part not in PARTS):
            raise Mismatch(f"{name}: {extra[0]!r} is a part too many")
    return "the parts add up to the multiply-adds of three networks"


def _v1_pair(width: int) -> nn.Sequential:
    wide = 4 * width
    return nn.Sequential(
        Bottleneck(wide, width), Bottleneck(wide, 2 * width, stride=2, stride_in="1x1")
    ).double()


def _saving(usual: nn.Module, cheap: nn.Module, width: int) -> None:
    """The second pair leaves out three quarters of a 3×3 and of a 1×1 convolution."""
    size, wide = 8, 4 * width
    with torch.device("meta"):
        expected = models.multiply_adds(_v1_pair(width), size, wide)
    works = [models.multiply_adds(pair, size, wide) for pair in (usual, cheap)]
    if works[0] != expected:
        raise Mismatch(
            f"the first pair takes {works[0]:,} multiply-adds, expected {expected:,}: it should be "
            "a block inside a stage, and the v1 block that begins the next one"
        )
    quarter = 3 * width**2 * size**2 // 4
    mistakes = {
        0: "the second pair costs as much as the first",
        4 * quarter: "only the last 1×1 convolution leaves positions out; the 3×3 can, too",
        17 * quarter: "the first 1×1 convolution leaves positions out that the 3×3 reads",
    }
    saved = works[0] - works[1]
    if saved != 13 * quarter:
        generic = f"the second pair saves {saved:,} multiply-adds, expected {13 * quarter:,}"
        raise Mismatch(mistakes.get(saved, generic))


def _randomise(module: nn.Module, draw: Draw) -> None:
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            noise = draw.normal(*value.shape)
            value.copy_(noise.abs() + 0.5 if "running_var" in name else noise)


@check
def check_computed_in_vain(pairs: Callable, share: float, *, draw: Draw) -> str:
    """Exercise 7.6: pairs(width) -> the v1 pair and the cheaper one; the share computed in vain."""
    pairs = function(pairs, "pairs(width)")
    number(share, "the share")
    for width in (4, 6):
        both = returned(pairs(width), 2, "pairs(width)")
        for pair in both:
            if not isinstance(pair, nn.Module):
                raise Mismatch(f"both pairs should be an nn.Module; one is {kind(pair)}")
        usual, cheap = (copy.deepcopy(pair).double().eval() for pair in both)
        _saving(usual, cheap, width)
        _randomise(usual, draw)
        try:
            cheap.load_state_dict(usual.state_dict(), strict=True)
        except RuntimeError as error:
            raise Mismatch(
                f"the first pair's weights don't load into the second: {short(error)}"
            ) from error
        x = draw.normal(2, 4 * width, 8, 8)
        words = "the second pair's output in evaluation mode"
        same_tensor(cheap(x.clone()), usual(x.clone()), words, tolerance=1e-9)
    _check_share(share)
    return "both pairs agree, the second saves all that is computed in vain, and the share is right"


@functools.cache
def _total(stride_in: str) -> int:
    """Multiply-adds of a ResNet-50 for 224 pixels."""
    with torch.device("meta"):
        return models.multiply_adds(models.resnet50(stride_in=stride_in), 224)


def _check_share(share: float) -> None:
    total, usual = _total("1x1"), _total("3x3")
    one = 64**2 * 56**2  # weights × positions, the same at all three places
    right = 3 * 13 * one * 3 / 4 / total
    mistakes = [
        (right / 3, "three quarters are in vain, and there are three places: yours is a third"),
        (right * 4 / 3, "a third too much: three quarters of the positions, at three places"),
        (right * 4 / 13, "the 3×3 convolution computes in vain, too"),
        (right * total / usual, "that is the share of v1.5; the question is about v1"),
        (100 * right, "give the share as a number from 0 to 1, not in percent"),
    ]
    same_number(share, right, "the share of the multiply-adds", mistakes, tolerance=5e-3)
