# fails: stride edges
"""The stride of v1 where the sheet asks for v1.5."""


class Block(Block):  # noqa: F821
    def __init__(self, in_channels, width, stride=1):
        super().__init__(in_channels, width, stride)
        self.squeeze.stride, self.look.stride = self.look.stride, self.squeeze.stride
