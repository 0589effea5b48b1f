"""Chapter 8: each check accepts right answers, however written, and names each mistake."""

import functools
import re

import pytest
import torch
import torch.nn.functional as F
from judging import judged
from torch import nn

from resnet_lib import checks, models
from resnet_lib.blocks import BasicBlock, Bottleneck


def test_resnet26():
    judged(
        checks.check_resnet26,
        right=[(26, 29, 24), (torch.tensor(26), 29.0, 24)],
        wrong=[
            ((30, 29, 24), "projections run beside"),
            ((25, 29, 24), "the linear layer is one of the 26"),
            ((26, 25, 24), "begins with a projection"),
            ((26, 28, 24), "the first stage has a projection"),
            ((26, 33, 24), "only the first block of a stage"),
            ((26, 29, 36), "a bottleneck has three"),
            ((26, 29, 74 / 3), "before you divide"),
            ((26, 29, 23), "in a ResNet-74 is 23, 1 too small"),
            (("26", 29, 24), "should be a number; it is a str"),
        ],
        seeds=[0],
    )


def parameters(
    depths, num_classes, norm=2, bias=0, linear_bias=1, projects=lambda i: True, **without
):
    """The solution, with parts to leave out."""

    def layer(channels, out, kernel, norm=norm):
        return channels * out * kernel**2 + (norm + bias) * out

    total, channels = layer(3, 64, 7, without.get("stem_norm", norm)), 64
    for i, depth in enumerate(depths):
        width = 64 * 2**i
        for j in range(depth):
            total += layer(channels, width, 1) + layer(width, width, 3) + layer(width, 4 * width, 1)
            if j == 0 and projects(i):
                total += layer(channels, 4 * width, 1, without.get("path_norm", norm))
            channels = 4 * width
    return total + channels * num_classes + linear_bias * num_classes


def parameters_by_formula(depths, num_classes):
    """Also right: sums over the stages."""
    total = 64 * (147 + 2) + 2049 * num_classes
    for i, depth in enumerate(depths):
        w, before = 64 * 2**i, 64 if i == 0 else 128 * 2**i
        inside = 17 * w * w + 12 * w
        first = before * w + 13 * w * w + 12 * w + 4 * w * before + 8 * w
        total += first + (depth - 1) * inside
    return torch.tensor(total)


def test_network_parameters():
    judged(
        checks.check_network_parameters,
        right=[parameters, parameters_by_formula],
        wrong=[
            (lambda *a: parameters(*a, norm=0), "a batch norm stands behind every convolution"),
            (lambda *a: parameters(*a, norm=1), "a scale and a shift"),
            (lambda *a: parameters(*a, norm=4), "are buffers"),
            (lambda *a: parameters(*a, bias=1), "the convolutions have no bias"),
            (lambda *a: parameters(*a, linear_bias=0), "has a bias: 1,000 parameters too few"),
            (
                lambda *a: parameters(*a, projects=lambda i: i > 0),
                "stage 1 begins with a projection",
            ),
            (lambda *a: parameters(*a, projects=lambda i: False), "the projections are missing"),
            (lambda *a: parameters(*a, path_norm=0), "no batch norm after the projections"),
            (lambda *a: parameters(*a, stem_norm=0), "norm of the stem is missing: 128 parameters"),
            (lambda *a: 25_557_032, "parameters((3, 4, 23, 3), 10) is 25,557,032"),
            (lambda *a: None, "should be a number; it is None"),
            (25_557_032, "hand in the function parameters"),
        ],
        seeds=[0],
    )


@functools.cache
def factor(num_classes=1000):
    work = {}
    for stem in ("small", "imagenet"):
        with torch.device("meta"):
            model = models.build("resnet50", num_classes, stem=stem)
        work[stem] = models.multiply_adds(model, 32)
    return work["small"] / work["imagenet"]


def test_stem_factors():
    judged(
        checks.check_stem_factors,
        right=[(16, factor()), (16.0, round(factor(), 2)), (16, factor(10))],
        wrong=[
            ((1 / 16, factor()), "not the reverse"),
            ((4, factor()), "*and* four times as wide"),
            ((64, factor()), "the channels stay"),
            ((16, 16), "don't grow as much"),
            ((16, 12.0), "the factor of the whole network is 12"),
            ((16, 1 / factor()), "not the reverse"),
            ((None, 16), "should be a number; it is None"),
        ],
        seeds=[0],
    )


class LateAddition(Bottleneck):
    def forward(self, x):
        return self.relu(self.branch(x)) + self.downsample(x)


