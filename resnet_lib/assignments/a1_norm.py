"""Assignment 1, the part on batch norm and dropout; references are torch's functions."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_lib.assignments.items import Draw, Mismatch, Question
from resnet_lib.assignments.layers import listed
from resnet_lib.checks.answers import function, maker, returned, same_tensor, shaped, tensor

BATCH, CHANNELS, SIDE = 2, 3, 3  # of the batches for running statistics: few values, so n matters


def ask_training(draw: Draw, task: dict) -> Question:
    """One batch, whose channels differ much in mean and spread."""
    # A small variance, so that it matters where eps stands.
    spread, place = 0.01 * (1 + draw.normal(CHANNELS, 1, 1).abs()), draw.normal(CHANNELS, 1, 1)
    x = spread * draw.normal(3, CHANNELS, 4, 5) + place
    return Question(
        {
            "x": x,
            "scale": draw.normal(CHANNELS),
            "shift": draw.normal(CHANNELS),
            "upstream": draw.normal(*x.shape),
        }
    )


def norm_with(answer: Any, inputs: dict) -> nn.Module:
    """The student's layer with this scale and shift."""
    layer = maker(answer, "BatchNorm(channels)")(len(inputs["scale"]))
    for name in ("scale", "shift"):
        parameter = getattr(layer, name, None)
        if not isinstance(parameter, nn.Parameter) or parameter.numel() != len(inputs[name]):
            raise Mismatch(
                f"the layer needs an nn.Parameter called {name}, with one number a channel"
            )
        with torch.no_grad():
            parameter.copy_(inputs[name].view_as(parameter))
    return layer


def collect_training(answer: Any, inputs: dict) -> dict:
    """Output and gradients in training mode."""
    layer, x = norm_with(answer, inputs).train(), inputs["x"].clone().requires_grad_()
    output = layer(x * 1)
    if not isinstance(output, Tensor) or output.shape != x.shape:
        return {"output": output}
    wanted = [x, layer.scale, layer.shift]
    found = torch.autograd.grad(output, wanted, inputs["upstream"], allow_unused=True)
    # A parameter may have axes of length 1 for pixels.
    found = [found[0], *(None if value is None else value.flatten() for value in found[1:])]
    names = ("the input", "the scale", "the shift")
    return {"output": output, "gradients": dict(zip(names, found, strict=True))}


def judge_training(question: Question, outputs: dict) -> str:
    """torch's batch norm, forward and backward."""
    given = question.inputs
    wanted = [given[name].clone().requires_grad_() for name in ("x", "scale", "shift")]
    right = F.batch_norm(wanted[0], None, None, wanted[1], wanted[2], True)
    x, scale, shift = given["x"], given["scale"][:, None, None], given["shift"][:, None, None]
    variance, mean = torch.var_mean(x, (0, 2, 3), correction=0, keepdim=True)
    unbiased = x.var((0, 2, 3), keepdim=True)
    mistakes = [
        (scale * (x - mean) / (unbiased + 1e-5).sqrt() + shift, "divide the variance by n"),
        (scale * (x - mean) / variance.sqrt() + shift, "eps is missing under the root"),
        (scale * (x - mean) / (variance.sqrt() + 1e-5) + shift, "eps belongs under the root"),
        (
            scale * (x - mean) / (variance + 1e-5) + shift,
            "you divide by the variance, not its root",
        ),
        (
            F.instance_norm(x, weight=given["scale"], bias=given["shift"]),
            "each image has its own statistics; they are taken over the whole batch",
        ),
        ((x - mean) / (variance + 1e-5).sqrt(), "scale and shift are not applied"),
    ]
    same_tensor(outputs.get("output"), right, "the output in training mode", mistakes)
    found = outputs.get("gradients")
    if not isinstance(found, dict):
        raise Mismatch("no gradient was collected")
    constant = scale * given["upstream"] / (variance + 1e-5).sqrt()
    words = "the input's gradient treats mean and variance as constants; they depend on the input"
    for name, gradient in zip(
        ("the input", "the scale", "the shift"),
        torch.autograd.grad(right, wanted, given["upstream"]),
        strict=True,
    ):
        same_tensor(found.get(name), gradient, f"the gradient of {name}", [(constant, words)])
    return "output and gradients equal those of torch's batch norm"


