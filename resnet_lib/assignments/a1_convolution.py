"""Assignment 1, the part on convolution: sizes, the convolution itself, receptive fields.

References are torch's functions; the receptive field is measured by a gradient.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from resnet_lib.assignments.items import Draw, Question
from resnet_lib.assignments.layers import listed
from resnet_lib.checks.answers import function, same_number, same_tensor

PADDING_MODES = ("reflect", "replicate", "circular")


def ask_size(draw: Draw, task: dict) -> Question:
    """Sizes, some of which leave a remainder."""
    cases = []
    while len(cases) < 12:
        size, kernel, stride, padding, dilation = (
            draw.integer(*span) for span in ((9, 40), (2, 5), (2, 4), (1, 3), (2, 3))
        )
        if size + 2 * padding > dilation * (kernel - 1):
            cases.append([size, kernel, stride, padding, dilation])
    return Question({"cases": cases})


def collect_size(answer: Any, inputs: dict) -> dict:
    """One size for each case."""
    answer = function(answer, "output_size(size, kernel, stride, padding, dilation)")
    return {"sizes": [answer(*case) for case in inputs["cases"]]}


def judge_size(question: Question, outputs: dict) -> str:
    """Counted by torch on the meta device."""
    cases = question.inputs["cases"]
    for case, found in zip(cases, listed(outputs, "sizes", len(cases)), strict=True):
        size, kernel, stride, padding, dilation = case
        x = torch.empty(1, 1, size, device="meta")
        weight = torch.empty(1, 1, kernel, device="meta")
        right = F.conv1d(x, weight, None, stride, padding, dilation).shape[2]
        undilated = F.conv1d(x, weight, None, stride, padding).shape[2]
        mistakes = [
            (undilated, "a dilated kernel covers more pixels than it has weights"),
            (right + 1, "only whole windows count: round down"),
            (right - 1, "one window too few: the first one stands at the border"),
            (
                F.conv1d(x, weight, None, stride, 0, dilation).shape[2]
                if size > dilation * (kernel - 1)
                else 0,
                "both sides are padded",
            ),
        ]
        same_number(found, right, f"output_size{tuple(case)}", mistakes)
    return f"the size is right in {len(cases)} cases"


def convolution_question(draw: Draw, task: dict, sizes: list) -> Question:
    """Cases (channels, out, kernel, height, width, images, stride, padding, extra)."""
    cases = []
    for channels, out, kernel, height, width, images, stride, padding, extra in sizes:
        inner = channels // extra if task["spread"] == "groups" else channels
        cases.append(
            {
                "x": draw.normal(images, channels, height, width),
                "weight": draw.normal(out, inner, kernel, kernel),
                "arguments": [stride, padding, extra],
            }
        )
    return Question({"cases": cases}, {"task": task})


def ask_convolution(draw: Draw, task: dict) -> Question:
    """Square images, all settings by themselves and together."""
    sizes = [(4, 6, 3, 7, 7, 2, 1, 0, 1), (4, 6, 3, 8, 8, 2, 2, 2, 1), (4, 6, 3, 9, 9, 2, 2, 1, 2)]
    return convolution_question(draw, task, sizes)


def collect_convolution(answer: Any, inputs: dict) -> dict:
    """One output for each case."""
    answer = function(answer, "convolve(x, weight, stride, padding, …)")
    return {
        "outputs": [
            answer(case["x"].clone(), case["weight"].clone(), *case["arguments"])
            for case in inputs["cases"]
        ]
    }


def _convolved(case: Mapping, task: dict, mode: str | None = None, **changed: Any) -> Tensor:
    x, weight = case["x"], changed.get("weight", case["weight"])
    stride, padding, extra = case["arguments"]
    mode = mode or task["padding_mode"]
    x = F.pad(x, [padding] * 4, mode=mode) if padding else x
    more = {task["spread"]: changed.get("extra", extra)}
    return F.conv2d(x, weight, stride=changed.get("stride", stride), **more)


def _convolution_mistakes(case: Mapping, task: dict) -> Iterator[tuple[Tensor, str]]:
    stride, padding, extra = case["arguments"]
    weight = case["weight"]
    if padding:
        for mode in ("constant", *PADDING_MODES):
            if mode != task["padding_mode"]:
                name = {"constant": "with zeros"}.get(mode, f'in the way that torch calls "{mode}"')
                yield _convolved(case, task, mode), f"you pad {name}; the sheet asks for another"
    yield _convolved(case, task, weight=weight.flip(2, 3)), "the kernel is flipped; leave it as is"
    yield _convolved(case, task, weight=weight.transpose(2, 3)), "rows and columns are exchanged"
    if stride > 1:
        yield _convolved(case, task, stride=1), "the stride is missing"
    if extra > 1 and task["spread"] == "dilation":
        yield _convolved(case, task, extra=1), "the dilation is missing"


def judge_convolution(question: Question, outputs: dict) -> str:
    """F.conv2d on the padded input."""
    cases, task = question.inputs["cases"], question.key["task"]
    for case, found in zip(cases, listed(outputs, "outputs", len(cases)), strict=True):
        what = "the output for stride {}, padding {} and {} {}".format(
            *case["arguments"][:2], task["spread"], case["arguments"][2]
        )
        same_tensor(found, _convolved(case, task), what, _convolution_mistakes(case, task))
    return f"equal to torch's convolution in {len(cases)} cases"


def ask_field(draw: Draw, task: dict) -> Question:
    """Networks of three and four layers (kernel, stride, dilation)."""
    networks = [
        [[draw.integer(2, 5), draw.integer(1, 2), draw.integer(1, 2)] for _ in range(layers)]
        for layers in (2, 3, 3, 4)
    ]
    networks += [[[1, 2, 1], [3, 1, 1]], [[3, 1, 2], [2, 2, 1], [3, 1, 1]]]
    return Question({"networks": networks})


def collect_field(answer: Any, inputs: dict) -> dict:
    """One number for each network."""
    answer = function(answer, "receptive_field(layers)")
    networks = [[tuple(layer) for layer in network] for network in inputs["networks"]]
    return {"fields": [answer(network) for network in networks]}


def _measured(network: list, last: int = 0) -> int:
    """From the first to the last input that one output of the network depends on."""
    x = torch.zeros(1, 1, 200 + last, dtype=torch.float64, requires_grad=True)
    y = x
    for kernel, stride, dilation in network:
        y = F.conv1d(y, torch.ones(1, 1, kernel, dtype=x.dtype), None, stride, 0, dilation)
    (gradient,) = torch.autograd.grad(y[0, 0, 0], x)
    reached = gradient[0, 0].nonzero()
    return int(reached.max() - reached.min()) + 1


def judge_field(question: Question, outputs: dict) -> str:
    """Against what the gradient reaches."""
    networks = question.inputs["networks"]
    for network, found in zip(networks, listed(outputs, "fields", len(networks)), strict=True):
        without_strides = _measured([[kernel, 1, dilation] for kernel, _, dilation in network])
        undilated = _measured([[kernel, stride, 1] for kernel, stride, _ in network])
        mistakes = [
            (without_strides, "a stride widens what the layers behind it see"),
            (undilated, "a dilation spreads the kernel"),
            (_measured(network[::-1]), "the layers are in the wrong order: the first comes first"),
        ]
        what = f"the receptive field of {[tuple(layer) for layer in network]}"
        same_number(found, _measured(network), what, mistakes)
    return f"as far as the gradient reaches, for {len(networks)} networks"
