"""Checks of chapter 18, a network in use."""

from collections.abc import Callable

import torch
from torch import Tensor

from resnet_lib.checks.answers import (
    function,
    kind,
    near,
    number,
    numbers,
    returned,
    same_number,
    same_tensor,
    tensor,
)
from resnet_lib.checks.verdict import Draw, Mismatch, check


@check
def check_fold_behind(fold_behind: Callable, *, draw: Draw) -> str:
    """Exercise 18.1: fold_behind(scale, shift, weight, bias) -> weight, bias."""
    call = "fold_behind(scale, shift, weight, bias)"
    fold_behind = function(fold_behind, call)
    for inside, outside in ((4, 3), (5, 5)):
        scale, shift = 0.5 + draw.normal(inside).abs(), draw.normal(inside)
        weight, bias = draw.normal(outside, inside, 1, 1), draw.normal(outside)
        given = (scale, shift, weight, bias)
        found = returned(fold_behind(*(x.clone() for x in given)), 2, call)
        flat = weight[:, :, 0, 0]
        rows = [(weight / scale[:, None, None], "multiply by the scale, do not divide by it")]
        if inside == outside:
            turned = weight * scale[:, None, None, None]
            rows.append((turned, "the scale belongs to the channels that come in, not out"))
        expected = weight * scale[:, None, None]
        same_tensor(found[0], expected, "the folded weight", [*rows, (weight, "it is unchanged")])
        mistakes = [
            (bias, "the shift is lost: every output gets the weighted sum of the shifts"),
            (
                bias + (flat * scale) @ shift,
                "the scale does not act on the shift: x * scale + shift",
            ),
            (flat @ shift, "the convolution's own bias is lost"),
            (bias + flat.sum(1), "weigh the shifts: each has its own"),
        ]
        if inside == outside:
            mistakes.append((bias + shift, "the shift passes through the weights as well"))
        same_tensor(found[1], bias + flat @ shift, "the folded bias", mistakes)
    return "one convolution does what the batch norm and the convolution behind it did"


@check
def check_chance_of_waiting(chance_of_waiting: Callable) -> str:
    """Exercise 18.2: chance_of_waiting(requests, share) -> from 0 to 1."""
    chance_of_waiting = function(chance_of_waiting, "chance_of_waiting(requests, share)")
    for requests, share in ((1, 0.95), (10, 0.95), (50, 0.99), (3, 0.5)):
        expected = 1 - share**requests
        mistakes = [
            (share**requests, "that is the chance that none of them is slow"),
            (requests * (1 - share), "chances of events that can happen together do not add up"),
            (min(1.0, requests * (1 - share)), "chances do not add up, not even with a limit"),
            (
                (1 - share) ** requests,
                "that is the chance that all of them are slow; one is enough",
            ),
            (1 - share, "more requests, more chances of a slow one"),
            (100 * expected, "a chance from 0 to 1, not in percent"),
        ]
        mistakes = [pair for pair in mistakes if abs(pair[0] - expected) > 1e-9]
        what = f"the chance for {requests} requests and the share {share}"
        same_number(chance_of_waiting(requests, share), expected, what, mistakes)
    return "the chance is right: the more requests, the more often the slowest one counts"


def _whole(values: Tensor, what: str, largest: int) -> None:
    if not near(values, values.round()):
        raise Mismatch(f"{what} should be whole numbers: round them")
    if values.abs().max() > largest:
        raise Mismatch(f"{what} reach {values.abs().max():.0f}; {largest} is the largest here")


