# variant: 19
"""Three times as wide, the first 1×1 convolution strides, and so does the projection."""

from torch import nn


class Block(nn.Module):
    def __init__(self, in_channels, width, stride=1):
        super().__init__()
        self.c1 = nn.Conv2d(in_channels, width, 1, stride, bias=False)
        self.c2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.c3 = nn.Conv2d(width, 3 * width, 1, bias=False)
        self.n1, self.n2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.n3 = nn.BatchNorm2d(3 * width)
        self.short = None
        if stride == 2 or in_channels != 3 * width:
            self.short = nn.Conv2d(in_channels, 3 * width, 1, stride, bias=False)
            self.n0 = nn.BatchNorm2d(3 * width)

    def forward(self, x):
        short = x if self.short is None else self.n0(self.short(x))
        x = self.n1(self.c1(x)).relu()
        x = self.n2(self.c2(x)).relu()
        return (self.n3(self.c3(x)) + short).relu()


class PreActivation(nn.Module):
    def __init__(self, channels, middle):
        super().__init__()
        self.n1, self.n2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(middle)
        self.c1 = nn.Conv2d(channels, middle, 5, padding="same", bias=False)
        self.c2 = nn.Conv2d(middle, channels, 3, padding="same", bias=False)

    def forward(self, x):
        return self.c2(self.n2(self.c1(self.n1(x).relu())).relu()) + x
