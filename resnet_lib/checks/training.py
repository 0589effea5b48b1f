"""Checks of chapter 11, training."""

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_lib import data, models
from resnet_lib.augment import normalize
from resnet_lib.checks.answers import (
    function,
    kind,
    near,
    number,
    numbers,
    same_number,
    same_tensor,
    table,
)
from resnet_lib.checks.verdict import Draw, Mismatch, check
from resnet_lib.train import warmup_cosine

STEPS, WARMUP, PEAK = 1000, 100, 0.2
ASKED = (0, 99, 100, 550, 999)
STEMS, BUDGETS = models.STEMS, ("epochs", "seconds")


def _cosine(step: int, total: int = STEPS, warmup: int = WARMUP) -> float:
    return PEAK * (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) / 2


@check
def check_rates(rates: list) -> str:
    """Exercise 11.1: the learning rates at steps 0, 99, 100, 550 and 999."""
    found = numbers(rates, "the learning rates", len(ASKED))
    for step, rate in zip(ASKED, found, strict=True):
        expected = PEAK * warmup_cosine(step, STEPS, WARMUP)
        mistakes = [(expected / PEAK, "is the factor; multiply it by the peak of 0.2")]
        if step < WARMUP:
            mistakes += [
                (PEAK * step / WARMUP, "is that of the step before: the warm-up is (s + 1) / 100"),
                (PEAK, "is the peak, which the warm-up has not reached yet"),
            ]
        else:
            mistakes += [
                (0.0, "is zero, but the last step is still a step"),
                (_cosine(step, warmup=0), "leaves out the warm-up: the cosine begins after it"),
                (_cosine(step, total=STEPS + WARMUP), "has the cosine end 100 steps too late"),
                (_cosine(step + 1), "is that of a step beside it"),
                (_cosine(step - 1), "is that of a step beside it"),
                (PEAK * (1 - (step - WARMUP) / (STEPS - WARMUP)), "falls on a line, not a cosine"),
            ]
        for value, words in mistakes:
            if abs(rate - expected) > 1e-8 and abs(rate - value) < 1e-9:
                raise Mismatch(f"your rate at step {step} {words}")
        rounded = 2e-2 if step == ASKED[-1] else 6e-3  # "about 6e-7", "0.0020"
        same_number(rate, expected, f"the rate at step {step}", tolerance=rounded)
    return "the five learning rates are those of the schedule"


def _toy(draw: Draw) -> tuple[nn.Module, data.ImageSet]:
    """A network whose batch norms know the data a little, and 152 images."""
    images = draw.integers(0, 255, 152, 1, 8, 8).to(torch.uint8)
    labels = draw.integers(0, 3, 152)
    part = data.ImageSet(
        images, labels, tuple("abcd"), (0.5,), (0.25,), name="toy", split="val", attributes={}
    )
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten())
    model.append(nn.Linear(6 * 36, 4))
    shift = draw.normal(6).float()
    with torch.no_grad():
        model[1].running_mean.copy_(shift)
        model[1].running_var.copy_(shift.square() + 0.3)
    return model, part


@torch.no_grad()
def _hits(model: nn.Module, part: data.ImageSet, batch_size: int, training: bool) -> list[float]:
    """The share of right answers in each batch."""
    twin = copy.deepcopy(model).train(training)
    shares = []
    for images, labels in data.batches(part, batch_size):
        guesses = twin(normalize(images, part.mean, part.std)).argmax(1)
        shares.append((guesses == labels).double().mean().item())
    return shares


def _weighed(shares: list[float], part: data.ImageSet, batch_size: int) -> float:
    sizes = [len(labels) for _, labels in data.batches(part, batch_size)]
    return sum(share * size for share, size in zip(shares, sizes, strict=True)) / len(part)


@check
def check_accuracy(accuracy: Callable, *, draw: Draw) -> str:
    """Exercise 11.2: accuracy(model, part, batch_size, training) -> share of right answers."""
    accuracy = function(accuracy, "accuracy(model, part, batch_size, training)")
    right, found = [], []
    wrong: dict[str, list[float]] = {}
    for _ in range(3):
        model, part = _toy(draw)
        whole = len(part)
        shares = {
            (size, mode): _hits(model, part, size, mode)
            for size in (5, whole)
            for mode in (True, False)
        }
        means = {case: _weighed(values, part, case[0]) for case, values in shares.items()}
        for size, training in ((5, True), (5, False), (whole, True)):
            mode = f"in {'training' if training else 'evaluation'} mode, batches of {size}"
            given, expected = copy.deepcopy(model), means[size, training]
            answer = accuracy(given, part, size, training)
            found.append(number(answer, f"the accuracy {mode}"))
            _same_model(given, model, mode)
            right.append(expected)
            for words, value in {
                "give the share as a number from 0 to 1, not in percent": 100 * expected,
                "the last batch is smaller, so weight it by its size": sum(shares[size, training])
                / len(shares[size, training]),
                "that is the number of right answers, not their share": expected * whole,
                "it is always that of evaluation mode": means[5, False],
                "the two modes are exchanged": means[size, not training],
                "the batch size is not used": means[whole, training],
            }.items():
                wrong.setdefault(words, []).append(value)
    _explain_accuracies(found, right, wrong)
    return "the accuracy is right in both modes, and the running statistics stay as they were"


