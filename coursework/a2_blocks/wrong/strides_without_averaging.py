# fails: stride edges
"""The usual projection, which sees a quarter of its input."""

from torch import nn


class Block(Block):  # noqa: F821
    def __init__(self, in_channels, width, stride=1):
        super().__init__(in_channels, width, stride)
        if len(list(self.way_round.children())):
            self.way_round[0] = nn.Identity()
            self.way_round[1].stride = stride
