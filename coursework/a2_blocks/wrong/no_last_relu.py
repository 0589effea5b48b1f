# fails: stride addition training edges
"""Nothing is clipped after the addition."""

import torch.nn.functional as F


class Block(Block):  # noqa: F821
    def forward(self, x):
        first, second, third = self.norms
        y = F.relu(second(self.look(F.relu(first(self.squeeze(x))))))
        return third(self.expand(y)) + self.way_round(x)
