"""A small assignment for the tests of the grader: ten visible points and two hidden ones."""

import torch
from torch import nn

from resnet_lib.assignments.items import Assignment, Item, Mismatch, Question
from resnet_lib.checks.answers import number, same_number, same_tensor


def parameters(variant):
    return {"factor": 2 + variant}


def ask_scaled(draw, parameters):
    return Question({"x": draw.normal(5)}, {"factor": parameters["factor"]})


def collect_scaled(scaled, inputs):
    return {"y": scaled(inputs["x"])}


def judge_scaled(question, outputs):
    expected = question.key["factor"] * question.inputs["x"]
    same_tensor(outputs["y"], expected, "scaled(x)")
    return "scaled by the right factor"


def reference(question):
    from torchvision.models.resnet import Bottleneck  # here, since students' processes need it not

    shortcut = nn.Sequential(nn.Conv2d(8, 16, 1, 2, bias=False), nn.BatchNorm2d(16))
    block = Bottleneck(8, 4, 2, shortcut).double().eval()
    fill(block, question.inputs["weights"])
    return block


def fill(block, weights):
    """Set the convolutions' weights; each is told by its shape."""
    left = list(weights)
    with torch.no_grad():
        for parameter in block.parameters():
            for index, weight in enumerate(left):
                if parameter.shape == weight.shape:
                    parameter.copy_(left.pop(index))
                    break


def ask_block(draw, parameters):
    shapes = [(4, 8, 1, 1), (4, 4, 3, 3), (16, 4, 1, 1), (16, 8, 1, 1)]
    weights = [draw.normal(*shape) / 2 for shape in shapes]
    return Question({"weights": weights, "x": draw.normal(2, 8, 6, 6)})


def collect_block(block_class, inputs):
    block = block_class(8, 4, 2).double().eval()
    fill(block, inputs["weights"])
    return {"y": block(inputs["x"])}


def judge_block(question, outputs):
    expected = reference(question)(question.inputs["x"])
    same_tensor(outputs["y"], expected, "the block's output")
    return "equal to the reference"


def ask_field(draw, parameters):
    return Question({"kernels": draw.integers(1, 9, 4).tolist()})


def collect_field(receptive_field, inputs):
    return {"field": receptive_field(inputs["kernels"])}


def judge_field(question, outputs):
    kernels, found = question.inputs["kernels"], number(outputs["field"], "your number")
    expected = 1 + sum(kernel - 1 for kernel in kernels)
    if found == sum(kernels):
        return 1 / 3, "a kernel of 3 adds 2 pixels, not 3"
    if found > 10**6:
        raise Mismatch("your number is out of the question")
    same_number(found, expected, "your number")
    return "the receptive field is right"


ASSIGNMENT = Assignment(
    name="toy",
    title="A toy: blocks",
    parameters=parameters,
    items=(
        Item("scaled", "scaled(x)", 3, "scaled", ask_scaled, collect_scaled, judge_scaled),
        Item("stride", "The stride", 4, "Bottleneck", ask_block, collect_block, judge_block),
        Item("field", "Receptive field", 3, "receptive_field", ask_field, collect_field,
             judge_field),
    ),
    seconds=30,
    cell_seconds=4,
    gigabytes=1.5,
)  # fmt: skip
