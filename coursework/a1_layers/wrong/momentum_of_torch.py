# fails: running
"""The momentum is taken for the weight of the new batch."""


class BatchNorm(BatchNorm):  # noqa: F821
    def forward(self, x):
        mean, variance = self.usual_mean, self.usual_variance
        y = super().forward(x)
        if self.training:
            self.usual_mean = 0.1 * mean + 0.9 * x.mean((0, 2, 3)).detach()
            new = x.var((0, 2, 3), correction=0).detach()
            self.usual_variance = 0.1 * variance + 0.9 * new
        return y
