# fails: running
"""The running statistics move in evaluation mode, too."""


class BatchNorm(BatchNorm):  # noqa: F821
    def forward(self, x):
        y = super().forward(x)
        if not self.training:
            self.usual_mean = 0.9 * self.usual_mean + 0.1 * x.mean((0, 2, 3)).detach()
        return y
