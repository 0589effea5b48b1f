# fails: stride addition training edges
"""No ReLU between the 3×3 convolution and the last one."""

import torch.nn.functional as F


class Block(Block):  # noqa: F821
    def forward(self, x):
        first, second, third = self.norms
        y = second(self.look(F.relu(first(self.squeeze(x)))))
        return F.relu(third(self.expand(y)) + self.way_round(x))
