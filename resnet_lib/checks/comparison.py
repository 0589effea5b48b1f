"""Checks of chapter 15, ResNet-50 against ResNet-101."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from resnet_lib import compare
from resnet_lib.checks.answers import (
    function,
    number,
    numbers,
    returned,
    same_number,
    same_tensor,
)
from resnet_lib.checks.verdict import Draw, Mismatch, check

NORMAL = 1.959964  # 97.5 % of a normal distribution lie below
FOUR_DIGITS = 5e-4  # as a share of the value


@check
def check_half_widths(half_widths: Callable, *, draw: Draw) -> str:
    """Exercise 15.1: half_widths(a, b) -> (paired, unpaired)."""
    call = "half_widths(a, b)"
    half_widths = function(half_widths, call)
    for count in (5, 10):
        luck = 3 * draw.normal(count)
        a, b = (70 + luck + 0.5 * draw.normal(count) for _ in range(2))
        t = {freedom: compare.t_quantile(freedom, 0.975) for freedom in (count - 1, 2 * count - 2)}
        gap, apart = (a - b).std(), (a.var() + b.var()).sqrt()
        root = count**0.5
        paired, unpaired = (t[count - 1] * gap / root, t[2 * count - 2] * apart / root)
        found = returned(half_widths(a.clone(), b.clone()), 2, call)
        if math.isclose(number(found[0], "the first"), unpaired, rel_tol=FOUR_DIGITS):
            raise Mismatch("the two are swapped: the paired half-width comes first")
        doubled = "that is the width of the interval; hand in half of it"
        normal = "take the quantile of Student's t distribution: with few seeds 1.96 is too small"
        whole = "the interval is for the mean: divide by the square root of the number of seeds"
        freedoms = "n - 1 degrees of freedom for n differences, 2 n - 2 for two groups of n"
        biased = "the standard deviation has n - 1 in its denominator"
        shrunk = (1 - 1 / count) ** 0.5
        cases = (
            ("the paired half-width", found[0], paired, gap, count - 1, 2 * count - 2),
            ("the unpaired half-width", found[1], unpaired, apart, 2 * count - 2, count - 1),
        )
        for what, answer, right, spread, freedom, other in cases:
            mistakes = [
                (2 * right, doubled),
                (NORMAL * spread / root, normal),
                (right * root, whole),
                (right * shrunk, biased),
                (t[other] * spread / root, freedoms),
                (spread / root, "that is the standard error: multiply it by the t quantile"),
            ]
            if what.startswith("the unpaired"):
                added = t[freedom] * (a.std() + b.std()) / root
                mistakes.append((added, "variances add up, standard deviations don't"))
            named = [(float(value), words) for value, words in mistakes]
            same_number(answer, float(right), f"{what} of {count} seeds", named, FOUR_DIGITS)
    return "both half-widths are right, for 5 and for 10 seeds"


@check
def check_trend(trend: Callable, *, draw: Draw) -> str:
    """Exercise 15.2: trend(gains (seeds, sizes), sizes) -> slope per doubling, (seeds,)."""
    trend = function(trend, "trend(gains, sizes)")
    for sizes in ((8.0, 11.0, 16.0, 23.0, 32.0), (6.0, 9.0, 20.0)):
        gains = draw.normal(4, len(sizes))
        pixels = torch.tensor(sizes, dtype=torch.float64)
        doublings = pixels.log2()
        slope = _slope(gains, doublings)
        mistakes = [
            (_slope(gains, pixels), "that is the slope per pixel; take the logarithm of the size"),
            (_slope(gains, pixels.log()), "the natural logarithm: a doubling is 1 in log2"),
            (_slope(gains, pixels.log10()), "log10: a doubling is 1 in log2"),
            (_slope(gains, torch.arange(len(sizes), dtype=torch.float64)),
             "the sizes are not one doubling apart: use their values, not their places"),
            (-slope, "the sign is reversed: the gain at large sizes counts as positive"),
            (gains @ doublings / doublings.square().sum(),
             "the line need not pass through zero: take the mean size off first"),
            ((gains[:, -1] - gains[:, 0]) / (doublings[-1] - doublings[0]),
             "the line goes through the two ends only; fit it to all sizes"),
            (slope.mean(), "one slope a seed is asked for, not their mean"),
        ]  # fmt: skip
        found = trend(gains.clone(), pixels.clone())
        same_tensor(found, slope, f"the slopes for {len(sizes)} sizes", mistakes)
    return "the slopes are right, for five sizes and for three at uneven distances"


def _slope(gains: Tensor, x: Tensor) -> Tensor:
    x = x - x.mean()
    return gains @ x / x.square().sum()


@check
def check_seeds_needed(seeds_needed: Callable, *, draw: Draw) -> str:
    """Exercise 15.3: seeds_needed(deviation, half_width) -> the smallest number of seeds."""
    seeds_needed = function(seeds_needed, "seeds_needed(deviation, half_width)")
    for factor in (1.2, 0.3, 2.2, *(draw.uniform(0.5, 3) for _ in range(3))):
        half = draw.uniform(0.5, 2)
        deviation = factor * half

        def reach(n: int, freedom: int, deviation: float = deviation) -> float:
            return compare.t_quantile(freedom, 0.975) * deviation / n**0.5

        right = next(n for n in range(2, 500) if reach(n, n - 1) <= half)
        case = f"a deviation of {deviation:.3f} and a half-width of {half:.3f}"
        answer = seeds_needed(deviation, half)
        found = number(answer, f"the number for {case}")
        if found != int(found) or found < 2:
            raise Mismatch(f"the number for {case} is {found:g}; it should be whole, 2 or more")
        if found == right:
            continue
        normal = max(2, math.ceil((NORMAL * deviation / half) ** 2))
        if found == normal:
            why = f"1.96 gives {normal}, but with so few seeds the t quantile is larger"
        elif found == next(n for n in range(2, 500) if reach(n, n) <= half):
            why = "n seeds leave n - 1 degrees of freedom"
        elif found < right:
            reached = reach(int(found), int(found) - 1)
            why = f"with {found:g} seeds the half-width is still {reached:.3f}"
        else:
            why = f"{right} are enough"
        raise Mismatch(f"the number for {case} is {found:g}: {why}")
    return "the numbers are right in six cases, and none of them is larger than needed"


@check
def check_holm(holm: Callable, *, draw: Draw) -> str:
    """Exercise 15.4: holm(p_values) -> adjusted p-values, in the order given."""
    holm = function(holm, "holm(p_values)")
    cases = [[0.01, 0.04, 0.03, 0.005, 0.2], [0.02, 0.6, 0.7], [0.03]]
    cases.append([draw.uniform(0, 0.06) for _ in range(6)])
    cases.append([round(draw.uniform(0, 0.05), 4) for _ in range(3)] * 2)  # ties
    for p_values in cases:
        right, count = _holm(p_values), len(p_values)
        found = numbers(holm(list(p_values)), f"holm({_shown(p_values)})", count)
        if _close(found, right):
            continue
        order = sorted(range(count), key=p_values.__getitem__)
        raw = [min(1.0, (count - order.index(i)) * p) for i, p in enumerate(p_values)]
        unbounded = _holm(p_values, bound=math.inf)
        bonferroni = [min(1.0, count * p) for p in p_values]
        rates = [count * p_values[j] / (rank + 1) for rank, j in enumerate(order)]
        benjamini = [min(rates[order.index(i) :]) for i in range(count)]
        for other, words in (
            (p_values, "nothing was adjusted"),
            (sorted(right), "put them back in the order in which they came"),
            (raw, "a smaller p-value got a larger adjusted one: each is at least the one before"),
            (unbounded, "a p-value is at most 1"),
            (bonferroni, "that is Bonferroni's; Holm's factor falls by one with each p-value"),
            (benjamini, "that is the false discovery rate of Benjamini and Hochberg"),
        ):
            if _close(found, other):
                raise Mismatch(f"holm({_shown(p_values)}): {words}")
        place = next(i for i in range(count) if not _close(found[i : i + 1], right[i : i + 1]))
        raise Mismatch(
            f"holm({_shown(p_values)}): number {place + 1} should be {right[place]:.4g}, "
            f"not {found[place]:.4g}"
        )
    return f"the adjusted p-values are right in {len(cases)} cases, with ties in one"


def _holm(p_values: list[float], bound: float = 1.0) -> list[float]:
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        running = max(running, min(bound, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = running
    return adjusted


def _close(found: list[float], expected: list[float]) -> bool:
    return all(
        math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-12)
        for a, b in zip(found, expected, strict=True)
    )


def _shown(values: list[float]) -> str:
    return "[" + ", ".join(f"{value:.4g}" for value in values) + "]"
