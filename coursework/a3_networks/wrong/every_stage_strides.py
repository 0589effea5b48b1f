# fails: sizes scores training
"""The first stage strides, too: the stem is followed by a pooling nobody asked for."""

from torch import nn


class Network(Network):  # noqa: F821
    def forward(self, x):
        return super().forward(nn.functional.avg_pool2d(x, 2))
