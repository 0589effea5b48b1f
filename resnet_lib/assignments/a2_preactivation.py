"""Assignment 2, the part on pre-activation; the reference is made of torch's functions."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from resnet_lib.assignments.items import Draw, Question
from resnet_lib.assignments.layers import described, draw_weights, fill, observed
from resnet_lib.checks.answers import maker, same_number, same_tensor

PRE_CALL = "PreActivation(channels, middle)"


def ask_preactivation(draw: Draw, task: dict) -> Question:
    """A block (channels, middle), once in each mode."""
    channels, middle, k = draw.integer(3, 4), draw.integer(5, 6), task["middle_kernel"]
    kernels = [(middle, channels, k, k), (channels, middle, 3, 3)]
    x = draw.normal(3, channels, 6, 6)
    inputs = {
        "arguments": [channels, middle],
        "x": x,
        "weights": draw_weights(draw, kernels, (channels, middle)),
        "upstream": draw.normal(*x.shape),
    }
    return Question(inputs, {"kernel": k})


def collect_preactivation(answer: Any, inputs: dict) -> dict:
    """The student's block in evaluation and training mode."""
    block = maker(answer, PRE_CALL)(*inputs["arguments"])
    facts = described(block)
    fill(block, inputs["weights"])
    evaluation = observed(block.eval(), inputs["x"])["output"]
    return (
        facts
        | observed(block.train(), inputs["x"], inputs["upstream"])
        | {"evaluation": evaluation}
    )


def _preactivated(
    x: Tensor, inputs: dict, training: bool, late: bool = False, relu: bool = True
) -> Tensor:
    """The block by torch's functions; ``late`` and ``relu`` are for mistakes."""
    channels, middle = inputs["arguments"]
    norms = {rows.shape[1]: rows for rows in inputs["weights"]["norms"]}
    kernels = {kernel.shape[1]: kernel for kernel in inputs["weights"]["kernels"]}
    y, starts = x, []
    for size in (channels, middle):
        scale, shift, mean, variance = (row.clone() for row in norms[size])
        y = F.batch_norm(y, mean, variance, scale, shift, training)
        y = F.relu(y) if relu else y
        starts.append(y)
        y = F.conv2d(y, kernels[size], padding=kernels[size].shape[-1] // 2)
    return (starts[0] if late else x) + y


def judge_preactivation(question: Question, outputs: dict) -> str:
    """Both modes and the gradient."""
    inputs, k = question.inputs, question.key["kernel"]
    channels, middle = inputs["arguments"]
    count = channels * middle * (k**2 + 9) + 2 * channels + 2 * middle
    mistakes = [(count + channels + middle, "a convolution has a bias; leave it out")]
    same_number(outputs.get("parameters"), count, "the number of parameters", mistakes)
    for training in (False, True):
        x = inputs["x"].clone().requires_grad_()
        right = _preactivated(x, inputs, training)
        key, mode = ("output", "training") if training else ("evaluation", "evaluation")
        mistakes = _mistakes(inputs, training)
        same_tensor(outputs.get(key), right, f"the output in {mode} mode", mistakes)
    (gradient,) = torch.autograd.grad(right, x, inputs["upstream"])
    same_tensor(outputs.get("gradient"), gradient, "the input's gradient in training mode")
    return "output and gradient are those of a pre-activation block"


def _mistakes(inputs: dict, training: bool) -> list[tuple[Tensor, str]]:
    x = inputs["x"]
    return [
        (
            F.relu(_preactivated(x, inputs, training)),
            "a ReLU stands after the addition; nothing comes after it",
        ),
        (
            _preactivated(x, inputs, training, late=True),
            "the shortcut starts after the first norm and ReLU; it starts before them",
        ),
        (_preactivated(x, inputs, training, relu=False), "the ReLUs are missing"),
    ]
