# fails: training
"""Statistics of each image, as in instance norm."""

import torch.nn.functional as F


class BatchNorm(BatchNorm):  # noqa: F821
    def forward(self, x):
        right = super().forward(x)
        return F.instance_norm(x, weight=self.scale, bias=self.shift) if self.training else right
