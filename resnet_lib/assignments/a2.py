"""Assignment 2, residual blocks: a bottleneck that is not the book's, and pre-activation.

References are torchvision's bottleneck, adjusted to the variant, and torch's functions.
"""

import functools
from collections.abc import Iterator
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from resnet_lib.assignments.a2_preactivation import (
    ask_preactivation,
    collect_preactivation,
    judge_preactivation,
)
from resnet_lib.assignments.items import Assignment, Draw, Item, Mismatch, Question
from resnet_lib.assignments.layers import (
    Weights,
    choose,
    described,
    draw_weights,
    fill,
    listed,
    observed,
)
from resnet_lib.checks.answers import maker, same_number, same_tensor

CALL = "Block(in_channels, width, stride)"
OPTIONS = {  # of the expansions, the book's own is not among them
    "expansion": (2, 3, 6),
    "stride_in": ("3x3", "1x1"),
    "shortcut": ("average pooling", "projection"),
    "middle_kernel": (3, 5),
}
BOOKS = {"expansion": 4, "stride_in": "3x3", "shortcut": "projection"}  # the block of chapter 7
FEWEST = 2  # departures from it: with one, changing a number in the book's block would do
STRIDES = {
    "3x3": "The 3×3 convolution takes the stride (v1.5).",
    "1x1": "The first 1×1 convolution takes the stride (v1, as in the paper).",
}
SHORTCUTS = {
    "average pooling": "Where the block strides, an average over windows of 2×2 pixels comes first "
    "and halves the resolution; the 1×1 convolution after it has stride 1.",
    "projection": "Where the block strides, the 1×1 convolution takes the stride.",
}


def departs(task: dict) -> bool:
    """Whether the block differs enough from the book's own."""
    return sum(task[option] != value for option, value in BOOKS.items()) >= FEWEST


def parameters(variant: int) -> dict:
    """What this year's sheet asks: the shape of the block, and the same in words."""
    task = choose("a2", variant, OPTIONS, departs)
    words = {
        "stride_words": STRIDES[task["stride_in"]],
        "shortcut_words": SHORTCUTS[task["shortcut"]],
    }
    return task | words


def changes(task: dict, channels: int, width: int, stride: int) -> bool:
    """Whether the block changes its input's shape."""
    return stride != 1 or channels != task["expansion"] * width


def reference(task: dict, channels: int, width: int, stride: int) -> nn.Module:
    """torchvision's bottleneck, in double precision, as the sheet describes it."""
    # Not at the top: it takes a second, and students' processes import this module, too.
    from torchvision.models.resnet import Bottleneck

    out, path = task["expansion"] * width, None
    if changes(task, channels, width, stride):
        pooled = task["shortcut"] == "average pooling" and stride > 1
        pool = nn.AvgPool2d(2) if pooled else nn.Identity()
        projection = nn.Conv2d(channels, out, 1, 1 if pooled else stride, bias=False)
        path = nn.Sequential(pool, projection, nn.BatchNorm2d(out))
    kind = type("Reference", (Bottleneck,), {"expansion": task["expansion"]})
    block = kind(channels, width, stride, path)
    if task["stride_in"] == "1x1":
        block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    return block.double()


def shared(task: dict, arguments: list) -> nn.Module:
    """The same block for all who ask for it; they set its weights and mode, and nothing else."""
    return _shared(tuple((option, task[option]) for option in OPTIONS), *arguments)


@functools.cache
def _shared(choices: tuple, channels: int, width: int, stride: int) -> nn.Module:
    return reference(dict(choices), channels, width, stride)


def weights_for(draw: Draw, block: nn.Module) -> Weights:
    """Random weights for all layers of the block."""
    found = described(block)
    return draw_weights(draw, map(tuple, found["kernels"]), found["norms"])


def question(draw: Draw, task: dict, sizes: list, training: bool = False) -> Question:
    """Blocks of these (channels, width, stride, height, image width, images)."""
    cases = []
    for channels, width, stride, height, wide, images in sizes:
        block = shared(task, [channels, width, stride])
        case = {
            "arguments": [channels, width, stride],
            "x": draw.normal(images, channels, height, wide),
            "weights": weights_for(draw, block),
            "training": training,
        }
        if training:
            case["upstream"] = draw.normal(*block(case["x"]).shape)
        cases.append(case)
    return Question({"cases": cases}, {"task": task})


