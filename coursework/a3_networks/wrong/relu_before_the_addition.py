# fails: scores training
"""The last ReLU of each block stands before the addition."""


class Early(Residual):  # noqa: F821
    def forward(self, x):
        y = self.mix(self.reduce(x).relu()).relu()
        return self.restore(y).relu() + self.around(x)


class Network(Network):  # noqa: F821
    block = Early
