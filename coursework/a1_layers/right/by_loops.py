"""Loops over the kernel's weights, and other ways to the same numbers."""

import math

import torch
from torch import nn


def output_size(size, kernel, stride, padding, dilation):
    return len(range(-padding, size + padding - dilation * (kernel - 1), stride))


def receptive_field(layers):
    last = 0
    for kernel, stride, dilation in reversed(layers):
        last = last * stride + dilation * (kernel - 1)
    return last + 1


def mirrored(n, padding):
    return [n - 1 - abs(n - 1 - abs(i)) for i in range(-padding, n + padding)]


def convolve(x, weight, stride, padding, dilation):
    x = x[:, :, mirrored(x.shape[2], padding)][:, :, :, mirrored(x.shape[3], padding)]
    kernel = weight.shape[2]
    high = output_size(x.shape[2], kernel, stride, 0, dilation)
    wide = output_size(x.shape[3], kernel, stride, 0, dilation)
    total = 0
    for i in range(kernel):
        for j in range(kernel):
            rows = slice(i * dilation, i * dilation + stride * (high - 1) + 1, stride)
            columns = slice(j * dilation, j * dilation + stride * (wide - 1) + 1, stride)
            total = total + torch.einsum(
                "ncij,oc->noij", x[:, :, rows, columns], weight[:, :, i, j]
            )
    return total


class BatchNorm(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.scale = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.register_buffer("memory", torch.stack([torch.zeros(channels), torch.ones(channels)]))

    def forward(self, x):
        mean, variance = self.memory.clone()[:, :, None, None]
        if self.training:
            variance, mean = torch.var_mean(x, (0, 2, 3), keepdim=True, unbiased=False)
            new = torch.stack([mean.flatten(), variance.flatten()]).detach()
            self.memory.lerp_(new, 0.1)
        return torch.addcmul(self.shift, self.scale, (x - mean) * torch.rsqrt(variance + 1e-5))


def dropout(x, p, training):
    if training:
        return torch.where(torch.bernoulli(torch.full_like(x, p)).bool(), 0.0, x)
    return x - p * x


def folded(weight, scale, shift, mean, variance, eps):
    out, channels = weight.shape[:2]
    factor = torch.tensor([s / math.sqrt(v + eps) for s, v in zip(scale, variance, strict=True)])
    new, bias = weight.clone(), torch.zeros(out, dtype=weight.dtype)
    for o in range(out):
        for c in range(channels):
            new[o, c] *= scale[c] / (variance[c] + eps).sqrt()
            bias[o] += shift[c] * weight[o, c].sum() - mean[c] * new[o, c].sum()
    assert len(factor) == channels
    return new, bias
