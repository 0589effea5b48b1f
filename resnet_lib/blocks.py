"""Residual blocks: basic, bottleneck, and the plain block that has no shortcut.

Parameter names are torchvision's, so its checkpoints load here and ours load there.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from resnet_lib import UserError

STRIDES_IN = ("3x3", "1x1")
SHORTCUTS = ("A", "B", "C")


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """(N, in, H, W) -> (N, out, H / stride, W / stride). No bias: a batch norm follows."""
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)


def conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """(N, in, H, W) -> (N, out, H / stride, W / stride). No bias: a batch norm follows."""
    return nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)


class PadShortcut(nn.Module):
    """(N, in, H, W) -> (N, out, H / stride, W / stride), without parameters.

    Subsamples and fills the new channels with zeros: option A of He et al. 2015, section 3.3.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.stride, self.extra = stride, out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))


def shortcut(in_channels: int, out_channels: int, stride: int, option: str = "B") -> nn.Module:
    """The path beside the branch: (N, in, H, W) -> (N, out, H / stride, W / stride).

    Options of He et al. 2015, sections 3.3 and 4.1: A pads with zeros, B projects where the shape
    changes, C projects always. A projection is a 1x1 convolution and its batch norm.
    """
    if option not in SHORTCUTS:
        raise UserError(f"shortcut option must be one of {', '.join(SHORTCUTS)}, got {option!r}")
    same_shape = stride == 1 and in_channels == out_channels
    if same_shape and option != "C":
        return nn.Identity()
    if option == "A":
        return PadShortcut(in_channels, out_channels, stride)
    return nn.Sequential(conv1x1(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels))


class BasicBlock(nn.Module):
    """(N, in, H, W) -> (N, width, H / stride, W / stride). He et al. 2015, fig. 5 left."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int = 1, option: str = "B"):
        super().__init__()
        self.conv1 = conv3x3(in_channels, width, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(in_channels, width, stride, option)

    def branch(self, x: Tensor) -> Tensor:
        """What the block adds to its shortcut; same shapes as the block."""
        x = self.relu(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(x))

    def forward(self, x: Tensor) -> Tensor:
        # The last ReLU comes after the addition; before it, the branch could only add.
        return self.relu(self.branch(x) + self.downsample(x))


class PlainBlock(BasicBlock):
    """A basic block without its shortcut: what residual learning is measured against."""

    def __init__(self, in_channels: int, width: int, stride: int = 1):
        super().__init__(in_channels, width, stride)
        self.downsample = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.branch(x))


class Bottleneck(nn.Module):
    """(N, in, H, W) -> (N, 4 * width, H / stride, W / stride). He et al. 2015, fig. 5 right.

    ``stride_in`` names the convolution that strides: "3x3" (v1.5, torchvision) or "1x1" (v1, the
    paper).
    """

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int = 1, stride_in: str = "3x3"):
        super().__init__()
        if stride_in not in STRIDES_IN:
            raise UserError(f"stride_in must be one of {', '.join(STRIDES_IN)}, got {stride_in!r}")
        out_channels = width * self.expansion
        stride1, stride2 = (1, stride) if stride_in == "3x3" else (stride, 1)
        self.conv1 = conv1x1(in_channels, width, stride1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, stride2)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = conv1x1(width, out_channels)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(in_channels, out_channels, stride)

    def branch(self, x: Tensor) -> Tensor:
        """What the block adds to its shortcut; same shapes as the block."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.bn3(self.conv3(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.branch(x) + self.downsample(x))


def zero_branches(model: nn.Module) -> None:
    """Set the last batch norm of every branch to zero, so that each block starts as its shortcut.

    Goyal et al. 2017, section 5.1.
    """
    for module in model.modules():
        if isinstance(module, Bottleneck):
            nn.init.zeros_(module.bn3.weight)
        elif isinstance(module, BasicBlock) and not isinstance(module, PlainBlock):
            nn.init.zeros_(module.bn2.weight)
