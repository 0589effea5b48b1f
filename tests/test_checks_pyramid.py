"""Chapter 9: each check accepts right answers, however written, and names each mistake."""

import copy
import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from judging import judged
from torch import nn

from resnet_lib import pyramid
from resnet_lib.checks import pyramid as checks


def stack_field(layers):
    size, jump, offset = 1, 1, 0
    for kernel, stride, padding, dilation in layers:
        reach = dilation * (kernel - 1)
        size += jump * reach
        offset += jump * (reach / 2 - padding)
        jump *= stride
    return size, jump, offset


def by_first_and_last(layers):
    """Also right: from the last layer back to the pixels, as in chapter 3's picture of it."""
    first = last = 0
    for kernel, stride, padding, dilation in reversed(layers):
        first = first * stride - padding
        last = last * stride - padding + dilation * (kernel - 1)
    jump = torch.tensor(math.prod(stride for _, stride, *_ in layers))
    return [last - first + 1, jump, (first + last) / 2]


def spoiled_field(reach=lambda k, d: d * (k - 1), jump=lambda j, s: j, pad=lambda p: p, half=0.5):
    def field(layers):
        size, step, offset = 1, 1, 0
        for kernel, stride, padding, dilation in layers:
            step_now = jump(step, stride)
            size += step_now * reach(kernel, dilation)
            offset += step_now * (half * reach(kernel, dilation) - pad(padding))
            step *= stride
        return size, step, offset

    return field


def without_the_last_stride(layers):
    size, jump, offset = stack_field(layers)
    return size, jump // layers[-1][1] if layers else jump, offset


def test_stack_field():
    judged(
        checks.check_stack_field,
        right=[stack_field, by_first_and_last],
        wrong=[
            (spoiled_field(jump=lambda j, s: 1), "yours takes it for one pixel"),
            (spoiled_field(jump=lambda j, s: j * s), "counts only for the layers after it"),
            (spoiled_field(reach=lambda k, d: k - 1), "dilation is left out"),
            (spoiled_field(reach=lambda k, d: d * k), "k - 1 steps, not k"),
            (spoiled_field(pad=lambda p: 0), "padding is left out"),
            (spoiled_field(pad=lambda p: 2 * p), "yours counts both sides"),
            (spoiled_field(half=0), "(k - 1) / 2 pixels after its first"),
            (lambda layers: stack_field(layers)[:2], "return 3 values; it returns 2"),
            (without_the_last_stride, "the last stride is missing"),
            (lambda layers: (stack_field(layers)[0], 99, 0), "too large"),
            (pyramid.Field(), "hand in the function stack_field itself"),
            (lambda layers: layers.size, "your code raised AttributeError"),
        ],
        seeds=[0],
    )


def predicted_width(layers):
    variance, jump = 0, 1
    for kernel, stride, dilation in layers:
        variance += (jump * dilation) ** 2 * (kernel**2 - 1) / 12
        jump *= stride
    return math.sqrt(variance)


def width_by_counting(layers):
    """Also right: the paths themselves, in one direction, as a product of polynomials."""
    paths = torch.ones(1, 1, 1, dtype=torch.float64)
    for kernel, stride, dilation in reversed(layers):
        step = torch.zeros(1, 1, dilation * (kernel - 1) + 1, dtype=torch.float64)
        step[..., ::dilation] = 1
        paths = F.conv_transpose1d(paths, step, stride=stride)
    share = paths[0, 0] / paths.sum()
    x = torch.arange(len(share), dtype=torch.float64)
    mean = (share * x).sum()
    return (share * (x - mean) ** 2).sum().sqrt()


def spoiled_width(own=lambda k, d, j: (j * d) ** 2 * (k**2 - 1) / 12, end=math.sqrt):
    def width(layers):
        total, jump = 0, 1
        for kernel, stride, dilation in layers:
            total += own(kernel, dilation, jump)
            jump *= stride
        return end(total)

    return width


