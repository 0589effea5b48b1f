"""Chapter 11: each check accepts right answers, however written, and names each mistake."""

import copy
import math

import torch
import torch.nn.functional as F
from judging import judged
from torch import nn

from resnet_lib import checks, data, train
from resnet_lib.augment import normalize

STEPS = (0, 99, 100, 550, 999)


def rates(
    warm=lambda s: (s + 1) / 100, late=lambda s: (1 + math.cos(math.pi * (s - 100) / 900)) / 2
):
    return [0.2 * (warm(step) if step < 100 else late(step)) for step in STEPS]


def cosine(shift=0, total=900, start=100):
    return lambda s: (1 + math.cos(math.pi * (s + shift - start) / total)) / 2


def test_rates():
    judged(
        checks.check_rates,
        right=[rates(), [0.002, 0.2, 0.2, 0.1, 6e-7], torch.tensor(rates(), dtype=torch.float64)],
        wrong=[
            (rates(warm=lambda s: s / 100), "the warm-up is (s + 1) / 100"),
            (rates(warm=lambda s: 1), "is the peak"),
            ([rate / 0.2 for rate in rates()], "multiply it by the peak"),
            (rates(late=cosine(total=1000)), "100 steps too late"),
            (rates(late=cosine(shift=1)), "of a step beside it"),
            (rates(late=cosine(shift=-1)), "of a step beside it"),
            (rates(late=cosine(total=1000, start=0)), "leaves out the warm-up"),
            (rates(late=lambda s: 1 - (s - 100) / 900), "on a line"),
            ([*rates()[:4], 0.0], "the last step is still a step"),
            ([0.002, 0.2, 0.2, 0.11, 6e-7], "the rate at step 550 is 0.11, 0.01 too large"),
            (rates()[:4], "should be 5 numbers; there are 4"),
            (0.2, "should be a list of numbers; it is a float"),
        ],
        seeds=[0],
    )


def accuracy(model, part, batch_size, training, twin=copy.deepcopy, weigh=True, unit=1):
    with torch.no_grad():
        model, shares, sizes = twin(model).train(training), [], []
        for images, labels in data.batches(part, batch_size):
            guesses = model(normalize(images, part.mean, part.std)).argmax(1)
            shares.append((guesses == labels).double().mean().item())
            sizes.append(len(labels) if weigh else 1)
        return unit * sum(a * b for a, b in zip(shares, sizes, strict=True)) / sum(sizes)


def restoring(model, part, batch_size, training):
    """Also right: the network itself, put back afterwards; batches by slicing."""
    state, was = copy.deepcopy(model.state_dict()), model.training
    model.train(training)
    x = normalize(part.images, part.mean, part.std)
    with torch.no_grad():
        logits = torch.cat([model(batch) for batch in x.split(batch_size)])
    model.load_state_dict(state)
    model.train(was)
    return (logits.argmax(1) == part.labels).float().mean()


def by_evaluate(model, part, batch_size, training):
    if not training:
        return train.evaluate(model, part, "cpu", batch_size).accuracy
    return accuracy(model, part, batch_size, training)


def test_accuracy():
    judged(
        checks.check_accuracy,
        right=[accuracy, restoring, by_evaluate],
        wrong=[
            (lambda *a: accuracy(*a, twin=lambda m: m), "changes 1.running_mean"),
            (lambda *a: accuracy(*a, weigh=False), "weight it by its size"),
            (lambda *a: accuracy(*a, unit=100), "not in percent"),
            (lambda *a: accuracy(*a, unit=152), "not their share"),
            (lambda m, p, b, t: accuracy(m, p, b, False), "always that of evaluation mode"),
            (lambda m, p, b, t: accuracy(m, p, b, not t), "the two modes are exchanged"),
            (lambda m, p, b, t: accuracy(m, p, 152, t), "the batch size is not used"),
            (lambda m, p, b, t: accuracy(m, p, 4, t), "the accuracy is off by up to"),
            (lambda *a: None, "should be a number; it is None"),
            (0.8, "hand in the function accuracy"),
        ],
    )


def step(model, optimizer, x, y, parts, scale=None, each=False, clear=True, keep=True, take=True):
    """The solution, with what can go wrong."""
    if clear:
        optimizer.zero_grad()
    for images, labels in zip(x.chunk(parts), y.chunk(parts), strict=True):
        if not keep:
            optimizer.zero_grad()
        (F.cross_entropy(model(images), labels) / (scale or parts)).backward()
        if each:
            optimizer.step()
            optimizer.zero_grad()
    if take and not each:
        optimizer.step()


