"""Assignment 3, networks: a ResNet-50 that is not the book's, and a broken one to mend.

The reference is the package's network, which equals torchvision's, adjusted to the variant. Which
bugs are planted is decided beside the master, so that students don't find it here.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from resnet_lib.assignments.items import Assignment, Draw, Item, Mismatch, Question
from resnet_lib.assignments.layers import choose, described, draw_weights, fill, observed
from resnet_lib.blocks import Bottleneck, conv1x1
from resnet_lib.checks.answers import kind, maker, same_number, same_tensor
from resnet_lib.models import ResNet, parameter_count

OPTIONS = {
    "stride_in": ("1x1", "3x3"),
    "shortcut": ("average pooling", "projection"),
    "stem": ("small", "imagenet"),
    "extra_norm": ("no", "yes"),
}
STRIDES = {
    "1x1": "its first 1×1 convolution (v1, as in the paper)",
    "3x3": "its 3×3 convolution (v1.5)",
}
SHORTCUTS = {
    "average pooling": "an average over windows of 2×2 pixels and then a 1×1 convolution with "
    "stride 1",
    "projection": "a 1×1 convolution with stride 2",
}
STEMS = {
    "small": "a 3×3 convolution with stride 1 and padding 1, a batch norm and a ReLU. There is no "
    "pooling",
    "imagenet": "a 7×7 convolution with stride 2 and padding 3, a batch norm, a ReLU, and a "
    "maximum over windows of 3×3 pixels with stride 2 and padding 1",
}
ENDS = {
    "no": "The mean over all pixels and a linear layer with a bias give the scores",
    "yes": "A batch norm, a ReLU, the mean over all pixels and a linear layer with a bias give the "
    "scores",
}
MENDED = {"stride_in": "3x3", "shortcut": "projection", "stem": "imagenet", "extra_norm": "no"}
BUGS = 5  # planted in the broken network
FULL = (3, 4, 6, 3), 1000, 64  # ResNet-50


def parameters(variant: int) -> dict:
    """What this year's sheet asks, and the same in words."""
    task = choose("a3", variant, OPTIONS)
    return task | {
        "variant": variant,
        "stride_words": STRIDES[task["stride_in"]],
        "shortcut_words": SHORTCUTS[task["shortcut"]],
        "stem_words": STEMS[task["stem"]],
        "end_words": ENDS[task["extra_norm"]],
        "bugs": BUGS,
    }


def reference(task: dict, arguments: list) -> ResNet:
    """The network of the sheet, in double precision; whoever uses it sets its weights and mode."""
    depths, num_classes, width = arguments
    choices = tuple(task[option] for option in OPTIONS)
    return _made(choices, tuple(depths), num_classes, width)


@functools.cache
def _made(choices: tuple, depths: tuple, num_classes: int, width: int) -> ResNet:
    task = dict(zip(OPTIONS, choices, strict=True))
    options = {"stem": task["stem"], "stride_in": task["stride_in"]}
    net = ResNet(Bottleneck, depths, num_classes, width, **options)
    for block in net.modules():
        path = getattr(block, "downsample", None)
        strides = isinstance(path, nn.Sequential) and path[0].stride != (1, 1)
        if strides and task["shortcut"] == "average pooling":
            conv = conv1x1(path[0].in_channels, path[0].out_channels)
            block.downsample = nn.Sequential(nn.AvgPool2d(2), conv, path[1])
    if task["extra_norm"] == "yes":
        net.avgpool = nn.Sequential(nn.BatchNorm2d(net.fc.in_features), nn.ReLU(), net.avgpool)
    return net.double()


def question(draw: Draw, task: dict, training: bool | None = None) -> Question:
    """A narrow and short network and images; with a mode, also weights, without one, no values."""
    depths = [1, 1, 1, 1]
    depths[draw.integer(1, 3)] = 2  # in the first, nothing would stride
    arguments = [depths, draw.integer(3, 5), 4]
    size = 16 if task["stem"] == "small" else 64
    if training is None:
        x = torch.zeros(1, 3, size, size, dtype=torch.float64)
        return Question({"arguments": arguments, "x": x}, {"task": task})
    net = reference(task, arguments)
    facts = described(net)
    weights = draw_weights(draw, map(tuple, facts["kernels"]), facts["norms"])
    for rows in weights["norms"]:
        rows[0] = rows[0].abs()  # so that signals reach the end of many blocks
    # Else a stem of few channels may have no negative value, and a ReLU nothing to do.
    weights["norms"][0][1:3] *= 0.3
    inputs = {
        "arguments": arguments,
        "weights": weights,
        "head": [draw.normal(*net.fc.weight.shape), draw.normal(*net.fc.bias.shape)],
        "x": draw.normal(2, 3, size, size),
        "training": training,
    }
    if training:
        inputs["upstream"] = draw.normal(2, arguments[1])
    return Question(inputs, {"task": task})