def test_predicted_width():
    judged(
        checks.check_predicted_width,
        right=[predicted_width, width_by_counting],
        wrong=[
            (spoiled_width(end=lambda x: x), "that is the variance"),
            (spoiled_width(end=lambda x: math.sqrt(2 * x)), "over both directions"),
            (
                spoiled_width(lambda k, d, j: j * d * math.sqrt((k**2 - 1) / 12), lambda x: x),
                "the variances add up",
            ),
            (spoiled_width(lambda k, d, j: d**2 * (k**2 - 1) / 12), "the jump is missing"),
            (spoiled_width(lambda k, d, j: j**2 * (k**2 - 1) / 12), "the dilation is missing"),
            (spoiled_width(lambda k, d, j: j**2 * d * (k**2 - 1) / 12), "its square multiplies"),
            (spoiled_width(lambda k, d, j: (j * d) ** 2 * k**2 / 12), "continuous strip"),
            (lambda layers: 1 + 2 * len(layers), "too large"),
            (lambda layers: None, "should be a number; it is None"),
            (2.0, "hand in the function predicted_width"),
        ],
        seeds=[0],
    )


def dilated(model, first=1, rest=2, stride=1, projection=1, padding=None):
    model = copy.deepcopy(model)
    for index, block in enumerate(model.layer4):
        by = rest if index else first
        block.conv2.dilation = (by, by)
        block.conv2.padding = (by, by) if padding is None else (padding, padding)
    model.layer4[0].conv2.stride = (stride, stride)
    model.layer4[0].downsample[0].stride = (projection, projection)
    return model


def dilated_by_new_layers(model):
    """Also right: layers made anew, in place."""
    for block in model.layer4:
        old = block.conv2
        by = 2 if old.stride == (1, 1) else 1
        block.conv2 = nn.Conv2d(*old.weight.shape[:2], 3, 1, by, by, bias=False)
        block.conv2.load_state_dict(old.state_dict())
        block.conv2.double()
    model.layer4[0].downsample[0].stride = 1, 1
    return model


def one_more(model):
    model = dilated(model)
    model.layer4[2].conv2.dilation, model.layer4[2].conv2.padding = (1, 1), (1, 1)
    return model


def new_weights(model):
    model = dilated(model)
    nn.init.normal_(model.layer4[1].conv2.weight)
    return model


def with_a_bias(model):
    model = dilated(model)
    model.layer4[1].conv2.bias = nn.Parameter(torch.zeros(16, dtype=torch.float64))
    return model


def other_stage(model):
    model = dilated(model)
    model.layer3[1].conv2.weight = nn.Parameter(model.layer3[1].conv2.weight * 0)
    return model


def shifted(model):
    """Right field and right shapes, but not every second position."""
    model = dilated(model)
    forward = model.layer4.forward
    model.layer4.forward = lambda x: forward(x).roll(1, -1)
    return model


def test_dilated():
    judged(
        checks.check_dilated,
        right=[dilated, dilated_by_new_layers],
        wrong=[
            (lambda m: dilated(m, rest=1), "nothing is dilated"),
            (lambda m: dilated(m, first=2), "the first block of the stage is dilated as well"),
            (one_more, "one block of the last two"),
            (lambda m: m, "layer4 still strides"),
            (lambda m: dilated(m, projection=2), "branch and shortcut have different sizes"),
            (lambda m: dilated(m, padding=1), "a padding of 2"),
            (lambda m: dilated(m, rest=4), "it should see as far as before"),
            (new_weights, "the values of layer4.1.conv2.weight have changed"),
            (with_a_bias, "other names or shapes"),
            (other_stage, "the values of layer3.1.conv2.weight have changed"),
            (shifted, "every second position of C5"),
            (lambda m: None, "should return the network"),
            (None, "hand in the function dilated"),
        ],
        seeds=[0],
    )


def top_down(maps):
    merged = [maps[-1]]
    for finer in reversed(maps[:-1]):
        merged.append(finer + F.interpolate(merged[-1], size=finer.shape[-2:]))
    return merged[::-1]


