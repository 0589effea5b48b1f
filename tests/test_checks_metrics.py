"""Chapter 14: each check accepts right answers, however written, and names each mistake."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from judging import judged

from resnet_lib import checks, compare, metrics, records

AVERAGES = {
    "accuracy": 17 / 25,
    "mean precision": (8 / 12 + 9 / 13) / 3,
    "weighted precision": (10 * 8 / 12 + 10 * 9 / 13) / 25,
    "mean accuracy": (8 / 10 + 9 / 10) / 3,
    "F1 of cat": 16 / 22,
}


def averages(**changes):
    return AVERAGES | {name.replace("_", " "): value for name, value in changes.items()}


def test_averages():
    rounded = {name: round(value, 4) for name, value in AVERAGES.items()}
    judged(checks.check_averages, right=[AVERAGES, rounded])


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (averages(accuracy=0.5667), "the accuracy counts images"),
        (averages(accuracy=1 - 2 * 8 / 25 / 3), "yes-or-no accuracies"),
        (averages(accuracy=68), "accuracy should be a fraction"),
        (averages(mean_precision=0.5436), "averaged precision over images, not classes"),
        (averages(mean_precision=0.5667), "rows and columns are swapped"),
        (averages(mean_precision=(8 / 12 + 9 / 13) / 2), "the foxes count"),
        (averages(mean_precision=0.68), "mean precision: that is the accuracy"),
        (averages(weighted_precision=0.4530), "its number of images as the weight"),
        (averages(weighted_precision=0.68), "not the predictions of it"),
        (averages(weighted_precision=(8 / 12 + 9 / 13) / 2), "the foxes count"),
        (averages(mean_accuracy=0.4530), "mean accuracy: rows and columns are swapped"),
        (averages(mean_accuracy=0.68), "every class has the same weight"),
        (averages(mean_accuracy=0.85), "the foxes count"),
        (averages(mean_accuracy=0.7867), "yes-or-no accuracies"),
        (AVERAGES | {"F1 of cat": (8 / 12 + 8 / 10) / 2}, "not the arithmetic"),
        (AVERAGES | {"F1 of cat": math.sqrt(8 / 12 * 8 / 10)}, "not the geometric"),
        (AVERAGES | {"F1 of cat": 8 / 12}, "the precision of the cats"),
        (AVERAGES | {"F1 of cat": 8 / 10}, "the recall of the cats"),
        (AVERAGES | {"F1 of cat": 18 / 23}, "the F1 of the dogs"),
        (AVERAGES | {"F1 of cat": 0.7}, "too small"),
        ({"accuracy": 0.68}, "no entry 'mean precision'"),
        (averages(accuracy="0.68"), "should be a number; it is a str"),
    ],
)
def test_averages_mistakes(answers, words):
    judged(checks.check_averages, wrong=[(answers, words)])


def mix(cm, shares):
    return cm / cm.sum(1, keepdim=True) * shares[:, None]


def mix_by_loops(cm, shares):
    rows = []
    for row, share in zip(cm.tolist(), shares.tolist(), strict=True):
        rows.append([share * count / sum(row) for count in row])
    return np.array(rows)


def columns_mixed(cm, shares):
    return cm / cm.sum(0) * shares


def test_mix():
    wrong = [
        (lambda cm, shares: mix(cm, shares).T, "rows and columns are swapped"),
        (columns_mixed, "the shares are those of the true classes"),
        (lambda cm, s: cm / cm.sum(1, keepdim=True) * s, "yours went to the columns"),
        (lambda cm, s: cm * s[:, None], "the old mix is still in it"),
        (lambda cm, s: cm * s[:, None] / (cm * s[:, None]).sum(), "the old mix is still in it"),
        (lambda cm, s: cm / cm.sum(1, keepdim=True), "should add up to the class's share"),
        (lambda cm, s: mix(cm, s) * cm.sum(), "these are numbers of images"),
        (lambda cm, s: mix(cm, s)[:2], "expected (3, 3)"),
        (lambda cm, s: mix(cm, s) + 0.01, "differs from the reference"),
        (mix(torch.ones(2, 2), torch.ones(2)), "hand in the function in_another_mix"),
    ]
    judged(checks.check_mix, right=[mix, mix_by_loops], wrong=wrong)


def classwise(probabilities, labels, bins, weigh=True, size=abs, add=False, single=False):
    total, errors = len(labels), []
    for k in range(probabilities.shape[1]):
        p, target = probabilities[:, k], (labels == k).double()
        error, used = 0, 0
        for b in range(bins):
            inside = (p > b / bins) & (p <= (b + 1) / bins)
            if inside.any():
                gap = size((target[inside] - p[inside]).mean().item())
                error += gap * (inside.sum().item() / total if weigh else 1)
                used += 1
        errors.append(abs(error) if weigh else error / (bins if weigh is None else used))
    return sum(errors) if add else sum(errors) / len(errors)


def classwise_by_histogram(probabilities, labels, bins):
    target = F.one_hot(labels, probabilities.shape[1]).double()
    place = (probabilities * bins).ceil().long() - 1
    total = sum(
        (((target - probabilities)[:, k] * (place[:, k] == b)).sum().abs())
        for k in range(probabilities.shape[1])
        for b in range(bins)
    )
    return total / probabilities.numel()


def with_nan(probabilities, labels, bins):
    target = F.one_hot(labels, probabilities.shape[1]).double()
    place, error = (probabilities * bins).ceil() - 1, 0
    for b in range(bins):
        for k in range(probabilities.shape[1]):
            inside = place[:, k] == b
            gap = target[inside, k].mean() - probabilities[inside, k].mean()
            error += gap.abs() * inside.sum()
    return error / probabilities.numel()


def test_classwise_error():
    top = metrics.expected_calibration_error
    wrong = [
        (lambda *a: classwise(*a, weigh=False), "you weighed the bins equally"),
        (lambda *a: classwise(*a, weigh=None), "you weighed the bins equally"),
        (lambda *a: classwise(*a, add=True), "average over them"),
        (lambda *a: classwise(*a, size=float), "gaps up and gaps down cancel"),
        (lambda p, labels, bins: top(p.log(), labels, bins), "the ECE of the highest probability"),
        (lambda p, y, b: classwise(p.softmax(1), y, b), "another softmax changes them"),
        (lambda p, y, b: (p - F.one_hot(y, p.shape[1])).abs().mean(), "the means of each bin"),
        (lambda p, y, b: pooled(p, y, b), "bin each class by itself"),
        (with_nan, "an empty bin is 0 / 0"),
        (lambda *a: classwise(*a) + 0.01, "too large"),
        (0.03, "hand in the function classwise_error itself"),
    ]
    right = [classwise, classwise_by_histogram]
    judged(checks.check_classwise_error, right=right, wrong=wrong)


def pooled(p, labels, bins):
    """All probabilities in one set of bins."""
    flat, target = p.flatten(), F.one_hot(labels, p.shape[1]).flatten()
    place = (flat * bins).ceil().long() - 1
    gaps = [((target - flat) * (place == b)).sum().abs() for b in range(bins)]
    return sum(gaps) / p.numel()


def scores(measure=metrics.mean_precision):
    groups = {"resnet50-w16": [], "resnet101-w16": []}
    for record in records.load("quick"):
        matrix = torch.tensor(record.result["test_confusion_matrix"])
        groups[record.variant].append(100 * measure(matrix))
    return torch.tensor(list(groups.values()), dtype=torch.float64)


def over_images(counts=1):
    """Resampled test parts: of the first seed alone, or of all seeds in a row."""
    generator = torch.Generator().manual_seed(1)
    groups = {"resnet50-w16": 0, "resnet101-w16": 0}
    for record in records.load("quick"):
        if record.seed < counts:
            matrix = torch.tensor(record.result["test_confusion_matrix"])
            groups[record.variant] = groups[record.variant] + matrix
    gains = []
    for _ in range(400):
        drawn = []
        for cm in groups.values():
            cells = torch.multinomial(
                cm.flatten().double(), int(cm.sum()), True, generator=generator
            )
            drawn.append(metrics.mean_precision(torch.bincount(cells, minlength=100).view(10, 10)))
        gains.append(100 * (drawn[1] - drawn[0]))
    return torch.tensor(gains).quantile(torch.tensor([0.025, 0.975])).tolist()


def interval(middle, half):
    return ([float(middle - half), float(middle + half)],)


def test_seed_interval():
    fifty, hundred = scores()
    gain = hundred - fifty
    low, high = compare.t_interval(gain)
    mean, error = gain.mean(), gain.std() / 5**0.5
    both = ((fifty.var() + hundred.var()) / 5) ** 0.5
    wrong = [
        (([-high, -low],), "the sign is reversed"),
        (([low / 100, high / 100],), "percentage points, not fractions"),
        (([high, low],), "the first number is the larger one"),
        (interval(mean, 1.96 * error), "1.96 is for many values"),
        (interval(mean, 2.776 * gain.std()), "where a single further run would fall"),
        (interval(mean, 2.306 * both), "compare seed by seed"),
        ((metrics.bootstrap_interval(gain, seed=1),), "a bootstrap of 5 values is too narrow"),
        ((over_images(),), "the interval is over images, the question was about seeds"),
        ((over_images(5),), "the interval is over images, the question was about seeds"),
        (interval(mean, 0.3), "it is too narrow"),
        (interval(mean, 5), "it is too wide"),
        (interval(mean + 1, 1.3), "the mean difference is 0.4"),
        (([1.0],), "should be 2 numbers; there are 1"),
    ]
    accuracies = scores(metrics.accuracy)
    by_accuracy = compare.t_interval(accuracies[1] - accuracies[0])
    wrong.append(((by_accuracy,), "the question is about mean precision"))
    by_hand = [mean - 2.776 * error, mean + 2.776 * error]
    rounded = [round(low, 2), round(high, 2)]
    right = [((low, high),), (by_hand,), (rounded,), (torch.tensor([low, high]),)]
    judged(checks.check_seed_interval, right=right, wrong=wrong, seeds=[0])


def coverage(make, trials=600, values=5, centre=0.0):
    generator, inside = torch.Generator().manual_seed(5), 0
    for _ in range(trials):
        drawn = torch.randn(values, generator=generator, dtype=torch.float64)
        low, high = make(drawn)
        inside += low <= (drawn.mean() if centre is None else centre) <= high
    return float(inside) / trials


def by_bootstrap(drawn):
    return metrics.bootstrap_interval(drawn, samples=500)


def test_coverage():
    shares = {"bootstrap": coverage(by_bootstrap), "t": coverage(compare.t_interval)}
    by_theory = {"bootstrap": torch.tensor(0.83), "t": 0.95}
    own = {"bootstrap": coverage(by_bootstrap, 200, centre=None), "t": 1.0}

    def normal(drawn):
        half = 1.96 * drawn.std() / len(drawn) ** 0.5
        return drawn.mean() - half, drawn.mean() + half

    wrong = [
        (own, "the mean of its own five values"),
        ({"bootstrap": shares["t"], "t": shares["bootstrap"]}, "the two are exchanged"),
        ({name: 1 - share for name, share in shares.items()}, "that miss the mean"),
        ({name: 100 * share for name, share in shares.items()}, "between 0 and 1"),
        (shares | {"t": coverage(normal)}, "an interval with 1.96"),
        (shares | {"t": 0.6}, "the share of t is 0.600"),
        (shares | {"bootstrap": coverage(by_bootstrap, 300, 100)}, "that of many values"),
        (shares | {"bootstrap": 0.7}, "0.700, is too low"),
        (shares | {"bootstrap": 0.9}, "0.900, is too high"),
        ({"t": 0.95}, "no entry 'bootstrap'"),
    ]
    judged(checks.check_coverage, right=[shares, by_theory], wrong=wrong)


def chance(right, groups, draws=1500, judge=None):
    judge = judge or (lambda dealt, seen: dealt.min() <= seen.min() + 1e-9)
    sizes = torch.bincount(groups)

    def accuracies(right):
        return torch.bincount(groups, right.double()) / sizes

    seen = accuracies(right)
    return (
        sum(bool(judge(accuracies(right[torch.randperm(len(right))]), seen)) for _ in range(draws))
        / draws
    )


def chance_in_numpy(right, groups):
    generator, right, groups = np.random.default_rng(0), right.numpy(), groups.numpy()
    names = np.unique(groups)
    worst = min(right[groups == name].mean() for name in names)
    found = 0
    for _ in range(1000):
        dealt = generator.permutation(groups)
        found += min(right[dealt == name].mean() for name in names) <= worst + 1e-9
    return (found + 1) / 1001


def judged_by(judge):
    return lambda right, groups: chance(right, groups, 700, judge)


def test_worst_slice():
    wrong = [
        (judged_by(lambda d, s: d[s.argmin()] <= s.min() + 1e-9), "the chance for this one group"),
        (judged_by(lambda d, s: d.min() < s.min() - 1e-9), "as low also counts"),
        (judged_by(lambda d, s: d.min() > s.min() + 1e-9), "the worst group is better"),
        (
            judged_by(lambda d, s: ((d - 0.8).abs() >= 0.8 - s.min() - 1e-9).any()),
            "*better* than the rest does not count",
        ),
        (lambda right, groups: 0.99, "the chance for 10 groups is 0.990"),
        (lambda right, groups: right.double().mean(), "10 groups"),
        (lambda right, groups: None, "should be a number; it is None"),
        (0.4, "hand in the function chance itself"),
    ]
    judged(checks.check_worst_slice, right=[chance, chance_in_numpy], wrong=wrong, seeds=[0, 1])
