"""Chapter 18: each check accepts right answers, however written, and names each mistake."""

import numpy as np
import torch
import torch.nn.functional as F
from judging import judged
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from resnet_lib import checks

# 18.1


def test_fold_behind():
    def by_the_layers(scale, shift, weight, bias):
        """The folded layer's answers to zeros and to each channel alone."""
        channels = len(scale)
        images = torch.cat([torch.zeros(1, channels), torch.eye(channels)]).double()
        answers = F.conv2d((images * scale + shift)[:, :, None, None], weight, bias)[:, :, 0, 0]
        return (answers[1:] - answers[0]).T[:, :, None, None], answers[0]

    def by_einsum(scale, shift, weight, bias):
        return weight * scale.view(1, -1, 1, 1), bias + torch.einsum("oiyx,i->o", weight, shift)

    def wrong(weights=None, biases=None):
        def answer(scale, shift, weight, bias):
            right = by_einsum(scale, shift, weight, bias)
            flat = weight[:, :, 0, 0]
            return (
                weights(scale, weight) if weights else right[0],
                biases(scale, shift, flat, bias) if biases else right[1],
            )

        return answer

    judged(
        checks.check_fold_behind,
        right=[by_the_layers, by_einsum],
        wrong=[
            (wrong(weights=lambda s, w: w / s[:, None, None]), "do not divide by it"),
            (wrong(weights=lambda s, w: w), "it is unchanged"),
            (wrong(biases=lambda s, t, w, b: b), "the shift is lost"),
            (wrong(biases=lambda s, t, w, b: b + (w * s) @ t), "does not act on the shift"),
            (wrong(biases=lambda s, t, w, b: w @ t), "own bias is lost"),
            (wrong(biases=lambda s, t, w, b: b + w.sum(1)), "weigh the shifts"),
            (wrong(biases=lambda s, t, w, b: 2 * b + w @ t), "differs from the reference"),
            (lambda *given: given[2], "should return 2 values"),
            (fuse_conv_bn_weights, "raised"),
        ],
    )


def test_fold_behind_turned():
    def turned(scale, shift, weight, bias):
        square = len(scale) == len(bias)
        folded = weight * scale[:, None, None, None] if square else weight * scale[:, None, None]
        return folded, bias + weight[:, :, 0, 0] @ shift

    def passed(scale, shift, weight, bias):
        square = len(scale) == len(bias)
        folded = weight * scale[:, None, None]
        return folded, bias + (shift if square else weight[:, :, 0, 0] @ shift)

    judged(
        checks.check_fold_behind,
        wrong=[
            (turned, "to the channels that come in"),
            (passed, "the shift passes through the weights"),
        ],
    )


# 18.2


def test_chance_of_waiting():
    def by_counting(requests, share):
        none = 1.0
        for _ in range(requests):
            none *= share
        return 1 - none

    judged(
        checks.check_chance_of_waiting,
        right=[lambda n, p: 1 - p**n, by_counting, lambda n, p: np.float64(1 - p**n)],
        wrong=[
            (lambda n, p: p**n, "none of them is slow"),
            (lambda n, p: n * (1 - p), "do not add up"),
            (lambda n, p: min(1.0, n * (1 - p)), "do not add up"),
            (lambda n, p: (1 - p) ** n, "all of them are slow"),
            (lambda n, p: 1 - p, "more requests, more chances"),
            (lambda n, p: 100 * (1 - p**n), "not in percent"),
            (lambda n, p: 0.9, "too large"),
            (0.4, "hand in the function"),
        ],
    )


# 18.3


def quantize_weights(weight, bits):
    largest = 2 ** (bits - 1) - 1
    scale = weight.abs().amax((1, 2, 3), keepdim=True) / largest
    scale = torch.where(scale > 0, scale, 1)
    return (weight / scale).round(), scale


