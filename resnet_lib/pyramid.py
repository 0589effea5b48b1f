"""Receptive fields, in theory and measured, and the feature pyramid over a network's stages."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_lib import UserError
from resnet_lib.blocks import PadShortcut

WINDOWS = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
POINTWISE = (nn.BatchNorm2d, nn.ReLU, nn.Identity, nn.Dropout, nn.Dropout2d)


@dataclass(frozen=True)
class Field:
    """What the units of a feature map can see: unit i reads the pixels ``span(i)`` of a row.

    size: pixels on a side. jump: pixels from one unit's centre to its neighbour's. offset: where
    the centre of unit 0 lies, in pixels, counted from the centre of pixel 0.
    """

    size: int = 1
    jump: int = 1
    offset: float = 0.0

    def through(self, size: int, stride: int, padding: int, dilation: int = 1) -> "Field":
        """The field after one more window of that size over this map, the same in both directions.

        Araujo et al. 2019, DOI 10.23915/distill.00021.
        """
        reach = dilation * (size - 1)
        centre = self.offset + self.jump * (reach / 2 - padding)
        return Field(self.size + self.jump * reach, self.jump * stride, centre)

    def span(self, index: int) -> tuple[int, int]:
        """First and last pixel that unit ``index`` of a row sees; both may lie outside the image.

        Outside it there are zeros, or nothing in a max pool.
        """
        first = self.offset + self.jump * index - (self.size - 1) / 2
        return round(first), round(first) + self.size - 1


def _square(value: int | tuple[int, int]) -> int:
    one, other = value if isinstance(value, tuple) else (value, value)
    if one != other:
        raise UserError(f"receptive fields are computed for square windows, got {value}")
    return one


def walk(module: nn.Module, field: Field) -> Field:
    """The field behind a layer, a block or a sequence of them; UserError on a kind unknown here."""
    if isinstance(module, WINDOWS):
        dilation = _square(getattr(module, "dilation", 1))
        sizes = (_square(v) for v in (module.kernel_size, module.stride, module.padding))
        return field.through(*sizes, dilation)
    if isinstance(module, POINTWISE):
        return field
    if isinstance(module, PadShortcut):
        return field.through(1, module.stride, 0)
    if isinstance(module, nn.Sequential):
        for part in module:
            field = walk(part, field)
        return field
    if hasattr(module, "conv1") and hasattr(module, "downsample"):
        # A block: its shortcut sees the centre of what its branch sees, so the branch decides.
        for name, part in module.named_children():
            field = field if name == "downsample" else walk(part, field)
        return field
    raise UserError(f"no receptive field is known for {type(module).__name__}")


def receptive_field(model: nn.Module) -> dict[str, Field]:
    """Stage -> its field in pixels, "C2" for ``layer1`` and so on; any network of this package.

    Theoretical: no pixel outside can change the unit. torchvision's ResNets work too.
    """
    if not hasattr(model, "layer1"):
        raise UserError(f"{type(model).__name__} has no stages layer1, layer2, ...")
    field, fields = Field(), {}
    for name, part in model.named_children():
        if name in ("avgpool", "fc"):  # these see the whole image
            break
        field = walk(part, field)
        if name.startswith("layer"):
            fields[f"C{int(name[5:]) + 1}"] = field
    return fields


@torch.no_grad()
def with_statistics_of(model: nn.Module, images: Tensor) -> nn.Module:
    """A copy whose batch norms hold the statistics of these images (N, C, H, W), as after training.

    A new network holds mean 0 and variance 1, which its activations do not have.
    """
    model = copy.deepcopy(model).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the plain mean over the batches
    for batch in images.split(64):
        model(batch)
    return model.eval()


def effective_receptive_field(
    model: nn.Module, images: Tensor, stage: str = "C5", seed: int = 0
) -> Tensor:
    """Where the gradient of the stage's middle unit lies: (H, W) on the CPU, with the sum 1.

    images float (N, C, H, W) on the model's device. The square of the gradient is averaged over
    images, input channels and the unit's channels (these by random signs). The model runs in
    evaluation mode. After Luo et al. 2016, DOI 10.48550/arXiv.1701.04128.
    """
    training = model.training
    model.eval()
    generator, heat = torch.Generator().manual_seed(seed), 0
    for image in images.detach().split(1):  # one by one: images can be large
        image.requires_grad_(True)
        with torch.enable_grad():
            features = model.features(image)[stage]
            middle = features[0, :, features.shape[2] // 2, features.shape[3] // 2]
            signs = 2 * torch.randint(2, middle.shape, generator=generator) - 1
            (gradient,) = torch.autograd.grad((middle * signs.to(middle)).sum(), image)
        heat = heat + gradient.double().square().sum((0, 1)).cpu()
    model.train(training)
    return heat / heat.sum()


def gaussian_width(heat: Tensor) -> float:
    """Standard deviation in pixels of a heat map (H, W) with the sum 1, the mean of both axes."""
    variances = []
    for profile in (heat.sum(0), heat.sum(1)):
        x = torch.arange(len(profile), dtype=profile.dtype)
        mean = (profile * x).sum()
        variances.append((profile * (x - mean) ** 2).sum())
    return (sum(variances) / 2).sqrt().item()


def square_of_share(heat: Tensor, middle: int, share: float) -> int:
    """Side in pixels of the smallest square around row and column ``middle`` with that share.

    heat (H, W) has the sum 1. Where the map ends on a side, the square goes on without it.
    """
    rows, columns = (torch.arange(size) - middle for size in heat.shape)
    distance = torch.maximum(rows.abs()[:, None], columns.abs()[None, :])
    rings = torch.zeros(int(distance.max()) + 1, dtype=heat.dtype)
    rings.index_add_(0, distance.flatten(), heat.flatten())
    enough = rings.cumsum(0) >= share
    return 2 * int(enough.nonzero()[0]) + 1


def cells_around(heat: Tensor, middle: int, cell: int, side: int) -> Tensor:
    """(H, W) -> (side, side): sums over cells of cell x cell pixels, the middle pixel's in the
    middle. Zeros where a cell lies outside the map."""
    half, reach = cell // 2, (side // 2) * cell
    first, last = middle - half - reach, middle - half + reach + cell
    height, width = heat.shape
    around = F.pad(
        heat, (max(0, -first), max(0, last - width), max(0, -first), max(0, last - height))
    )
    start = max(first, 0)
    crop = around[start : start + last - first, start : start + last - first]
    return crop.view(side, cell, side, cell).sum((1, 3))


def to_bytes(heat: Tensor) -> bytes:
    """Square roots of the heat, from 0 to 255 at its largest, row by row: they show the tails."""
    roots = (heat / heat.max()).sqrt()
    return bytes((255 * roots).round().to(torch.uint8).flatten().tolist())


class FeaturePyramid(nn.Module):
    """{"C2": (N, c2, H, W), ...} -> {"P2": (N, out, H, W), ...}. Lin et al. 2017, figure 3.

    ``in_channels`` lists the channels of the stages, from the finest to the coarsest. Parameter
    names are those of torchvision's FeaturePyramidNetwork.
    """

    def __init__(self, in_channels: Iterable[int], out_channels: int):
        super().__init__()
        # In a Sequential each, only because torchvision's names say so.
        self.inner_blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, out_channels, 1)) for channels in in_channels
        )
        self.layer_blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(out_channels, out_channels, 3, padding=1))
            for _ in self.inner_blocks
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                nn.init.zeros_(module.bias)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        lateral = [inner(x) for inner, x in zip(self.inner_blocks, features.values(), strict=True)]
        for fine in range(len(lateral) - 2, -1, -1):
            size = lateral[fine].shape[-2:]
            lateral[fine] = lateral[fine] + F.interpolate(lateral[fine + 1], size=size)
        names = (name.replace("C", "P") for name in features)
        outputs = (layer(x) for layer, x in zip(self.layer_blocks, lateral, strict=True))
        return dict(zip(names, outputs, strict=True))
