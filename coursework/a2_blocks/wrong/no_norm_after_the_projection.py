# fails: parameters stride edges
"""A projection without its batch norm, as in many tutorials."""


class Block(Block):  # noqa: F821
    def __init__(self, in_channels, width, stride=1):
        super().__init__(in_channels, width, stride)
        if len(list(self.way_round.children())):
            self.way_round = self.way_round[:2]
