# variant: 6
"""v1.5 with the usual projection, a small stem, and a batch norm at the end."""

from torch import nn


class Network(Network):  # noqa: F821
    block = Usual  # noqa: F821

    def __init__(self, depths, num_classes, width):
        super().__init__(depths, num_classes, width)
        self.body.append(nn.BatchNorm2d(32 * width))
        self.body.append(nn.ReLU())


class Mended(Mended.__bases__[0]):  # noqa: F821
    block, stem = Usual, staticmethod(Mended.stem)  # noqa: F821


BUGS = {"bias", "expansion", "shared norm", "first stage", "global pooling"}
