# fails: stride addition training edges
"""The last ReLU stands before the addition."""

import torch.nn.functional as F


class Block(Block):  # noqa: F821
    def forward(self, x):
        first, second, third = self.norms
        y = F.relu(second(self.look(F.relu(first(self.squeeze(x))))))
        return F.relu(third(self.expand(y))) + self.way_round(x)
