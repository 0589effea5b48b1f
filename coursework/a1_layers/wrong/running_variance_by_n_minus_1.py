# fails: running
"""The running variance of PyTorch."""


class BatchNorm(BatchNorm):  # noqa: F821
    def forward(self, x):
        variance = self.usual_variance
        y = super().forward(x)
        if self.training:
            self.usual_variance = 0.9 * variance + 0.1 * x.var((0, 2, 3)).detach()
        return y
