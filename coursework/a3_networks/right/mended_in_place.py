"""The network of the sheet, with five lines mended, and the bugs in another order."""

import torch.nn.functional as F
from torch import nn


def convolution(in_channels, out_channels, kernel, stride=1):
    return nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, in_channels, width, stride):
        super().__init__()
        out_channels = self.expansion * width
        self.conv1 = convolution(in_channels, width, 1)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = convolution(width, width, 3, stride)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv3 = convolution(width, out_channels, 1)
        self.norm3 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                convolution(in_channels, out_channels, 1, stride),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        y = F.relu(self.norm2(self.conv2(y)))
        y = self.norm3(self.conv3(y))
        return F.relu(y + self.shortcut(x))


def make_stage(in_channels, width, depth, stride):
    blocks = [Bottleneck(in_channels, width, stride)]
    for _ in range(depth - 1):
        blocks.append(Bottleneck(Bottleneck.expansion * width, width, 1))
    return nn.Sequential(*blocks)


class Mended(nn.Module):
    def __init__(self, depths, num_classes, width):
        super().__init__()
        self.conv1 = convolution(3, width, 7, 2)
        self.norm1 = nn.BatchNorm2d(width)
        self.pool = nn.MaxPool2d(3, 2, padding=1)
        stages, channels = [], width
        for index, depth in enumerate(depths):
            stride = 1 if index == 0 else 2
            stages.append(make_stage(channels, width * 2**index, depth, stride))
            channels = Bottleneck.expansion * width * 2**index
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, x):
        x = self.norm1(self.conv1(x))
        x = self.pool(F.relu(x))
        x = self.stages(x)
        return self.head(x.mean((2, 3)))


BUGS = ("softmax", "number of blocks", "global pooling", "shared norm", "expansion")
