# fails: training running
"""eps is added to the deviation."""


class BatchNorm(BatchNorm):  # noqa: F821
    def forward(self, x):
        super().forward(x)
        mean, variance = self.usual_mean, self.usual_variance
        if self.training:
            mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        y = (x - mean[:, None, None]) / (variance.sqrt() + 1e-5)[:, None, None]
        return self.scale[:, None, None] * y + self.shift[:, None, None]
