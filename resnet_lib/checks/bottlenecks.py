"""Checks of chapter 7, the bottleneck: blocks, compared in their layers and in what they do."""

import copy
from collections.abc import Callable

from torch import Tensor, nn

from resnet_lib import models
from resnet_lib.blocks import Bottleneck, conv1x1, shortcut
from resnet_lib.checks.answers import gradients, maker, same_tensor, shaped
from resnet_lib.checks.verdict import Draw, Mismatch, check, short


def _paired(block: nn.Module, x: Tensor) -> dict[tuple, tuple[nn.Conv2d, nn.Module | None]]:
    """The convolutions by the shape of their weights, each with the batch norm that it feeds."""
    made, pairs, kept = {}, {}, []

    def note(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        kept.append(output)  # as long as it lives, nothing else has its identity
        conv = module if isinstance(module, nn.Conv2d) else made.get(id(inputs[0]))
        if conv is not None and isinstance(module, nn.BatchNorm2d):
            pairs[tuple(conv.weight.shape)] = conv, module
        elif conv is not None:  # a convolution, or a pooling between it and its norm
            made[id(output)] = conv
            pairs.setdefault(tuple(conv.weight.shape), (conv, None))

    leaves = [m for m in block.modules() if not list(m.children())]
    layers = [m for m in leaves if not isinstance(m, (nn.ReLU, nn.Identity))]
    handles = [layer.register_forward_hook(note) for layer in layers]
    try:
        block(x)
    finally:
        for handle in handles:
            handle.remove()
    return pairs


def _same_layers(block: nn.Module, right: nn.Module, x: Tensor, projection: tuple) -> None:
    """Copy the right block's weights into the block, layer by layer, whatever their names."""
    ours, theirs = _paired(block, x), _paired(right, x)
    for shape, (conv, norm) in theirs.items():
        out, channels, size, _ = shape
        name = f"{size}×{size} convolution from {channels} to {out} channels"
        name = "the projection" if shape == projection else f"the {name}"
        if shape not in ours:
            raise Mismatch(f"{name} is missing, or is never used")
        mine, my_norm = ours[shape]
        if my_norm is None:
            few = models.parameter_count(norm)
            raise Mismatch(f"your block has no batch norm after {name}: {few} parameters too few")
        if mine.bias is not None:
            raise Mismatch(f"{name} has a bias: {len(mine.bias)} parameters too many")
        mine.load_state_dict(conv.state_dict())
        my_norm.load_state_dict(norm.state_dict())
    counts = models.parameter_count(block), models.parameter_count(right)
    if counts[0] != counts[1]:
        raise Mismatch("your block has {:,} parameters, expected {:,}".format(*counts))


def _randomise(module: nn.Module, draw: Draw) -> None:
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            noise = draw.normal(*value.shape)
            value.copy_(noise.abs() + 0.5 if "running_var" in name else noise)


def _same_behaviour(
    block: nn.Module, right: nn.Module, variants: list, x: Tensor, case: str, draw: Draw
) -> None:
    """Equal output and input gradient in both modes; a variant that the block equals is named."""
    upstream = draw.normal(*copy.deepcopy(right)(x).shape)
    for training in (True, False):
        # Copies, since a pass in training mode moves the running statistics.
        found = gradients(copy.deepcopy(block).train(training), [x], upstream)
        expected = gradients(copy.deepcopy(right).train(training), [x], upstream)
        mistakes = []
        for variant, words in variants:
            variant.load_state_dict(right.state_dict(), strict=False)
            mistakes.append((variant.train(training)(x.clone()), words))
        mode = "training" if training else "evaluation"
        same_tensor(found[0], expected[0], f"the output in {mode} mode {case}", mistakes)
        same_tensor(found[1], expected[1], f"the input's gradient in {mode} mode {case}")


class _ReluBefore(Bottleneck):
    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.branch(x)) + self.downsample(x)


class _NoShortcut(Bottleneck):
    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.branch(x))


class _NoLastRelu(Bottleneck):
    def forward(self, x: Tensor) -> Tensor:
        return self.branch(x) + self.downsample(x)


def _common_variants(expansion: int, path: Callable, arguments: tuple) -> list:
    """Blocks with a mistake, beside the shortcut that ``path`` makes."""
    found = [
        (_ReluBefore, {}, "the last ReLU comes before the addition; it belongs after it"),
        (_NoLastRelu, {}, "the last ReLU is missing"),
        (_NoShortcut, {}, "the shortcut is not added"),
        (Bottleneck, {"stride_in": "1x1"}, "the first 1×1 convolution strides; the 3×3 should"),
    ]
    made = []
    for block, options, words in found:
        variant = type(block.__name__, (block,), {"expansion": expansion})(*arguments, **options)
        variant.downsample = path(variant.downsample)
        made.append((variant.double(), words))
    return made


