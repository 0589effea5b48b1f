# fails: edges
"""No projection where a block strides and keeps its channels."""

from torch import nn


class Block(Block):  # noqa: F821
    def __init__(self, in_channels, width, stride=1):
        super().__init__(in_channels, width, stride)
        if in_channels == 2 * width:
            self.way_round = nn.AvgPool2d(stride)
