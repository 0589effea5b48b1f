# fails: layers
"""A convolution with a bias before its batch norm, in the stem."""

from torch import nn


class Network(Network):  # noqa: F821
    @staticmethod
    def stem(width):
        return nn.Sequential(nn.Conv2d(3, width, 3, 1, 1), nn.BatchNorm2d(width), nn.ReLU())
