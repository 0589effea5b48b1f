# variant: 6
"""Six times as wide, with the average on the shortcut."""

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    def __init__(self, in_channels, width, stride=1):
        super().__init__()
        out = 6 * width
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(in_channels, width, 1, bias=False),
                nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False),
                nn.Conv2d(width, out, 1, bias=False),
            ]
        )
        self.bns = nn.ModuleList([nn.BatchNorm2d(c.out_channels) for c in self.convs])
        self.stride, self.same = stride, stride == 1 and in_channels == out
        if not self.same:
            self.convs.append(nn.Conv2d(in_channels, out, 1, bias=False))
            self.bns.append(nn.BatchNorm2d(out))

    def forward(self, x):
        y = x
        for index in range(3):
            y = F.relu(y) if index else y
            y = self.bns[index](self.convs[index](y))
        if not self.same:
            x = F.avg_pool2d(x, 2) if self.stride == 2 else x
            x = self.bns[3](self.convs[3](x))
        return torch.relu(x + y)
