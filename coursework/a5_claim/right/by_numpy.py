"""The same statistics in other words; the record has NumPy's numbers and is rounded."""

from math import comb

import numpy as np

from resnet_lib.compare import t_quantile


def paired_interval(first, second):
    gaps = np.subtract(first, second)
    error = np.sqrt(gaps.var(ddof=1) / gaps.size)
    half = error * t_quantile(gaps.size - 1, 0.95)
    return [gaps.mean(), gaps.mean() - half, gaps.mean() + half]


def flip_test(differences):
    sums = np.zeros(1)
    for gap in differences:
        sums = np.concatenate([sums + gap, sums - gap])
    return np.mean(sums >= np.sum(differences) - 1e-12)


def disagreement(right, other):
    right, other = right.numpy(), other.numpy()
    one, two = np.count_nonzero(right & ~other), np.count_nonzero(~right & other)
    n, k = one + two, min(one, two)
    tail = sum(comb(n, i) for i in range(k)) + comb(n, k) / 2
    return one, two, 2 * tail / 2**n


def adjusted(p_values):
    p = np.array(p_values)
    m = len(p)
    steps = np.maximum.accumulate(np.sort(p) * np.arange(m, 0, -1))
    return np.minimum(steps, 1)[np.argsort(np.argsort(p))]


values = np.array([RESULTS["with"], RESULTS["without"]])  # noqa: F821
middle, low, high = (round(float(v), 4) for v in paired_interval(*values))
RESULTS = {
    "verdict": "supported" if low > 0 else "refuted" if high < 0 else "undecided",
    "p_value": round(float(flip_test(values[0] - values[1])), 4),
    "interval": (low, high),
    "mean": middle,
    "with": values[0],
    "without": list(values[1]),
    "seeds": range(5),
    "planned_seeds": np.int64(5),
    "measure": "Accuracy on the test part",
    "claim": "zero start",
    "remark": "rounded to four digits",
}
RESULTS["seeds"] = list(RESULTS["seeds"])