def collect(answer: Any, inputs: dict) -> dict:
    """Outputs of the student's blocks, with given weights."""
    make, found = maker(answer, CALL), []
    for case in inputs["cases"]:
        block = make(*case["arguments"])
        facts = described(block)
        fill(block, case["weights"])
        block.train(case["training"])
        found.append(facts | observed(block, case["x"], case.get("upstream")))
    return {"cases": found}


class _ReluBefore(nn.Module):
    """The block whose last ReLU comes before the addition, or after nothing at all."""

    def __init__(self, block: nn.Module, last: bool):
        super().__init__()
        self.block, self.last = block, last

    def forward(self, x: Tensor) -> Tensor:
        block = self.block
        y = F.relu(block.bn1(block.conv1(x)))
        y = block.bn3(block.conv3(F.relu(block.bn2(block.conv2(y)))))
        path = x if block.downsample is None else block.downsample(x)
        return F.relu(y) + path if self.last else y + path


def _no_norm(block: nn.Module) -> nn.Module:
    block.downsample[2] = nn.Identity()
    return block


def mistaken(task: dict, arguments: list) -> list[tuple[nn.Module, str]]:
    """Blocks with a mistake each, and the mistake in words; shared, as the right ones are."""
    return _mistaken(tuple((option, task[option]) for option in OPTIONS), *arguments)


@functools.cache
def _mistaken(choices: tuple, *arguments: int) -> list[tuple[nn.Module, str]]:
    return list(_made_with_mistakes(dict(choices), arguments))


def _made_with_mistakes(task: dict, arguments: tuple) -> Iterator[tuple[nn.Module, str]]:
    other = {"3x3": "1x1", "1x1": "3x3"}[task["stride_in"]]
    words = f"the {other.replace('x', '×')} convolution strides; the sheet asks for the other one"
    if arguments[2] > 1:
        yield reference(task | {"stride_in": other}, *arguments), words
        pooled = task["shortcut"] == "average pooling"
        path = "projection" if pooled else "average pooling"
        words = (
            "the shortcut strides without averaging: it sees a quarter of its input"
            if pooled
            else "the shortcut averages; the sheet asks for a convolution that strides"
        )
        yield reference(task | {"shortcut": path}, *arguments), words
    right = reference(task, *arguments)
    if right.downsample is not None:
        yield _no_norm(right), "the batch norm after the projection of the shortcut is missing"
    right = reference(task, *arguments)
    yield _ReluBefore(right, True), "the last ReLU comes before the addition; it belongs after it"
    yield _ReluBefore(right, False), "the last ReLU is missing: nothing is clipped at zero"


def judge_behaviour(question: Question, outputs: dict) -> str:
    """Outputs, and in training mode gradients and running statistics, equal the reference's."""
    task, cases = question.key["task"], question.inputs["cases"]
    for case, found in zip(cases, listed(outputs, "cases", len(cases)), strict=True):
        expected = _behaviour(shared(task, case["arguments"]), case)
        mode = "training" if case["training"] else "evaluation"
        where = "in {} mode of Block({}, {}, {})".format(mode, *case["arguments"])
        mistakes = (
            (_behaviour(m, case)["output"], w) for m, w in mistaken(task, case["arguments"])
        )
        same_tensor(found.get("output"), expected["output"], f"the output {where}", mistakes)
        if case["training"]:
            what = f"the input's gradient {where}"
            same_tensor(found.get("gradient"), expected["gradient"], what)
            what = "the output in evaluation mode, after a pass in training mode,"
            same_tensor(found.get("later"), expected["later"], what)
    return f"equal to the reference in {len(cases)} cases"


def _behaviour(block: nn.Module, case: dict) -> dict[str, Tensor]:
    fill(block, case["weights"])
    return observed(block.train(case["training"]), case["x"], case.get("upstream"))


