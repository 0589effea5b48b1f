# fails: layers scores training
"""Projections without a batch norm."""


class Residual(Residual):  # noqa: F821
    def __init__(self, before, width, step):
        super().__init__(before, width, step)
        if len(self.around):
            self.around[-1] = self.around[-1][0] if step == 2 else nn.Identity()  # noqa: F821
            if step == 1:
                self.around[0] = nn.Conv2d(before, 4 * width, 1, bias=False)  # noqa: F821


class Network(Network):  # noqa: F821
    block = Residual
