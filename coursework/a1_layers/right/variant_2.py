# variant: 2
"""Replicated padding, groups, a momentum of 0.8 for the new batch, the factor in training."""

import torch
import torch.nn.functional as F


def convolve(x, weight, stride, padding, groups):
    x = F.pad(x, [padding] * 4, mode="replicate") if padding else x
    kernel, parts = weight.shape[-1], []
    for images, weights in zip(x.chunk(groups, 1), weight.chunk(groups), strict=True):
        windows = images.unfold(2, kernel, stride).unfold(3, kernel, stride)
        parts.append(torch.einsum("nchwij,ocij->nohw", windows, weights))
    return torch.cat(parts, 1)


class BatchNorm(BatchNorm):  # noqa: F821
    def forward(self, x):
        if self.training:
            spread, centre = torch.var_mean(x.detach(), (0, 2, 3), correction=0)
            remembered = 0.2 * self.usual_mean + 0.8 * centre
            spread = 0.2 * self.usual_variance + 0.8 * spread
            x = super().forward(x)
            self.usual_mean, self.usual_variance = remembered, spread
            return x
        return super().forward(x)


def dropout(x, p, training):
    return x * (torch.rand(x.shape) > p) / (1 - p) if training else x
