"""Chapter 10: right answers pass, and each mistake is named."""

import torch
import torch.nn.functional as F
from judging import judged

from resnet_lib import checks


def weights(labels, classes):
    counts = torch.bincount(labels, minlength=classes)
    return len(labels) / ((counts > 0).sum() * counts.clamp(min=1)) * (counts > 0)


def weights_by_loop(labels, classes):
    """In single precision, as a list of Python numbers would be kept."""
    found = [int((labels == label).sum()) for label in range(classes)]
    raw = torch.tensor([1 / n if n else 0.0 for n in found])
    return raw / raw[labels].mean()


def changing(labels, classes):
    result = weights(labels, classes)
    labels += 1
    return result


def inverse(labels, classes):
    counts = torch.bincount(labels, minlength=classes)
    return torch.where(counts > 0, 1 / counts, 0)


def infinite(labels, classes):
    counts = torch.bincount(labels, minlength=classes)
    return len(labels) / ((counts > 0).sum() * counts)


def test_class_weights():
    judged(
        checks.check_class_weights,
        right=[weights, weights_by_loop],
        wrong=[
            (inverse, "scale the weights so that their mean over all images is 1"),
            (lambda *a: inverse(*a) / inverse(*a).sum(), "not the sum over classes"),
            (lambda *a: inverse(*a) / inverse(*a).mean(), "not over the classes"),
            (lambda y, k: torch.bincount(y, minlength=k) / len(y) * k, "gets the smaller weight"),
            (lambda *a: weights(*a).sqrt(), "gets a third, not its root"),
            (infinite, "has the weight 0, not infinity"),
            (lambda y, k: weights(y, int(y.max()) + 1) * 2, "differs from the reference"),
            (changing, "changes the labels"),
            (lambda y, k: torch.ones(k + 1), "expected (3,)"),
            (lambda y, k: None, "is None"),
            (weights(torch.tensor([0, 1]), 2), "hand in the function class_weights itself"),
        ],
    )


def split(groups, fraction, generator, more=0, least=True):
    order = groups.unique()
    order = order[torch.randperm(len(order), generator=generator)].tolist()
    held = []
    while torch.isin(groups, torch.tensor(held)).sum() < fraction * len(groups):
        held.append(order[len(held)])
    held = order[: len(held) + more]
    return torch.isin(groups, torch.tensor(held))


def split_by_counting(groups, fraction, generator):
    names, place, counts = groups.unique(return_inverse=True, return_counts=True)
    order = torch.randperm(len(names), generator=generator)
    before = counts[order].cumsum(0) - counts[order]
    chosen = torch.zeros(len(names), dtype=torch.bool)
    chosen[order[before / len(groups) < fraction]] = True
    return chosen[place]


def by_images(groups, fraction, generator):
    order = torch.randperm(len(groups), generator=generator)
    held = torch.zeros(len(groups), dtype=torch.bool)
    held[order[: int(fraction * len(groups)) + 1]] = True
    return held


def sorted_groups(groups, fraction, generator):
    return split(-groups, fraction, generator)


def test_split_groups():
    judged(
        checks.check_split_groups,
        right=[split, split_by_counting],
        wrong=[
            (by_images, "lie on both sides"),
            (lambda *a: split(*a, more=1), "was reached with a group less"),
            (lambda *a: split(*a, more=-1), "less than the share of 0.1037"),
            (
                lambda g, f, r: split(
                    g, f, torch.Generator().manual_seed(int(torch.rand(1) * 1e9))
                ),
                "the same generator gives two different splits",
            ),
            (sorted_groups, "other groups are held out than the first in the drawn order"),
            (lambda *a: split(*a).int(), "should hold booleans; it holds torch.int32"),
            (lambda *a: split(*a).nonzero().flatten() > 0, "has the shape"),
            (lambda *a: ~split(*a), "held out"),
            (lambda *a: split(*a).tolist(), "a tensor of booleans; it is a list"),
        ],
    )


def merged(reports):
    counts, means, stds = (torch.tensor(values).double() for values in zip(*reports, strict=True))
    mean = (counts * means).sum() / counts.sum()
    return mean, ((counts * (stds**2 + (means - mean) ** 2)).sum() / counts.sum()).sqrt()


def merged_in_turn(reports):
    """The parts added one after the other, by the update of Chan and others."""
    total, mean, squares = 0, 0.0, 0.0
    for count, other, std in reports:
        delta, both = other - mean, total + count
        squares += count * std**2 + delta**2 * total * count / both
        mean, total = mean + delta * count / both, both
    return mean, (squares / total) ** 0.5


def test_merge():
    def wrong(change):
        return lambda reports: change(reports, *merged(reports), sum(r[0] for r in reports))

    judged(
        checks.check_merge,
        right=[merged, merged_in_turn],
        wrong=[
            (
                wrong(lambda r, m, s, n: (sum(x[1] for x in r) / len(r), s)),
                "weighs all parts alike",
            ),
            (
                wrong(lambda r, m, s, n: (m, (sum(c * d**2 for c, _, d in r) / n) ** 0.5)),
                "that spread is missing",
            ),
            (wrong(lambda r, m, s, n: (m, sum(x[2] for x in r) / len(r))), "not the std of all"),
            (
                wrong(lambda r, m, s, n: (m, sum(c * d for c, _, d in r) / n)),
                "average variances, not stds",
            ),
            (wrong(lambda r, m, s, n: (m, s**2)), "that is the variance"),
            (wrong(lambda r, m, s, n: (m, s * (n / (n - 1)) ** 0.5)), "divide by the count"),
            (wrong(lambda r, m, s, n: (m, s * 1.01)), "the std of 4 parts is"),
            (wrong(lambda r, m, s, n: (m + 0.1, s)), "the mean of 4 parts is"),
            (wrong(lambda r, m, s, n: m), "should return 2 values"),
        ],
    )


def bits(images, shape=(8, 9)):
    grey = F.adaptive_avg_pool2d(images.float().mean(1, keepdim=True), shape)
    return (grey.diff(dim=-1) > 0).flatten(1)


def bits_in_turn(images):
    """The cells first, then the channels' mean, in double precision."""
    cells = F.adaptive_avg_pool2d(images.double() / 255, (8, 9)).mean(1)
    return torch.stack([(row[:, 1:] > row[:, :-1]).reshape(-1) for row in cells])


def vertical(images):
    grey = F.adaptive_avg_pool2d(images.float().mean(1, keepdim=True), (9, 8))
    return (grey.diff(dim=-2) > 0).flatten(1)


def average_hash(images):
    grey = F.adaptive_avg_pool2d(images.float().mean(1, keepdim=True), (8, 8))
    return (grey > grey.mean((2, 3), keepdim=True)).flatten(1)


def test_difference_hash():
    judged(
        checks.check_difference_hash,
        right=[bits, bits_in_turn],
        wrong=[
            (lambda x: ~bits(x), "turned round"),
            (lambda x: bits(x).view(-1, 8, 8).mT.flatten(1), "column by column"),
            (vertical, "vertical neighbours"),
            (lambda x: bits(x[:, :1]), "only the first channel"),
            (average_hash, "compares with the mean"),
            (lambda x: bits(x).view(-1, 8, 8), "flatten it to 64"),
            (lambda x: bits(x).float(), "should hold booleans"),
            (lambda x: bits(x).flip(1), "% of the bits are wrong"),
            (lambda x: bits(x)[:, :32], "has the shape (6, 32)"),
        ],
    )
