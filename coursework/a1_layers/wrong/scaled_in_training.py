# fails: dropout
"""The factor of PyTorch, in training."""

import torch


def dropout(x, p, training):
    return x * (torch.rand_like(x) >= p) / (1 - p) if training else x
