# fails: interval
"""1.645 standard errors, whatever the number of seeds."""

import numpy as np


def paired_interval(first, second):
    gaps = np.array(first) - np.array(second)
    half = 1.6449 * gaps.std(ddof=1) / len(gaps) ** 0.5
    return gaps.mean(), gaps.mean() - half, gaps.mean() + half
