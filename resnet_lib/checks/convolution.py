"""Checks of chapter 3, convolution."""

import re
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from resnet_lib.checks.answers import (
    autograd_function,
    function,
    gradients,
    returned,
    same_number,
    same_tensor,
    shaped,
    table,
    yes_or_no,
)
from resnet_lib.checks.verdict import Draw, Mismatch, check

SIDE = 6  # pixels of exercise 3.6


@check
def check_alexnet_layer(answers: dict) -> str:
    """Exercise 3.1: {"size", "parameters", "multiply-adds", "reads every pixel"}."""
    table(answers, ("size", "parameters", "multiply-adds", "reads every pixel"))
    size, weights = 55, 11 * 11 * 3 * 64
    work = weights * size**2
    sizes = [
        (54, "54 is how many steps the window takes; it stands in one place more than that"),
        (56, "the division leaves a remainder: the size is rounded down, not up"),
        (54.25, "only whole windows count"),
        (53, "both sides are padded, and you seem to pad none or only one"),
        (54.75, "both sides are padded, and you seem to pad one"),
    ]
    same_number(answers["size"], size, "the size of the output", sizes)
    counts = [
        (weights, "the parameters lack the bias: one for each output channel"),
        (weights + 1, "there is one bias for each output channel, not one for the layer"),
        (11 * 11 * 64 + 64, "each kernel covers all three input channels"),
        (11 * 11 * 3 + 64, "each of the 64 output channels has a kernel of its own"),
    ]
    same_number(answers["parameters"], weights + 64, "the number of parameters", counts)
    works = [
        (2 * work, "twice too many: PyTorch counts a multiplication and an addition as two"),
        (weights * 224**2, "each weight is used once a position of the output, not of the input"),
        (weights * size, "the output has 55 rows and 55 columns"),
        (work + 64 * size**2, "adding the bias needs no multiplication"),
        (work / 64, "each of the 64 output channels needs its own products"),
    ]
    same_number(answers["multiply-adds"], work, "the number of multiply-adds", works)
    if not yes_or_no(answers["reads every pixel"], "whether every pixel is read"):
        raise Mismatch(
            "the last windows do miss a row and a column of the padded image; look again whether "
            "that is image or padding"
        )
    return "size, parameters and multiply-adds are as PyTorch counts, and every pixel is read"


def _merged(first: Tensor, second: Tensor, flip: bool = True, padding: int = 2) -> Tensor:
    kernel = second.flip(2, 3) if flip else second
    return F.conv2d(first.transpose(0, 1), kernel, padding=padding).transpose(0, 1)


@check
def check_merged(merged: Callable, *, draw: Draw) -> str:
    """Exercise 3.2: merged(first, second) -> the 5×5 weights of both layers together."""
    merged = function(merged, "merged(first, second)")
    for channels, mid, out in ((3, 3, 3), (4, 6, 5), (1, 2, 1)):
        first, second = draw.normal(mid, channels, 3, 3), draw.normal(out, mid, 3, 3)
        expected = _merged(first, second)
        mistakes = [
            (
                _merged(first, second, flip=False),
                "one kernel has to be flipped: weights u and v of the two layers meet at u + v, "
                "and F.conv2d pairs them at a fixed difference",
            ),
            (expected.flip(2, 3), "the kernel is right, but turned by 180 degrees"),
            (expected.transpose(0, 1), "input and output channels are exchanged"),
            (
                _merged(first, second, padding=1),
                "the kernel is 3 wide, expected 5: only the overlaps around the middle are there",
            ),
        ]
        if channels == mid == out:
            swapped = _merged(second, first)
            mistakes.append((swapped, "the layers are in the wrong order: the first comes first"))
        what = f"the merged kernel for {channels}, {mid} and {out} channels"
        same_tensor(merged(first.clone(), second.clone()), expected, what, mistakes)
    return "one 5×5 convolution does what the two did, for several numbers of channels"


def _conv_gradient_mistakes(
    x: Tensor, weight: Tensor, g: Tensor, padding: int, expected: tuple
) -> list[list]:
    """For input, weight and bias: what the common mistakes give, and their words."""
    around = weight.shape[-1] - 1 - padding

    def for_input(kernel: Tensor, pad: int) -> Tensor:
        return F.conv2d(F.pad(g, [pad] * 4), kernel)

    flipped = weight.flip(2, 3).transpose(0, 1)
    inputs = [
        (
            for_input(weight.transpose(0, 1), around),
            "the input's gradient needs the flipped kernel: yours isn't flipped",
        ),
        (
            for_input(flipped, padding),
            "the input's gradient is padded by p; look again at which windows a corner pixel is in",
        ),
    ]
    if weight.shape[0] == weight.shape[1]:
        inputs.append(
            (
                for_input(weight.flip(2, 3), around),
                "the input's gradient comes from the outputs: the weights' two channel axes have "
                "to exchange their roles",
            )
        )
    for_weight, for_bias = expected[2:]
    weights = [
        (for_weight.transpose(0, 1), "the weight's gradient has its channel axes exchanged"),
        (for_weight.flip(2, 3), "the weight's gradient is turned by 180 degrees"),
        (for_weight / len(x), "the weight's gradient is averaged over the images; it is a sum"),
    ]
    biases = [
        (for_bias / len(x), "the bias's gradient is averaged over the images; it is a sum"),
        (g.mean((0, 2, 3)), "the bias's gradient is averaged; it is a sum"),
        (g.sum((2, 3)), "the bias's gradient still has one row an image; sum over the images, too"),
    ]
    return [inputs, weights, biases]


