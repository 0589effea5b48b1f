# fails: training
"""The unbiased variance in training mode; the running one is as it should be."""

import torch


class BatchNorm(BatchNorm):  # noqa: F821
    def forward(self, x):
        right = super().forward(x)
        if not self.training:
            return right
        n = x.numel() // x.shape[1]
        variance = x.var((0, 2, 3), correction=0)[:, None, None]
        factor = torch.sqrt((variance + 1e-5) / (variance * n / (n - 1) + 1e-5))
        return (right - self.shift[:, None, None]) * factor + self.shift[:, None, None]
