"""Checks of chapter 9, multi-scale features."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_lib import UserError, models, pyramid
from resnet_lib.checks.answers import (
    function,
    number,
    numbers,
    returned,
    same_number,
    same_tensor,
    shaped,
)
from resnet_lib.checks.verdict import Draw, Mismatch, check

Window = tuple[int, int, int, int]  # kernel, stride, padding, dilation


def _field(layers: list[Window], use: Callable | None = None) -> tuple[float, float, float]:
    """Size, jump and offset; ``use`` changes what a layer sees: (jump, kernel, ...) -> the same."""
    size, jump, offset = 1, 1, 0.0
    for kernel, stride, padding, dilation in layers:
        step, kernel, stride, padding, dilation = (
            use(jump, kernel, stride, padding, dilation)
            if use
            else (jump, kernel, stride, padding, dilation)
        )
        reach = dilation * (kernel - 1)
        size, offset = size + step * reach, offset + step * (reach / 2 - padding)
        jump *= stride
    return size, jump, offset


FIELD_MISTAKES = (
    (
        lambda j, k, s, p, d: (1, k, s, p, d),
        "a layer adds so many steps, and a step is as many pixels as the strides before it "
        "multiply to: yours takes it for one pixel",
    ),
    (
        lambda j, k, s, p, d: (j * s, k, s, p, d),
        "a layer's own stride counts only for the layers after it: use the jump, then multiply it",
    ),
    (lambda j, k, s, p, d: (j, k, s, p, 1), "the dilation is left out"),
    (lambda j, k, s, p, d: (j, k + 1, s, p, d), "a kernel of k adds k - 1 steps, not k"),
    (lambda j, k, s, p, d: (j, k, s, 0, d), "the padding is left out: it moves the centre back"),
    (
        lambda j, k, s, p, d: (j, k, s, 2 * p, d),
        "the padding of one side moves the centre; yours counts both sides",
    ),
    (
        lambda j, k, s, p, d: (j, k, s, p + d * (k - 1) / 2, d),
        "the centre of a window of k pixels lies (k - 1) / 2 pixels after its first one",
    ),
)


@check
def check_stack_field(stack_field: Callable) -> str:
    """Exercise 9.1: stack_field of (kernel, stride, padding, dilation) -> size, jump, offset."""
    call = "stack_field(layers)"
    stack_field = function(stack_field, call)
    stacks = (
        [(7, 2, 2, 1), (5, 3, 0, 2), (3, 1, 0, 1)],  # here each mistake gives another number
        [(7, 2, 3, 1), (3, 2, 1, 1)],
        [(3, 1, 1, 1), (3, 2, 1, 1), (3, 1, 1, 1), (2, 2, 0, 1)],
        [(3, 2, 1, 1), (3, 1, 2, 2), (3, 1, 4, 4)],
        [(4, 2, 1, 1), (5, 3, 0, 1), (3, 1, 3, 2), (1, 2, 0, 1)],
        [],
    )
    for layers in stacks:
        expected = _field(layers)
        wrong = [(_field(layers, use), words) for use, words in FIELD_MISTAKES]
        found = returned(stack_field(list(layers)), 3, call)
        for index, name in enumerate(("size", "jump", "offset")):
            mistakes = [(values[index], words) for values, words in wrong]
            if name == "jump":
                mistakes = [
                    (math.prod((1, *(s for _, s, *_ in layers[:-1]))), "the last stride is missing")
                ]
            same_number(found[index], expected[index], f"the {name} of {layers}", mistakes)
    return f"size, jump and offset are right for {len(stacks)} stacks"


def _variance(
    layers: list[tuple[int, int, int]],
    squared: bool = True,
    jumps: bool = True,
    dilated: int = 2,
    less: int = 1,
) -> float:
    """Of the place of a pixel under a random path; the flags spoil one step each."""
    total, jump = 0.0, 1
    for kernel, stride, dilation in layers:
        own = dilation**dilated * (kernel**2 - less) / 12 * (jump**2 if jumps else 1)
        total += own if squared else math.sqrt(own)
        jump *= stride
    return total


@check
def check_predicted_width(predicted_width: Callable) -> str:
    """Exercise 9.2: predicted_width of (kernel, stride, dilation), ... -> Gaussian width."""
    predicted_width = function(predicted_width, "predicted_width(layers)")
    stacks = (
        [(3, 1, 1)],
        [(5, 1, 1)],
        6 * [(3, 1, 1)],
        [(7, 2, 1), (3, 2, 1), (3, 1, 1)],
        [(3, 1, 1), (3, 1, 2), (3, 1, 4)],
        [(3, 2, 2), (4, 1, 1), (2, 2, 3), (3, 1, 1)],
    )
    for layers in stacks:
        right = _variance(layers)
        mistakes = [
            (right, "that is the variance: the width is its square root"),
            (math.sqrt(2 * right), "that is the width over both directions; one is asked for"),
            (
                _variance(layers, squared=False),
                "the widths of the layers are added; of independent steps the variances add up",
            ),
            (
                math.sqrt(_variance(layers, jumps=False)),
                "the jump is missing: behind a stride, a step is more than a pixel",
            ),
            (
                math.sqrt(_variance(layers, dilated=0)),
                "the dilation is missing: it spreads the window's pixels",
            ),
            (
                math.sqrt(_variance(layers, dilated=1)),
                "the dilation multiplies the steps, so its square multiplies the variance",
            ),
            (
                math.sqrt(_variance(layers, less=0)),
                "a window of k pixels has the variance (k² - 1) / 12; k² / 12 is that of a "
                "continuous strip",
            ),
        ]
        found = number(predicted_width(list(layers)), f"the width of {layers}")
        same_number(found, math.sqrt(right), f"the width of {layers}", mistakes, tolerance=1e-6)
    return f"the width is that of the path counts, for {len(stacks)} stacks"


def _network(draw: Draw) -> models.ResNet:
    """A narrow ResNet-50 whose batch norms are not at their start."""
    model = models.resnet50(2, width=2, in_channels=1)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                fan = module.weight[0].numel()
                module.weight.copy_(draw.normal(*module.weight.shape) * (2 / fan) ** 0.5)
            elif isinstance(module, nn.BatchNorm2d):
                module.weight.copy_(0.5 + 0.1 * draw.normal(*module.weight.shape))
    return model.double().eval()


def _field_of_c5(model: nn.Module) -> pyramid.Field:
    try:
        return pyramid.receptive_field(model)["C5"]
    except (UserError, KeyError) as error:
        raise Mismatch(f"the changed network can't be walked: {error}") from error


DILATED_FIELDS = {
    (267 + 3 * 32, 16): "the stride is gone, but nothing is dilated: the last two blocks see half "
    "as far as before",
    (267 + 3 * 64, 16): "the first block of the stage is dilated as well; its 3×3 reads C4, where "
    "nothing has moved, so it keeps a dilation of 1",
    (267 + 32 + 32 + 64, 16): "one block of the last two is dilated, and both should be",
    (427, 32): "layer4 still strides",
}


@check
def check_dilated(dilated: Callable, *, draw: Draw) -> str:
    """Exercise 9.3: dilated(model) -> C5 at stride 16, with the field as before."""
    dilated = function(dilated, "dilated(model)")
    model = _network(draw)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    x = draw.normal(1, 1, 96, 96)
    with torch.no_grad():
        before = {name: value.clone() for name, value in model.features(x).items()}
    changed = dilated(model)
    if not isinstance(changed, nn.Module):
        raise Mismatch(
            "dilated(model) should return the network, also where it changes it in place"
        )
    try:
        with torch.no_grad():
            features = changed.double().eval().features(x)
    except RuntimeError as error:
        if "must match the size" not in str(error):
            raise
        raise Mismatch(
            "in layer4, branch and shortcut have different sizes: take the stride from both, "
            "and give a 3×3 with dilation 2 a padding of 2"
        ) from error
    if {n: tuple(v.shape) for n, v in changed.state_dict().items()} != {
        n: tuple(v.shape) for n, v in weights.items()
    }:
        raise Mismatch(
            "the parameters have other names or shapes: only stride, padding and "
            "dilation should change"
        )
    for name, value in changed.state_dict().items():
        if not torch.equal(value, weights[name]):
            raise Mismatch(f"the values of {name} have changed: copy the weights")
    field = _field_of_c5(changed)
    if (field.size, field.jump) != (427, 16):
        words = DILATED_FIELDS.get((field.size, field.jump), "it should see as far as before")
        raise Mismatch(f"C5 has the field {field.size} and the jump {field.jump}: {words}")
    for name in ("C2", "C3", "C4"):
        same_tensor(features[name], before[name], f"the map {name}, which should not change")
    side = before["C4"].shape[-1]
    found = shaped(features["C5"], (1, before["C5"].shape[1], side, side), "the map C5")
    same_tensor(found[:, :, ::2, ::2], before["C5"], "every second position of C5")
    return "four times the positions, the same field, and every second position as before"


def _top_down(maps: list[Tensor], start: Callable | None = None, **options) -> list[Tensor]:
    merged = list(maps)
    for fine in range(len(maps) - 2, -1, -1):
        above = (start or (lambda index: merged[index]))(fine + 1)
        merged[fine] = maps[fine] + F.interpolate(above, size=maps[fine].shape[-2:], **options)
    return merged


@check
def check_top_down(top_down: Callable, *, draw: Draw) -> str:
    """Exercise 9.4: top_down([finest, ..., coarsest]) -> the merged maps in the same order."""
    call = "top_down(maps)"
    top_down = function(top_down, call)
    cases = (
        ("sides that halve", [(16, 24), (8, 12), (4, 6)]),
        ("odd sides", [(21, 30), (11, 15), (6, 8), (3, 4)]),
        ("a single level", [(5, 5)]),
    )
    for case, sizes in cases:
        maps = [draw.normal(2, 3, *size) for size in sizes]
        copies = [values.clone() for values in maps]
        wrong = [
            (
                _top_down(maps, lambda index, maps=maps: maps[index]),
                "each level gets only the map above it; pass on the merged map, so that the finest "
                "level hears from all",
            ),
            (
                _top_down(maps, mode="bilinear", align_corners=False),
                "the maps are enlarged bilinearly; the pyramid repeats the nearest value",
            ),
            (
                _top_down(maps, mode="bilinear", align_corners=True),
                "the maps are enlarged bilinearly; the pyramid repeats the nearest value",
            ),
            (maps, "nothing is added: the maps came back as they were"),
            (_top_down([0 * maps[0], *maps[1:]]), "the finest level's own map is missing"),
        ]
        try:
            found = returned(top_down(copies), len(sizes), call)
        except RuntimeError as error:
            if case != "odd sides":
                raise
            raise Mismatch(
                "with odd sides, twice the coarser map does not fit: enlarge to the size of the "
                f"finer map, not by a factor of 2 ({error})"
            ) from error
        expected = _top_down(maps)
        for level, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
            mistakes = [(values[level], words) for values, words in wrong]
            if len(sizes) > 1 and level in (0, len(sizes) - 1):
                mistakes.append((expected[-1 - level], "return the maps in the order given"))
            same_tensor(ours, theirs, f"map {level} with {case}", mistakes)
        for copy, values in zip(copies, maps, strict=True):
            if not torch.equal(copy, values):
                raise Mismatch("the maps that were handed in have changed: add to new tensors")
    return "each level holds itself and everything coarser, also for odd sides"


def _level(width: float, height: float, rounded=math.floor, log=math.log2, side=math.sqrt) -> float:
    return 4 + rounded(log(side(width * height) / 224))


@check
def check_level(level: Callable) -> str:
    """Exercise 9.5: level(width, height) -> 2, 3, 4 or 5."""
    level = function(level, "level(width, height)")
    # In this order each mistake is the only one that gives the first wrong level.
    boxes = [(300, 260), (180, 180), (480, 470), (120, 120), (100, 100), (300, 30), (20, 20)]
    boxes += [(5, 9), (900, 700), (2000, 2000), (447, 449), (448, 448), (224, 224), (112, 112)]
    answers = []
    for width, height in boxes:
        right = min(5, max(2, _level(width, height)))
        mistakes = [
            (_level(width, height), "levels below 2 and above 5 do not exist: take the nearest"),
            (_level(width, height, lambda x: x), "a level is a whole number: round it down"),
            (min(5, max(2, _level(width, height, round))), "round down, not to the nearest"),
            (min(5, max(2, _level(width, height, math.ceil))), "round down, not up"),
            (
                min(5, max(2, _level(width, height, log=math.log))),
                "a level is a factor of two, so the logarithm has the base 2",
            ),
            (
                min(5, max(2, _level(width, height, side=lambda area: area / 224))),
                "the size of a box is the square root of its area",
            ),
            (
                min(5, max(2, _level(max(width, height), max(width, height)))),
                "the size of a box is the square root of its area, not its longer side",
            ),
        ]
        answers.append(level(width, height))
        what = f"the level of a box of {width} × {height} pixels"
        same_number(answers[-1], right, what, mistakes)
    numbers(answers, "your levels", len(boxes))
    return f"{len(boxes)} boxes go to the levels that the paper's equation gives them"