@check
def check_wide_bottleneck(WideBottleneck: type, *, draw: Draw) -> str:
    """Exercise 7.3: WideBottleneck(in_channels, width, stride), equal to torchvision's."""
    from torchvision.models import resnet  # here: it takes a second, which other checks save

    make = maker(WideBottleneck, "WideBottleneck(in_channels, width, stride)")
    for arguments in ((16, 8, 1), (6, 8, 1), (16, 12, 2)):
        channels, width, stride = arguments
        block, case = make(*arguments), "of WideBottleneck({}, {}, {})".format(*arguments)
        path = shortcut(channels, 2 * width, stride)
        path = None if isinstance(path, nn.Identity) else path
        right = resnet.Bottleneck(channels, width // 2, stride, path, base_width=128).double()
        _randomise(right, draw)
        x = draw.normal(3, channels, 6, 6)
        found = block(x.clone())
        if isinstance(found, Tensor) and found.shape[1] == 4 * width:
            raise Mismatch(
                f"{case[3:]} puts out {4 * width} channels, expected {2 * width}: the ends are "
                "twice as wide as the middle, not four times"
            )
        shaped(found, right(x).shape, f"the output {case}")
        counts = models.parameter_count(block), models.parameter_count(right)
        if counts[0] != counts[1]:
            raise Mismatch("the block has {:,} parameters, expected {:,}".format(*counts))
        try:
            block.load_state_dict(right.state_dict(), strict=True)
        except RuntimeError as error:
            raise Mismatch(f"torchvision's weights don't load: {short(error)}") from error
        variants = _common_variants(2, lambda path: path, arguments)
        _same_behaviour(block, right, variants, x, case, draw)
    return "torchvision's weights load, and outputs and gradients are equal in both modes"


class _Pooled(Bottleneck):
    def __init__(self, in_channels: int, width: int, stride: int = 1):
        super().__init__(in_channels, width, stride)
        self.downsample = _pooled(self.downsample)


def _pooled(path: nn.Module, pool: nn.Module | None = None) -> nn.Module:
    """The path with a pooling that strides in the projection's place; it keeps the names."""
    if isinstance(path, nn.Identity) or path[0].stride == (1, 1):
        return path
    conv = conv1x1(path[0].in_channels, path[0].out_channels)
    path[0] = nn.Sequential(pool or nn.AvgPool2d(2), conv)
    return path


@check
def check_pooled_bottleneck(PooledBottleneck: type, *, draw: Draw) -> str:
    """Exercise 7.4: PooledBottleneck(in_channels, width, stride), with ResNet-D's shortcut."""
    make = maker(PooledBottleneck, "PooledBottleneck(in_channels, width, stride)")
    for arguments in ((12, 5, 2), (20, 5, 1), (12, 5, 1)):
        channels, width, stride = arguments
        block, case = make(*arguments), "of PooledBottleneck({}, {}, {})".format(*arguments)
        right, x = _Pooled(*arguments).double(), draw.normal(3, channels, 8, 8)
        _randomise(right, draw)
        shaped(block(x.clone()), right(x).shape, f"the output {case}")
        _same_layers(block, right, x, projection=(4 * width, channels, 1, 1))
        variants = _common_variants(4, _pooled, arguments)
        if stride > 1:
            variants += _pooling_variants(arguments)
        _same_behaviour(block, right, variants, x, case, draw)
        counts = models.multiply_adds(block, 8, channels), models.multiply_adds(right, 8, channels)
        if counts[0] != counts[1]:
            raise Mismatch(
                "the result is right, but takes {:,} multiply-adds instead of {:,}: what comes "
                "first, pooling or projection?".format(*counts)
            )
    return "the projection sees all positions, with as many parameters and multiply-adds"


def _pooling_variants(arguments: tuple) -> list:
    usual = Bottleneck(*arguments)
    usual.downsample[0] = nn.Sequential(nn.Identity(), usual.downsample[0])
    found = [(usual, "the shortcut is the usual one: its projection sees a quarter of its input")]
    pools = {
        nn.MaxPool2d(2): "the shortcut takes the maximum; it should take the average",
        nn.AvgPool2d(3, 2, 1): "the pooling is 3×3; a 2×2 sees every position exactly once",
    }
    for pool, words in pools.items():
        variant = Bottleneck(*arguments)
        variant.downsample = _pooled(variant.downsample, pool)
        found.append((variant, words))
    return [(variant.double(), words) for variant, words in found]
