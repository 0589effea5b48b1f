# variant: 10
"""v1.5 with the usual projection, a small stem, and a batch norm at the end, in a loop each."""

import torch
from torch import nn


class Step(nn.Module):
    def __init__(self, channels, width, stride):
        super().__init__()
        sizes = [(channels, width, 1, 1), (width, width, 3, stride), (width, 4 * width, 1, 1)]
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        for before, after, kernel, hop in [*sizes, (channels, 4 * width, 1, stride)]:
            self.convs.append(nn.Conv2d(before, after, kernel, hop, kernel // 2, bias=False))
            self.norms.append(nn.BatchNorm2d(after))
        if stride == 1 and channels == 4 * width:
            del self.convs[3], self.norms[3]

    def forward(self, x):
        y = x
        for index, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            if index < 3:
                y = norm(conv(y))
                y = y.clamp(min=0) if index < 2 else y
            else:
                x = norm(conv(x))
        return (x + y).clamp(min=0)


class Network(nn.Module):
    def __init__(self, depths, num_classes, width):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        channels, steps = width, []
        for stage, depth in enumerate(depths):
            for index in range(depth):
                stride = 2 if stage and not index else 1
                steps.append(Step(channels, width * 2**stage, stride))
                channels = 4 * width * 2**stage
        self.steps, self.last = nn.Sequential(*steps), nn.BatchNorm2d(channels)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, x):
        x = torch.relu(self.last(self.steps(torch.relu(self.norm(self.first(x))))))
        return self.head(x.flatten(2).mean(2))


BUGS = {"shared norm", "projection norm", "inner relu", "pool padding", "first stage"}
