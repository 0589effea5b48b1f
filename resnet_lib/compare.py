"""Is one network better than another? Intervals over seeds, and a test on the same images.

Two questions, two kinds of spread. Another seed gives another network: ``t_interval`` over the
seeds. Other test images give other figures for the same networks: ``metrics.bootstrap_interval``
of the differences per image, or ``mcnemar``.
"""

import math

import numpy as np
import torch
from torch import Tensor

from resnet_lib import UserError


def t_quantile(freedom: int, share: float) -> float:
    """The value below which that share of Student's t distribution lies; 0.5 <= share < 1.

    Student 1908, DOI 10.2307/2331554.
    """
    if freedom < 1 or not 0.5 <= share < 1:
        raise UserError(f"need freedom >= 1 and 0.5 <= share < 1, got {freedom} and {share}")
    # With t = sqrt(freedom) tan(angle) the density becomes cos(angle) ** (freedom - 1), up to a
    # factor: smooth, and on a finite interval, however long the tails are.
    angles = np.linspace(0, math.pi / 2, 100_001)
    density = np.cos(angles) ** (freedom - 1)
    area = np.append(0, np.cumsum(density[1:] + density[:-1]))  # by trapezia
    angle = np.interp((2 * share - 1) * area[-1], area, angles)
    return math.sqrt(freedom) * math.tan(angle)


def t_interval(values: Tensor, confidence: float = 0.95) -> tuple[float, float]:
    """(N,) -> the interval (low, high) for the mean of the distribution they were drawn from.

    For few values, such as one accuracy a seed, or the differences of two networks by seed; taken
    to be normally distributed. A bootstrap of five values is too narrow.
    """
    values = torch.as_tensor(values).detach().cpu().double()
    if values.ndim != 1 or len(values) < 2 or not values.isfinite().all():
        shape = tuple(values.shape)
        raise UserError(f"an interval needs at least two finite values (N,), got shape {shape}")
    if not 0 < confidence < 1:
        raise UserError(f"confidence must be between 0 and 1, got {confidence}")
    t = t_quantile(len(values) - 1, (1 + confidence) / 2)
    mean, half = values.mean().item(), t * values.std().item() / len(values) ** 0.5
    return mean - half, mean + half


def mcnemar(right: Tensor, other: Tensor) -> tuple[int, int, float]:
    """(N,) bool each, of the same images: only one right, only the other right, and the p-value.

    The p-value is the chance of a division at least as uneven as this one of the images on which
    the two networks differ, were each as likely to be right; exact and two-sided. McNemar 1947,
    DOI 10.1007/BF02295996.
    """
    right, other = (torch.as_tensor(values).detach().cpu() for values in (right, other))
    if right.dtype != torch.bool or other.dtype != torch.bool or right.shape != other.shape:
        raise UserError("need right or wrong, bool (N,), for the same images of both networks")
    one, two = int((right & ~other).sum()), int((other & ~right).sum())
    number, fewer = one + two, min(one, two)
    halves = sum(math.comb(number, k) for k in range(fewer + 1))
    return one, two, min(1.0, 2 * halves / 2**number)
