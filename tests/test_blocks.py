"""The blocks against torchvision's, with copied weights, and the properties chapters rely on."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torchvision.models import resnet as reference

from resnet_lib import UserError
from resnet_lib.blocks import (
    BasicBlock,
    Bottleneck,
    PadShortcut,
    PlainBlock,
    conv1x1,
    conv3x3,
    shortcut,
    zero_branches,
)

# Channels in, width, stride: the same shape, a stride with new channels, new channels only.
BASIC_SHAPES = [(8, 8, 1), (8, 16, 2), (8, 16, 1)]
BOTTLENECK_SHAPES = [(16, 4, 1), (16, 8, 2), (4, 4, 1)]


def reference_block(kind, in_channels: int, width: int, stride: int) -> nn.Module:
    """torchvision's block, with the projection that its ResNet gives it."""
    out_channels, downsample = width * kind.expansion, None
    if stride != 1 or in_channels != out_channels:
        downsample = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
            nn.BatchNorm2d(out_channels),
        )
    return kind(in_channels, width, stride, downsample)


def randomise(module: nn.Module) -> None:
    """No norm keeps scale 1, shift 0 and unit statistics, which would hide that one is missing."""
    generator = torch.Generator().manual_seed(0)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.weight.data.uniform_(0.5, 1.5, generator=generator)
            norm.bias.data.normal_(generator=generator)
            norm.running_mean.normal_(generator=generator)
            norm.running_var.uniform_(0.5, 1.5, generator=generator)


def assert_same_block(ours: nn.Module, theirs: nn.Module, in_channels: int, training: bool) -> None:
    """Output, gradients of input and parameters, and running statistics agree.

    In float64, so that torch's default tolerance leaves no room for a real difference.
    """
    randomise(theirs)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    ours.double().train(training)
    theirs.double().train(training)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, in_channels, 9, 9, dtype=torch.float64, generator=generator)
    inputs = x.clone().requires_grad_(), x.clone().requires_grad_()
    outputs = ours(inputs[0]), theirs(inputs[1])
    assert_close(*outputs)
    weight = torch.randn(outputs[0].shape, dtype=torch.float64, generator=generator)
    for output in outputs:
        (output * weight).sum().backward()
    assert_close(inputs[0].grad, inputs[1].grad)
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        assert_close(parameter.grad, expected[name].grad, msg=lambda text, n=name: f"{n}: {text}")
    assert_close(ours.state_dict(), theirs.state_dict())


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize(("in_channels", "width", "stride"), BASIC_SHAPES)
def test_basic_block_equals_torchvisions(in_channels, width, stride, training):
    torch.manual_seed(0)
    theirs = reference_block(reference.BasicBlock, in_channels, width, stride)
    assert_same_block(BasicBlock(in_channels, width, stride), theirs, in_channels, training)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("stride_in", ["3x3", "1x1"])
@pytest.mark.parametrize(("in_channels", "width", "stride"), BOTTLENECK_SHAPES)
def test_bottleneck_equals_torchvisions(in_channels, width, stride, stride_in, training):
    torch.manual_seed(0)
    theirs = reference_block(reference.Bottleneck, in_channels, width, stride)
    if stride_in == "1x1":  # torchvision has v1.5 only: its stride, moved, makes v1
        theirs.conv1.stride, theirs.conv2.stride = theirs.conv2.stride, theirs.conv1.stride
    ours = Bottleneck(in_channels, width, stride, stride_in)
    assert_same_block(ours, theirs, in_channels, training)


def test_the_convolution_that_strides():
    strides = {
        stride_in: [conv.stride for conv in (block.conv1, block.conv2, block.conv3)]
        for stride_in in ("3x3", "1x1")
        for block in [Bottleneck(16, 8, 2, stride_in)]
    }
    assert strides == {"3x3": [(1, 1), (2, 2), (1, 1)], "1x1": [(2, 2), (1, 1), (1, 1)]}
    basic = BasicBlock(8, 16, 2)
    assert (basic.conv1.stride, basic.conv2.stride) == ((2, 2), (1, 1))
    assert Bottleneck(16, 8, 2).conv2.stride == (2, 2), "v1.5 is the default"


