"""Chapter 15: each check accepts right answers, however written, and names each mistake."""

import math

import pytest
import torch
from judging import judged
from scipy import stats

from resnet_lib import checks


def half_widths(a, b, quantile=None, paired=True, scale=1.0, correction=1):
    a, b = torch.as_tensor(a), torch.as_tensor(b)
    n = len(a)
    spreads = (
        (a - b).std(correction=correction),
        (a.var(correction=correction) + b.var(correction=correction)).sqrt(),
    )
    freedoms = (n - 1, 2 * n - 2)
    found = []
    for spread, freedom in zip(spreads, freedoms, strict=True):
        t = quantile(freedom) if quantile else stats.t.ppf(0.975, freedom)
        found.append(float(scale * t * spread / n**0.5))
    return tuple(found)


def by_library(a, b):
    a, b = a.numpy(), b.numpy()
    found = []
    for test in (stats.ttest_rel(a, b), stats.ttest_ind(a, b)):
        low, high = test.confidence_interval()
        found.append((high - low) / 2)
    return found


def with_added_deviations(a, b):
    paired, _ = half_widths(a, b)
    n = len(a)
    return paired, stats.t.ppf(0.975, 2 * n - 2) * (a.std() + b.std()) / n**0.5


def test_half_widths():
    judged(
        checks.check_half_widths,
        right=[half_widths, by_library],
        wrong=[
            (lambda a, b: half_widths(a, b)[::-1], "swapped"),
            (lambda a, b: half_widths(a, b, scale=2), "hand in half"),
            (lambda a, b: half_widths(a, b, quantile=lambda f: 1.959964), "Student's t"),
            (lambda a, b: half_widths(a, b, scale=len(a) ** 0.5), "for the mean"),
            (lambda a, b: half_widths(a, b, correction=0), "n - 1 in its denominator"),
            (lambda a, b: half_widths(a, b, quantile=lambda f: 1.0), "the standard error"),
            (
                lambda a, b: half_widths(a, b, quantile=lambda f: stats.t.ppf(0.975, len(a) - 1)),
                "2 n - 2 for two groups",
            ),
            (
                lambda a, b: half_widths(
                    a, b, quantile=lambda f: stats.t.ppf(0.975, 2 * len(a) - 2)
                ),
                "n - 1 degrees of freedom",
            ),
            (with_added_deviations, "variances add up"),
            (lambda a, b: half_widths(a, b)[0], "should return 2 values"),
            (lambda a, b: half_widths(a, b, scale=1.1), "too large"),
        ],
    )


def trend(gains, sizes, scale=torch.log2):
    x = scale(sizes)
    return torch.stack([torch.tensor(stats.linregress(x, row).slope) for row in gains])


def through_the_ends(gains, sizes):
    return (gains[:, -1] - gains[:, 0]) / torch.log2(sizes[-1] / sizes[0])


def test_trend():
    judged(
        checks.check_trend,
        right=[trend, lambda g, s: torch.linalg.lstsq(
            torch.stack([torch.ones_like(s), s.log2()], 1), g.T).solution[1]],
        wrong=[
            (lambda g, s: trend(g, s, lambda x: x), "per pixel"),
            (lambda g, s: trend(g, s, torch.log), "natural logarithm"),
            (lambda g, s: trend(g, s, torch.log10), "log10"),
            (lambda g, s: trend(g, s, lambda x: torch.arange(len(x))), "not their places"),
            (lambda g, s: -trend(g, s), "the sign is reversed"),
            (lambda g, s: g @ s.log2() / s.log2().square().sum(), "pass through zero"),
            (through_the_ends, "the two ends only"),
            (lambda g, s: trend(g, s).mean(), "one slope a seed"),
            (lambda g, s: trend(g, s) + 0.1, "differs from the reference"),
        ],
    )  # fmt: skip


def seeds_needed(deviation, half_width, lost=1, first=2):
    n = first
    while stats.t.ppf(0.975, n - lost) * deviation / n**0.5 > half_width:
        n += 1
    return n


def test_seeds_needed():
    judged(
        checks.check_seeds_needed,
        right=[seeds_needed, lambda d, h: torch.tensor(seeds_needed(d, h))],
        wrong=[
            (lambda d, h: max(2, math.ceil((1.959964 * d / h) ** 2)), "the t quantile is larger"),
            (lambda d, h: seeds_needed(d, h, lost=0), "leave n - 1 degrees of freedom"),
            (lambda d, h: seeds_needed(d, h) + 1, "are enough"),
            (lambda d, h: (1.96 * d / h) ** 2 + 0.01, "it should be whole"),
            (lambda d, h: 1, "2 or more"),
            (lambda d, h: 10**4, "are enough"),
        ],
    )


def test_too_few_seeds_are_told_what_they_reach():
    verdict = checks.check_seeds_needed(lambda d, h: 2)
    assert not verdict and "half-width is still" in verdict.message


def by_definition(p_values):
    """Adjusted: the smallest level at which the step-down procedure rejects."""
    count = len(p_values)
    order = sorted(range(count), key=lambda i: p_values[i])
    return [
        min(1, max((count - k) * p_values[order[k]] for k in range(order.index(i) + 1)))
        for i in range(count)
    ]


def without_monotony(p_values):
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    return [min(1, (len(p_values) - order.index(i)) * p) for i, p in enumerate(p_values)]


def unbounded(p_values):
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    count = len(p_values)
    return [
        max((count - k) * p_values[order[k]] for k in range(order.index(i) + 1))
        for i in range(count)
    ]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda p: p, "nothing was adjusted"),
        (lambda p: sorted(by_definition(p)), "in the order in which they came"),
        (without_monotony, "at least the one before"),
        (unbounded, "at most 1"),
        (lambda p: [min(1, len(p) * x) for x in p], "Bonferroni"),
        (lambda p: stats.false_discovery_control(p).tolist(), "false discovery rate"),
        (lambda p: [x / 2 for x in by_definition(p)], "should be 0.0"),
        (lambda p: by_definition(p)[:-1], "there are"),
    ],
)
def test_holm_mistakes(answer, words):
    judged(checks.check_holm, wrong=[(answer, words)])


def test_holm():
    judged(checks.check_holm, right=[by_definition, lambda p: torch.tensor(by_definition(p))])
    assert by_definition([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
