# variant: 9
"""v1 with the average on the shortcut, behind the stem for large images."""

from torch import nn


class Network(Network):  # noqa: F821
    @staticmethod
    def stem(width):
        conv = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1))


BUGS = ("first stage", "expansion", "pool padding", "batch statistics", "inner relu")