@check
def check_quantize_weights(quantize_weights: Callable, *, draw: Draw) -> str:
    """Exercise 18.3: quantize_weights(weight, bits) -> whole numbers, a scale for each channel."""
    call = "quantize_weights(weight, bits)"
    quantize_weights = function(quantize_weights, call)
    for bits in (8, 4):
        largest = 2 ** (bits - 1) - 1
        spread = torch.tensor([0.01, 1.0, 30.0, 0.2], dtype=torch.float64)[:, None, None, None]
        weight = draw.normal(4, 3, 3, 3) * spread
        weight[1, 0, 0, 0] = -1.5 * weight[1].abs().max()  # the largest size is a negative number's
        values, scale = returned(quantize_weights(weight.clone(), bits), 2, call)
        values, scale = tensor(values, "the whole numbers"), tensor(scale, "the scales").flatten()
        top = weight.abs().amax((1, 2, 3))
        mistakes = [
            (top.max()[None], "this is one scale for all channels, and not even divided"),
            (top.max()[None] / largest, "one scale for all: the small channels lose everything"),
            (top.max().expand(4) / largest, "every channel has the scale of the largest one"),
            (top, f"divide the largest size by {largest}, the largest whole number"),
            (top / 2**bits, f"there are {largest} steps from zero to the largest size"),
            (top / 2 ** (bits - 1), f"divide by {largest}: {largest + 1} does not fit"),
            (weight.amax((1, 2, 3)) / largest, "take the size: the largest may be negative"),
            (largest / top, "this is the inverse: a scale times a whole number is a weight"),
            (weight.abs().amax((0, 2, 3)) / largest, "a channel is a row: these come in, not out"),
        ]
        same_tensor(scale, top / largest, "the scales", mistakes)
        if values.shape != weight.shape:
            raise Mismatch(f"the whole numbers have the shape {tuple(values.shape)}")
        _whole(values, "the whole numbers", largest)
        error = (values * scale[:, None, None, None] - weight).abs().amax((1, 2, 3))
        if (error > 0.5001 * scale).any():
            if (error <= 1.0001 * scale).all():
                raise Mismatch("round to the nearest: you cut the digits off")
            raise Mismatch("whole numbers times scales do not give the weights back")
    weight = draw.normal(3, 2, 1, 1)
    weight[1] = 0
    values, scale = returned(quantize_weights(weight, 8), 2, call)
    back = tensor(values, "the values") * tensor(scale, "the scales").flatten()[:, None, None, None]
    if not back.isfinite().all() or back[1].any():
        raise Mismatch("a channel of zeros divides by zero: any scale above 0 serves it")
    return "each channel has its scale, and no weight is off by more than half a step"


@check
def check_integer_product(integer_product: Callable, *, draw: Draw) -> str:
    """Exercise 18.4: integer_product(x, zero, w) -> int32 (N, out), from uint8 and int8."""
    integer_product = function(integer_product, "integer_product(x, zero, w)")
    for zero in (0, 128, 37):
        x = draw.integers(0, 255, 5, 40).to(torch.uint8)
        w = draw.integers(-127, 127, 6, 40).to(torch.int8)
        wide, weights = x.long(), w.long()
        expected = (wide - zero) @ weights.T
        answer = integer_product(x.clone(), zero, w.clone())
        if isinstance(answer, Tensor) and answer.is_floating_point():
            raise Mismatch("compute in whole numbers: convert to int32 before you multiply")
        mistakes = [
            (wide @ weights.T, "the zero point is not taken off"),
            (wide @ weights.T - zero, "take the zero point off each x, before the sum"),
            ((wide + zero) @ weights.T, "the zero point is taken off, not added"),
            ((x - zero).long() @ weights.T, "x - zero wraps around in uint8: widen x first"),
            (expected.to(torch.int8).long(), "eight bits do not hold the sum: it needs int32"),
            (expected.T, "rows are images, columns are outputs"),
        ]
        mistakes = [pair for pair in mistakes if not near(pair[0].double(), expected.double())]
        same_tensor(answer, expected, "the product", mistakes, tolerance=0)
    return "exact, to the last unit: only the scales are missing"


@check
def check_best_limit(best_limit: Callable, *, draw: Draw) -> str:
    """Exercise 18.5: best_limit(values, limits, bits) -> one of the limits."""
    best_limit = function(best_limit, "best_limit(values, limits, bits)")
    for bits, outlier in ((8, 40.0), (4, 40.0), (6, 200.0)):
        values = draw.normal(4000).abs()
        values[0] = outlier
        top = values.max().item()
        limits = [top * share for share in (0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)]
        errors = {}
        for limit in limits:
            step = limit / (2**bits - 1)
            back = (values.clamp(max=limit) / step).round() * step
            errors[limit] = {
                "mean square": (back - values).square().mean().item(),
                "largest": (back - values).abs().max().item(),
                "no clipping": (back - values.clamp(max=limit)).square().mean().item(),
            }
        best = {key: min(limits, key=lambda x: errors[x][key]) for key in errors[top]}
        answer = best_limit(values.clone(), list(limits), bits)
        if isinstance(answer, (list, tuple)):
            found = numbers(answer, "the limit", 1)[0]
        else:
            found = number(answer, "the limit")
        if all(abs(found - limit) > 1e-6 * top for limit in limits):
            raise Mismatch(
                f"{found:.4g} is none of the limits; return one of them ({kind(answer)})"
            )
        chosen = min(limits, key=lambda x: abs(x - found))
        if chosen == best["mean square"]:
            continue
        if chosen == best["no clipping"]:
            raise Mismatch("what is cut off at the limit is an error, too: compare with the values")
        if chosen == best["largest"]:
            raise Mismatch("you look at the largest error; the mean square is asked for")
        better = errors[best["mean square"]]["mean square"] / errors[chosen]["mean square"]
        raise Mismatch(
            f"with {bits} bits another limit has {better:.2g} times the mean squared error"
        )
    return "the limit with the smallest mean squared error, for few bits and for many"