def summed(model, optimizer, images, labels, parts):
    """Also right: sums over images, divided once at the end."""
    total = None
    for start in range(0, len(images), len(images) // parts):
        chosen = slice(start, start + len(images) // parts)
        loss = F.cross_entropy(model(images[chosen]), labels[chosen], reduction="sum")
        found = torch.autograd.grad(loss, list(model.parameters()))
        total = found if total is None else [a + b for a, b in zip(total, found, strict=True)]
    for parameter, gradient in zip(model.parameters(), total, strict=True):
        parameter.grad = gradient / len(images)
    optimizer.step()


def first_only(model, optimizer, x, y, parts):
    step(model, optimizer, x.chunk(parts)[0], y.chunk(parts)[0], 1)


def test_accumulated_step():
    judged(
        checks.check_accumulated_step,
        right=[step, summed],
        wrong=[
            (lambda *a: step(*a, scale=1), "not divided by the 4 parts"),
            (lambda *a: step(*a, keep=False), "only the last part counts"),
            (lambda *a: step(*a, keep=False, scale=1), "only the last part counts"),
            (lambda *a: step(*a, each=True), "steps after every part"),
            (lambda *a: step(*a, each=True, scale=1), "steps after every part"),
            (lambda *a: step(*a, clear=False), "of the step before are not set to zero"),
            (lambda *a: step(*a, take=False), "is the optimizer's step taken?"),
            (lambda *a: step(*a, scale=16), "divided by 4 twice"),
            (first_only, "only the first part counts"),
            (lambda m, o, x, y, p: step(m, o, x, y, 3), "the result of a step in 4 parts differs"),
            (lambda m, o, x, y, p: step(m, o, x, y[1:], p), "your code raised ValueError"),
            (nn.Linear(2, 2), "hand in the function accumulated_step"),
        ],
    )  # fmt: skip


def networks(gap=0.5):
    torch.manual_seed(0)
    whole = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(3, 2))
    resumed = copy.deepcopy(whole)
    with torch.no_grad():
        for index, parameter in enumerate(resumed.parameters(), 1):
            parameter.add_(gap * index * torch.rand_like(parameter))
    gaps = [(a - b).abs() for a, b in zip(whole.parameters(), resumed.parameters(), strict=True)]
    return whole, resumed, gaps


def test_lost_state():
    whole, resumed, gaps = networks()
    largest = max(gap.max().item() for gap in gaps)
    flat = torch.cat([gap.flatten() for gap in gaps])
    judged(
        checks.check_lost_state,
        right=[(whole, resumed, largest), (resumed, whole, flat.max())],
        wrong=[
            ((*networks()[:2], flat.mean().item()), "the mean difference, not the largest"),
            ((*networks()[:2], flat.norm().item()), "the length of the difference"),
            ((*networks()[:2], gaps[0].max().item()), "of the first layer only"),
            ((*networks()[:2], 0.0), "the difference isn't zero"),
            ((*networks()[:2], 2 * largest), "too large"),
            ((*networks(0)[:2], 0.0), "both networks have equal weights"),
            ((whole, whole, 0.0), "are the same object"),
            ((whole, nn.Linear(2, 2), 0.1), "different shapes"),
            ((nn.Linear, resumed, 0.1), "whole should be the trained network; it is the class"),
            ((whole.state_dict(), resumed, 0.1), "network; it is an OrderedDict"),
            ((*networks()[:2], None), "should be a number; it is None"),
        ],
        seeds=[0],
    )  # fmt: skip


RUNS = {
    ("imagenet", "epochs"): [0.71, 0.73, 0.70],
    ("imagenet", "seconds"): [0.72, 0.74, 0.715],
    ("small", "epochs"): [0.80, 0.82, 0.79],
    ("small", "seconds"): [0.60, 0.58, 0.61],
}


def runs(**changes):
    return RUNS | {("small", budget): values for budget, values in changes.items()}


def test_stems():
    judged(
        checks.check_stems,
        right=[RUNS, runs(epochs=torch.tensor([0.5, 0.6, 0.7, 0.8])), runs(epochs=[0.1, 0.1, 0.1])],
        wrong=[
            (runs(epochs=[80.0, 82.0, 79.0]), "should be shares from 0 to 1"),
            ({name: [0.8, 0.8, 0.8] for name in RUNS}, "no seed makes a difference"),
            (runs(seconds=[0.8, 0.9]), "at least three seeds"),
            (runs(seconds=0.8), "should be a list of numbers; it is a float"),
            ({("small", "epochs"): [0.8, 0.82, 0.79]}, "has no entry ('imagenet', 'epochs')"),
            ([0.8, 0.82, 0.79], "should be a dictionary; it is a list"),
        ],
        seeds=[0],
    )


def scales(finite, start, interval, shrink=0.5, reset=True, anew=True, late=0, grow=2):
    scale, good, found = start, 0, []
    for fine in finite:
        if fine:
            good += 1
            if good >= interval + late:
                scale, good = scale * grow, 0 if anew else good
        else:
            scale, good = scale * shrink, 0 if reset else good
        found.append(scale)
    return found


def torchs_scales(finite, start, interval):
    scaler = torch.amp.GradScaler("cpu", init_scale=start, growth_interval=interval)
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    found = []
    for fine in finite:
        scaler.scale(weight.sum()).backward()
        weight.grad.fill_(1.0 if fine else float("inf"))
        scaler.step(optimizer)
        scaler.update()
        found.append(scaler.get_scale())
    return torch.tensor(found)


def test_scales():
    def variant(**options):
        return lambda *given: scales(*given, **options)

    judged(
        checks.check_scales,
        right=[scales, torchs_scales],
        wrong=[
            (variant(reset=False), "an overflow should begin the counting anew"),
            (variant(anew=False), "after a doubling, the counting should begin anew"),
            (variant(late=1), "too late"),
            (variant(late=-1), "too early"),
            (variant(shrink=1), "never halved"),
            (variant(grow=1), "never doubled"),
            (variant(shrink=0.25), "but yours is 256"),
            (lambda f, s, i: [s, *scales(f, s, i)[:-1]], "before each step"),
            (lambda f, s, i: [s, *scales(f, s, i)], "not the one before the first"),
            (lambda f, s, i: scales(f, s, i)[:-1], "scales"),
            (scales([True], 1024.0, 3), "scales(finite, start, interval)"),
        ],
    )