def not_negative(block, in_channels):
    return bool((block(torch.randn(2, in_channels, 8, 8)) >= 0).all())


def of_its_last_step(block, in_channels):
    """Also right: a ReLU changes nothing more at the output; the answer is a tensor."""
    x = torch.randn(1, in_channels, 12, 10)
    y = block.eval()(x)
    return torch.equal(y, y.relu()) and torch.tensor(True)


def of_a_name(block, in_channels):
    return type(block) in (Bottleneck, BasicBlock)


def of_the_shape(block, in_channels):
    return block(torch.randn(2, in_channels, 8, 8)).shape[0] == 2


def test_block_property():
    judged(
        checks.check_block_property,
        right=[not_negative, of_its_last_step],
        wrong=[
            (of_the_shape, "adds after the last ReLU passes your property"),
            (lambda b, c: not not_negative(b, c), "a correct block with 64 channels"),
            (of_a_name, "a correct block"),
            (lambda b, c: True, "adds after the last ReLU passes your property"),
            (lambda b, c: None, "the property should be True or False; it is None"),
            (lambda b, c: not_negative(b, 64), "your code raised RuntimeError"),
            (not_negative(Bottleneck(8, 2), 8), "hand in the function passes"),
        ],
    )


@torch.no_grad()
def variances(training, statistic=torch.var, trained=False, branch=False):
    torch.manual_seed(0)
    stage = models.stage(Bottleneck, 64, 32, 23, stride=2)
    models.initialise(stage)
    x = torch.randn(8, 64, 16, 16).relu()
    if trained:
        stage.train()(x)
    found = []
    for block in stage.train(training):
        found.append(statistic(block.branch(x)) if branch else None)
        x = block(x)
        found[-1] = statistic(x) if found[-1] is None else found[-1]
    return [float(value) for value in found]


@pytest.fixture(scope="module")
def modes():
    return variances(False), variances(True)


def test_variances(modes):
    evaluation, training = modes
    judged(
        checks.check_variances,
        right=[(evaluation, training), (torch.tensor(evaluation), tuple(training))],
        wrong=[
            ((training, evaluation), "the two sequences are exchanged"),
            ((variances(False, torch.std), training), "(not their roots)"),
            ((evaluation, variances(True, branch=True)), "the output of the whole block"),
            ((training, training), "are these variances"),
            ((variances(False, trained=True), training), "before any pass in training mode"),
            ((evaluation, evaluation), "in training mode the steps go from"),
            ((evaluation[:-1], training), "should be 23 numbers; there are 22"),
            ((evaluation, [0.0] * 23), "that is not positive"),
            ((None, training), "should be a list of numbers; it is None"),
        ],
        seeds=[0],
    )


BEFORE = re.compile(r"layer\d\.\d+\.(conv[123]|bn[12])\.")


def waits(name):
    return BEFORE.match(name) is not None


def waits_by_parts(name):
    """Also right: by the parts of the name."""
    parts = name.split(".")
    return len(parts) == 4 and not (parts[2] == "bn3" or "downsample" in name)


def test_waits():
    judged(
        checks.check_waits,
        right=[waits, waits_by_parts],
        wrong=[
            (lambda n: "bn3" in n, "conv1.weight waits"),
            (lambda n: waits(n) or "bn3.weight" in n, "do get a gradient"),
            (lambda n: waits(n) or "downsample" in n, "not behind the zeros, but beside them"),
            (lambda n: waits(n) and "conv" in n, "bn1.weight waits: it is before the zeros"),
            (lambda n: waits(n) and "conv1" not in n, "layer1.0.conv1.weight waits"),
            (lambda n: False, "layer1.0.conv1.weight waits"),
            (lambda n: True, "conv1.weight does not wait"),
            (lambda n: n.startswith("layer1") and waits(n), "layer2.0.conv1.weight waits"),
            (lambda n: 1, "should be True or False; it is an int"),
            ({"layer1.0.conv1.weight"}, "hand in the function waits"),
        ],
        seeds=[0],
    )


def test_expected_names_are_those_of_the_first_gradient():
    """The rule, against the gradients of a wider network than the check's own."""
    torch.manual_seed(0)
    model = models.build("resnet50", 10, width=8, zero_init=True)
    F.cross_entropy(model(torch.randn(8, 3, 64, 64)), torch.arange(8)).backward()
    for name, parameter in model.named_parameters():
        assert waits(name) == (not parameter.grad.any()), name
    assert isinstance(model, nn.Module) and checks.check_waits(waits)