def _explain_accuracies(
    found: list[float], right: list[float], wrong: dict[str, list[float]]
) -> None:
    def equal(values: list[float]) -> bool:
        return all(abs(a - b) < 1e-6 for a, b in zip(found, values, strict=True))

    if equal(right):
        return
    for words, values in wrong.items():  # in all cases, since two can agree by chance
        if equal(values):
            raise Mismatch(f"the accuracy is not right: {words}")
    gap = max(abs(a - b) for a, b in zip(found, right, strict=True))
    raise Mismatch(f"the accuracy is off by up to {gap:.3f}")


def _same_model(found: nn.Module, before: nn.Module, mode: str) -> None:
    for name, value in before.state_dict().items():
        if not torch.equal(found.state_dict()[name], value):
            raise Mismatch(
                f"{mode}, your function changes {name} of the network: a pass in training mode "
                "updates the running statistics, also without gradients"
            )


def _weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def _step_mistakes(model: nn.Module, x: Tensor, y: Tensor, old: Tensor, parts: int) -> list:
    """{what goes wrong: the weights after it}, from the gradients of the parts."""

    def gradient(images: Tensor, labels: Tensor) -> Tensor:
        loss = F.cross_entropy(model(images), labels)
        found = torch.autograd.grad(loss, list(model.parameters()))
        return torch.cat([part.flatten() for part in found])

    start, lr = _weights(model), 0.1
    pieces = list(zip(x.chunk(parts), y.chunk(parts), strict=True))
    each = [gradient(*piece) for piece in pieces]
    whole, mean = sum(each), sum(each) / parts
    return [
        (start - lr * whole, f"the gradients are added up, but not divided by the {parts} parts"),
        (start - lr * each[-1], "only the last part counts: its gradients replace the others'"),
        (start - lr * each[-1] / parts, "only the last part counts: the gradients are set to zero"),
        (start - lr * each[0], "only the first part counts"),
        (start - lr * (old + mean), "the gradients of the step before are not set to zero first"),
        (start - lr * whole / len(x), "the mean over the images is in the loss already"),
        (start - lr * mean / parts, f"the gradients are divided by {parts} twice"),
        (start, "the weights are as before: is the optimizer's step taken?"),
    ]


@check
def check_accumulated_step(accumulated_step: Callable, *, draw: Draw) -> str:
    """Exercise 11.3: accumulated_step(model, optimizer, images, labels, parts)."""
    call = "accumulated_step(model, optimizer, images, labels, parts)"
    accumulated_step = function(accumulated_step, call)
    for parts in (4, 2, 1):
        model = nn.Sequential(nn.Flatten(), nn.Linear(18, 5), nn.Tanh(), nn.Linear(5, 3)).double()
        x, y = draw.normal(8, 2, 3, 3), draw.integers(0, 2, 8)
        old = draw.normal(len(_weights(model)))
        for parameter, part in zip(
            model.parameters(), old.split([p.numel() for p in model.parameters()]), strict=True
        ):
            parameter.grad = part.view_as(parameter).clone()
        wrong = _step_mistakes(model, x, y, old, parts)
        right, start = copy.deepcopy(model), _weights(model)
        gradient = torch.autograd.grad(F.cross_entropy(right(x), y), list(right.parameters()))
        expected = start - 0.1 * torch.cat([part.flatten() for part in gradient])
        accumulated_step(model, torch.optim.SGD(model.parameters(), lr=0.1), x, y, parts)
        what = f"the result of a step in {parts} part{'s' if parts > 1 else ''}"
        found = _weights(model)
        if (
            parts > 1
            and not near(found, expected, 1e-9)
            and _steps_too_often(right, x, y, parts, found)
        ):
            raise Mismatch("the optimizer steps after every part; it should once, at the end")
        same_tensor(found, expected, what, wrong, tolerance=1e-9)
    return "the step of one, two and four parts changes the weights as the whole batch does"


def _steps_too_often(model: nn.Module, x: Tensor, y: Tensor, parts: int, found: Tensor) -> bool:
    """Whether these are the weights after a step of each part, with the loss divided or not."""
    for scale in (1, parts):
        twin = copy.deepcopy(model)
        optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
        for images, labels in zip(x.chunk(parts), y.chunk(parts), strict=True):
            optimizer.zero_grad()
            (F.cross_entropy(twin(images), labels) / scale).backward()
            optimizer.step()
        if near(found, _weights(twin), 1e-9):
            return True
    return False


