# fails: training
"""The gradient takes mean and variance for constants."""


class BatchNorm(BatchNorm):  # noqa: F821
    def forward(self, x):
        if not self.training:
            return super().forward(x)
        super().forward(x)
        fixed = x.detach()
        mean = fixed.mean((0, 2, 3), keepdim=True)
        variance = fixed.var((0, 2, 3), correction=0, keepdim=True)
        y = (x - mean) / (variance + 1e-5).sqrt()
        return self.scale[:, None, None] * y + self.shift[:, None, None]
