# fails: parameters training
"""The first two batch norms are one and the same."""


class Block(Block):  # noqa: F821
    def __init__(self, in_channels, width, stride=1):
        super().__init__(in_channels, width, stride)
        self.norms[1] = self.norms[0]
