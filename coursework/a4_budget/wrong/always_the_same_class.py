# fails: accuracy alone
"""The same scores for every image."""

import torch
from torch import nn


class Constant(nn.Module):
    def forward(self, x):
        return torch.eye(10)[0].expand(len(x), 10)


def train_model(images, labels, seconds):
    return Constant()