def ask_running(draw: Draw, task: dict) -> Question:
    """Three batches for training, one for evaluation."""
    place = 3 * draw.normal(CHANNELS, 1, 1)
    batches = [(1 + i) * draw.normal(BATCH, CHANNELS, SIDE, SIDE) + place for i in range(3)]
    inputs = {
        "batches": batches,
        "x": draw.normal(4, CHANNELS, 2, 2),
        "scale": 0.5 + draw.normal(CHANNELS).abs(),
        "shift": draw.normal(CHANNELS),
    }
    return Question(inputs, {"task": task})


def collect_running(answer: Any, inputs: dict) -> dict:
    """Outputs in evaluation mode: at first, and twice after training."""
    layer = norm_with(answer, inputs)
    first = layer.eval()(inputs["x"].clone())
    layer.train()
    for batch in inputs["batches"]:
        layer(batch.clone())
    layer.eval()
    return {
        "first": first,
        "later": layer(inputs["x"].clone()),
        "again": layer(inputs["x"].clone()),
        "alone": layer(inputs["x"][:1].clone()),
    }


def _ran(given: Mapping, momentum_of: str, momentum: float, divisor: str) -> Tensor:
    """The output after training, from torch's own running statistics."""
    layer = nn.BatchNorm2d(CHANNELS, momentum=momentum if momentum_of == "new" else 1 - momentum)
    layer = layer.double()
    for batch in given["batches"]:
        layer(batch)
    variance = layer.running_var
    if divisor == "n":  # torch divides by n - 1; the start, 1, is in neither
        start = (1 - layer.momentum) ** len(given["batches"])
        n = BATCH * SIDE**2
        variance = start + (variance - start) * (n - 1) / n
    return F.batch_norm(
        given["x"], layer.running_mean, variance, given["scale"], given["shift"], False
    )


def judge_running(question: Question, outputs: dict) -> str:
    """Evaluation mode before and after three batches."""
    given, task = question.inputs, question.key["task"]
    settings = task["momentum_of"], task["momentum"], task["running_variance"]
    other = {"old": "new", "new": "old", "n": "n - 1", "n - 1": "n"}
    zero, one = torch.zeros(CHANNELS).double(), torch.ones(CHANNELS).double()
    start = F.batch_norm(given["x"], zero, one, given["scale"], given["shift"], False)
    same_tensor(outputs.get("first"), start, "the output in evaluation mode before any training")
    mistakes = [
        (
            _ran(given, other[settings[0]], *settings[1:]),
            "the momentum is the weight of the other one",
        ),
        (_ran(given, *settings[:2], other[settings[2]]), f"the divisor is {settings[2]}"),
        (
            F.batch_norm(given["x"], None, None, given["scale"], given["shift"], True),
            "in evaluation mode the batch's own statistics are not used",
        ),
        (start, "the running statistics don't change in training mode"),
    ]
    right = _ran(given, *settings)
    same_tensor(outputs.get("later"), right, "the output in evaluation mode", mistakes)
    same_tensor(outputs.get("again"), right, "the output of a second call in evaluation mode")
    same_tensor(outputs.get("alone"), right[:1], "the output for an image alone")
    return "the running statistics are those of the sheet"


def ask_folded(draw: Draw, task: dict) -> Question:
    """A batch norm and the convolution after it."""
    channels, out, k = draw.integer(3, 4), draw.integer(5, 6), draw.integer(1, 3)
    arguments = [draw.normal(out, channels, k, k), *(draw.normal(channels) for _ in range(3))]
    return Question(
        {"arguments": [*arguments, 0.3 + draw.normal(channels).abs()], "eps": 0.1},
        {"x": draw.normal(2, channels, 5, 5)},
    )


