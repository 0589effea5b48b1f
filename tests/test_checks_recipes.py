"""Chapter 12: each check accepts right answers, however written, and names each mistake."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from judging import judged
from scipy import stats
from torch import nn

from resnet_lib import checks


def smoothed_targets(labels, num_classes, smoothing):
    return (1 - smoothing) * F.one_hot(labels, num_classes) + smoothing / num_classes


def by_filling(labels, num_classes, smoothing):
    shares = torch.full((len(labels), num_classes), smoothing / num_classes, dtype=torch.float64)
    shares.scatter_(1, labels[:, None], 1 - smoothing + smoothing / num_classes)
    return shares


def over_the_others(labels, num_classes, smoothing):
    hot = F.one_hot(labels, num_classes)
    return (1 - smoothing) * hot + smoothing / (num_classes - 1) * (1 - hot)


def test_smoothed_targets():
    judged(
        checks.check_smoothed_targets,
        right=[smoothed_targets, by_filling],
        wrong=[
            (over_the_others, "the right one among them"),
            (lambda y, k, s: F.one_hot(y, k), "nothing was smoothed"),
            (lambda y, k, s: (1 - s) * F.one_hot(y, k), "sum to one"),
            (lambda y, k, s: F.one_hot(y, k) + s / k, "take the smoothing off"),
            (lambda y, k, s: y, "shares"),
        ],
    )


def mixup(images, labels, share, order, num_classes):
    hot = F.one_hot(labels, num_classes).double()
    return (share * v + (1 - share) * v[order] for v in (images, hot))


def by_loop(images, labels, share, order, num_classes):
    pictures = torch.stack(
        [share * a + (1 - share) * images[j] for a, j in zip(images, order, strict=True)]
    )
    shares = torch.zeros(len(labels), num_classes, dtype=torch.float64)
    for i, j in enumerate(order):
        shares[i, labels[i]] += share
        shares[i, labels[j]] += 1 - share
    return pictures, shares


def overwriting(images, labels, share, order, num_classes):
    pictures, shares = by_loop(images, labels, share, order, num_classes)
    for i, j in enumerate(order):
        shares[i, labels[i]] = share
        shares[i, labels[j]] = 1 - share
    return pictures, shares


def in_place(images, labels, share, order, num_classes):
    result = tuple(mixup(images, labels, share, order, num_classes))
    images.mul_(share)
    return result


def test_mixup():
    judged(
        checks.check_mixup,
        right=[lambda *a: tuple(mixup(*a)), by_loop],
        wrong=[
            (lambda x, y, s, o, k: tuple(mixup(x, y, 1 - s, o, k)), "swapped"),
            (lambda x, y, s, o, k: tuple(mixup(x, y, s, o.argsort(), k)), "order[i]"),
            (overwriting, "add up to one"),
            (in_place, "an argument has changed"),
            (lambda x, y, s, o, k: (x.clone(), by_loop(x, y, s, o, k)[1]), "not mixed"),
            (lambda x, y, s, o, k: (by_loop(x, y, s, o, k)[0], F.one_hot(y, k)), "not mixed"),
            (lambda x, y, s, o, k: by_loop(x, y, s, o, k)[0], "2 values"),
        ],
    )


def shown(gains, confidence, correct=True, quantile=stats.t.ppf):
    missed = (1 - confidence) / (len(gains) if correct else 1)
    found = []
    for name, values in gains.items():
        half = quantile(1 - missed / 2, len(values) - 1) * values.std() / len(values) ** 0.5
        if abs(values.mean()) > half:
            found.append(name)
    return found


def by_p_values(gains, confidence):
    values = {name: stats.ttest_1samp(g.numpy(), 0).pvalue for name, g in gains.items()}
    return tuple(name for name, p in values.items() if len(gains) * p < 1 - confidence)


def test_shown():
    judged(
        checks.check_shown,
        right=[shown, by_p_values],
        wrong=[
            (lambda g, c: shown(g, c, correct=False), "divide what may be missed"),
            (lambda g, c: shown(g, c, quantile=lambda q, f: stats.norm.ppf(q)), "Student's t"),
            (lambda g, c: sorted(shown(g, c), key=lambda n: g[n].mean()), "in the order given"),
            (lambda g, c: [n for n in shown(g, c) if g[n].mean() > 0], "may be negative"),
            (lambda g, c: list(g), "is not shown"),
            (lambda g, c: [], "is missing"),
        ],
    )


def averaged(values, decay, start=0.0, correct=True):
    average, found = torch.full_like(values[0], start), []
    for step, value in enumerate(values, start=1):
        average = decay * average + (1 - decay) * value
        found.append(average / (1 - decay**step) if correct else average)
    return torch.stack(found)


def by_weights(values, decay):
    steps = np.arange(len(values))
    weights = np.tril(decay ** (steps[:, None] - steps).clip(0))
    return weights / weights.sum(1, keepdims=True) @ values.numpy()


def from_the_first(values, decay):
    average, found = values[0], []
    for value in values:
        average = decay * average + (1 - decay) * value
        found.append(average)
    return torch.stack(found)


def test_averaged():
    judged(
        checks.check_averaged,
        right=[averaged, by_weights],
        wrong=[
            (lambda v, d: averaged(v, d, correct=False), "a row of ones"),
            (lambda v, d: averaged(v, 1 - d), "share of the old average"),
            (from_the_first, "not at the first value"),
            (lambda v, d: v.cumsum(0) / torch.arange(1, 13)[:, None], "plain mean"),
            (lambda v, d: averaged(v, d)[-1], "after each step"),
            (
                lambda v, d: (
                    averaged(v, d, correct=False)
                    / (1 - d ** torch.arange(2, 14, dtype=torch.float64))[:, None]
                ),
                "the first step is step 1",
            ),
        ],
    )


LAYERS = (nn.Conv1d, nn.Conv2d, nn.Linear)


def decaying(model):
    kinds = dict(model.named_modules())
    found = []
    for name, _ in model.named_parameters():
        layer, _, kind = name.rpartition(".")
        if kind == "weight" and isinstance(kinds[layer], LAYERS):
            found.append(name)
    return found


def by_identity(model):
    weights = {id(m.weight) for m in model.modules() if isinstance(m, LAYERS)}
    return [name for name, p in model.named_parameters() if id(p) in weights]


def test_decaying():
    judged(
        checks.check_decaying,
        right=[decaying, by_identity, lambda m: tuple(decaying(m))],
        wrong=[
            (lambda m: [n for n, p in m.named_parameters() if p.ndim > 1], "is listed"),
            (lambda m: [n for n, p in m.named_parameters() if "bn" not in n], "is listed"),
            (lambda m: [n for n, _ in m.named_parameters()], "is listed, a parameter of a"),
            (lambda m: decaying(m)[1:], "is missing, the weight of a"),
            (lambda m: decaying(m)[::-1], "in the order of named_parameters"),
            (lambda m: [f"model.{n}" for n in decaying(m)], "has no parameter"),
        ],
    )


BASE, SWITCHED = [80.1, 81.0, 79.5, 80.4, 80.9], [80.9, 81.2, 80.6, 80.1, 82.0]
GAINS = np.subtract(SWITCHED, BASE)
INTERVAL = stats.t.interval(0.95, 4, GAINS.mean(), stats.sem(GAINS))
RIGHT = {"base": BASE, "switched": SWITCHED, "mean": GAINS.mean(), "interval": INTERVAL}
APART = np.hypot(np.std(BASE, ddof=1), np.std(SWITCHED, ddof=1)) / 5**0.5


def test_ablation():
    mean = GAINS.mean()
    apart = (mean - 2.306 * APART, mean + 2.306 * APART)
    judged(
        checks.check_ablation,
        right=[RIGHT, RIGHT | {"base": np.array(BASE), "interval": torch.tensor(INTERVAL)}],
        wrong=[
            (RIGHT | {"interval": apart}, "paired by seed"),
            (RIGHT | {"mean": -mean}, "switched minus base"),
            (RIGHT | {"base": BASE[:4], "switched": SWITCHED[:4]}, "at least five"),
            (RIGHT | {"base": [v / 100 for v in BASE]}, "in percent"),
            (RIGHT | {"base": [80.0] * 5}, "different runs"),
            (RIGHT | {"switched": SWITCHED[:4]}, "5"),
            ({"base": BASE}, "the keys"),
        ],
    )


@pytest.mark.parametrize("low, verdict", [(0.0, "holds zero"), (3.0, "leaves out zero")])
def test_the_verdict_on_an_ablation_follows_its_interval(low, verdict):
    switched = [value + low for value in SWITCHED]
    gains = np.subtract(switched, BASE)
    interval = stats.t.interval(0.95, 4, gains.mean(), stats.sem(gains))
    answer = RIGHT | {"switched": switched, "mean": gains.mean(), "interval": interval}
    assert verdict in checks.check_ablation(answer).message
