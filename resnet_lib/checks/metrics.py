"""Checks of chapter 14, metrics."""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from resnet_lib import compare, metrics, records
from resnet_lib.checks.answers import (
    Mistakes,
    function,
    number,
    numbers,
    same_number,
    same_tensor,
    table,
)
from resnet_lib.checks.verdict import Draw, Mismatch, check

PETS = torch.tensor([[8, 2, 0], [1, 9, 0], [3, 2, 0]])  # cats, dogs, foxes of exercise 14.1
FOUR_DECIMALS = 3e-4  # as a share of the value
TRIALS, RESAMPLES, SHUFFLES = 2000, 500, 3000


def _averages() -> dict[str, Mistakes]:
    """The right value of each, then what mistakes give, in words."""
    swapped = "rows and columns are swapped: rows are the true classes, columns the predicted ones"
    right = metrics.accuracy(PETS)
    means = metrics.mean_precision(PETS), metrics.mean_accuracy(PETS)
    weighted = metrics.weighted_precision(PETS)
    each, found = metrics.precision(PETS), metrics.recall(PETS)
    zero = "the foxes count, too: they have images, and none was found, so theirs is 0"
    yes_or_no = 1 - 2 * (1 - right) / len(PETS)
    flattering = "that is the mean of three yes-or-no accuracies, which flatters"
    cat, harmonic = (each[0].item(), found[0].item()), metrics.f1(PETS)[0].item()
    pooled = "that is the accuracy: the images of all classes were pooled"
    return {
        "accuracy": [
            (right, "right"),
            (means[1], "that is the mean of the classes' recalls; the accuracy counts images"),
            (yes_or_no, flattering),
        ],
        "mean precision": [
            (means[0], "right"),
            (weighted, "you averaged precision over images, not classes"),
            (means[1], swapped),
            (each[:2].mean().item(), zero),
            (right, pooled),
        ],
        "weighted precision": [
            (weighted, "right"),
            (means[0], "each class has the same weight; take its number of images as the weight"),
            (right, "the weights are the images of a class, not the predictions of it"),
            (each[:2].mean().item(), zero),
        ],
        "mean accuracy": [
            (means[1], "right"),
            (means[0], swapped),
            (right, "every class has the same weight, however many images it has"),
            (found[:2].mean().item(), zero),
            (yes_or_no, flattering),
        ],
        "F1 of cat": [
            (harmonic, "right"),
            (sum(cat) / 2, "take the harmonic mean of precision and recall, not the arithmetic"),
            (math.prod(cat) ** 0.5, "take the harmonic mean, not the geometric"),
            (cat[0], "that is the precision of the cats"),
            (cat[1], "that is the recall of the cats"),
            (metrics.f1(PETS)[1].item(), "that is the F1 of the dogs"),
        ],
    }


@check
def check_averages(answers: Mapping) -> str:
    """Exercise 14.1: {"accuracy", "mean precision", "weighted precision", …, "F1 of cat"}."""
    expected = _averages()
    table(answers, expected)
    for name, (right, *mistakes) in expected.items():
        percent = (100 * right[0], f"{name} should be a fraction, from 0 to 1")
        named = [(value, f"{name}: {words}") for value, words in mistakes]
        same_number(answers[name], right[0], name, [*named, percent], FOUR_DECIMALS)
    return f"{', '.join(expected)} are right"


@check
def check_mix(in_another_mix: Callable, *, draw: Draw) -> str:
    """Exercise 14.2: in_another_mix(cm, shares) -> the fractions (K, K) of all images."""
    in_another_mix = function(in_another_mix, "in_another_mix(cm, shares)")
    for classes in (3, 5):
        cm = draw.integers(0, 9, classes, classes) + 20 * torch.eye(classes, dtype=torch.int64)
        cm *= draw.integers(1, 4, classes, 1)  # classes of unequal numbers of images
        shares = draw.normal(classes).softmax(0)
        if classes == 5:
            shares[2] = 0  # a shop without this class
            shares /= shares.sum()
        rows, columns = (cm / cm.sum(axis, keepdim=True) for axis in (1, 0))
        expected = rows * shares[:, None]
        counts = cm * shares[:, None]
        old = "the old mix is still in it: divide each row by its own sum first"
        mistakes = [
            (expected.T, "rows and columns are swapped: rows are the true classes"),
            (
                columns * shares,
                "you changed the mix of the predictions; the shares are those of the true classes, "
                "the rows",
            ),
            (rows * shares, "the shares belong to the rows; yours went to the columns"),
            (counts, old),
            (counts / counts.sum(), old),
            (rows, "each row adds up to 1; it should add up to the class's share"),
            (expected * cm.sum(), "these are numbers of images; hand in fractions of them all"),
        ]
        what = f"the matrix of {classes} classes"
        same_tensor(in_another_mix(cm.clone(), shares.clone()), expected, what, mistakes)
    return "the matrices in the new mix are right, also for a mix that lacks a class"


