"""The same blocks as sequences; the average comes after the projection, with which it commutes."""

import torch
from torch import nn


def layers(channels, out, kernel, stride=1):
    conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(out)]


class Block(nn.Module):
    def __init__(self, in_channels, width, stride=1):
        super().__init__()
        out = width + width
        self.a = nn.Sequential(
            *layers(in_channels, width, 1),
            nn.ReLU(inplace=True),
            *layers(width, width, 3, stride),
            nn.ReLU(inplace=True),
            *layers(width, out, 1),
        )
        self.b = nn.Sequential()
        if (in_channels, stride) != (out, 1):
            conv, norm = layers(in_channels, out, 1)
            self.b = nn.Sequential(conv, nn.AvgPool2d(stride, stride), norm)

    def forward(self, x):
        return torch.clamp(self.b(x) + self.a(x), min=0)


class PreActivation(nn.Module):
    def __init__(self, channels, middle):
        super().__init__()
        second = layers(middle, channels, 3)[0]
        first = layers(channels, middle, 3)[0]
        norms = nn.BatchNorm2d(channels), nn.BatchNorm2d(middle)
        self.f = nn.Sequential(norms[0], nn.ReLU(), first, norms[1], nn.ReLU(), second)

    def forward(self, x):
        return self.f(x) + x