def test_quantize_weights():
    def row_by_row(weight, bits):
        rows, scales = [], []
        for row in weight:
            scale = max(row.abs().max().item(), 1e-12) / (2 ** (bits - 1) - 1)
            rows.append(torch.round(row / scale).to(torch.int8))
            scales.append(scale)
        return torch.stack(rows), torch.tensor(scales, dtype=torch.double)

    def with_scale(change):
        def answer(weight, bits):
            scale = change(weight, 2 ** (bits - 1) - 1)
            return (weight / scale.view(-1, 1, 1, 1)).round(), scale

        return answer

    def tops(weight):
        return weight.abs().amax((1, 2, 3))

    def cut(weight, bits):
        _, scale = quantize_weights(weight, bits)
        return (weight / scale).trunc(), scale

    def unrounded(weight, bits):
        _, scale = quantize_weights(weight, bits)
        return weight / scale, scale

    def careless(weight, bits):
        scale = tops(weight) / (2 ** (bits - 1) - 1)
        return (weight / scale[:, None, None, None]).round(), scale

    judged(
        checks.check_quantize_weights,
        right=[quantize_weights, row_by_row],
        wrong=[
            (with_scale(lambda w, n: w.abs().max() / n), "one scale for all"),
            (
                with_scale(lambda w, n: (w.abs().max() / n).expand(4)),
                "has the scale of the largest",
            ),
            (with_scale(lambda w, n: w.abs().max()), "not even divided"),
            (with_scale(lambda w, n: tops(w)), "divide the largest size by"),
            (with_scale(lambda w, n: tops(w) / (2 * n + 2)), "steps from zero"),
            (with_scale(lambda w, n: tops(w) / (n + 1)), "does not fit"),
            (with_scale(lambda w, n: n / tops(w)), "this is the inverse"),
            (lambda w, b: (w, w.abs().amax((0, 2, 3)) / (2 ** (b - 1) - 1)), "these come in"),
            (cut, "round to the nearest"),
            (unrounded, "should be whole numbers"),
            (careless, "a channel of zeros divides by zero"),
            (
                lambda w, b: (quantize_weights(w, b)[0] * 0, quantize_weights(w, b)[1]),
                "do not give",
            ),
            (lambda w, b: quantize_weights(w, b)[0], "should return 2 values"),
            (lambda w, b: (w[0], quantize_weights(w, b)[1]), "have the shape"),
            (lambda w, b: (300 * w.sign(), quantize_weights(w, b)[1]), "is the largest here"),
        ],
    )


def test_quantize_weights_takes_the_size():
    def signed(weight, bits):
        scale = weight.amax((1, 2, 3), keepdim=True) / (2 ** (bits - 1) - 1)
        return (weight / scale).round(), scale

    judged(checks.check_quantize_weights, wrong=[(signed, "the largest may be negative")])


# 18.4


def integer_product(x, zero, w):
    return (x.int() - zero) @ w.int().T


def test_integer_product():
    def split(x, zero, w):
        """As kernels do it: the sums of the weights are known before."""
        return x.int() @ w.int().T - zero * w.int().sum(1)

    judged(
        checks.check_integer_product,
        right=[integer_product, split, lambda x, z, w: integer_product(x, z, w).long()],
        wrong=[
            (lambda x, z, w: x.int() @ w.int().T - z, "before the sum"),
            (lambda x, z, w: (x.int() + z) @ w.int().T, "not added"),
            (lambda x, z, w: (x - z).int() @ w.int().T, "wraps around in uint8"),
            (lambda x, z, w: integer_product(x, z, w).to(torch.int8), "eight bits do not hold"),
            (lambda x, z, w: integer_product(x, z, w).T, "rows are images"),
            (lambda x, z, w: x.int() @ w.int().T, "is not taken off"),
            (lambda x, z, w: integer_product(x, z, w).double(), "compute in whole numbers"),
            (lambda x, z, w: integer_product(x, z, w) + 1, "differs from the reference"),
            (nn.Linear(2, 2), "hand in the function"),
        ],
    )


# 18.5


def errors_with(measure):
    def best(values, limits, bits):
        def error(limit):
            step = limit / (2**bits - 1)
            return measure(values, (values.clamp(max=limit) / step).round() * step, limit)

        return min(limits, key=error)

    return best


def test_best_limit():
    mean_square = errors_with(lambda values, back, limit: (back - values).square().mean().item())

    def in_numpy(values, limits, bits):
        values, found = values.numpy(), []
        for limit in limits:
            steps = np.linspace(0, limit, 2**bits)
            near = np.abs(values[:, None] - steps[None]).argmin(1)
            found.append(((steps[near] - values) ** 2).mean())
        return torch.tensor(limits[int(np.argmin(found))])

    judged(
        checks.check_best_limit,
        right=[mean_square, in_numpy],
        wrong=[
            (errors_with(lambda v, b, n: (b - v.clamp(max=n)).square().mean()), "is an error, too"),
            (errors_with(lambda v, b, n: (b - v).abs().max()), "you look at the largest error"),
            (lambda values, limits, bits: limits[3], "times the mean squared error"),
            (lambda values, limits, bits: -1.0, "is none of the limits"),
            (lambda values, limits, bits: None, "should be a number"),
        ],
    )