def _gaps(p: Tensor, target: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """Images of each bin, and mean target minus mean p in it; (bins,) each."""
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)[1:-1]
    place = torch.bucketize(p.contiguous(), edges)
    sums = torch.zeros(2, bins, dtype=torch.float64)
    sums.index_add_(1, place, torch.stack([torch.ones_like(p), target - p]))
    return sums[0], sums[1] / sums[0].clamp(min=1)


def _classwise_errors(probabilities: Tensor, labels: Tensor, bins: int) -> Mistakes:
    """The right value, then what mistakes give."""
    total, classes = probabilities.shape
    target = F.one_hot(labels, classes).double()

    def over_classes(p: Tensor, gap: Callable) -> float:
        values = [gap(*_gaps(p[:, k], target[:, k], bins)) for k in range(classes)]
        return torch.stack(values).mean().item()

    def weighted(count: Tensor, gap: Tensor) -> Tensor:
        return (count * gap.abs()).sum() / total

    right = over_classes(probabilities, weighted)
    yield right, "right"
    equal = "you weighed the bins equally; weigh them by their images"
    yield over_classes(probabilities, lambda n, gap: gap[n > 0].abs().mean()), equal
    yield over_classes(probabilities, lambda n, gap: gap.abs().mean()), equal
    yield right * classes, "you added the classes up; average over them"
    logits = probabilities.log()
    top = "that is the ECE of the highest probability; every class has bins of its own"
    yield metrics.expected_calibration_error(logits, labels, bins), top
    single = "you compared every single image with its label; compare the means of each bin"
    yield (probabilities - target).abs().mean().item(), single
    pooled = weighted(*_gaps(probabilities.flatten(), target.flatten(), bins)).item() / classes
    yield pooled, "you put all classes into the same bins; bin each class by itself"
    cancel = "gaps up and gaps down cancel: take their sizes before you average over the bins"
    yield over_classes(probabilities, lambda n, gap: (n * gap).sum().abs() / total), cancel
    again = "these are probabilities already: another softmax changes them"
    yield over_classes(probabilities.softmax(1), weighted), again


@check
def check_classwise_error(classwise_error: Callable, *, draw: Draw) -> str:
    """Exercise 14.3: classwise_error(probabilities, labels, bins)."""
    call = "classwise_error(probabilities, labels, bins)"
    classwise_error = function(classwise_error, call)
    cases = ((400, 3, 10), (300, 6, 15), (25, 4, 20))  # the last leaves bins empty
    for images, classes, bins in cases:
        probabilities = (2 * draw.normal(images, classes)).softmax(1)
        labels = draw.integers(0, classes - 1, images)
        (right, _), *mistakes = _classwise_errors(probabilities, labels, bins)
        what = f"the error of {images} images, {classes} classes and {bins} bins"
        found = classwise_error(probabilities.clone(), labels.clone(), bins)
        if isinstance(found, (float, Tensor)) and math.isnan(found):
            raise Mismatch(f"{what} is not a number: an empty bin is 0 / 0, so leave it out")
        same_number(found, right, what, mistakes, 1e-5)
    return f"the classwise error is right in {len(cases)} cases, with empty bins in one"