def ask_shapes(draw: Draw, task: dict) -> Question:
    """Blocks of all kinds on images of one size."""
    e, width = task["expansion"], draw.integer(4, 6)
    sizes = [(e * width, width, 1), (e * width + 1, width, 1), (e * width + 1, width, 2)]
    return question(draw, task, [(*size, 6, 8, 2) for size in sizes])


def judge_shapes(question: Question, outputs: dict) -> str:
    """The shapes alone."""
    cases = question.inputs["cases"]
    for case, found in zip(cases, listed(outputs, "cases", len(cases)), strict=True):
        channels, width, stride = case["arguments"]
        images, _, height, wide = case["x"].shape
        right = (
            images,
            question.key["task"]["expansion"] * width,
            height // stride,
            wide // stride,
        )
        output = found.get("output")
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        if shape != right:
            raise Mismatch(
                f"Block({channels}, {width}, {stride}) turns {tuple(case['x'].shape)} into "
                f"{shape}, expected {right}"
            )
    return f"the shapes are right for {len(cases)} blocks"


def _parameter_mistakes(task: dict, arguments: list, right: int) -> Iterator[tuple[int, str]]:
    channels, width, _ = arguments
    out = task["expansion"] * width
    if changes(task, *arguments):
        yield right - 2 * out, "the batch norm after the projection of the shortcut is missing"
        yield right - 2 * out - channels * out, "the projection of the shortcut is missing"
        yield right + 2 * width + 2 * out, "a convolution has a bias; a batch norm follows it"
    else:
        yield right + channels * out + 2 * out, "the shape stays, so the shortcut is the identity"
    yield right + 2 * width + out, "a convolution has a bias; a batch norm follows it"
    yield right - 4 * width - 2 * out, "the batch norms of the branch are missing"
    yield right - 2 * width, "there are three batch norms in the branch: is one used twice?"


def judge_parameters(question: Question, outputs: dict) -> str:
    """The number of parameters, kernels and biases."""
    task, cases = question.key["task"], question.inputs["cases"]
    for case, found in zip(cases, listed(outputs, "cases", len(cases)), strict=True):
        arguments = case["arguments"]
        right = described(shared(task, arguments))
        what = "the number of parameters of Block({}, {}, {})".format(*arguments)
        mistakes = _parameter_mistakes(task, arguments, right["parameters"])
        same_number(found.get("parameters"), right["parameters"], what, mistakes)
        if found.get("biases"):
            raise Mismatch("a convolution has a bias; a batch norm follows it")
        if sorted(found.get("kernels", [])) != sorted(right["kernels"]):
            raise Mismatch(f"{what} is right, but the kernels' shapes are not")
    return f"parameters and kernels are right for {len(cases)} blocks"


def ask_stride(draw: Draw, task: dict) -> Question:
    """Blocks that stride, in evaluation mode."""
    e = task["expansion"]
    return question(draw, task, [(e * 4 + 1, 4, 2, 6, 6, 2), (e * 5 - 2, 5, 2, 8, 4, 2)])


def ask_addition(draw: Draw, task: dict) -> Question:
    """A block whose shortcut is the identity, on inputs with negative values."""
    return question(draw, task, [(task["expansion"] * 5, 5, 1, 4, 4, 3)])


def ask_training(draw: Draw, task: dict) -> Question:
    """The same block in training mode."""
    return question(draw, task, [(task["expansion"] * 4, 4, 1, 4, 4, 3)], training=True)


ITEMS = (
    Item("shapes", "Shapes of the output", 1, "Block", ask_shapes, collect, judge_shapes),
    Item(
        "parameters", "Parameters, layer by layer", 2, "Block", ask_shapes, collect,
        judge_parameters,
    ),
    Item(
        "stride", "Where the block strides", 2, "Block", ask_stride, collect, judge_behaviour
    ),
    Item(
        "addition", "The addition and the last ReLU", 2, "Block", ask_addition, collect,
        judge_behaviour,
    ),
    Item(
        "training", "Training mode and gradient", 2, "Block", ask_training, collect,
        judge_behaviour,
    ),
    Item(
        "preactivation", "Pre-activation", 2, "PreActivation", ask_preactivation,
        collect_preactivation, judge_preactivation,
    ),
)  # fmt: skip

ASSIGNMENT = Assignment("a2", "Residual blocks", parameters, ITEMS)
