"""Chapter 17: each check accepts right answers, however written, and names each mistake."""

import math

import numpy as np
import torch
from judging import judged
from torch import nn

from resnet_lib import checks, recipes


def on_both_sides(groups, held):
    sides = [{g for g, h in zip(groups, held, strict=True) if h == side} for side in (True, False)]
    return sorted(sides[0] & sides[1])


def by_counting(groups, held):
    names = np.array(groups)
    return [str(n) for n in np.unique(names) if 0 < held[names == n].mean() < 1]


def test_on_both_sides():
    judged(
        checks.check_on_both_sides,
        right=[on_both_sides, by_counting],
        wrong=[
            (lambda g, h: sorted(set(g)), "all groups"),
            (lambda g, h: sorted({x for x, y in zip(g, h, strict=True) if y}), "one side"),
            (lambda g, h: on_both_sides(g, h) * 2, "each once"),
            (lambda g, h: on_both_sides(g, h)[::-1], "sorted"),
            (lambda g, h: set(on_both_sides(g, h)), "list of names"),
            (lambda g, h: [*on_both_sides(g, h), "cat"], "expected"),
        ],
    )


def nearest_mean(features, labels, queries):
    means = torch.stack([features[labels == c].mean(0) for c in range(int(labels.max()) + 1)])
    return torch.cdist(queries, means).argmin(1)


def by_squares(features, labels, queries):
    hot = torch.nn.functional.one_hot(labels).to(features.dtype)
    means = (hot / hot.sum(0)).T @ features
    return (means.square().sum(1) - 2 * queries @ means.T).argmin(1)


def by_sums(features, labels, queries):
    hot = torch.nn.functional.one_hot(labels).to(features.dtype)
    return torch.cdist(queries, hot.T @ features).argmin(1)


def test_nearest_mean():
    judged(
        checks.check_nearest_mean,
        right=[nearest_mean, by_squares],
        wrong=[
            (lambda f, y, q: y[torch.cdist(q, f).argmin(1)], "mean of each class first"),
            (lambda f, y, q: torch.cdist(q, q).argmin(1), ""),
            (by_sums, ""),
            (lambda f, y, q: nearest_mean(f, y, q)[:, None], "the shape"),
            (lambda f, y, q: nearest_mean(f - f.mean(0), y, q), ""),
        ],
    )


def learning(model):
    return sorted(name for name, p in model.named_parameters() if p.requires_grad)


def drifting(model):
    return sorted(
        name
        for name, m in model.named_modules()
        if type(m) is nn.BatchNorm2d and m.track_running_stats
    )


def by_trying(model):
    before = {n: b.clone() for n, b in model.named_buffers() if n.endswith("running_mean")}
    was = model.training
    with torch.no_grad():
        model.train()(torch.randn(4, 1, 8, 8))
    model.train(was)
    moved = [n for n, b in model.named_buffers() if n in before and not torch.equal(b, before[n])]
    return sorted(n.removesuffix(".running_mean") for n in moved)


def leaving_the_mode(model):
    names = drifting(model)
    model.train(not model.training)
    return names


def test_learning_and_drifting():
    judged(
        checks.check_learning,
        right=[learning],
        wrong=[
            (lambda m: sorted(n for n, _ in m.named_parameters()), "all parameters"),
            (lambda m: sorted(m.state_dict()), "buffers are no parameters"),
            (lambda m: learning(m)[::-1], "sort them"),
            (lambda m: learning(m)[1:], "is missing"),
            (lambda m: [*learning(m), learning(m)[0]], "each name once"),
        ],
    )
    judged(
        checks.check_drifting,
        right=[drifting, by_trying],
        wrong=[
            (lambda m: sorted(n for n, x in m.named_modules() if isinstance(x, nn.BatchNorm2d)),
             "keeps its statistics"),
            (lambda m: sorted(n for n, x in m.named_modules() if isinstance(x, nn.BatchNorm2d)
                              and x.weight.requires_grad), "statistics need no gradient"),
            (lambda m: sorted(n for n, x in m.named_modules() if isinstance(x, nn.BatchNorm2d)
                              and not isinstance(x, recipes.FrozenNorm)),
             "no running statistics"),
            (leaving_the_mode, "another mode"),
        ],
        seeds=range(1, 2),
    )  # fmt: skip


def discriminative(model, lr, factor):
    parts = [["fc"], ["layer4"], ["layer3"], ["layer2"], ["layer1"], ["conv1", "bn1"]]
    return [
        {"params": [p for name in names for p in getattr(model, name).parameters()],
         "lr": lr / factor**depth}
        for depth, names in enumerate(parts)
    ]  # fmt: skip


def one_by_one(model, lr, factor):
    order = ["fc", "layer4", "layer3", "layer2", "layer1"]
    groups = []
    for name, parameter in model.named_parameters():
        top = name.split(".")[0]
        depth = order.index(top) if top in order else 5
        groups.append({"params": [parameter], "lr": lr * factor**-depth})
    return groups


def changed(change):
    def answer(model, lr, factor):
        groups = discriminative(model, lr, factor)
        return change(groups, lr, factor)

    return answer


def test_discriminative():
    judged(
        checks.check_discriminative,
        right=[discriminative, one_by_one],
        wrong=[
            (changed(lambda g, lr, f: [x | {"lr": y["lr"]} for x, y in
                                       zip(g, g[::-1], strict=True)]), "turned round"),
            (lambda m, lr, f: discriminative(m, lr, 1 / f), "divide instead"),
            (changed(lambda g, lr, f: [x | {"lr": lr / (f * d or 1)} for d, x in enumerate(g)]),
             "a power"),
            (changed(lambda g, lr, f: g[:-1]), "in no group"),
            (changed(lambda g, lr, f: [*g, g[0]]), "in two groups"),
            (changed(lambda g, lr, f: tuple(g)), "a list of dictionaries"),
            (changed(lambda g, lr, f: [{"params": x["params"]} for x in g]), "params and lr"),
            (changed(lambda g, lr, f: [x | {"lr": lr} for x in g]), "learns at"),
        ],
    )  # fmt: skip


def threshold_for(logits, labels, precision):
    sure, answers = logits.softmax(1).max(1)
    right = (answers == labels).double()
    good = [t.item() for t in sure if right[sure >= t].mean() >= precision]
    return min(good, default=math.inf)


def by_sorting(logits, labels, precision):
    sure, answers = logits.softmax(1).max(1)
    order = sure.argsort(descending=True)
    shares = (answers == labels)[order].double().cumsum(0) / torch.arange(1, len(labels) + 1)
    fit = (shares >= precision).nonzero()
    return sure[order][fit[-1, 0]] if len(fit) else float("inf")


def first_failure(logits, labels, precision):
    sure, answers = logits.softmax(1).max(1)
    order = sure.argsort(descending=True)
    shares = (answers == labels)[order].double().cumsum(0) / torch.arange(1, len(labels) + 1)
    bad = (shares < precision).nonzero()
    count = int(bad[0]) if len(bad) else len(shares)
    return sure[order][count - 1].item() if count else math.inf


def test_threshold_for():
    judged(
        checks.check_threshold_for,
        right=[threshold_for, by_sorting],
        wrong=[
            (lambda z, y, p: min(threshold_for(z, y, p), 1.0), "infinity"),
            (lambda z, y, p: z.softmax(1).max(1).values.min().item(), "below"),
            (lambda z, y, p: None, "should be a number"),
            (lambda z, y, p: math.inf, "you found none"),
            (first_failure, "do not stop"),
        ],
    )
