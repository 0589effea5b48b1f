"""Checks of chapter 12, recipes and ablations."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_lib import compare
from resnet_lib.checks.answers import function, number, numbers, returned, same_number, same_tensor
from resnet_lib.checks.verdict import Draw, Mismatch, check


@check
def check_smoothed_targets(smoothed_targets: Callable, *, draw: Draw) -> str:
    """Exercise 12.1: smoothed_targets(labels, num_classes, smoothing) -> shares (N, K)."""
    smoothed_targets = function(
        smoothed_targets, "smoothed_targets(labels, num_classes, smoothing)"
    )
    for classes in (2, 10):
        labels, smoothing = draw.integers(0, classes - 1, 7), draw.uniform(0.05, 0.4)
        hot = F.one_hot(labels, classes).double()
        right = (1 - smoothing) * hot + smoothing / classes
        others = smoothing / (classes - 1)
        mistakes = [
            (hot, "nothing was smoothed"),
            (
                (1 - smoothing) * hot + others * (1 - hot),
                "the smoothing is spread over all classes, the right one among them",
            ),
            ((1 - smoothing) * hot, "the shares must sum to one"),
            (hot + smoothing / classes, "the shares must sum to one: take the smoothing off first"),
            (right.argmax(1), "shares of all classes are asked for, (N, K)"),
        ]
        found = smoothed_targets(labels.clone(), classes, smoothing)
        same_tensor(found, right, f"the shares of {classes} classes", mistakes)
    return "the shares are right, for two classes and for ten"


@check
def check_mixup(mixup: Callable, *, draw: Draw) -> str:
    """Exercise 12.2: mixup(images, labels, share, order, num_classes) -> images, shares (N, K)."""
    call = "mixup(images, labels, share, order, num_classes)"
    mixup = function(mixup, call)
    for classes in (3, 10):
        images, labels = draw.normal(6, 2, 4, 4), draw.integers(0, classes - 1, 6)
        labels[1] = labels[4]  # one pair of the same class
        order = torch.tensor([3, 4, 0, 5, 2, 1])
        share = draw.uniform(0.55, 0.9)
        hot = F.one_hot(labels, classes).double()
        right_images, right_shares = _mixed(images, share, order), _mixed(hot, share, order)
        given = images.clone(), labels.clone(), order.clone()
        pictures, shares = returned(mixup(images, labels, share, order, classes), 2, call)
        for value, before in zip((images, labels, order), given, strict=True):
            if not torch.equal(value, before):
                raise Mismatch("an argument has changed: work on a copy")
        back = order.argsort()
        mistakes = [
            (_mixed(images, 1 - share, order), "the shares of the two images are swapped"),
            (_mixed(images, share, back), "image i is mixed with image order[i], not the reverse"),
            (images, "the images are not mixed"),
        ]
        same_tensor(pictures, right_images, "the images", mistakes)
        overwritten = share * hot
        overwritten[torch.arange(6), labels[order]] = 1 - share
        mistakes = [
            (_mixed(hot, 1 - share, order), "the shares of the two classes are swapped"),
            (_mixed(hot, share, back), "the partner's class is labels[order[i]]"),
            (overwritten, "where both images are of one class, its shares add up to one"),
            (hot, "the labels are not mixed"),
        ]
        same_tensor(shares, right_shares, "the shares of the classes", mistakes)
    return "images and shares are right, for a pair of one class, too"


def _mixed(values: Tensor, share: float, order: Tensor) -> Tensor:
    return share * values + (1 - share) * values[order]


@check
def check_shown(shown: Callable, *, draw: Draw) -> str:
    """Exercise 12.3: shown(gains, confidence) -> the switches whose interval leaves out zero."""
    shown = function(shown, "shown(gains, confidence)")
    for count, seeds, confidence in ((12, 5, 0.95), (5, 8, 0.9)):
        alpha = (1 - confidence) / count
        single, joint = (
            compare.t_quantile(seeds - 1, 1 - each / 2) / seeds**0.5
            for each in (1 - confidence, alpha)
        )
        # Means in units of the deviation: surely shown, between the two bars, and surely not.
        middle = (single * joint) ** 0.5
        levels = [1.3 * joint, -1.3 * joint, middle, -middle, 0.5 * single] + [0.0] * (count - 5)
        names, gains = [f"switch {i}" for i in range(count)], {}
        places = torch.randperm(count, generator=draw.generator).tolist()
        if (places.index(0) < places.index(1)) == (count == 5):
            places.reverse()  # so that no way of sorting is right in both cases
        for place in places:
            values = draw.normal(seeds)
            values = (values - values.mean()) / values.std()
            gains[names[place]] = values + levels[place]
        expected = [name for name in gains if name in names[:2]]
        found = shown({name: values.clone() for name, values in gains.items()}, confidence)
        if list(found) == expected:
            continue
        uncorrected = [name for name in gains if name in names[:4]]
        if sorted(found) == sorted(expected):
            why = "list them in the order given"
        elif list(found) == uncorrected:
            why = (
                f"divide what may be missed, {1 - confidence:.2f}, by the {count} switches, "
                "and take the quantile of Student's t distribution"
            )
        elif set(found) <= set(expected):
            missed = next(name for name in expected if name not in found)
            sign = " (an effect may be negative)" if gains[missed].mean() < 0 else ""
            why = f"{missed} is missing{sign}"
        else:
            extra = next(name for name in found if name not in expected)
            why = f"{extra} is not shown: the interval of all {count} switches holds zero for it"
        raise Mismatch(f"of {count} switches with {seeds} seeds: {why}")
    return "the lists are right, for twelve switches and for five"


@check
def check_averaged(averaged: Callable, *, draw: Draw) -> str:
    """Exercise 12.4: averaged(values (steps, N), decay) -> the corrected average, (steps, N)."""
    averaged = function(averaged, "averaged(values, decay)")
    for decay in (0.9, draw.uniform(0.2, 0.7)):
        values = draw.normal(12, 3) + 5
        running, plain, swapped = torch.zeros(3, dtype=torch.float64), [], []
        other = torch.zeros(3, dtype=torch.float64)
        for value in values:
            running = decay * running + (1 - decay) * value
            other = (1 - decay) * other + decay * value
            plain.append(running)
            swapped.append(other)
        plain, swapped = torch.stack(plain), torch.stack(swapped)
        steps = torch.arange(1, 13, dtype=torch.float64)[:, None]
        right = plain / (1 - decay**steps)
        late = plain / (1 - decay ** (steps + 1))
        first, from_first = values[0], []
        for value in values:
            first = decay * first + (1 - decay) * value
            from_first.append(first)
        mistakes = [
            (plain, "divide by what a row of ones would have given, 1 - decay ** step"),
            (swapped / (1 - (1 - decay) ** steps), "the decay is the share of the old average"),
            (late, "the first step is step 1, not 2"),
            (torch.stack(from_first), "start the average at zero, not at the first value"),
            (values.cumsum(0) / steps, "that is the plain mean of all values so far"),
            (right[-1], "the average after each step is asked for, not only the last one"),
        ]
        same_tensor(averaged(values.clone(), decay), right, f"the average at decay {decay:.2f}",
                    mistakes)  # fmt: skip
    return "the averages are right, from the first step on"


@check
def check_decaying(decaying: Callable, *, draw: Draw) -> str:
    """Exercise 12.5: decaying(model) -> the names of the weights of convolutions and linears."""
    decaying = function(decaying, "decaying(model)")
    for model in (_Odd(), _Odd().body):
        layers = (nn.Conv1d, nn.Conv2d, nn.Linear)
        expected = [
            f"{name}.weight" if name else "weight"
            for name, module in model.named_modules()
            if isinstance(module, layers)
        ]
        order = [name for name, _ in model.named_parameters()]
        expected.sort(key=order.index)
        found = decaying(model)
        if list(found) == expected:
            continue
        found = list(found)
        if unknown := [name for name in found if name not in order]:
            raise Mismatch(f"the model has no parameter {unknown[0]!r}")
        if extra := [name for name in found if name not in expected]:
            kind = type(model.get_submodule(extra[0].rpartition(".")[0])).__name__
            raise Mismatch(f"{extra[0]} is listed, a parameter of a {kind}")
        if missing := [name for name in expected if name not in found]:
            kind = type(model.get_submodule(missing[0].rpartition(".")[0])).__name__
            raise Mismatch(f"{missing[0]} is missing, the weight of a {kind}")
        raise Mismatch("list them in the order of named_parameters, each once")
    return "the names are right, also where names and dimensions mislead"


class _Odd(nn.Module):
    """Layers whose names don't tell what they are, and a norm with a weight of two dimensions."""

    def __init__(self):
        super().__init__()
        self.bn = nn.Conv2d(3, 4, 3)
        self.conv = nn.BatchNorm2d(4)
        self.body = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm((4, 4)), nn.Conv1d(4, 4, 1))
        self.scale = nn.Parameter(torch.ones(2, 2))
        self.table = nn.Embedding(3, 4)


