"""The checks of chapter 13: right answers pass, each wrong one is explained, for every seed."""

import pytest
import torch

from resnet_lib import checks

SEEDS = range(100)


def judge(call, seeds=SEEDS):
    """All verdicts, which must agree: whether the answers were right, and what was said."""
    verdicts = [call(seed) for seed in seeds]
    assert len({bool(verdict) for verdict in verdicts}) == 1, [v.message for v in verdicts]
    return bool(verdicts[0]), " | ".join(verdict.message for verdict in verdicts)


def right_sent(parameters, devices, bytes_per_number):
    return 2 * (devices - 1) / devices * parameters * bytes_per_number


WRONG_SENT = {
    "is one turn": lambda p, n, b: (n - 1) / n * p * b,
    "one part stays at home": lambda p, n, b: 2 * p * b,
    "counts numbers, not bytes": lambda p, n, b: 2 * (n - 1) / n * p,
    "all devices send together": lambda p, n, b: 2 * (n - 1) * p * b,
    "everything to everybody": lambda p, n, b: (n - 1) * p * b,
    "should be a function": 7,
    "your code raised ZeroDivisionError": lambda p, n, b: p / 0,
}


def test_bytes_of_a_ring():
    assert judge(lambda seed: checks.check_sent(right_sent, seed=seed))[0]
    whole = lambda p, n, b: -(-2 * (n - 1) * p * b // n)  # noqa: E731 - in whole bytes
    assert judge(lambda seed: checks.check_sent(whole, seed=seed))[0]


@pytest.mark.parametrize("words", WRONG_SENT)
def test_wrong_bytes(words):
    right, said = judge(lambda seed: checks.check_sent(WRONG_SENT[words], seed=seed))
    assert not right
    assert words in said or words == "should be a function", said


def right_combine(gradients, counts):
    return sum(g * c for g, c in zip(gradients, counts, strict=True)) / sum(counts)


def in_place(gradients, counts):
    for gradient, count in zip(gradients, counts, strict=True):
        gradient *= count / sum(counts)
    return sum(gradients)


WRONG_COMBINE = {
    "is the plain average": lambda g, c: sum(g) / len(g),
    "is the sum of the gradients": lambda g, c: sum(g),
    "not divided by the number of all images": lambda g, c: sum(
        a * b for a, b in zip(g, c, strict=True)
    ),
    "by the number of devices, not of images": lambda g, c: (
        sum(a * b for a, b in zip(g, c, strict=True)) / len(c)
    ),
    "changed the gradients": in_place,
    "is None": lambda g, c: None,
}


def test_uneven_shares():
    assert judge(lambda seed: checks.check_combine(right_combine, seed=seed))[0]
    stacked = lambda g, c: torch.stack(g).T @ (torch.tensor(c).double() / sum(c))  # noqa: E731
    assert judge(lambda seed: checks.check_combine(stacked, seed=seed))[0]


@pytest.mark.parametrize("words", WRONG_COMBINE)
def test_wrong_shares(words):
    right, said = judge(lambda seed: checks.check_combine(WRONG_COMBINE[words], seed=seed))
    assert not right and words in said, said


def right_summary(x):
    count = torch.full((x.shape[1],), x.numel() / x.shape[1], dtype=x.dtype)
    return torch.stack([count, x.sum((0, 2, 3)), x.square().sum((0, 2, 3))])


def right_statistics(total):
    mean = total[1] / total[0]
    return mean, total[2] / total[0] - mean.square()


def means(x):
    return torch.stack(
        [x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False), torch.ones(x.shape[1])]
    )


WRONG_STATISTICS = {
    "is the mean of the devices' means": (means, lambda t: (t[0] / t[2], t[1] / t[2])),
    "is the sum of the devices' means": (means, lambda t: (t[0], t[1])),
    "divided by one less": (
        right_summary,
        lambda t: (t[1] / t[0], (t[2] - t[1] ** 2 / t[0]) / (t[0] - 1)),
    ),
    "is the mean of the squares": (right_summary, lambda t: (t[1] / t[0], t[2] / t[0])),
    "is the standard deviation": (
        right_summary,
        lambda t: (t[1] / t[0], right_statistics(t)[1].sqrt()),
    ),
    "cannot be added up": (lambda x: x, lambda t: (t.mean((0, 2, 3)), t.var((0, 2, 3)))),
    "should return one tensor": (lambda x: (x.sum(), x.sum()), right_statistics),
    "should return 2 values": (right_summary, lambda t: t[1]),
}


def test_synchronised_statistics():
    call = lambda seed: checks.check_statistics(right_summary, right_statistics, seed=seed)  # noqa: E731
    assert judge(call)[0]
    flat = (lambda x: right_summary(x).flatten(), lambda t: right_statistics(t.view(3, -1)))
    assert judge(lambda seed: checks.check_statistics(*flat, seed=seed))[0]


@pytest.mark.parametrize("words", WRONG_STATISTICS)
def test_wrong_statistics(words):
    answers = WRONG_STATISTICS[words]
    right, said = judge(lambda seed: checks.check_statistics(*answers, seed=seed))
    assert not right and words in said, said


def right_ring(values, rounds=2):
    n = len(values)
    parts = [list(value.clone().tensor_split(n)) for value in values]
    sent = [0] * n
    for turn in range(rounds):
        for step in range(n - 1):
            moving = [(rank + turn - step) % n for rank in range(n)]
            letters = [parts[rank][moving[rank]].clone() for rank in range(n)]
            for rank, letter in enumerate(letters):
                sent[rank] += len(letter)
                to = (rank + 1) % n
                here = parts[to][moving[rank]]
                parts[to][moving[rank]] = here + letter if turn == 0 else letter
    return [torch.cat(part) for part in parts], max(sent)


def everybody(values):
    return [sum(values)] * len(values), (len(values) - 1) * len(values[0])


def spoiled(values):
    sums, sent = right_ring(values)
    values[0] += 1
    return sums, sent


WRONG_RING = {
    "is what the device had before": lambda v: (v, right_ring(v)[1]),
    "is the mean": lambda v: ([s / len(v) for s in right_ring(v)[0]], right_ring(v)[1]),
    "has the device's own numbers in it twice": lambda v: (
        [s + x for s, x in zip(right_ring(v)[0], v, strict=True)],
        right_ring(v)[1],
    ),
    "changed the tensors": spoiled,
    "are those of one turn": lambda v: (right_ring(v)[0], right_ring(v)[1] / 2),
    "a device sends whole tensors": everybody,
    "should return 2 values": lambda v: right_ring(v)[0][0],
    "differs": lambda v: right_ring(v, rounds=1),
}


def test_a_ring():
    assert judge(lambda seed: checks.check_ring(right_ring, seed=seed))[0]


@pytest.mark.parametrize("words", WRONG_RING)
def test_wrong_rings(words):
    right, said = judge(lambda seed: checks.check_ring(WRONG_RING[words], seed=seed))
    assert not right
    assert words in said or words in ("differs", "a device sends whole tensors"), said