def fill_all(net: nn.Module, inputs: dict) -> nn.Module:
    """The network with the question's weights, also in its linear layer, and in its mode."""
    fill(net, inputs["weights"])
    weight, bias = inputs["head"]
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.Linear) and layer.weight.shape == weight.shape:
                layer.weight.copy_(weight)
                if layer.bias is not None:
                    layer.bias.copy_(bias)
    return net.train(inputs["training"])


def collect_layers(answer: Any, inputs: dict) -> dict:
    """The layers of a small network, and the number of parameters of the full one."""
    make = maker(answer, "Network(depths, num_classes, width)")
    depths, num_classes, width = inputs["arguments"]
    small = described(make(tuple(depths), num_classes, width))
    full = inputs["full"]
    with torch.device("meta"):
        net = make(tuple(full[0]), *full[1:])
    return small | {"full": sum(parameter.numel() for parameter in net.parameters())}


def strided(net: nn.Module, x: Tensor) -> list:
    """Kernel, stride and padding of each convolution, and of each pooling, that is used."""
    found, handles = [], []

    def note(layer: nn.Module, inputs: tuple, output: Tensor) -> None:
        shape = list(layer.weight.shape) if isinstance(layer, nn.Conv2d) else []
        sizes = [list(tensor.shape[2:]) for tensor in (inputs[0], output)]
        found.append([shape, *sizes])

    for layer in net.modules():
        if isinstance(layer, (nn.Conv2d, nn.MaxPool2d)):
            handles.append(layer.register_forward_hook(note))
    try:
        net.eval()(x.clone())
    finally:
        for handle in handles:
            handle.remove()
    return sorted(found)


def collect_sizes(answer: Any, inputs: dict) -> dict:
    """The sizes before and after each convolution."""
    make = maker(answer, "Network(depths, num_classes, width)")
    depths, *rest = inputs["arguments"]
    return {"sizes": strided(make(tuple(depths), *rest), inputs["x"])}


def collect_behaviour(answer: Any, inputs: dict) -> dict:
    """The scores for given weights; in training mode, gradient and later scores, too."""
    make = maker(answer, "Network(depths, num_classes, width)")
    depths, *rest = inputs["arguments"]
    net = fill_all(make(tuple(depths), *rest), inputs)
    return observed(net, inputs["x"], inputs.get("upstream"))


def ask_layers(draw: Draw, task: dict) -> Question:
    """A small network, and ResNet-50."""
    given = question(draw, task)
    inputs = {"arguments": given.inputs["arguments"], "full": [list(FULL[0]), *FULL[1:]]}
    return Question(inputs, given.key)


def judge_layers(question: Question, outputs: dict) -> str:
    """Kernels, batch norms, biases and parameters."""
    task, arguments = question.key["task"], question.inputs["arguments"]
    right = described(reference(task, arguments))
    where = "of a network with {} blocks, {} classes and width {}".format(*arguments)
    if outputs.get("biases"):
        raise Mismatch(f"{outputs['biases']} convolutions have a bias, in front of a batch norm")
    for name in ("kernels", "norms"):
        found = outputs.get(name)
        if not isinstance(found, list):
            raise Mismatch(f"the {name} should be a list; they are {kind(found)}")
        what = {"kernels": "convolutions", "norms": "batch norms"}[name]
        same_number(len(found), len(right[name]), f"the number of {what} {where}")
        if sorted(found) != sorted(right[name]):
            raise Mismatch(f"the {what} {where} are as many as they should be, but not as large")
    same_number(outputs.get("parameters"), right["parameters"], f"the number of parameters {where}")
    full = _full_count(tuple(task[option] for option in OPTIONS))
    same_number(outputs.get("full"), full, "the number of parameters of ResNet-50")
    return f"all layers are there, and ResNet-50 has {full:,} parameters"