def _over_seeds(measure: Callable[[Tensor], float]) -> Tensor:
    """(2, seeds): a metric of the recorded runs in percent, ResNet-50 and ResNet-101."""
    groups: dict[str, list[float]] = {"resnet50-w16": [], "resnet101-w16": []}
    for record in records.load("quick"):
        matrix = torch.tensor(record.result["test_confusion_matrix"])
        groups[record.variant].append(100 * measure(matrix))
    return torch.tensor(list(groups.values()), dtype=torch.float64)


def _seed_intervals() -> list[tuple[tuple[float, float], float, str]]:
    """(interval, how near it is to be, words); the first is right."""
    scores = _over_seeds(metrics.mean_precision)
    gain, count = scores[1] - scores[0], scores.shape[1]
    mean, error = gain.mean().item(), gain.std().item() / count**0.5
    t = compare.t_quantile(count - 1, 0.975)
    hits = _over_seeds(metrics.accuracy)
    share = hits.mean().item() / 100
    size = _over_seeds(lambda matrix: matrix.sum().item()).mean().item() / 100
    # Two networks, one test part. Mean precision moves about 0.9 times as far as accuracy here.
    images = 0.9 * 1.96 * 100 * (2 * share * (1 - share) / size) ** 0.5
    apart = (scores.var(1).sum() / count).sqrt().item()
    over_images = "the interval is over images, the question was about seeds"

    def around(half: float, middle: float = mean) -> tuple[float, float]:
        return middle - half, middle + half

    right, exact = around(t * error), 0.015
    return [
        (right, exact, "right"),
        ((-right[1], -right[0]), exact, "the sign is reversed: take ResNet-101 minus ResNet-50"),
        ((right[0] / 100, right[1] / 100), exact / 100, "give percentage points, not fractions"),
        (
            compare.t_interval(hits[1] - hits[0]),
            exact,
            "that is the difference in accuracy; the question is about mean precision",
        ),
        (
            around(1.96 * error),
            exact,
            f"1.96 is for many values; for {count} take Student's t, which gives {t:.3f}",
        ),
        (
            around(t * error * count**0.5),
            exact,
            "that is where a single further run would fall; for the mean, divide the standard "
            f"deviation by the square root of {count}",
        ),
        (
            around(compare.t_quantile(2 * count - 2, 0.975) * apart),
            exact,
            "you took the two groups as independent; compare seed by seed",
        ),
        (metrics.bootstrap_interval(gain), 0.06, f"a bootstrap of {count} values is too narrow"),
        (around(images / count**0.5), 0.1, over_images),
        *((around(images, value), 0.25, over_images) for value in [mean, *gain.tolist()]),
    ]


@check
def check_seed_interval(answer: Sequence) -> str:
    """Exercise 14.4: (low, high) of the difference in mean precision, in percentage points."""
    found = numbers(answer, "your interval", 2)
    if found[0] > found[1]:
        raise Mismatch("the first number is the larger one; hand in low, high")
    right, *mistakes = _seed_intervals()

    def near(interval: Sequence, tolerance: float) -> bool:
        return all(abs(a - b) <= tolerance for a, b in zip(found, interval, strict=True))

    if near(*right[:2]):
        low, high = right[0]
        return f"{low:.2f} to {high:.2f} points, from the differences of the pairs of seeds"
    for interval, tolerance, words in mistakes:
        if near(interval, tolerance):
            raise Mismatch(words)
    middle, expected = sum(found) / 2, sum(right[0]) / 2
    if abs(middle - expected) > 0.02:
        raise Mismatch(f"its middle is {middle:.2f} points; the mean difference is {expected:.2f}")
    wide = "wide" if found[1] - found[0] > right[0][1] - right[0][0] else "narrow"
    raise Mismatch(f"its middle is right, and it is too {wide}; ask again what it is over")


def _bootstrap_coverage(draw: Draw, values: int = 5) -> float:
    """How often the 95 % percentile interval of that many normal values contains their mean."""
    drawn = draw.normal(TRIALS, values)
    weights = F.one_hot(draw.integers(0, values - 1, RESAMPLES, values), values).sum(1).double()
    means = (drawn @ weights.T / values).sort(1).values
    low, high = means[:, round(0.025 * RESAMPLES)], means[:, round(0.975 * RESAMPLES) - 1]
    return ((low <= 0) & (high >= 0)).double().mean().item()


