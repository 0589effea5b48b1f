"""Checks of chapter 4, batch normalisation and dropout."""

import copy
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_lib import models
from resnet_lib.checks.answers import (
    Mistakes,
    autograd_function,
    function,
    gradients,
    maker,
    near,
    number,
    returned,
    same_number,
    same_tensor,
)
from resnet_lib.checks.verdict import Draw, Mismatch, check

DIMS = (0, 2, 3)


@check
def check_keras_counts(keras_counts: Callable, *, draw: Draw) -> str:
    """Exercise 4.1: keras_counts(model) -> all parameters, those that are not trainable."""
    keras_counts = function(keras_counts, "keras_counts(model)")
    for name in ("resnet50", "resnet18", "resnet34"):
        with torch.device("meta"):
            model = models.build(name, draw.integer(2, 1000))
        ours = models.parameter_count(model)
        convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
        norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        biases = sum(m.out_channels for m in convolutions)
        fixed = sum(2 * m.num_features for m in norms)
        total, not_trained = returned(keras_counts(model), 2, "keras_counts(model)")
        others = [
            (fixed / 2, "running means and running variances both count: yours is half of them"),
            (fixed + len(norms), "the counter of batches is a buffer of PyTorch's, not of Keras's"),
            (0, "the running statistics are parameters that Keras does not train"),
        ]
        same_number(not_trained, fixed, f"{name}: the number that is not trainable", others)
        totals = [
            (ours, "the total is PyTorch's: neither biases nor running statistics are in it"),
            (ours + fixed, "the total lacks the biases that Keras gives its convolutions"),
            (ours + biases, "the total lacks the running statistics, which Keras counts, too"),
            (ours + fixed / 2 + biases, "the total has only one of the two running statistics"),
            (ours + fixed + len(convolutions), "a bias has a number for each output channel"),
        ]
        same_number(total, ours + biases + fixed, f"{name}: the total", totals)
    return "both of Keras's numbers, for three networks"


@check
def check_batches_needed(batches_needed: Callable) -> str:
    """Exercise 4.2: batches_needed(momentum) -> the first batch with a mean above 0.99."""
    batches_needed = function(batches_needed, "batches_needed(momentum)")
    for momentum in (0.3, 0.1, 0.01, 0.5, 0.002):
        steps = math.floor(math.log(0.01) / math.log(1 - momentum)) + 1
        other_way = math.floor(math.log(0.01) / math.log(momentum)) + 1
        mistakes = [
            (steps - 1, "one batch too few: the running mean is not above 0.99 yet"),
            (steps + 1, "one batch too many: the running mean was above 0.99 before"),
            (other_way, "PyTorch's momentum is the weight of the new batch, not of the old mean"),
            (math.log(0.01) / math.log(1 - momentum), "the number of batches is a whole number"),
        ]
        what = f"the number of batches for momentum {momentum}"
        same_number(batches_needed(momentum), steps, what, mistakes)
    return "the number of batches is right for five values of the momentum"


def _grouped(x: Tensor, groups: int, correction: int = 0, eps: float = 1e-5) -> Tensor:
    parts = x.reshape(len(x), groups, -1)
    variance, mean = torch.var_mean(parts, 2, correction=correction, keepdim=True)
    return ((parts - mean) / (variance + eps).sqrt()).view_as(x)


