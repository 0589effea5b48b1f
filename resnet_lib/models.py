"""ResNet-18 to ResNet-152, assembled from blocks; ``state_dict`` keys are torchvision's."""

import copy

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from resnet_lib import UserError
from resnet_lib.blocks import BasicBlock, Bottleneck, conv3x3, zero_branches
from resnet_lib.pretrained import load_pretrained

__all__ = [
    "DEPTHS", "STEMS", "ResNet", "build", "initialise", "layer_count", "load_pretrained",
    "multiply_adds", "parameter_count", "resnet18", "resnet34", "resnet50", "resnet101",
    "resnet152", "stage", "stem_layers",
]  # fmt: skip
# The block and its number in each of the four stages: He et al. 2015, table 1.
DEPTHS = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
    "resnet152": (Bottleneck, (3, 8, 36, 3)),
}
STEMS = ("imagenet", "small")


def stage(block, in_channels: int, width: int, depth: int, stride: int, **options) -> nn.Sequential:
    """(N, in, H, W) -> (N, expansion * width, H / stride, W / stride).

    The first of the ``depth`` blocks strides and changes the number of channels.
    """
    out_channels = width * block.expansion
    first = block(in_channels, width, stride, **options)
    rest = (block(out_channels, width, **options) for _ in range(depth - 1))
    return nn.Sequential(first, *rest)


def initialise(model: nn.Module) -> None:
    """Kaiming initialisation of the convolutions: He et al. 2015b, equation 14."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def stem_layers(stem: str, in_channels: int, width: int) -> tuple[nn.Module, nn.Module]:
    """The first convolution and the pooling after it.

    "imagenet" divides the resolution by four; "small" keeps it, for images of about 32 pixels.
    """
    if stem == "imagenet":
        conv = nn.Conv2d(in_channels, width, 7, stride=2, padding=3, bias=False)
        return conv, nn.MaxPool2d(3, stride=2, padding=1)
    if stem == "small":
        return conv3x3(in_channels, width), nn.Identity()
    raise UserError(f"stem must be one of {', '.join(STEMS)}, got {stem!r}")


class ResNet(nn.Module):
    """(N, in_channels, H, W) -> (N, num_classes). He et al. 2015, table 1.

    ``depths`` counts the blocks of each stage, ``width`` the base channels (64 in the paper);
    ``options`` go to the blocks.
    """

    def __init__(
        self, block, depths, num_classes=1000, width=64, stem="imagenet", in_channels=3, **options
    ):
        super().__init__()
        self.conv1, self.maxpool = stem_layers(stem, in_channels, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        out = block.expansion * width
        self.layer1 = stage(block, width, width, depths[0], stride=1, **options)
        self.layer2 = stage(block, out, 2 * width, depths[1], stride=2, **options)
        self.layer3 = stage(block, 2 * out, 4 * width, depths[2], stride=2, **options)
        self.layer4 = stage(block, 4 * out, 8 * width, depths[3], stride=2, **options)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8 * out, num_classes)
        initialise(self)

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """The output of each stage: C2 to C5, at 1/4 to 1/32 of the input's height and width.

        With the small stem the resolutions are 1 to 1/8.
        """
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        c2 = self.layer1(x)
        c3 = self.layer2(c2)
        c4 = self.layer3(c3)
        return {"C2": c2, "C3": c3, "C4": c4, "C5": self.layer4(c4)}

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.avgpool(self.features(x)["C5"]).flatten(1))


def build(name: str, num_classes: int = 1000, zero_init: bool = False, **options) -> ResNet:
    """The network of that name; ``model.spec`` holds the arguments: ``build(**spec)`` repeats it.

    ``zero_init`` starts every block as its shortcut; ``options`` as for ``ResNet``.
    """
    if name not in DEPTHS:
        raise UserError(f"model must be one of {', '.join(DEPTHS)}, got {name!r}")
    sizes = {"num_classes": num_classes, "width": 1, "in_channels": 1} | options
    for size in ("num_classes", "width", "in_channels"):
        if sizes[size] < 1:
            raise UserError(f"{size} must be at least 1, got {sizes[size]}")
    block, depths = DEPTHS[name]
    if "stride_in" in options and block is BasicBlock:
        raise UserError(f"stride_in is an option of bottlenecks: {name} has basic blocks")
    model = ResNet(block, depths, num_classes, **options)
    if zero_init:
        zero_branches(model)
    model.spec = {"name": name, "num_classes": num_classes, "zero_init": zero_init, **options}
    return model


def resnet18(num_classes: int = 1000, **options) -> ResNet:
    """ResNet-18, of basic blocks; ``options`` as for ``build``."""
    return build("resnet18", num_classes, **options)


def resnet34(num_classes: int = 1000, **options) -> ResNet:
    """ResNet-34, of basic blocks; ``options`` as for ``build``."""
    return build("resnet34", num_classes, **options)


def resnet50(num_classes: int = 1000, **options) -> ResNet:
    """ResNet-50, of bottlenecks; ``options`` as for ``build``."""
    return build("resnet50", num_classes, **options)


def resnet101(num_classes: int = 1000, **options) -> ResNet:
    """ResNet-101, of bottlenecks; ``options`` as for ``build``."""
    return build("resnet101", num_classes, **options)


def resnet152(num_classes: int = 1000, **options) -> ResNet:
    """ResNet-152, of bottlenecks; ``options`` as for ``build``."""
    return build("resnet152", num_classes, **options)


def layer_count(model: nn.Module) -> int:
    """Layers with weights that a signal passes one after another: the 50 in ResNet-50.

    Projections are left out, since they run beside the branch, not after it.
    """
    layers = (nn.Conv2d, nn.Linear)
    named = model.named_modules()
    return sum(isinstance(m, layers) and "downsample" not in name for name, m in named)


def parameter_count(model: nn.Module) -> int:
    """Trainable numbers; the running statistics of batch norms are buffers and do not count."""
    return sum(parameter.numel() for parameter in model.parameters())


def multiply_adds(model: nn.Module, image_size: int, in_channels: int = 3) -> int:
    """Multiply-adds of the convolutions and linear layers for one square image.

    Counted by torch on the meta device, so nothing is computed. Papers often call it FLOPs.
    """
    ghost = copy.deepcopy(model).to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        ghost(torch.empty(1, in_channels, image_size, image_size, device="meta"))
    return counter.get_total_flops() // 2  # torch counts a multiplication and an addition as two