def test_no_convolution_has_a_bias():
    blocks = nn.ModuleList([BasicBlock(8, 16, 2), Bottleneck(8, 16, 2), PlainBlock(8, 16, 2)])
    convolutions = [m for m in blocks.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 3 + 4 + 2
    assert all(convolution.bias is None for convolution in convolutions)


@pytest.mark.parametrize("size", [1, 2, 7, 8])
@pytest.mark.parametrize("stride", [1, 2])
def test_output_sizes_round_up(size, stride):
    expected = -(-size // stride)
    x = torch.randn(2, 8, size, size)
    for block in (BasicBlock(8, 12, stride), PlainBlock(8, 12, stride), Bottleneck(8, 3, stride)):
        assert block.eval()(x).shape == (2, 12, expected, expected)
    for option in "ABC":
        assert shortcut(8, 12, stride, option).eval()(x).shape == (2, 12, expected, expected)
    assert conv3x3(8, 5, stride)(x).shape == conv1x1(8, 5, stride)(x).shape


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("block", [BasicBlock(8, 8), Bottleneck(8, 2)], ids=["basic", "bottleneck"])
def test_a_block_with_a_zero_branch_is_the_identity(block, training):
    zero_branches(block)
    block.train(training)
    x = torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(block(x.relu()), x.relu())
    assert torch.equal(block(x), x.relu()), "the ReLU comes after the addition"


@pytest.mark.parametrize(
    "block", [BasicBlock(8, 16, 2), Bottleneck(8, 4, 2)], ids=["basic", "bottleneck"]
)
def test_a_strided_block_with_a_zero_branch_is_its_projection(block):
    zero_branches(block.eval())
    x = torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(block(x), block.downsample(x).relu())


def test_zero_branches_touches_the_last_norm_of_a_branch_only():
    model = nn.ModuleDict(
        {"basic": BasicBlock(8, 16, 2), "neck": Bottleneck(8, 4, 2), "plain": PlainBlock(8, 8)}
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    zero_branches(model)
    changed = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    # A plain block has no shortcut to fall back on: zeroed, it would pass nothing at all.
    assert changed == {"basic.bn2.weight", "neck.bn3.weight"}
    assert not model["basic"].bn2.weight.any()
    assert not model["neck"].bn3.weight.any()


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("option", "kinds"),
    [
        ("A", (nn.Identity, PadShortcut)),
        ("B", (nn.Identity, nn.Sequential)),
        ("C", (nn.Sequential, nn.Sequential)),
    ],
)
def test_shortcut_options(option, kinds):
    same, changed = shortcut(8, 8, 1, option), shortcut(8, 12, 2, option)
    assert (type(same), type(changed)) == kinds
    # A projection is the 1x1 convolution's weights, and the scale and shift of its batch norm.
    assert parameters(same) == (8 * 8 + 2 * 8 if kinds[0] is nn.Sequential else 0)
    assert parameters(changed) == (8 * 12 + 2 * 12 if kinds[1] is nn.Sequential else 0)


@pytest.mark.parametrize(("out_channels", "stride"), [(12, 1), (8, 2), (12, 2)])
def test_either_change_of_shape_asks_for_a_projection(out_channels, stride):
    assert isinstance(shortcut(8, out_channels, stride, "B"), nn.Sequential)
    assert isinstance(shortcut(8, out_channels, stride, "A"), PadShortcut)


def test_option_a_subsamples_and_pads_with_zeros():
    x = torch.randn(2, 8, 7, 7, generator=torch.Generator().manual_seed(0))
    out = shortcut(8, 12, 2, "A")(x)
    assert torch.equal(out[:, :8], x[:, :, ::2, ::2])
    assert not out[:, 8:].any()


def test_a_projection_has_its_batch_norm():
    for block, channels in ((BasicBlock(8, 16, 2), 16), (Bottleneck(8, 4, 2), 16)):
        convolution, norm = block.downsample
        assert convolution.kernel_size == (1, 1)
        assert convolution.stride == (2, 2)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.num_features == channels
        x = torch.randn(4, 8, 6, 6, generator=torch.Generator().manual_seed(0))
        out = block.downsample(x * 100)
        # In training mode a norm leaves mean 0 and variance 1, whatever comes in; 1e-3 is for
        # float32 and for the small constant that the norm adds to the variance.
        assert_close(out.mean((0, 2, 3)), torch.zeros(channels), atol=1e-3, rtol=0)
        assert_close(out.var((0, 2, 3), correction=0), torch.ones(channels), atol=1e-3, rtol=0)


def test_a_plain_block_has_no_shortcut():
    torch.manual_seed(0)
    block = PlainBlock(8, 16, 2)
    assert parameters(block.downsample) == 0
    assert not any("downsample" in name for name in block.state_dict())
    x = torch.randn(2, 8, 6, 6)
    assert torch.equal(block.eval()(x), block.branch(x).relu())
    assert parameters(block) == parameters(BasicBlock(8, 16, 2, option="A"))


def test_a_basic_block_takes_the_shortcut_option():
    for option, kind in (("A", nn.Identity), ("B", nn.Identity), ("C", nn.Sequential)):
        assert type(BasicBlock(8, 8, option=option).downsample) is kind


def test_unknown_options_are_refused_in_one_line():
    with pytest.raises(UserError, match=r"shortcut option must be one of A, B, C, got 'D'"):
        BasicBlock(8, 8, option="D")
    with pytest.raises(UserError, match=r"stride_in must be one of 3x3, 1x1, got '5x5'"):
        Bottleneck(8, 2, stride_in="5x5")