def _why_backward_fails(
    error: RuntimeError, case: str, kernel: int, padding: int, mistakes: list
) -> str:
    """In words, what torch says about a backward pass that it can't use."""
    shape = re.search(r"gradient at index (\d) - got (\[.*?\]) but .* (\[.*?\])", str(error))
    if shape and int(shape[1]) < 3:
        index = int(shape[1])
        for value, words in mistakes[index]:
            if str(list(value.shape)) == shape[2]:
                return words
        name = ("input", "weight", "bias")[index]
        return f"{case}, the gradient of the {name} has the shape {shape[2]}, expected {shape[3]}"
    if padding >= kernel:
        return f"{case}, k - 1 - p is negative, which means to cut off; yours fails ({error})"
    return f"{case}, your code fails: {error}"


@check
def check_conv_function(Conv2d: type, *, draw: Draw) -> str:
    """Exercise 3.3: a torch.autograd.Function with apply(x, weight, bias, padding)."""
    apply = autograd_function(Conv2d, "Conv2d")
    settings = ((3, 1, 3), (3, 1, 4), (1, 0, 4), (3, 0, 4), (2, 1, 4), (5, 2, 4), (1, 1, 4))
    for kernel, padding, out in settings:
        case = f"with a kernel of {kernel} and padding {padding}"
        inputs = draw.normal(2, 3, 7, 6), draw.normal(out, 3, kernel, kernel), draw.normal(out)
        reference = F.conv2d(*inputs, padding=padding)
        g = draw.normal(*reference.shape)
        expected = gradients(lambda x, w, b, p: F.conv2d(x, w, b, 1, p), (*inputs, padding), g)
        mistakes = _conv_gradient_mistakes(*inputs[:2], g, padding, expected)
        try:
            found = gradients(apply, (*inputs, padding), g)
        except RuntimeError as error:
            raise Mismatch(_why_backward_fails(error, case, kernel, padding, mistakes)) from error
        same_tensor(found[0], expected[0], f"the output {case}")
        for name, ours, theirs, wrong in zip(
            ("input", "weight", "bias"), found[1:], expected[1:], mistakes, strict=True
        ):
            same_tensor(ours, theirs, f"the gradient of the {name} {case}", wrong)
    return f"output and three gradients equal those of F.conv2d for {len(settings)} settings"


def _full(depthwise: Tensor, pointwise: Tensor) -> Tensor:
    return pointwise * depthwise.transpose(0, 1)


@check
def check_full(full: Callable, *, draw: Draw) -> str:
    """Exercise 3.4: full(depthwise, pointwise) -> the weights of the one convolution."""
    full = function(full, "full(depthwise, pointwise)")
    for channels, out in ((4, 4), (3, 5), (8, 8)):
        depthwise, pointwise = draw.normal(channels, 1, 3, 3), draw.normal(out, channels, 1, 1)
        expected = _full(depthwise, pointwise)
        mistakes = [(expected.transpose(0, 1), "input and output channels are exchanged")]
        if channels == out:
            mistakes += [
                (
                    pointwise * depthwise,
                    "each depthwise kernel belongs to an input channel; you use it for an output "
                    "channel",
                ),
                (
                    _full(depthwise, pointwise.transpose(0, 1)),
                    "the 1×1 weights have the output channels first",
                ),
            ]
        found = full(depthwise.clone(), pointwise.clone())
        same_tensor(found, expected, f"the full kernel for {channels} and {out} channels", mistakes)
    return "one full 3×3 convolution with these weights does what the pair did"


@check
def check_nearest(nearest: Callable, *, draw: Draw) -> str:
    """Exercise 3.4: nearest(weight) -> depthwise, pointwise, unexplained share."""
    nearest = function(nearest, "nearest(weight)")
    for channels, out in ((8, 8), (3, 5)):
        weight = draw.normal(out, channels, 3, 3)
        matrices = weight.transpose(0, 1).flatten(2)
        u, s, vh = torch.linalg.svd(matrices, full_matrices=False)
        best = u[:, :, :1] * s[:, None, :1] @ vh[:, :1]
        expected = best.view(channels, out, 3, 3).transpose(0, 1)
        depthwise, pointwise, share = returned(nearest(weight.clone()), 3, "nearest(weight)")
        depthwise = shaped(depthwise, (channels, 1, 3, 3), "depthwise")
        pointwise = shaped(pointwise, (out, channels, 1, 1), "pointwise")
        flat = (u[:, :, :1] @ vh[:, :1]).view(channels, out, 3, 3).transpose(0, 1)
        mistakes = [
            (flat, "the singular vectors are right, but their product lacks the singular value"),
            (
                flat * s[:, 0].square().view(1, -1, 1, 1),
                "both factors carry the singular value, so the product has its square",
            ),
        ]
        same_tensor(_full(depthwise, pointwise), expected, "the product of the pair", mistakes)
        rest, total = s[:, 1:].square().sum().item(), s.square().sum().item()
        shares = [
            (1 - rest / total, "that is the share that is explained"),
            ((rest / total) ** 0.5, "the share is of squares: leave out the last square root"),
            (rest, "that is the sum of squares that remains, not its share of all"),
            ((s[:, 1:].sum() / s.sum()).item(), "the singular values have to be squared first"),
            (100 * rest / total, "give the share as a number from 0 to 1, not in percent"),
        ]
        same_number(share, rest / total, "the unexplained share", shares, tolerance=1e-6)
    return "no separable pair comes nearer, and the unexplained share is right"