def collect_folded(answer: Any, inputs: dict) -> dict:
    """Weight and bias of the one convolution."""
    call = "folded(weight, scale, shift, mean, variance, eps)"
    arguments = [value.clone() for value in inputs["arguments"]]
    weight, bias = returned(function(answer, call)(*arguments, inputs["eps"]), 2, call)
    return {"weight": weight, "bias": bias}


def judge_folded(question: Question, outputs: dict) -> str:
    """The one convolution does what the pair did."""
    weight, scale, shift, mean, variance = question.inputs["arguments"]
    x, eps = question.key["x"], question.inputs["eps"]
    found = shaped(outputs.get("weight"), weight.shape, "the new weight")
    bias = tensor(outputs.get("bias"), "the bias").flatten()
    shaped(bias, weight.shape[:1], "the bias")

    def pair(scale: Tensor, shift: Tensor, variance: Tensor = variance, eps: float = eps) -> Tensor:
        return F.conv2d(F.batch_norm(x, mean, variance, scale, shift, False, 0, eps), weight)

    right = pair(scale, shift)
    mistakes = [
        (pair(scale, shift, eps=0.0), "eps is missing under the root"),
        (pair(scale, 0 * shift), "the shift is missing in the bias"),
        (pair(scale, shift + scale * mean / (variance + eps).sqrt()), "the mean is missing"),
        (
            pair(scale, shift, (variance + eps) ** 2 - eps),
            "you divide by the variance, not by its root",
        ),
    ]
    same_tensor(F.conv2d(x, found, bias), right, "the one convolution's output", mistakes)
    return "the one convolution does what batch norm and convolution did"


def ask_dropout(draw: Draw, task: dict) -> Question:
    """Positive values, so that a zero is a dropped one; p far from 1/2, to tell it from 1 - p."""
    p = draw.uniform(0.15, 0.3)
    p = 1 - p if draw.integer(0, 1) else p
    return Question({"x": 0.5 + draw.normal(40, 100).abs(), "p": p}, {"task": task})


def collect_dropout(answer: Any, inputs: dict) -> dict:
    """Two passes in training, one in evaluation, and one that drops nothing."""
    answer, x, p = function(answer, "dropout(x, p, training)"), inputs["x"], inputs["p"]
    return {
        "training": [answer(x.clone(), p, True) for _ in range(2)],
        "evaluation": answer(x.clone(), p, False),
        "nothing": answer(x.clone(), 0.0, True),
    }


def judge_dropout(question: Question, outputs: dict) -> str:
    """Which values are kept, how many, and what becomes of them."""
    x, p = question.inputs["x"], question.inputs["p"]
    late = question.key["task"]["dropout"] == "evaluation"
    factors = (1, 1 - p) if late else (1 / (1 - p), 1)
    masks = []
    for found in listed(outputs, "training", 2):
        found = shaped(found, x.shape, "the output in training")
        kept = found != 0
        masks.append(kept)
        share = 1 - kept.double().mean().item()
        if abs(share - p) > 6 * (p * (1 - p) / x.numel()) ** 0.5:  # six standard deviations
            raise Mismatch(f"with p = {p:.2f}, {share:.1%} of the values are dropped")
        lines = [kept.double().mean(dim).var().item() for dim in (0, 1)]
        if max(lines) > p * (1 - p) / 4:
            raise Mismatch("whole rows or columns are dropped; each value is dropped by itself")
        right = torch.where(kept, x * factors[0], 0)
        mistakes = [(torch.where(kept, x * f, 0), "the factor in training is wrong") for f in
                    (1 / (1 - p), 1 - p, 1.0, 1 / p)]  # fmt: skip
        same_tensor(found, right, "what is kept in training", mistakes)
    if torch.equal(*masks):
        raise Mismatch("two calls drop the same values; each draws anew")
    same_tensor(outputs.get("evaluation"), x * factors[1], "the output in evaluation")
    same_tensor(outputs.get("nothing"), x, "the output in training with p = 0")
    return "the right share is dropped, and the scale is right in both modes"