def _group_norm_mistakes(x: Tensor, groups: int, channels: int) -> Mistakes:
    alternating = torch.arange(channels).view(-1, groups).T.flatten()
    alternate = _grouped(x[:, alternating], groups)[:, alternating.argsort()]
    deviation = (
        x.reshape(len(x), groups, -1)
        .std(2, correction=0)
        .repeat_interleave(channels // groups, 1)[:, :, None, None]
    )
    centred = _grouped(x, groups, eps=0) * deviation
    swapped = x.transpose(0, 1).reshape(groups, -1)
    variance, mean = torch.var_mean(swapped, 1, correction=0, keepdim=True)
    shared = ((swapped - mean) / (variance + 1e-5).sqrt()).view_as(x.transpose(0, 1))
    return [
        (_grouped(x, groups, 1), "the variance is divided by n - 1; a normalisation divides by n"),
        (_grouped(x, channels), "each channel is normalised alone: the groups are ignored"),
        (_grouped(x, 1), "all channels are normalised together: the groups are ignored"),
        (_grouped(x, channels // groups), "the groups' number and their size are exchanged"),
        (alternate, "the channels of a group lie next to each other; yours alternate"),
        (_grouped(x, groups, eps=0), "eps is missing under the root"),
        (centred / (deviation + 1e-5), "eps is added to the deviation; it belongs to the variance"),
        (centred / (deviation**2 + 1e-5), "you divide by the variance, not by its root"),
        (shared.transpose(0, 1), "the statistics are taken over the batch; each image has its own"),
        (F.batch_norm(x, None, None, training=True), "this is batch norm"),
    ]


def _treated_as_constants(x: Tensor, groups: int, upstream: Tensor) -> Mistakes:
    parts = x.reshape(len(x), groups, -1)
    deviation = (parts.var(2, correction=0, keepdim=True) + 1e-5).sqrt()
    words = "the gradient treats mean and variance as constants; they depend on the input, too"
    return [((upstream.view_as(parts) / deviation).view_as(x), words)]


def _check_scale_and_shift(layer: nn.Module, x: Tensor, normalised: Tensor, draw: Draw) -> None:
    """Two numbers a channel, a scale and a shift, whatever their names and order."""
    channels = x.shape[1]
    layer = copy.deepcopy(layer)
    parameters = list(layer.parameters())
    count = sum(parameter.numel() for parameter in parameters)
    if count != 2 * channels or len(parameters) != 2:
        raise Mismatch(
            f"with {channels} channels the module has {count} parameters, expected {2 * channels}: "
            "a scale and a shift for each channel"
        )
    values = draw.normal(2, channels, 1, 1)
    with torch.no_grad():
        for parameter, value in zip(parameters, values, strict=True):
            parameter.copy_(value.view_as(parameter))
    found = layer(x.clone()).detach()
    for scale, shift in (values, values.flip(0)):
        if near(found, scale * normalised + shift):
            return
        if near(found, scale * (normalised + shift)):
            raise Mismatch("the shift is multiplied by the scale, too: scale first, then shift")
    raise Mismatch("with another scale and shift, the output isn't scale × normalised + shift")


@check
def check_group_norm(GroupNormalisation: type, *, draw: Draw) -> str:
    """Exercise 4.3: a module GroupNormalisation(groups, channels)."""
    make = maker(GroupNormalisation, "GroupNormalisation(groups, channels)")
    for groups, channels in ((2, 8), (4, 8), (8, 8), (1, 6)):
        layer = make(groups, channels)
        x = 0.01 * draw.normal(3, channels, 5, 4) + draw.normal(3, channels, 1, 1)
        upstream, expected = draw.normal(*x.shape), _grouped(x, groups)
        case = f"for {channels} channels in {groups} groups"
        mistakes = _group_norm_mistakes(x, groups, channels)
        same_tensor(layer(x.clone()), expected, f"the output {case}", mistakes)
        found = gradients(layer, [x], upstream)[1]
        theirs = gradients(lambda x, groups=groups: F.group_norm(x, groups), [x], upstream)[1]
        constants = _treated_as_constants(x, groups, upstream)
        same_tensor(found, theirs, f"the input's gradient {case}", constants)
        same_tensor(layer.eval()(x.clone()), expected, f"the output in evaluation mode {case}")
        same_tensor(layer(x[:1].clone()), expected[:1], f"the output of an image alone {case}")
        _check_scale_and_shift(layer, x, expected, draw)
    return "output and gradients equal those of group normalisation, in both modes"


def _batch_norm_mistakes(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Mistakes:
    variance, mean = torch.var_mean(x, DIMS, correction=0, keepdim=True)
    unbiased = x.var(DIMS, keepdim=True)
    scale, shift = weight.view(-1, 1, 1), bias.view(-1, 1, 1)

    def output(deviation: Tensor) -> Tensor:
        return scale * (x - mean) / deviation + shift

    return [
        (
            output((unbiased + eps).sqrt()),
            "you divide the variance by n - 1 during normalisation; batch norm divides by n",
        ),
        (output(variance.sqrt()), "eps is missing under the root"),
        (
            output(variance.sqrt() + eps),
            "eps is added to the deviation; it belongs to the variance",
        ),
        (output(variance + eps), "you divide by the variance, not by its root"),
        (
            F.instance_norm(x, weight=weight, bias=bias, eps=eps),
            "each image has its own statistics; in training they are taken over the whole batch",
        ),
        ((x - mean) / (variance + eps).sqrt(), "the scale and the shift are not applied"),
    ]


def _batch_norm_gradient_mistakes(
    x: Tensor, weight: Tensor, upstream: Tensor, eps: float
) -> tuple[Mistakes, Mistakes, Mistakes]:
    """For the input, the scale and the shift."""
    variance, mean = torch.var_mean(x, DIMS, correction=0, keepdim=True)
    deviation = (variance + eps).sqrt()
    normalised, scale = (x - mean) / deviation, weight.view(-1, 1, 1) / deviation
    shift = upstream.mean(DIMS, keepdim=True)
    stretch = (upstream * normalised).mean(DIMS, keepdim=True) * normalised
    inputs = [
        (scale * upstream, "the input's gradient treats mean and variance as constants"),
        (scale * (upstream - shift), "the input's gradient lacks the part through the variance"),
        (scale * (upstream - stretch), "the input's gradient lacks the part through the mean"),
        ((upstream - shift - stretch) / deviation, "the input's gradient lacks the scale"),
    ]
    weights = [
        (
            (upstream * x).sum(DIMS),
            "the scale's gradient needs the normalised input, not the input",
        ),
        ((upstream * normalised).mean(DIMS), "the scale's gradient is a mean; it is a sum"),
    ]
    return inputs, weights, [(upstream.mean(DIMS), "the shift's gradient is a mean; it is a sum")]


@check
def check_batch_norm_function(BatchNormFunction: type, *, draw: Draw) -> str:
    """Exercise 4.4: a torch.autograd.Function with apply(x, weight, bias, eps)."""
    apply = autograd_function(BatchNormFunction, "BatchNormFunction")
    for shape, eps in (((5, 4, 3, 2), 1e-5), ((2, 6, 4, 4), 1e-2), ((3, 1, 2, 5), 1e-5)):
        x = 0.1 * draw.normal(*shape) + draw.normal(shape[1], 1, 1)
        inputs = x, draw.normal(shape[1]), draw.normal(shape[1])
        upstream, case = draw.normal(*shape), f"for an input of shape {shape}"
        found = gradients(apply, (*inputs, eps), upstream)
        expected = gradients(
            lambda x, w, b, eps: F.batch_norm(x, None, None, w, b, True, eps=eps),
            (*inputs, eps),
            upstream,
        )
        outputs = _batch_norm_mistakes(*inputs, eps)
        mistakes = outputs, *_batch_norm_gradient_mistakes(x, inputs[1], upstream, eps)
        names = "output", "input's gradient", "scale's gradient", "shift's gradient"
        for name, ours, theirs, wrong in zip(names, found, expected, mistakes, strict=True):
            same_tensor(ours, theirs, f"the {name} {case}", wrong)
    return "output and three gradients equal those of F.batch_norm in training mode"


@check
def check_training_variance(training_variance: Callable, *, draw: Draw) -> str:
    """Exercise 4.5: training_variance(weights, x, p) -> the derived variance of z in training."""
    training_variance = function(training_variance, "training_variance(weights, x, p)")
    for p, count in ((0.5, 10), (0.2, 7), (0.7, 3)):
        weights, q = draw.normal(count), 1 - p
        x = (draw.normal(8000, count) + draw.normal(8000, 1) + 0.5).relu()
        still = (x @ weights).var().item()
        extra = (weights.square() * x.square().mean(0)).sum().item()
        centred = (weights.square() * x.var(0)).sum().item()
        flat = (weights * x.square().mean(0)).sum().item()
        found, again = (
            number(training_variance(weights.clone(), x.clone(), p), "the variance")
            for _ in range(2)
        )
        if found != again:
            raise Mismatch("two equal calls give different numbers: derive the variance instead")
        mistakes = [
            (still, "that is the variance in evaluation"),
            (p / q * extra, "the variance in evaluation has to be added"),
            (still + p * extra, "the mask is scaled by 1/q, so its variance isn't p"),
            (still + p * q * extra, "the mask is scaled by 1/q, so its variance isn't pq"),
            (still + q / p * extra, "p and q are exchanged: p is the share that is dropped"),
            (still + extra / q, "1/q is the mean of the squared mask; take off its squared mean"),
            (still + p / q * centred, "it takes the mean of x², not the variance of x"),
            (still + p / q * flat, "the weights have to be squared"),
            ((still + p / q * extra) ** 0.5, "that is the deviation, not the variance"),
            (1 + p / q * extra / still, "that is the ratio; hand in the variance itself"),
        ]
        what = f"the variance for p = {p}"
        same_number(found, still + p / q * extra, what, mistakes, tolerance=5e-4)
    return "the variance in training is right for three values of p"


def _one_batch_mistakes(halves: list[Tensor], bn: nn.BatchNorm2d) -> Mistakes:
    whole = torch.cat(halves)
    counts = torch.tensor([float(half.numel() // half.shape[1]) for half in halves])
    means = torch.stack([half.mean(DIMS) for half in halves])
    variances = torch.stack([half.var(DIMS, correction=0) for half in halves])
    mean, share = whole.mean(DIMS), (counts / counts.sum()).double().view(2, 1)

    def output(mean: Tensor, variance: Tensor) -> Tensor:
        return F.batch_norm(whole, mean, variance, bn.weight, bn.bias, eps=bn.eps)

    alone = [F.batch_norm(half, None, None, bn.weight, bn.bias, True) for half in halves]
    words = "the variance is the mean of both variances; it lacks how far the two means differ"
    return [
        (torch.cat(alone), "each half is normalised with its own statistics"),
        (output(mean, (share * variances).sum(0)), words),
        (output(means.mean(0), variances.mean(0)), words),
        (
            output(mean, whole.var(DIMS)),
            "you divide the variance by n - 1 during normalisation; batch norm divides by n",
        ),
        (
            output(means.mean(0), whole.square().mean(DIMS) - means.mean(0) ** 2),
            "the mean of two means is that of the whole only if both counts are equal",
        ),
        (F.batch_norm(whole, None, None, training=True), "scale and shift of bn are not applied"),
    ]


def _check_running(bn: nn.BatchNorm2d, before: nn.BatchNorm2d, whole: Tensor) -> None:
    """The running statistics, updated once, by the unbiased variance."""
    momentum, mean = before.momentum, whole.mean(DIMS)
    old, new = before.running_mean, torch.lerp(before.running_mean, mean, momentum)
    mistakes = [
        (old, "the running statistics of bn are not updated"),
        (torch.lerp(new, mean, momentum), "the running mean is updated twice, expected once"),
        (
            torch.lerp(mean, old, momentum),
            "momentum is the weight of the new value, not of the old",
        ),
    ]
    same_tensor(bn.running_mean, new, "the running mean", mistakes)
    old, variance = before.running_var, whole.var(DIMS)
    biased = torch.lerp(old, whole.var(DIMS, correction=0), momentum)
    mistakes = [
        (old, "the running variance is not updated"),
        (biased, "the running variance takes the variance that is divided by n - 1; yours is by n"),
    ]
    same_tensor(
        bn.running_var, torch.lerp(old, variance, momentum), "the running variance", mistakes
    )


@check
def check_as_one_batch(as_one_batch: Callable, *, draw: Draw) -> str:
    """Exercise 4.6: as_one_batch(halves, bn) -> both outputs; bn's statistics are updated."""
    call = "as_one_batch(halves, bn)"
    as_one_batch = function(as_one_batch, call)
    for sizes in ((4, 4), (6, 2)):
        bn = nn.BatchNorm2d(3, momentum=draw.uniform(0.1, 0.4)).double()
        with torch.no_grad():
            for values in (bn.weight, bn.bias, bn.running_mean):
                values.copy_(draw.normal(3))
        before, case = copy.deepcopy(bn), f"for halves of {sizes[0]} and {sizes[1]} images"
        halves = [draw.normal(n, 3, 4, 2) + draw.normal(3, 1, 1) for n in sizes]
        whole, upstream = torch.cat(halves), draw.normal(sum(sizes), 3, 4, 2)

        def ours(whole: Tensor, bn: nn.BatchNorm2d = bn, sizes: tuple = sizes) -> Tensor:
            return torch.cat(returned(as_one_batch(list(whole.split(sizes)), bn), 2, call))

        found = gradients(ours, [whole], upstream)
        expected = gradients(copy.deepcopy(before), [whole], upstream)
        mistakes = _one_batch_mistakes(halves, before)
        same_tensor(found[0], expected[0], f"the output {case}", mistakes)
        constants = upstream * (
            before.weight / (whole.var(DIMS, correction=0) + bn.eps).sqrt()
        ).view(-1, 1, 1)
        words = "the input's gradient treats mean and variance as constants: they are detached"
        same_tensor(found[1], expected[1], f"the input's gradient {case}", [(constants, words)])
        _check_running(bn, before, whole)
    return "outputs, gradients and running statistics equal those of the whole batch"