def _blur(y: Tensor, kernel: Tensor, stride: int = 2) -> Tensor:
    return F.conv2d(y, kernel.expand(y.shape[1], 1, 3, 3), None, stride, 1, groups=y.shape[1])


def _blur_mistakes(x: Tensor, weight: Tensor, blur: Tensor) -> list:
    y = F.conv2d(x, weight, padding=1)
    small = F.conv2d(x, weight, stride=2, padding=1).relu()
    return [
        (_blur(y, blur).relu(), "the blur comes after the ReLU; yours comes before it"),
        (_blur(y, blur), "the ReLU between convolution and blur is missing"),
        (small, "nothing is blurred: this is the plain convolution with stride 2"),
        (16 * _blur(y.relu(), blur), "the blur's weights should add up to 1; yours add up to 16"),
        (4 * _blur(y.relu(), blur), "the blur's weights should add up to 1; yours add up to 4"),
        (_blur(y.relu(), torch.ones_like(blur) / 9), "that is a mean; the blur is (1, 2, 1)"),
        (
            _blur(small, blur, 1),
            "the convolution already strides: blur at full resolution, and stride after that",
        ),
        (_blur(y.relu(), blur, 1), "the stride is missing after the blur"),
        (
            _blur(small, blur),
            "both steps stride: the output should have half the size",
        ),
    ]


@check
def check_blurred(blurred: Callable, *, draw: Draw) -> str:
    """Exercise 3.5: blurred(x, weight): convolution, ReLU, and a blur with stride 2.

    Compared away from the border, where the blur may be padded in several ways.
    """
    blurred = function(blurred, "blurred(x, weight)")
    row = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64) / 4
    blur = torch.outer(row, row)
    for channels, out in ((1, 4), (3, 5)):
        x, weight = draw.normal(2, channels, 12, 16), draw.normal(out, channels, 3, 3)
        expected = _blur(F.conv2d(x, weight, padding=1).relu(), blur)
        found = blurred(x.float(), weight.float())  # images are in single precision
        mistakes, inner = _blur_mistakes(x, weight, blur), (..., slice(1, -1), slice(1, -1))
        if isinstance(found, Tensor) and found.shape == expected.shape:
            found, expected = found[inner], expected[inner]
            mistakes = [(value[inner], words) for value, words in mistakes]
        same_tensor(found, expected, "the blurred output", mistakes, tolerance=1e-4)
    return "the output is that of a convolution, a ReLU and a blur that strides"


def _shifts() -> list[Tensor]:
    pixels = torch.arange(SIDE**2).view(SIDE, SIDE)
    rolls = [(rows, columns) for rows in range(SIDE) for columns in range(SIDE)]
    identity = torch.eye(SIDE**2, dtype=torch.float64)
    return [identity[pixels.roll(by, (0, 1)).flatten()] for by in rolls]


@check
def check_shift_average(shift_average: Callable, *, draw: Draw) -> str:
    """Exercise 3.6: shift_average(matrix) -> the mean of the matrix over all 36 shifts."""
    shift_average = function(shift_average, "shift_average(matrix)")
    shifts = _shifts()
    for _ in range(2):
        matrix = draw.normal(SIDE**2, SIDE**2)
        parts = torch.stack([s.T @ matrix @ s for s in shifts])
        expected = parts.mean(0)
        mistakes = [
            (matrix, "the matrix came back as it was"),
            (parts.sum(0), "that is the sum over the shifts; the mean is a 36th of it"),
            (
                torch.stack([s @ matrix @ s for s in shifts]).mean(0),
                "you shift twice in the same direction: after the matrix, shift back",
            ),
            (torch.stack([s @ matrix for s in shifts]).mean(0), "the shift back is missing"),
            (torch.stack([matrix @ s for s in shifts]).mean(0), "the shift back is missing"),
            (parts[:SIDE].mean(0), "only the shifts along the columns are averaged: 6 of 36"),
            (parts[::SIDE].mean(0), "only the shifts along the rows are averaged: 6 of 36"),
            (parts[:: SIDE + 1].mean(0), "only the diagonal shifts are averaged: 6 of 36"),
            (parts[1:].mean(0), "the shift by nothing belongs to the 36, too"),
        ]
        same_tensor(shift_average(matrix.clone()), expected, "the average", mistakes)
    return "the average is right: it commutes with all 36 shifts"