@check
def check_lost_state(whole: nn.Module, resumed: nn.Module, difference: float) -> str:
    """Exercise 11.4: the uninterrupted network, the resumed one, their largest difference."""
    for name, model in (("whole", whole), ("resumed", resumed)):
        if isinstance(model, type) or not isinstance(model, nn.Module):
            raise Mismatch(f"{name} should be the trained network; it is {kind(model)}")
    if whole is resumed:
        raise Mismatch("whole and resumed are the same object: resume in a new network")
    pairs = list(zip(whole.parameters(), resumed.parameters(), strict=False))
    if len(pairs) < len(list(whole.parameters())) or any(a.shape != b.shape for a, b in pairs):
        raise Mismatch("the two networks have different shapes")
    gaps = [(a.detach().cpu() - b.detach().cpu()).abs() for a, b in pairs]
    right = max(gap.max().item() for gap in gaps)
    if right == 0:
        raise Mismatch(
            "both networks have equal weights: was the optimizer resumed, too, or the same "
            "checkpoint loaded into both?"
        )
    everything = torch.cat([gap.flatten() for gap in gaps])
    buffers = zip(whole.buffers(), resumed.buffers(), strict=False)
    beside = max(
        [(a.cpu().double() - b.cpu().double()).abs().max().item() for a, b in buffers] + [0.0]
    )
    found = number(difference, "the difference")
    if abs(found - max(right, beside)) <= 1e-3 * max(right, beside):
        return f"the weights differ by up to {right:.3g}"
    mistakes = [
        (everything.mean().item(), "that is the mean difference, not the largest"),
        (everything.norm().item(), "that is the length of the difference, not its largest number"),
        (gaps[0].max().item(), "that is the largest difference of the first layer only"),
        (gaps[-1].max().item(), "that is the largest difference of the last layer only"),
        (0.0, "the difference isn't zero"),
    ]
    same_number(found, right, "the largest difference", mistakes, tolerance=1e-3)
    return f"the weights differ by up to {right:.3g}"


def _runs(answer: Any, name: tuple[str, str]) -> list[float]:
    what = f"the accuracies of {name}"
    values = numbers(answer, what)
    if len(values) < 3:
        raise Mismatch(f"{what} are {len(values)}; at least three seeds are asked for")
    if max(values) > 1 or min(values) < 0:
        raise Mismatch(f"{what} should be shares from 0 to 1; the largest is {max(values):g}")
    return values


@check
def check_stems(runs: dict) -> str:
    """Exercise 11.5: {(stem, "epochs" or "seconds"): accuracies on the validation part}."""
    names = [(stem, budget) for stem in STEMS for budget in BUDGETS]
    table(runs, names, "runs")
    values = {name: torch.tensor(_runs(runs[name], name)) for name in names}
    if not any(found.std() > 0 for found in values.values()):
        raise Mismatch("no seed makes a difference: does it reach the weights and the batches?")
    lines = (f"{' '.join(name)} {v.mean():.3f} ± {v.std():.3f}" for name, v in values.items())
    return "; ".join(lines)


def _scales(
    finite: list[bool], start: float, interval: int, grow: float = 2.0, shrink: float = 0.5,
    reset: bool = True, anew: bool = True, extra: int = 0, lowered: bool = True,
) -> list[float]:  # fmt: skip
    """The scale after each step; the options make it wrong in one way each."""
    scale, good, found = float(start), 0, []
    for fine in finite:
        if not fine:
            scale, good = scale * (shrink if lowered else 1.0), 0 if reset else good
        else:
            good += 1
            if good >= interval + extra:
                scale, good = scale * grow, 0 if anew else good
        found.append(scale)
    return found


@check
def check_scales(scales: Callable, *, draw: Draw) -> str:
    """Exercise 11.6: scales(finite, start, interval) -> the loss scale after each step."""
    scales = function(scales, "scales(finite, start, interval)")
    wrong = {
        "an overflow should begin the counting anew": {"reset": False},
        "after a doubling, the counting should begin anew": {"anew": False},
        "the doubling comes a step too late: count the step itself": {"extra": 1},
        "the doubling comes a step too early": {"extra": -1},
        "it is never halved": {"lowered": False},
        "it is never doubled": {"grow": 1.0},
    }
    for interval in (3, 2, 4):
        steps = (draw.integers(0, 3, 12) > 0).tolist()
        # Every mistake shows in these: a row cut by an overflow, and a long row.
        rows = [True] * (interval - 1) + [False] + [True] * (2 * interval + 1) + [False, True]
        finite = rows + steps
        expected = _scales(finite, 1024.0, interval)
        found = numbers(scales(list(finite), 1024.0, interval), "the scales")
        if len(found) == len(expected) + 1 and found[1:] == expected:
            raise Mismatch("give the scale after each step only, not the one before the first")
        if len(found) != len(expected):
            raise Mismatch(f"there are {len(finite)} steps, but {len(found)} scales")
        if found == expected:
            continue
        if found == [1024.0, *expected[:-1]]:
            raise Mismatch("these are the scales before each step; asked for are those after it")
        for words, options in wrong.items():
            if found == _scales(finite, 1024.0, interval, **options):
                raise Mismatch(words)
        at = next(i for i, pair in enumerate(zip(found, expected, strict=True)) if len({*pair}) > 1)
        raise Mismatch(f"after step {at + 1} it is {expected[at]:g}, but yours is {found[at]:g}")
    return "the scales are those of torch's GradScaler for three intervals"