@check
def check_coverage(shares: Mapping, *, draw: Draw) -> str:
    """Exercise 14.5: {"bootstrap", "t"}, the shares of intervals with the true mean in them."""
    table(shares, ("bootstrap", "t"), "shares")
    found = {name: number(shares[name], f"the share {name!r}") for name in ("bootstrap", "t")}
    expected = _bootstrap_coverage(draw), 0.95
    if max(found.values()) > 1:
        raise Mismatch("a share lies between 0 and 1")
    if min(found.values()) > 0.99:
        raise Mismatch(
            "an interval nearly always contains the mean of its own five values; ask whether it "
            "contains the mean of the distribution"
        )

    def near(bootstrap: float, t: float) -> bool:
        return abs(found["bootstrap"] - bootstrap) < 0.035 and abs(found["t"] - t) < 0.035

    covered, promised = expected
    if near(covered, promised):
        return f"about {100 * covered:.0f} % for the bootstrap and {100 * promised:.0f} % for t"
    if near(1 - covered, 1 - promised):
        raise Mismatch("you counted the intervals that miss the mean")
    if near(promised, covered):
        raise Mismatch("the two are exchanged: t keeps its promise, the bootstrap of five does not")
    if abs(found["t"] - promised) >= 0.035:
        if abs(found["t"] - 0.878) < 0.02:
            raise Mismatch("the share of t is that of an interval with 1.96; take t_interval")
        raise Mismatch(f"the share of t is {found['t']:.3f}; for normal values it is 0.95")
    if found["bootstrap"] > 0.91:
        raise Mismatch("the bootstrap's share is that of many values; draw five")
    direction = "low" if found["bootstrap"] < covered else "high"
    raise Mismatch(f"the bootstrap's share, {found['bootstrap']:.3f}, is too {direction}")


def _slice_chances(right: Tensor, groups: Tensor, draw: Draw) -> Mistakes:
    """The chance that the worst group is as bad as seen, then what mistakes give."""
    member = F.one_hot(groups).double()
    order = torch.rand(SHUFFLES, len(right), generator=draw.generator).argsort(1)
    dealt = right.double()[order] @ member / member.sum(0)
    seen = right.double() @ member / member.sum(0)
    worst, mean = seen.min(), right.double().mean()
    edge = worst + 1e-9

    def share(events: Tensor) -> float:
        return events.double().mean().item()

    chance = share(dealt.min(1).values <= edge)
    yield chance, "right"
    one = "that is the chance for this one group; the question is about the worst of all groups"
    yield share(dealt[:, seen.argmin()] <= edge), one
    yield share(dealt.min(1).values < worst - 1e-9), "as low also counts, not only lower"
    yield 1 - chance, "that is the chance that the worst group is better"
    both = "a group that is far *better* than the rest does not count"
    yield share(((dealt - mean).abs() >= mean - edge).any(1)), both


@check
def check_worst_slice(chance: Callable, *, draw: Draw) -> str:
    """Exercise 14.6: chance(right, groups) -> probability, by shuffling."""
    chance = function(chance, "chance(right, groups)")
    cases = (
        ([20] * 10, [17, 16, 18, 15, 16, 17, 13, 16, 18, 14]),
        ([50, 50, 30, 30, 20, 20], [42, 40, 25, 24, 16, 12]),
    )
    for sizes, hits in cases:
        groups = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
        right = torch.cat([torch.arange(n) < k for n, k in zip(sizes, hits, strict=True)])
        mixed = torch.randperm(len(groups), generator=draw.generator)
        right, groups = right[mixed], groups[mixed]
        found = number(chance(right.clone(), groups.clone()), "what chance returns")
        (expected, _), *mistakes = _slice_chances(right, groups, draw)
        if abs(found - expected) <= 0.045:  # both are shares of some thousand shuffles
            continue
        for value, words in mistakes:
            if abs(found - value) <= 0.03:
                raise Mismatch(words)
        raise Mismatch(
            f"the chance for {len(sizes)} groups is {found:.3f}; shuffled {SHUFFLES} times it is "
            f"{expected:.3f}"
        )
    return "the chance of so bad a worst group is right for equal and unequal groups"
