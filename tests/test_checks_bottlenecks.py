"""Chapter 7, blocks: right classes pass, however written, and each mistake is named."""

import torch
import torch.nn.functional as F
from judging import judged
from torch import nn

from resnet_lib import checks
from resnet_lib.blocks import Bottleneck, conv1x1, conv3x3


class Wide(Bottleneck):
    expansion = 2


class WideInFull(nn.Module):
    """Also right: torchvision's names, and nothing of ours."""

    def __init__(self, in_channels, width, stride=1):
        super().__init__()
        out = 2 * width
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample = None
        if stride != 1 or in_channels != out:
            layers = nn.Conv2d(in_channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            self.downsample = nn.Sequential(*layers)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(y)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class WideReluBefore(Wide):
    def forward(self, x):
        return self.relu(self.branch(x)) + self.downsample(x)


class WideNoRelu(Wide):
    def forward(self, x):
        return self.branch(x) + self.downsample(x)


class WideAlone(Wide):
    def forward(self, x):
        return self.relu(self.branch(x))


class WideDetached(Wide):
    def forward(self, x):
        return self.relu(self.branch(x.detach()) + self.downsample(x))


class WideRenamed(Wide):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.first, self.conv1 = self.conv1, nn.Identity()

    def branch(self, x):
        return super().branch(self.first(x))


class WideBias(Wide):
    def __init__(self, in_channels, width, stride=1):
        super().__init__(in_channels, width, stride)
        self.conv1 = nn.Conv2d(in_channels, width, 1)


def test_wide_bottleneck():
    judged(
        checks.check_wide_bottleneck,
        right=[Wide, WideInFull],
        wrong=[
            (Bottleneck, "puts out 32 channels, expected 16"),
            (type("W", (Bottleneck,), {"expansion": 1}), "has the shape (3, 8, 6, 6)"),
            (lambda c, w, s: Wide(c, 2 * w, s), "puts out 32 channels"),
            (WideReluBefore, "the last ReLU comes before the addition"),
            (WideNoRelu, "the last ReLU is missing"),
            (WideAlone, "the shortcut is not added"),
            (lambda c, w, s: Wide(c, w, s, stride_in="1x1"), "the first 1×1 convolution strides"),
            (WideDetached, "the input's gradient in training mode"),
            (WideRenamed, "torchvision's weights don't load"),
            (WideBias, "the block has 904 parameters, expected 896"),
            (Wide(16, 8), "this is an instance of it"),
            (lambda c, w, s: None, "should be an nn.Module; it is None"),
            (lambda: Wide(16, 8), "your code raised TypeError"),
        ],
    )


class Pooled(Bottleneck):
    """The solution, with the path's layers to spoil."""

    @staticmethod
    def layers(channels, out, stride):
        return nn.AvgPool2d(stride), conv1x1(channels, out), nn.BatchNorm2d(out)

    def __init__(self, in_channels, width, stride=1):
        super().__init__(in_channels, width, stride)
        if stride > 1:
            self.downsample = nn.Sequential(*self.layers(in_channels, 4 * width, stride))


def pooled(layers):
    return type("Variant", (Pooled,), {"layers": staticmethod(layers)})


class PooledInFull(nn.Module):
    """Also right: other names, another order of attributes, pooling by a function."""

    def __init__(self, cin, middle, step=1):
        super().__init__()
        cout = 4 * middle
        self.step, self.identity = step, step == 1 and cin == cout
        if not self.identity:
            self.norm_p, self.project = nn.BatchNorm2d(cout), conv1x1(cin, cout)
        self.n3, self.c3 = nn.BatchNorm2d(cout), conv1x1(middle, cout)
        self.n2, self.c2 = nn.BatchNorm2d(middle), conv3x3(middle, middle, step)
        self.n1, self.c1 = nn.BatchNorm2d(middle), conv1x1(cin, middle)

    def forward(self, x):
        y = self.n1(self.c1(x)).relu()
        y = self.n2(self.c2(y)).relu()
        y = self.n3(self.c3(y))
        if not self.identity:
            x = F.interpolate(x, scale_factor=1 / self.step, mode="area") if self.step > 1 else x
            x = self.norm_p(self.project(x))
        return (x + y).relu()


class PooledReluBefore(Pooled):
    def forward(self, x):
        return self.relu(self.branch(x)) + self.downsample(x)


class PooledAlone(Pooled):
    def forward(self, x):
        return self.relu(self.branch(x))


class PooledBias(Pooled):
    def __init__(self, in_channels, width, stride=1):
        super().__init__(in_channels, width, stride)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1)


class PooledUnused(Pooled):
    def __init__(self, in_channels, width, stride=1):
        super().__init__(in_channels, width, stride)
        self.spare = nn.Linear(3, 4)


class PooledNoNormInside(Pooled):
    def __init__(self, in_channels, width, stride=1):
        super().__init__(in_channels, width, stride)
        self.bn2 = nn.Identity()


class PooledV1(Pooled):
    def __init__(self, in_channels, width, stride=1):
        super().__init__(in_channels, width, stride)
        self.conv1, self.conv2 = conv1x1(in_channels, width, stride), conv3x3(width, width)


def test_pooled_bottleneck():
    norm = nn.BatchNorm2d
    judged(
        checks.check_pooled_bottleneck,
        right=[Pooled, PooledInFull],
        wrong=[
            (Bottleneck, "the usual one: its projection sees a quarter"),
            (pooled(lambda c, o, s: (nn.AvgPool2d(s), conv1x1(c, o))),
             "no batch norm after the projection: 40 parameters too few"),
            (pooled(lambda c, o, s: (nn.MaxPool2d(s), conv1x1(c, o), norm(o))), "the maximum"),
            (pooled(lambda c, o, s: (nn.AvgPool2d(3, s, 1), conv1x1(c, o), norm(o))),
             "the pooling is 3×3"),
            (pooled(lambda c, o, s: (conv1x1(c, o), nn.AvgPool2d(s), norm(o))),
             "what comes first, pooling or projection?"),
            (pooled(lambda c, o, s: (nn.AvgPool2d(s), nn.Conv2d(c, o, 1), norm(o))),
             "the projection has a bias: 20 parameters too many"),
            (pooled(lambda c, o, s: (nn.AvgPool2d(s), conv3x3(c, o), norm(o))),
             "the projection is missing"),
            (pooled(lambda c, o, s: (nn.AvgPool2d(s), conv1x1(c, o, s), norm(o))), "raised"),
            (PooledReluBefore, "the last ReLU comes before the addition"),
            (PooledAlone, "the projection is missing, or is never used"),
            (PooledBias, "the 3×3 convolution from 5 to 5 channels has a bias: 5 parameters"),
            (PooledUnused, "your block has 741 parameters, expected 725"),
            (PooledNoNormInside, "no batch norm after the 3×3 convolution from 5 to 5 channels"),
            (PooledV1, "the first 1×1 convolution strides"),
            (Pooled(8, 4, 2), "this is an instance of it"),
            (3, "hand in the class PooledBottleneck"),
        ],
    )  # fmt: skip


def test_weights_of_the_made_blocks_do_not_matter():
    def constant(*arguments):
        block = Pooled(*arguments)
        for parameter in block.parameters():
            nn.init.ones_(parameter)
        return block.eval()

    judged(checks.check_pooled_bottleneck, right=[constant])


def test_global_generator_is_not_needed():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert checks.check_wide_bottleneck(Wide)
    assert torch.equal(before, torch.get_rng_state())
