"""Assignment 5, the statistics: an interval, two tests, and several claims at once.

References are the package's Student quantiles and McNemar's test, and counting all possibilities.
"""

import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from resnet_lib import compare
from resnet_lib.assignments.items import Draw, Mismatch, Question
from resnet_lib.assignments.layers import listed
from resnet_lib.checks.answers import function, numbers, returned, same_number

quantile = functools.cache(compare.t_quantile)
TIES = 1e-9  # two sums of differences that are as near as this are equal


def interval_question(draw: Draw, task: dict, sizes: list[int]) -> Question:
    """Accuracies of two networks, by seed, that share what a seed does to both."""
    cases = []
    for size in sizes:
        shared = 0.8 + 0.05 * draw.normal(size)
        first, second = (shared + 0.01 * draw.normal(size) for _ in range(2))
        cases.append([first.tolist(), second.tolist()])
    return Question({"cases": cases}, {"confidence": task["confidence"]})


def ask_interval(draw: Draw, task: dict) -> Question:
    """Five, six and nine seeds."""
    return interval_question(draw, task, [5, 6, 9])


def collect_interval(answer: Any, inputs: dict) -> dict:
    """Three numbers for each case."""
    call = "paired_interval(first, second)"
    answer = function(answer, call)
    return {"found": [list(returned(answer(*case), 3, call)) for case in inputs["cases"]]}


def intervals(case: list, confidence: float) -> Iterator[tuple[tuple[float, float], str]]:
    """The right interval, then what mistakes give."""
    first, second = (torch.tensor(values, dtype=torch.float64) for values in case)
    differences, n = first - second, len(first)
    mean, spread = differences.mean().item(), differences.std().item()
    t = quantile(n - 1, (1 + confidence) / 2)
    yield (mean - t * spread / n**0.5, mean + t * spread / n**0.5), ""
    z = quantile(10**6, (1 + confidence) / 2)
    unpaired = math.sqrt((first.var().item() + second.var().item()) / n)
    one_tail = quantile(n - 1, confidence)
    halves = {
        "the two networks of a seed belong together: take the differences first": t * unpaired,
        "the spread of the mean is that of the differences, divided by the root of n": t * spread,
        "divide by n - 1 in the standard deviation": t * spread * math.sqrt((n - 1) / n / n),
        "with so few seeds, the quantile is Student's, not the normal one": z * spread / n**0.5,
        "the interval leaves out half of the rest at either side": one_tail * spread / n**0.5,
        "the quantile has n - 1 degrees of freedom": quantile(n, (1 + confidence) / 2)
        * spread
        / n**0.5,
        "this is the interval for another confidence, 95 %": quantile(n - 1, 0.975)
        * spread
        / n**0.5,
    }
    for words, half in halves.items():
        yield (mean - half, mean + half), words


def judge_interval(question: Question, outputs: dict) -> str:
    """The mean of the differences and Student's interval."""
    cases = question.inputs["cases"]
    for case, found in zip(cases, listed(outputs, "found", len(cases)), strict=True):
        mean = sum(case[0]) / len(case[0]) - sum(case[1]) / len(case[1])
        found = numbers(found, "mean, low and high", 3)
        mistakes = [(-mean, "the difference is first - second, not the other way round")]
        same_number(found[0], mean, "the mean difference", mistakes, 1e-6)
        candidates = list(intervals(case, question.key["confidence"]))
        (low, high), _ = candidates[0]
        for name, value, right, place in (("low", found[1], low, 0), ("high", found[2], high, 1)):
            wrong = [(pair[place], words) for pair, words in candidates[1:]]
            same_number(value, right, f"{name} for {len(case[0])} seeds", wrong, 1e-4)
    return f"mean and interval are right for {len(cases)} comparisons"


