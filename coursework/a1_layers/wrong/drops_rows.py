# fails: dropout
"""A whole row is dropped, or none of it."""

import torch


def dropout(x, p, training):
    return x * (torch.rand(len(x), 1) >= p) if training else x * (1 - p)
