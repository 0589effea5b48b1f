"""Checks of chapter 17, your own images."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from resnet_lib import models, recipes
from resnet_lib.checks.answers import function, kind, number, tensor
from resnet_lib.checks.verdict import Draw, Mismatch, check


def _names(answer, what: str) -> list[str]:
    if not isinstance(answer, list) or not all(isinstance(name, str) for name in answer):
        raise Mismatch(f"{what} should be a list of names; it is {kind(answer)}")
    return answer


@check
def check_on_both_sides(on_both_sides: Callable, *, draw: Draw) -> str:
    """Exercise 17.1: on_both_sides(groups, held) -> the groups that are divided, sorted."""
    on_both_sides = function(on_both_sides, "on_both_sides(groups, held)")
    for case in range(3):
        names = [f"dog{number}" for number in draw.integers(0, 99, 8).unique().tolist()]
        groups = [name for name in names for _ in range(3)]
        held = np.array([False, False, False] * len(names))
        held[:3] = True  # whole on one side, and the last whole on the other
        for index in range(1, len(names) - 1):
            held[3 * index + draw.integer(0, 2)] = case > 0 and index % 2 == 1
        order = torch.randperm(len(groups), generator=draw.generator).tolist()
        groups, held = [groups[i] for i in order], held[order]
        answer = _names(on_both_sides(list(groups), held.copy()), "the answer")
        inside = {g for g, h in zip(groups, held, strict=True) if h}
        outside = {g for g, h in zip(groups, held, strict=True) if not h}
        expected = sorted(inside & outside)
        if answer == expected:
            continue
        if set(answer) == inside | outside:
            raise Mismatch("these are all groups: name those with pictures on both sides only")
        if set(answer) in (inside, outside):
            raise Mismatch("these are the groups of one side: a group has to be on both")
        if set(answer) == set(expected):
            said = "each once" if len(answer) > len(expected) else "sorted"
            raise Mismatch(f"the right groups: name them {said}")
        raise Mismatch(f"expected {expected}, got {sorted(set(answer))}")
    return "a group is named where it has pictures on both sides, and else not"


@check
def check_nearest_mean(nearest_mean: Callable, *, draw: Draw) -> str:
    """Exercise 17.2: nearest_mean(features, labels, queries) -> class numbers (M,)."""
    nearest_mean = function(nearest_mean, "nearest_mean(features, labels, queries)")
    for classes in (3, 5):
        centres = draw.normal(classes, 6)
        # Classes of different sizes, and features of different spread and far from zero.
        labels = torch.arange(classes).repeat_interleave(torch.arange(2, classes + 2))
        labels = labels[torch.randperm(len(labels), generator=draw.generator)]
        scale = torch.tensor([1, 1, 2, 2, 3, 3]).double()
        features = (centres[labels] + draw.normal(len(labels), 6)) * scale + 4
        queries = (centres.repeat(40, 1) + draw.normal(40 * classes, 6)) * scale + 4
        answer = tensor(nearest_mean(features.clone(), labels.clone(), queries.clone()), "answers")
        if answer.shape != (len(queries),):
            raise Mismatch(
                f"the answers have the shape {tuple(answer.shape)}, expected {(len(queries),)}: "
                "one class number for each query"
            )
        means = torch.stack([features[labels == label].mean(0) for label in range(classes)])
        distances = torch.cdist(queries, means)
        two = distances.topk(2, largest=False).values
        clear = two[:, 1] - two[:, 0] > 1e-6
        if torch.equal(answer[clear].long(), distances.argmin(1)[clear]):
            continue
        mistakes = [
            (distances.argmax(1), "that is the class whose mean is farthest"),
            (labels[torch.cdist(queries, features).argmin(1)],
             "that is the nearest picture's class: take the mean of each class first"),
            (_cosine(queries, means), "that is the largest cosine: take the Euclidean distance"),
            ((queries @ means.T).argmax(1), "that is the largest product: take the distance"),
            (torch.cdist(queries, means, p=1).argmin(1),
             "the differences are added up: square them (Euclid)"),
        ]  # fmt: skip
        for wrong, words in mistakes:
            if torch.equal(answer[clear].long(), wrong[clear]):
                raise Mismatch(words)
        share = (answer.long() == distances.argmin(1)).double().mean().item()
        raise Mismatch(
            f"{100 * (1 - share):.0f} % of the answers are another class than the nearest"
        )
    return "each query gets the class with the nearest mean"


def _cosine(queries: Tensor, means: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(queries[:, None], means[None], dim=2).argmax(1)


def _partly_frozen(draw: Draw) -> models.ResNet:
    """A network some parts of which are frozen, weights and statistics each in their own way."""
    model = models.build("resnet18", 3, width=2, in_channels=1, stem="small")
    recipes.freeze(model, draw.integer(1, 3))
    model.layer4[0].requires_grad_(False)  # but its norms go on averaging
    recipes.freeze_norms(model.layer4[1])  # the reverse
    model.layer3[1].bn2 = nn.BatchNorm2d(8, track_running_stats=False)
    return model.train(draw.integer(0, 1) == 1)


@check
def check_learning(learning: Callable, *, draw: Draw) -> str:
    """Exercise 17.3: learning(model) -> the names of the parameters that learn, sorted."""
    learning = function(learning, "learning(model)")
    for _ in range(2):
        model = _partly_frozen(draw)
        answer = _names(learning(model), "the answer")
        expected = sorted(name for name, p in model.named_parameters() if p.requires_grad)
        if answer == expected:
            continue
        if sorted(answer) == sorted(name for name, _ in model.named_parameters()):
            raise Mismatch("these are all parameters: leave out those that get no gradient")
        if sorted(answer) == sorted(model.state_dict()):
            raise Mismatch("buffers are no parameters, and some of these get no gradient")
        _compare(answer, expected)
    return "exactly the parameters that get a gradient"


@check
def check_drifting(drifting: Callable, *, draw: Draw) -> str:
    """Exercise 17.3: drifting(model) -> the names of the norms that update statistics, sorted."""
    drifting = function(drifting, "drifting(model)")
    for _ in range(2):
        model = _partly_frozen(draw)
        was = model.training
        answer = _names(drifting(model), "the answer")
        if model.training != was:
            raise Mismatch("the function leaves the model in another mode than it found it in")
        norms = {n: m for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
        expected = sorted(
            name for name, norm in norms.items()
            if not isinstance(norm, recipes.FrozenNorm) and norm.track_running_stats
        )  # fmt: skip
        if answer == expected:
            continue
        if sorted(answer) == sorted(norms):
            raise Mismatch("these are all batch norms: a FrozenNorm keeps its statistics")
        learning = sorted(n for n, m in norms.items() if m.weight.requires_grad)
        if sorted(answer) == learning:
            raise Mismatch("whether the weights learn does not matter: statistics need no gradient")
        if set(answer) - set(expected) == {"layer3.1.bn2"}:
            raise Mismatch("layer3.1.bn2 has no running statistics that it could update")
        _compare(answer, expected)
    return "exactly the norms whose running statistics move"


def _compare(answer: list[str], expected: list[str]) -> None:
    if sorted(answer) == expected:
        raise Mismatch("the right names: sort them")
    if more := sorted(set(answer) - set(expected)):
        raise Mismatch(f"{more[0]} does not belong there")
    if less := sorted(set(expected) - set(answer)):
        raise Mismatch(f"{less[0]} is missing")
    raise Mismatch("each name once")


@check
def check_discriminative(discriminative: Callable, *, draw: Draw) -> str:
    """Exercise 17.4: discriminative(model, lr, factor) -> parameter groups."""
    discriminative = function(discriminative, "discriminative(model, lr, factor)")
    for name in ("resnet18", "resnet50"):
        model = models.build(name, 3, width=2, in_channels=1)
        lr, factor = draw.uniform(0.01, 0.1), draw.uniform(1.5, 4)
        groups = discriminative(model, lr, factor)
        if not isinstance(groups, list) or not all(isinstance(g, dict) for g in groups):
            raise Mismatch("hand back a list of dictionaries, as optimizers take it")
        if not all({"params", "lr"} <= set(group) for group in groups):
            raise Mismatch("each dictionary needs the keys params and lr")
        rates: dict[int, float] = {}
        for group in groups:
            rate = number(group["lr"], "a rate")
            group["params"] = list(group["params"])  # of a generator, too
            for parameter in group["params"]:
                if id(parameter) in rates:
                    raise Mismatch("a parameter is in two groups")
                rates[id(parameter)] = rate
        parts = (*recipes.PARTS, ("fc",))
        for depth, names in enumerate(reversed(parts)):
            for each, parameter in model.named_parameters():
                if each.partition(".")[0] not in names:
                    continue
                if id(parameter) not in rates:
                    raise Mismatch(f"{each} is in no group, so it would never learn")
                _judge_rate(each, rates[id(parameter)], lr, factor, depth)
    return "the head learns at the full rate, and each part below slower by the factor"


def _judge_rate(name: str, rate: float, lr: float, factor: float, depth: int) -> None:
    expected = lr / factor**depth
    if math.isclose(rate, expected, rel_tol=1e-6):
        return
    if math.isclose(rate, lr / factor ** (5 - depth), rel_tol=1e-6):
        raise Mismatch("the order is turned round: the head is the fastest, the stem the slowest")
    if math.isclose(rate, lr * factor**depth, rel_tol=1e-6):
        raise Mismatch("towards the input the rates grow: divide instead of multiplying")
    if math.isclose(rate, lr / (factor * depth or 1), rel_tol=1e-6):
        raise Mismatch("divide by the factor again for each part: it is a power, not a multiple")
    raise Mismatch(f"{name} learns at {rate:.3g}, expected {expected:.3g}")


@check
def check_threshold_for(threshold_for: Callable, *, draw: Draw) -> str:
    """Exercise 17.5: threshold_for(logits, labels, precision) -> a probability, or infinity."""
    threshold_for = function(threshold_for, "threshold_for(logits, labels, precision)")
    for count, precision in ((60, 0.7), (80, 0.85), (40, 0.6), (30, 1.01)):
        labels = draw.integers(0, 3, count)
        logits = 1.5 * draw.normal(count, 4)
        logits[torch.arange(count), labels] += 1.2
        sure, answers = logits.softmax(1).max(1)
        # The fifth surest answer is wrong, and fifteen right ones follow: nobody may stop there.
        order = sure.argsort(descending=True)
        labels[order[:20]] = answers[order[:20]]
        labels[order[4]] = (answers[order[4]] + 1) % 4
        right = (answers == labels).double()
        shares = torch.stack([right[sure >= t].mean() for t in sure])
        fit = shares >= precision
        expected = sure[fit].min().item() if fit.any() else math.inf
        answer = threshold_for(logits.clone(), labels.clone(), precision)
        found = float(answer) if isinstance(answer, (int, float, Tensor, np.number)) else None
        if found is None or math.isnan(found):
            raise Mismatch(f"the threshold should be a number; it is {kind(answer)}")
        if math.isclose(found, expected, rel_tol=1e-9):
            continue
        if expected == math.inf:
            raise Mismatch("where no threshold is good enough, the answer is infinity")
        if found == math.inf:
            raise Mismatch(f"there is a threshold for a share of {precision:g}; you found none")
        running = right[order].cumsum(0) / torch.arange(1, count + 1)
        broken = (running < precision).nonzero()
        first = sure[order][: int(broken[0])] if len(broken) else sure[order]
        if len(first) and math.isclose(found, first.min().item(), rel_tol=1e-9):
            raise Mismatch(
                "do not stop at the first threshold that fails: a lower one may do again"
            )
        at = right[sure >= found].mean().item() if (sure >= found).any() else math.nan
        if at >= precision:
            raise Mismatch(
                f"at {found:.4f} the share is {at:.3f}; a smaller threshold does as well"
            )
        raise Mismatch(
            f"at {found:.4f} the share of right answers is {at:.3f}, below {precision:g}"
        )
    return "the smallest probability from which on the answers are as good as asked"