def by_indices(maps):
    """Also right: the nearest value looked up by hand."""
    merged = [values.clone() for values in maps]
    for fine in reversed(range(len(maps) - 1)):
        coarse, (height, width) = merged[fine + 1], maps[fine].shape[-2:]
        rows = torch.arange(height) * coarse.shape[2] // height
        columns = torch.arange(width) * coarse.shape[3] // width
        merged[fine] += coarse[:, :, rows][..., columns]
    return tuple(merged)


def bilinear(maps, align_corners=False):
    merged = [maps[-1]]
    for finer in reversed(maps[:-1]):
        size = finer.shape[-2:]
        larger = F.interpolate(merged[-1], size=size, mode="bilinear", align_corners=align_corners)
        merged.append(finer + larger)
    return merged[::-1]


def from_neighbour_only(maps):
    return [a + F.interpolate(b, size=a.shape[-2:]) for a, b in pairwise(maps)] + [maps[-1]]


def by_factor(maps):
    merged = [maps[-1]]
    for finer in reversed(maps[:-1]):
        merged.append(finer + F.interpolate(merged[-1], scale_factor=2))
    return merged[::-1]


def in_place(maps):
    for fine in reversed(range(len(maps) - 1)):
        maps[fine] += F.interpolate(maps[fine + 1], size=maps[fine].shape[-2:])
    return maps


def test_top_down():
    judged(
        checks.check_top_down,
        right=[top_down, by_indices],
        wrong=[
            (bilinear, "repeats the nearest value"),
            (lambda maps: bilinear(maps, True), "repeats the nearest value"),
            (from_neighbour_only, "hears from all"),
            (by_factor, "not by a factor of 2"),
            (in_place, "have changed"),
            (lambda maps: maps, "nothing is added"),
            (lambda maps: top_down([0 * maps[0], *maps[1:]]), "own map is missing"),
            (lambda maps: top_down(maps)[::-1], "in the order given"),
            (lambda maps: top_down(maps)[0], "should return 3 values; it returns a Tensor"),
            (lambda maps: [2 * values for values in top_down(maps)], "differs from the reference"),
            (lambda maps: maps[0] @ maps[1], "your code raised RuntimeError"),
            (nn.Identity(), "hand in the function top_down"),
        ],
    )


def level(width, height):
    return max(2, min(5, 4 + math.floor(math.log2(math.sqrt(width * height) / 224))))


def level_by_counting(width, height):
    """Also right: a level for each doubling of the area by four."""
    return 2 + sum(width * height >= (224 * 2**k) ** 2 for k in (-1, 0, 1))


def clamped(value):
    return max(2, min(5, value))


@pytest.mark.parametrize("wrong", [False, True])
def test_level(wrong):
    cases = [
        (lambda w, h: 4 + math.floor(math.log2(math.sqrt(w * h) / 224)), "do not exist"),
        (lambda w, h: 4 + math.log2(math.sqrt(w * h) / 224), "a whole number"),
        (lambda w, h: clamped(4 + round(math.log2(math.sqrt(w * h) / 224))), "not to the nearest"),
        (lambda w, h: clamped(4 + math.ceil(math.log2(math.sqrt(w * h) / 224))), "not up"),
        (lambda w, h: clamped(4 + math.floor(math.log(math.sqrt(w * h) / 224))), "the base 2"),
        (lambda w, h: clamped(4 + math.floor(math.log2(w * h / 224**2))), "square root of its"),
        (lambda w, h: level(max(w, h), max(w, h)), "not its longer side"),
        (lambda w, h: 2, "the level of a box"),
        (lambda w, h: f"P{level(w, h)}", "should be a number; it is a str"),
        (level(20, 20), "hand in the function level"),
    ]
    if wrong:
        judged(checks.check_level, wrong=cases, seeds=[0])
    else:
        judged(checks.check_level, right=[level, level_by_counting], seeds=[0])
