# fails: mended_layers mended_training
"""Four of five bugs are mended."""


class Shared(Usual):  # noqa: F821
    def __init__(self, before, width, step):
        super().__init__(before, width, step)
        self.mix[1] = self.reduce[1]


class Mended(Mended):  # noqa: F821
    block = Shared
