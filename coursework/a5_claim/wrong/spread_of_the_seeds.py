# fails: interval
"""The spread of single seeds, not of their mean."""

import numpy as np

from resnet_lib.compare import t_quantile


def paired_interval(first, second):
    gaps = np.array(first) - np.array(second)
    half = t_quantile(len(gaps) - 1, 0.95) * gaps.std(ddof=1)
    return gaps.mean(), gaps.mean() - half, gaps.mean() + half
