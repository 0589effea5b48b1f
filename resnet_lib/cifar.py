"""The paper's other family, for images of 32 pixels and less: 6n + 2 layers, plain or residual."""

from torch import Tensor, nn

from resnet_lib import UserError
from resnet_lib.blocks import BasicBlock, PlainBlock, conv3x3
from resnet_lib.models import initialise, stage


class CifarNet(nn.Module):
    """(N, in_channels, H, W) -> (N, num_classes). He et al. 2015, section 4.2.

    A 3x3 convolution, three stages of n blocks each at 1, 1/2 and 1/4 of the resolution, and a
    linear layer. Shortcuts are without parameters (option A), so the plain network of a depth has
    the residual one's parameters, neither more nor fewer.
    """

    def __init__(self, depth, residual=True, num_classes=10, width=16, in_channels=3):
        super().__init__()
        n, rest = divmod(depth - 2, 6)
        if rest or n < 1:
            raise UserError(f"depth must be 6n + 2, such as 8, 20 or 56, got {depth}")
        block, options = (BasicBlock, {"option": "A"}) if residual else (PlainBlock, {})
        self.conv1 = conv3x3(in_channels, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = stage(block, width, width, n, stride=1, **options)
        self.layer2 = stage(block, width, 2 * width, n, stride=2, **options)
        self.layer3 = stage(block, 2 * width, 4 * width, n, stride=2, **options)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4 * width, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(self.avgpool(x).flatten(1))


def build(depth: int, residual: bool = True, **options) -> CifarNet:
    """The network of that depth; ``model.spec`` holds the arguments: ``build(**spec)`` repeats it.

    ``options`` as for ``CifarNet``.
    """
    model = CifarNet(depth, residual, **options)
    model.spec = {"depth": depth, "residual": residual, **options}
    return model
