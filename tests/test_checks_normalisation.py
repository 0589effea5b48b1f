"""Chapter 4: each check accepts right answers, however written, and names each mistake."""

import math

import torch
import torch.nn.functional as F
from judging import judged
from torch import nn

from resnet_lib import checks, models

DIMS = (0, 2, 3)


def keras_counts(model, total=lambda p, b, s: p + b + s, fixed=lambda s: s):
    biases = sum(m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d))
    statistics = sum(2 * m.num_features for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    return total(models.parameter_count(model), biases, statistics), fixed(statistics)


def keras_counts_from_tensors(model):
    fixed = sum(b.numel() for name, b in model.named_buffers() if "running" in name)
    kernels = sum(len(p) for p in model.parameters() if p.dim() == 4)
    return [sum(p.numel() for p in model.parameters()) + kernels + fixed, torch.tensor(fixed)]


def test_keras_counts():
    judged(
        checks.check_keras_counts,
        right=[keras_counts, keras_counts_from_tensors],
        wrong=[
            (lambda m: keras_counts(m, lambda p, b, s: p), "the total is PyTorch's"),
            (lambda m: keras_counts(m, lambda p, b, s: p + s), "lacks the biases"),
            (lambda m: keras_counts(m, lambda p, b, s: p + b), "lacks the running statistics"),
            (lambda m: keras_counts(m, fixed=lambda s: s // 2), "yours is half"),
            (lambda m: keras_counts(m, fixed=lambda s: s + 53), "PyTorch's, not of Keras's"),
            (lambda m: (25_636_712, 53_120), "resnet50: the total is 25,636,712"),
            (lambda m: keras_counts(m)[0], "return 2 values; it returns an int"),
            ((25_636_712, 53_120)[0], "hand in the function keras_counts"),
        ],
        seeds=[0],
    )


def batches_needed(momentum):
    return math.floor(math.log(0.01) / math.log(1 - momentum)) + 1


def batches_by_experiment(momentum):
    mean, count = 0.0, 0
    while mean <= 0.99:
        mean, count = (1 - momentum) * mean + momentum, count + 1
    return count


def test_batches_needed():
    judged(
        checks.check_batches_needed,
        right=[batches_needed, batches_by_experiment],
        wrong=[
            (lambda a: batches_needed(a) - 1, "one batch too few"),
            (lambda a: batches_needed(a) + 1, "one batch too many"),
            (lambda a: math.log(0.01) / math.log(1 - a), "a whole number"),
            (lambda a: batches_needed(1 - a), "the weight of the new batch"),
            (lambda a: 44, "for momentum 0.3 is 44, 31 too large"),
            (lambda a: None, "should be a number; it is None"),
            (batches_needed(0.1), "hand in the function batches_needed"),
        ],
    )


class GroupNormalisation(nn.Module):
    """The solution, with a step to spoil."""

    correction, affine, numel = 0, True, "channels"

    def __init__(self, groups, channels, eps=1e-5):
        super().__init__()
        self.groups, self.eps, self.channels = groups, eps, channels
        if self.affine:
            self.weight = nn.Parameter(torch.ones(getattr(self, self.numel)))
            self.bias = nn.Parameter(torch.zeros(getattr(self, self.numel)))

    def statistics(self, grouped):
        return torch.var_mean(grouped, 2, correction=self.correction, keepdim=True)

    def normalise(self, x, groups):
        grouped = x.reshape(len(x), groups, -1)
        variance, mean = self.statistics(grouped)
        return ((grouped - mean) / (variance + self.eps).sqrt()).view_as(x)

    def scaled(self, y):
        if not self.affine:
            return y
        repeats = y.shape[1] // len(self.weight)
        weight, bias = self.weight.repeat_interleave(repeats), self.bias.repeat_interleave(repeats)
        return weight.view(-1, 1, 1) * y + bias.view(-1, 1, 1)

    def forward(self, x):
        return self.scaled(self.normalise(x, self.groups))


def group_norm(**changes):
    return type("Variant", (GroupNormalisation,), changes)


class Renamed(nn.Module):
    """Also right: other names, the shift first, five axes."""

    def __init__(self, number_of_groups, number_of_channels):
        super().__init__()
        self.groups = number_of_groups
        self.beta = nn.Parameter(torch.zeros(1, number_of_channels, 1, 1))
        self.gamma = nn.Parameter(torch.ones(1, number_of_channels, 1, 1))

    def forward(self, images):
        n, c, h, w = images.shape
        x = images.view(n, self.groups, c // self.groups, h, w)
        x = x - x.mean((2, 3, 4), keepdim=True)
        x = x * torch.rsqrt(x.pow(2).mean((2, 3, 4), keepdim=True) + 1e-5)
        return self.beta + x.view(n, c, h, w) * self.gamma


def alternating(self, x):
    order = torch.arange(x.shape[1]).view(-1, self.groups).T.flatten()
    return self.scaled(self.normalise(x[:, order], self.groups)[:, order.argsort()])


def over_batch(self, x):
    y = x.transpose(0, 1).reshape(self.groups, -1)
    variance, mean = torch.var_mean(y, 1, correction=0, keepdim=True)
    y = (y - mean) / (variance + self.eps).sqrt()
    return self.scaled(y.view_as(x.transpose(0, 1)).transpose(0, 1))


def test_group_norm():
    detached = lambda self, x: [t.detach() for t in GroupNormalisation.statistics(self, x)]  # noqa: E731
    judged(
        checks.check_group_norm,
        right=[GroupNormalisation, Renamed, lambda g, c: nn.GroupNorm(g, c)],
        wrong=[
            (group_norm(correction=1), "divided by n - 1"),
            (group_norm(forward=alternating), "yours alternate"),
            (group_norm(forward=over_batch), "taken over the batch"),
            (group_norm(forward=lambda self, x: self.scaled(self.normalise(x, x.shape[1]))),
             "each channel is normalised alone"),
            (group_norm(forward=lambda self, x: self.scaled(self.normalise(x, 1))),
             "all channels are normalised together"),
            (lambda g, c: GroupNormalisation(g, c, eps=0), "eps is missing"),
            (group_norm(statistics=detached), "treats mean and variance as constants"),
            (group_norm(affine=False), "the module has 0 parameters, expected 16"),
            (group_norm(numel="groups"), "the module has 4 parameters, expected 16"),
            (group_norm(scaled=lambda self, y: (y + self.bias.view(-1, 1, 1))
                        * self.weight.view(-1, 1, 1)), "multiplied by the scale, too"),
            (lambda g, c: nn.BatchNorm2d(c), "this is batch norm"),
            (lambda g, c: nn.GroupNorm(c // g, c), "number and their size are exchanged"),
            (nn.GroupNorm(2, 8), "this is an instance of it"),
            (lambda g, c: g, "should be an nn.Module; it is an int"),
            (GroupNormalisation.forward, "your code raised"),
        ],
    )  # fmt: skip


def test_group_norm_stays_as_it_was():
    made = []

    def keep(groups, channels):
        made.append(GroupNormalisation(groups, channels))
        return made[-1]

    assert checks.check_group_norm(keep)
    assert all(layer.weight.eq(1).all() and layer.bias.eq(0).all() for layer in made)


class BatchNorm(torch.autograd.Function):
    """The solution, with steps to spoil."""

    @staticmethod
    def deviation(x, eps):
        variance, mean = torch.var_mean(x, DIMS, correction=0, keepdim=True)
        return mean, (variance + eps).sqrt()

    @staticmethod
    def inner(upstream, shift, stretch):
        return upstream - shift - stretch

    @staticmethod
    def finish(x, weight, bias):
        return x, weight, bias, None

    @classmethod
    def run(cls, ctx, x, weight, bias, eps):
        mean, deviation = cls.deviation(x, eps)
        normalised = (x - mean) / deviation
        ctx.save_for_backward(normalised, deviation, weight)
        return weight.view(-1, 1, 1) * normalised + bias.view(-1, 1, 1)

    @classmethod
    def back(cls, ctx, upstream):
        normalised, deviation, weight = ctx.saved_tensors
        shift = upstream.mean(DIMS, keepdim=True)
        stretch = (upstream * normalised).mean(DIMS, keepdim=True) * normalised
        scale = weight.view(-1, 1, 1) / deviation
        by_weight = (upstream * normalised).sum(DIMS)
        return cls.finish(
            scale * cls.inner(upstream, shift, stretch), by_weight, upstream.sum(DIMS)
        )

    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        return BatchNorm.run(ctx, x, weight, bias, eps)

    @staticmethod
    def backward(ctx, upstream):
        return BatchNorm.back(ctx, upstream)


def batch_norm(**steps):
    steps = {name: staticmethod(step) for name, step in steps.items()}
    variant = type("Variant", (BatchNorm,), steps)
    variant.forward = staticmethod(lambda ctx, *inputs: variant.run(ctx, *inputs))
    variant.backward = staticmethod(lambda ctx, upstream: variant.back(ctx, upstream))
    return variant


class FromInput(torch.autograd.Function):
    """Also right: saves the input, and lets autograd differentiate a graph of its own."""

    @staticmethod
    def forward(ctx, x, gamma, beta, eps):
        ctx.save_for_backward(x, gamma, beta)
        ctx.eps = eps
        return FromInput.formula(x, gamma, beta, eps)

    @staticmethod
    def formula(x, gamma, beta, eps):
        centred = x - x.mean(DIMS, keepdim=True)
        y = centred * torch.rsqrt(centred.square().mean(DIMS, keepdim=True) + eps)
        return torch.einsum("nchw,c->nchw", y, gamma) + beta[:, None, None]

    @staticmethod
    def backward(ctx, upstream):
        with torch.enable_grad():
            inputs = [t.detach().requires_grad_() for t in ctx.saved_tensors]
            y = FromInput.formula(*inputs, ctx.eps)
        return *torch.autograd.grad(y, inputs, upstream), None


def unbiased(x, eps):
    variance, mean = torch.var_mean(x, DIMS, keepdim=True)
    return mean, (variance + eps).sqrt()


def test_batch_norm_function():
    mean_of = lambda t: t / 30  # noqa: E731  5 images of 3 × 2 pixels
    judged(
        checks.check_batch_norm_function,
        right=[BatchNorm, BatchNorm.apply, FromInput],
        wrong=[
            (batch_norm(deviation=unbiased), "divide the variance by n - 1 during normalisation"),
            (batch_norm(deviation=lambda x, eps: BatchNorm.deviation(x, 0)), "eps is missing"),
            (batch_norm(deviation=lambda x, eps: [t + i * eps for i, t in
                                                  enumerate(BatchNorm.deviation(x, 0))]),
             "eps is added to the deviation"),
            (batch_norm(inner=lambda g, shift, stretch: g), "mean and variance as constants"),
            (batch_norm(inner=lambda g, shift, stretch: g - shift), "through the variance"),
            (batch_norm(inner=lambda g, shift, stretch: g - stretch), "through the mean"),
            (batch_norm(finish=lambda x, w, b: (x, mean_of(w), b, None)), "it is a sum"),
            (batch_norm(finish=lambda x, w, b: (x, w, mean_of(b), None)), "it is a sum"),
            (batch_norm(finish=lambda x, w, b: (None, w, b, None)), "input's gradient"),
            (batch_norm(finish=lambda x, w, b: (x, w, b)), "your code raised RuntimeError"),
            (F.batch_norm, "a torch.autograd.Function with your own backward"),
            (nn.BatchNorm2d(3), "an instance of BatchNorm2d"),
        ],
    )  # fmt: skip


def test_batch_norm_function_takes_the_statistics_of_the_batch():
    def of_each_image(x, eps):
        variance, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
        return mean, (variance + eps).sqrt()

    words = "each image has its own statistics"
    judged(checks.check_batch_norm_function, wrong=[(batch_norm(deviation=of_each_image), words)])


def training_variance(weights, x, p, factor=lambda p: p / (1 - p), square=torch.square):
    extra = factor(p) * (square(weights) * x.square().mean(0)).sum()
    return (x @ weights).var() + extra


def from_the_mean_of_squares(w, x, p):
    """Also right: E[z²] - E[z]², with the mean of the squared mask on the diagonal."""
    second = x.T @ x / len(x)
    second = second + second.diag().diag() * (1 / (1 - p) - 1)
    return (w @ second @ w - (x.mean(0) @ w) ** 2).item()


def test_training_variance():
    still = lambda w, x: (x @ w).var()  # noqa: E731
    judged(
        checks.check_training_variance,
        right=[training_variance, from_the_mean_of_squares],
        wrong=[
            (lambda w, x, p: still(w, x), "the variance in evaluation"),
            (lambda w, x, p: training_variance(w, x, p, lambda p: p), "isn't p"),
            (lambda w, x, p: training_variance(w, x, p, lambda p: p * (1 - p)), "isn't pq"),
            (lambda w, x, p: training_variance(w, x, p, lambda p: 1 / (1 - p)), "take off"),
            (lambda w, x, p: training_variance(w, x, 1 - p), "are exchanged"),
            (lambda w, x, p: training_variance(w, x, p, square=lambda w: w), "be squared"),
            (lambda w, x, p: training_variance(w, x - x.mean(0), p), "not the variance of x"),
            (lambda w, x, p: training_variance(w, x, p) - still(w, x), "has to be added"),
            (lambda w, x, p: training_variance(w, x, p) / still(w, x), "that is the ratio"),
            (lambda w, x, p: training_variance(w, x, p).sqrt(), "the deviation, not the variance"),
            (lambda w, x, p: (F.dropout(x, p) @ w).var(), "derive the variance instead"),
            (lambda w, x, p: x @ w, "the variance should be a number; it is a Tensor"),
            (1.5, "hand in the function training_variance"),
        ],
    )


def as_one_batch(halves, bn, variance=None, track=True, correction=True):
    """The solution, with steps to spoil."""
    count = sum(x.numel() // x.shape[1] for x in halves)
    mean = sum(x.sum(DIMS) for x in halves) / count
    squares = sum(x.square().sum(DIMS) for x in halves) / count
    var = squares - mean**2 if variance is None else variance(halves, mean, count)
    for _ in range(int(track)):
        with torch.no_grad():
            bn.running_mean.lerp_(mean, bn.momentum)
            unbiased = var * count / (count - 1) if correction else var
            bn.running_var.lerp_(unbiased, bn.momentum)
    return finish(halves, bn, mean, var)


def finish(halves, bn, mean, var):
    scale = (bn.weight / (var + bn.eps).sqrt()).view(-1, 1, 1)
    return [(x - mean.view(-1, 1, 1)) * scale + bn.bias.view(-1, 1, 1) for x in halves]


def through_torch(halves, bn):
    return bn(torch.cat(halves)).split([len(half) for half in halves])


def within(halves, mean, count):
    sizes = [x.numel() / x.shape[1] / count for x in halves]
    return sum(s * x.var(DIMS, correction=0) for s, x in zip(sizes, halves, strict=True))


def mean_of_means(halves, bn):
    bn(torch.cat(halves))
    mean = (halves[0].mean(DIMS) + halves[1].mean(DIMS)) / 2
    return finish(halves, bn, mean, torch.cat(halves).square().mean(DIMS) - mean**2)


def detached(halves, bn):
    bn(torch.cat(halves))
    whole = torch.cat(halves).detach()
    return finish(halves, bn, whole.mean(DIMS), whole.var(DIMS, correction=0))


def without_scale(halves, bn):
    y = F.batch_norm(torch.cat(halves), None, None, training=True)
    return y.split([len(half) for half in halves])


def test_as_one_batch():
    judged(
        checks.check_as_one_batch,
        right=[as_one_batch, through_torch],
        wrong=[
            (lambda halves, bn: [bn(x) for x in halves], "its own statistics"),
            (lambda halves, bn: as_one_batch(halves, bn, within), "how far the two means differ"),
            (mean_of_means, "only if both counts are equal"),
            (lambda h, bn: as_one_batch(h, bn, lambda h, m, n: torch.cat(h).var(DIMS)),
             "divide the variance by n - 1 during normalisation"),
            (detached, "they are detached"),
            (without_scale, "scale and shift of bn are not applied"),
            (lambda h, bn: as_one_batch(h, bn, track=False), "are not updated"),
            (lambda h, bn: as_one_batch(h, bn, track=2), "updated twice"),
            (lambda h, bn: as_one_batch(h, bn, correction=False), "by n - 1; yours is by n"),
            (lambda h, bn: torch.cat(as_one_batch(h, bn)), "return 2 values; it returns a Tensor"),
            (lambda h, bn: None, "it returns None"),
            (nn.BatchNorm2d, "this is the class BatchNorm2d"),
        ],
    )  # fmt: skip