@functools.cache
def _full_count(choices: tuple) -> int:
    with torch.device("meta"):
        return parameter_count(_made.__wrapped__(choices, *FULL))


def judge_sizes(question: Question, outputs: dict) -> str:
    """Where the resolution falls."""
    task, inputs = question.key["task"], question.inputs
    right = strided(reference(task, inputs["arguments"]), inputs["x"])
    found = outputs.get("sizes")
    if not isinstance(found, list) or len(found) != len(right):
        raise Mismatch("the convolutions and poolings are not as many as they should be")
    wrong = sum(one != other for one, other in zip(found, right, strict=True))
    if wrong:
        raise Mismatch(f"{wrong} of {len(right)} layers have the wrong size, before or after them")
    return f"the resolution is right before and after all {len(right)} layers"


def judge_behaviour(question: Question, outputs: dict) -> str:
    """Equal scores; in training mode, equal gradients and running statistics."""
    inputs = question.inputs
    net = fill_all(reference(question.key["task"], inputs["arguments"]), inputs)
    right = observed(net, inputs["x"], inputs.get("upstream"))
    mode = "training" if inputs["training"] else "evaluation"
    words = {
        "output": f"the scores in {mode} mode",
        "gradient": "the input's gradient in training mode",
        "later": "the scores in evaluation mode, after a pass in training mode,",
    }
    mistakes = [(right["output"].softmax(1), "these are probabilities; scores are asked for")]
    for name, value in right.items():
        same_tensor(outputs.get(name), value, words[name], mistakes, tolerance=1e-5)
    return f"equal to the reference in {mode} mode"


def asked(training: bool | None, mended: bool) -> Callable[[Draw, dict], Question]:
    """``ask`` for the sheet's own network, or for the mended one."""

    def ask(draw: Draw, task: dict) -> Question:
        return question(draw, MENDED if mended else task, training)

    return ask


def ask_mended_layers(draw: Draw, task: dict) -> Question:
    """As for the sheet's own network."""
    return ask_layers(draw, MENDED)


def ask_list(draw: Draw, task: dict) -> Question:
    """Nothing to ask: the list is handed over."""
    return Question({})


def collect_list(answer: Any, inputs: dict) -> dict:
    """The list of names."""
    if isinstance(answer, (set, frozenset, tuple)):
        answer = sorted(answer, key=str)
    return {"bugs": answer}


def listed_bugs(outputs: dict) -> list[str]:
    """The names in the answer; Mismatch where it isn't a list of so many different texts."""
    found = outputs.get("bugs")
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise Mismatch(f"BUGS should be a list of names in quotes; it is {kind(found)}")
    if len(found) != BUGS or len(set(found)) != BUGS:
        raise Mismatch(f"BUGS should be {BUGS} different names; there are {len(set(found))}")
    return found


def judge_list(question: Question, outputs: dict) -> str:
    """Its form alone: which bugs there are, students find out by themselves."""
    return f"{len(listed_bugs(outputs))} different names; which are right stays with the grader"


ITEMS = (
    Item("layers", "All layers", 2, "Network", ask_layers, collect_layers, judge_layers),
    Item("sizes", "Resolution", 2, "Network", asked(None, False), collect_sizes, judge_sizes),
    Item(
        "scores", "Scores", 2, "Network", asked(False, False), collect_behaviour, judge_behaviour
    ),
    Item(
        "training", "Training mode", 1, "Network", asked(True, False), collect_behaviour,
        judge_behaviour,
    ),
    Item(
        "mended_layers", "Mended: all layers", 1, "Mended", ask_mended_layers, collect_layers,
        judge_layers,
    ),
    Item(
        "mended_sizes", "Mended: resolution", 1, "Mended", asked(None, True), collect_sizes,
        judge_sizes,
    ),
    Item(
        "mended_scores", "Mended: scores", 1, "Mended", asked(False, True), collect_behaviour,
        judge_behaviour,
    ),
    Item(
        "mended_training", "Mended: training mode", 1, "Mended", asked(True, True),
        collect_behaviour, judge_behaviour,
    ),
    Item("list", "The list of bugs", 0, "BUGS", ask_list, collect_list, judge_list),
)  # fmt: skip

ASSIGNMENT = Assignment("a3", "Networks, whole and broken", parameters, ITEMS)