@check
def check_ablation(ablation: dict) -> str:
    """Exercise 12.6: {"base", "switched": accuracies in percent, "mean", "interval"}."""
    keys = ("base", "switched", "mean", "interval")
    if not isinstance(ablation, dict) or set(ablation) != set(keys):
        raise Mismatch(f"hand in a dictionary with the keys {', '.join(keys)}")
    base = numbers(ablation["base"], "base")
    switched = numbers(ablation["switched"], "switched", len(base))
    if len(base) < 5:
        raise Mismatch(f"at least five seeds are asked for, got {len(base)}")
    for name, values in (("base", base), ("switched", switched)):
        if not all(0 <= value <= 100 for value in values):
            raise Mismatch(f"{name} holds a value outside of 0 to 100: accuracies in percent")
        if max(values) <= 1:
            raise Mismatch(f"{name} looks like shares: hand in percent")
        if len(set(values)) == 1:
            raise Mismatch(f"{name} has the same accuracy for each seed: were they different runs?")
    gains = torch.tensor(switched, dtype=torch.float64) - torch.tensor(base, dtype=torch.float64)
    mean = gains.mean().item()
    same_number(number(ablation["mean"], "mean"), mean, "the mean of the gains",
                [(-mean, "the gain is switched minus base")], 5e-3)  # fmt: skip
    low, high = numbers(ablation["interval"], "interval", 2)
    right = compare.t_interval(gains)
    ends = zip((low, high), right, strict=True)
    if not all(math.isclose(found, end, rel_tol=5e-3, abs_tol=5e-3) for found, end in ends):
        raise Mismatch(
            f"the interval of the gains, paired by seed, is {right[0]:.2f} to {right[1]:.2f}, "
            f"not {low:.2f} to {high:.2f}"
        )
    verdict = "leaves out zero" if right[0] > 0 or right[1] < 0 else "holds zero"
    return f"mean and interval belong to the accuracies; the interval {verdict}"
