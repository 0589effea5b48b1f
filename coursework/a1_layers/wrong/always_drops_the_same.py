# fails: dropout
"""A generator that starts anew at each call."""

import torch


def dropout(x, p, training):
    numbers = torch.rand(x.shape, generator=torch.Generator().manual_seed(1))
    return x * (numbers >= p) if training else x * (1 - p)
