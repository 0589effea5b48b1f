# fails: dropout
"""p is taken for the probability to keep a value."""

import torch


def dropout(x, p, training):
    return x * (torch.rand_like(x) < p) if training and p else x * (1 - p)
