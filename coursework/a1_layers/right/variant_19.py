# variant: 19
"""Circular padding, dilation, PyTorch's momentum with 0.9, its variance and its dropout."""

import torch
from torch import nn


def convolve(x, weight, stride, padding, dilation):
    rows = [i % x.shape[2] for i in range(-padding, x.shape[2] + padding)]
    columns = [i % x.shape[3] for i in range(-padding, x.shape[3] + padding)]
    x, reach = x[:, :, rows][..., columns], dilation * (weight.shape[-1] - 1)
    out = []
    for top in range(0, x.shape[2] - reach, stride):
        for left in range(0, x.shape[3] - reach, stride):
            window = x[:, :, top : top + reach + 1 : dilation, left : left + reach + 1 : dilation]
            out.append(window.flatten(1) @ weight.flatten(1).T)
    high = len(range(0, x.shape[2] - reach, stride))
    return torch.stack(out, 2).view(len(x), len(weight), high, -1)


class BatchNorm(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.scale, self.shift = (
            nn.Parameter(torch.ones(channels)),
            nn.Parameter(torch.zeros(channels)),
        )
        self.register_buffer("m", torch.zeros(channels))
        self.register_buffer("v", torch.ones(channels))

    def forward(self, x):
        by_channel = x.transpose(0, 1).flatten(1)
        mean, variance = self.m, self.v
        if self.training:
            mean, n = by_channel.mean(1), by_channel.shape[1]
            variance = by_channel.pow(2).mean(1) - mean**2
            with torch.no_grad():
                self.m += 0.9 * (mean - self.m)
                self.v += 0.9 * (variance * n / (n - 1) - self.v)
        y = (by_channel.T - mean) / (variance + 1e-5) ** 0.5 * self.scale + self.shift
        return y.T.unflatten(1, (len(x), *x.shape[2:])).transpose(0, 1)


def dropout(x, p, training):
    if not training or not p:
        return x
    return torch.nn.functional.dropout(x, p)