def flipped(differences: list[float], sides: str) -> float:
    """The share of all choices of signs whose sum is at least as extreme."""
    observed = math.fsum(differences)
    sums = [
        math.fsum(sign * d for sign, d in zip(signs, differences, strict=True))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    if sides == "two":
        observed, sums = abs(observed), [abs(value) for value in sums]
    return sum(value >= observed - TIES for value in sums) / len(sums)


def ask_flips(draw: Draw, task: dict) -> Question:
    """Differences for, against and beside the claim."""
    cases = [(0.01 * draw.normal(n) + shift).tolist() for n, shift in
             ((5, 0.02), (7, 0.004), (6, -0.01), (8, 0.0))]  # fmt: skip
    return Question({"cases": cases}, {"sides": task["sides"]})


def collect_flips(answer: Any, inputs: dict) -> dict:
    """A number for each case."""
    answer = function(answer, "flip_test(differences)")
    return {"found": [answer(case) for case in inputs["cases"]]}


def judge_flips(question: Question, outputs: dict) -> str:
    """Counted over all choices of signs."""
    cases, sides = question.inputs["cases"], question.key["sides"]
    for case, found in zip(cases, listed(outputs, "found", len(cases)), strict=True):
        right, patterns = flipped(case, sides), 2 ** len(case)
        other = flipped(case, {"one": "two", "two": "one"}[sides])
        mistakes = [
            (other, f"this is not the {sides}-sided p-value"),
            (right - 1 / patterns, "the observed choice of signs counts, too"),
            (flipped([-d for d in case], sides), "the other direction is tested"),
            (1 - right, "this is the share of the less extreme ones"),
        ]
        same_number(found, right, f"the p-value of {len(case)} differences", mistakes, 1e-9)
    return f"the p-value is right in {len(cases)} cases"


def images_question(draw: Draw, task: dict, cases: list[tuple[int, int]]) -> Question:
    """Right or wrong of two networks; the pairs say how often only one of them is right."""
    made = []
    for only_first, only_second in cases:
        first = [True] * only_first + [False] * only_second
        both = draw.integers(0, 1, 30).bool().tolist()
        right, other = torch.tensor(first + both), torch.tensor([not v for v in first] + both)
        order = torch.randperm(len(right), generator=draw.generator)
        made.append([right[order], other[order]])
    return Question({"cases": made}, {"kind": task["on_images"]})


def ask_images(draw: Draw, task: dict) -> Question:
    """Few and many disagreements."""
    few = draw.integer(3, 7)
    return images_question(draw, task, [(few, 12 - few + 4), (draw.integer(20, 30), 15), (2, 6)])


def collect_images(answer: Any, inputs: dict) -> dict:
    """Two counts and a p-value for each case."""
    call = "disagreement(right, other)"
    answer = function(answer, call)
    cases = inputs["cases"]
    found = [returned(answer(one.clone(), two.clone()), 3, call) for one, two in cases]
    return {"found": [list(values) for values in found]}


def _p_value(right: Tensor, other: Tensor, kind: str) -> tuple[int, int, float]:
    one, two, p = compare.mcnemar(right, other)
    number, fewer = one + two, min(one, two)
    if kind == "mid-p" and number and one != two:
        # As often as uneven in one direction or the other: twice a half.
        p -= math.comb(number, fewer) / 2**number
    return one, two, p


def judge_images(question: Question, outputs: dict) -> str:
    """McNemar's test."""
    cases, kind = question.inputs["cases"], question.key["kind"]
    for case, found in zip(cases, listed(outputs, "found", len(cases)), strict=True):
        found = numbers(found, "two counts and the p-value", 3)
        one, two, p = _p_value(*case, kind)
        mistakes = [
            (two, "the two counts are exchanged"),
            (sum(case[0]), "count the disagreements"),
        ]
        same_number(found[0], one, "the images that only the first has right", mistakes)
        same_number(found[1], two, "the images that only the second has right")
        other = _p_value(*case, {"exact": "mid-p", "mid-p": "exact"}[kind])[2]
        root = abs(one - two) / math.sqrt(one + two) if one + two else 0.0
        corrected = (abs(one - two) - 1) / math.sqrt(one + two) if one + two else 0.0
        wrong = [
            (other, f"this is not the {kind} p-value"),
            (p / 2, "this is one-sided; a division can be uneven in two ways"),
            (math.erfc(root / math.sqrt(2)), "this is the approximation by chi-square"),
            (math.erfc(corrected / math.sqrt(2)), "this is the corrected chi-square approximation"),
        ]
        same_number(found[2], p, f"the p-value for {one} against {two}", wrong, 1e-6)
    return f"counts and p-value are right in {len(cases)} cases"


def ask_adjusted(draw: Draw, task: dict) -> Question:
    """Several p-values, in no order, small and large ones."""
    cases = []
    for size in (3, 5, 6):
        values = (torch.rand(size, generator=draw.generator).double() ** 3).tolist()
        cases.append([max(value, 1e-6) for value in values])
    return Question({"cases": [[0.04, 0.01, 0.03], [0.6, 0.02], *cases]}, {"how": task["adjusted"]})


def collect_adjusted(answer: Any, inputs: dict) -> dict:
    """A list for each case."""
    answer = function(answer, "adjusted(p_values)")
    return {"found": [answer(list(case)) for case in inputs["cases"]]}


def _adjusted(values: list[float], how: str) -> Tensor:
    p = torch.tensor(values, dtype=torch.float64)
    if how == "Bonferroni":
        return (p * len(p)).clamp(max=1)
    order = p.argsort()
    grown = (p[order] * torch.arange(len(p), 0, -1)).cummax(0).values.clamp(max=1)
    return torch.empty_like(p).scatter_(0, order, grown)


def judge_adjusted(question: Question, outputs: dict) -> str:
    """In the order of the question."""
    cases, how = question.inputs["cases"], question.key["how"]
    for case, found in zip(cases, listed(outputs, "found", len(cases)), strict=True):
        found = torch.tensor(numbers(found, "the adjusted p-values", len(case))).double()
        right, other = (_adjusted(case, name) for name in (how, *{"Holm", "Bonferroni"} - {how}))
        if torch.allclose(found, right, atol=1e-6):
            continue
        if torch.allclose(found, other, atol=1e-6):
            raise Mismatch(f"this is another method than {how}'s")
        if torch.allclose(found, right.sort().values, atol=1e-6):
            raise Mismatch("the values are right, but sorted; keep the order of the input")
        given, yours = ([round(value, 4) for value in values] for values in (case, found.tolist()))
        raise Mismatch(f"for {given} your values are {yours}")
    return f"right, and in the right order, in {len(cases)} cases"
