"""The five networks against torchvision's and timm's: counts, keys, logits and gradients."""

import subprocess
import sys

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.testing import assert_close

from resnet_lib import UserError, models
from resnet_lib.blocks import BasicBlock, Bottleneck

# Parameters with 1000 and 10 classes, multiply-adds of a 224 px image in units of 10^9, and the
# convolutions, projections included. torchvision states the same parameters and multiply-adds.
COUNTS = {
    "resnet18": (11_689_512, 11_181_642, 1.814, 20),
    "resnet34": (21_797_672, 21_289_802, 3.664, 36),
    "resnet50": (25_557_032, 23_528_522, 4.089, 53),
    "resnet101": (44_549_160, 42_520_650, 7.801, 104),
    "resnet152": (60_192_808, 58_164_298, 11.514, 155),
}
LAYERS = {"resnet18": 18, "resnet34": 34, "resnet50": 50, "resnet101": 101, "resnet152": 152}
BOTTLENECKS = ("resnet50", "resnet101", "resnet152")
SIZE = 48  # pixels; the last stage still has 2 x 2 positions

every_model = pytest.mark.parametrize("name", COUNTS)


def on_meta(name: str, *arguments, **options) -> models.ResNet:
    """The network without memory for its parameters: enough to count and to see shapes."""
    with torch.device("meta"):
        return models.build(name, *arguments, **options)


def reference(name: str) -> nn.Module:
    """torchvision's network with random weights, and norms that are not all alike.

    The norms' scales are below 1, so that 50 blocks do not blow the activations up.
    """
    torch.manual_seed(0)
    model = getattr(torchvision.models, name)(weights=None)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.weight.data.uniform_(0.2, 0.6)
            norm.bias.data.normal_(std=0.1)
            norm.running_mean.normal_(std=0.1)
            norm.running_var.uniform_(0.5, 1.5)
    return model


def assert_same_network(ours: nn.Module, theirs: nn.Module) -> None:
    """Logits, all parameter gradients and running statistics agree, in both modes.

    In float64, so that torch's default tolerance, 1e-7, leaves no room for a real difference:
    in float32 the rounding noise of 150 layers would ask for a tolerance of 1e-3.
    """
    ours.double()
    theirs.double()
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, 3, SIZE, SIZE, dtype=torch.float64, generator=generator)
    weight = torch.randn(2, 1000, dtype=torch.float64, generator=generator)
    expected = dict(theirs.named_parameters())
    for training in (False, True):
        logits = []
        for model in (ours, theirs):
            model.train(training)
            model.zero_grad()
            logits.append(model(images))
            (logits[-1] * weight).sum().backward()
        assert_close(*logits)
        for name, parameter in ours.named_parameters():
            assert_close(parameter.grad, expected[name].grad, msg=lambda m, n=name: f"{n}: {m}")
    assert_close(dict(ours.named_buffers()), dict(theirs.named_buffers()))


@every_model
def test_counts(name):
    parameters, parameters_10, multiply_adds, convolutions = COUNTS[name]
    model = on_meta(name)
    assert models.parameter_count(model) == parameters
    assert models.parameter_count(on_meta(name, 10)) == parameters_10
    assert round(models.multiply_adds(model, 224) / 1e9, 3) == multiply_adds
    assert sum(isinstance(m, nn.Conv2d) for m in model.modules()) == convolutions


@every_model
def test_layer_count_is_the_number_in_the_name(name):
    assert models.layer_count(on_meta(name)) == LAYERS[name]


def test_layer_count_counts():
    """It looks at the network: another depth gives another number."""
    with torch.device("meta"):
        assert models.layer_count(models.ResNet(Bottleneck, (1, 2, 3, 1))) == 1 + 3 * 7 + 1
        assert models.layer_count(models.ResNet(BasicBlock, (1, 1, 1, 1))) == 1 + 2 * 4 + 1
        assert models.layer_count(models.ResNet(BasicBlock, (1, 1, 1, 1), option="C")) == 10


@pytest.mark.parametrize(("name", "multiply_adds"), [("resnet50", 3.858), ("resnet101", 7.570)])
def test_multiply_adds_of_v1(name, multiply_adds):
    model = on_meta(name, stride_in="1x1")
    assert models.parameter_count(model) == COUNTS[name][0]
    assert round(models.multiply_adds(model, 224) / 1e9, 3) == multiply_adds


def test_multiply_adds_leaves_the_model_as_it_was():
    model = models.resnet18(10, width=8, in_channels=1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert models.multiply_adds(model, 32, in_channels=1) > 0
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@every_model
def test_same_keys_as_torchvision(name):
    with torch.device("meta"):
        theirs = getattr(torchvision.models, name)(weights=None)
    shapes = [(key, value.shape) for key, value in theirs.state_dict().items()]
    assert [(key, value.shape) for key, value in on_meta(name).state_dict().items()] == shapes


@every_model
def test_torchvisions_weights_in_ours(name):
    theirs = reference(name)
    ours = models.build(name)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    assert_same_network(ours, theirs)


@every_model
def test_our_weights_in_torchvisions_and_in_timms(name):
    torch.manual_seed(2)
    ours = models.build(name, zero_init=False).eval()
    images = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = ours(images)
        # Relative to the largest logit: untrained and in evaluation mode, the activations
        # grow with every block, so an absolute tolerance would mean nothing.
        tolerance = {"rtol": 0, "atol": 1e-5 * expected.abs().max().item()}
        for make in (getattr(torchvision.models, name), lambda: timm.create_model(name)):
            theirs = make().eval()
            theirs.load_state_dict(ours.state_dict(), strict=True)
            assert_close(theirs(images), expected, **tolerance)


@pytest.mark.parametrize("name", BOTTLENECKS[:2])
def test_v1_equals_torchvision_with_the_strides_moved(name):
    theirs = reference(name)
    ours = models.build(name, stride_in="1x1")
    ours.load_state_dict(theirs.state_dict(), strict=True)
    for block in theirs.modules():
        if isinstance(block, torchvision.models.resnet.Bottleneck):
            block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    assert_same_network(ours, theirs)


@every_model
@pytest.mark.parametrize(("stem", "first"), [("imagenet", 4), ("small", 1)])
def test_features(name, stem, first):
    model = on_meta(name, width=16, stem=stem)
    expansion = models.DEPTHS[name][0].expansion
    features = model.features(torch.empty(2, 3, 64, 96, device="meta"))
    assert {level: tuple(value.shape) for level, value in features.items()} == {
        f"C{2 + i}": (2, 16 * expansion * 2**i, 64 // side, 96 // side)
        for i in range(4)
        for side in [first * 2**i]
    }


@pytest.mark.parametrize("stride_in", ["3x3", "1x1"])
def test_the_first_block_of_stages_2_to_4_strides_and_no_other(stride_in):
    model = on_meta("resnet50", stride_in=stride_in)
    stages = (model.layer1, model.layer2, model.layer3, model.layer4)
    strides = [
        [block.conv1.stride[0] * block.conv2.stride[0] * block.conv3.stride[0] for block in stage]
        for stage in stages
    ]
    assert strides == [[1] * 3, [2] + [1] * 3, [2] + [1] * 5, [2] + [1] * 2]


def test_forward_reads_the_pooled_c5():
    """The mean over positions, so that any image size gives logits of the same shape."""
    torch.manual_seed(0)
    model = models.resnet18(7, width=8).eval()
    for size in (SIZE, 33, 1):
        images = torch.randn(2, 3, size, size)
        c5 = model.features(images)["C5"]
        assert_close(model(images), model.fc(c5.mean((2, 3))))


@every_model
def test_zero_init_makes_every_block_its_shortcut(name):
    torch.manual_seed(0)
    model = models.build(name, 10, width=8, zero_init=True)
    x = torch.randn(2, 8, 8, 8)
    for layer in (model.layer1, model.layer2, model.layer3, model.layer4):
        for block in layer:
            # The shortcut first, since a norm in training mode moves its running statistics.
            expected = block.downsample(x).relu()
            x = block(x)
            assert torch.equal(x, expected)
    assert x.any()


def test_without_zero_init_no_branch_is_zero():
    model = models.resnet50(10, width=8)
    assert all(norm.weight.all() for norm in model.modules() if isinstance(norm, nn.BatchNorm2d))


def test_convolutions_start_with_the_variance_of_kaiming():
    """Variance 2 / (out channels x kernel area); the head keeps torch's default."""
    torch.manual_seed(0)
    model = models.resnet18()
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            # 5 %: four standard errors of the standard deviation of the smallest kernel (8,192
            # numbers) are 3 %.
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05), name


@every_model
@pytest.mark.parametrize("stem", models.STEMS)
def test_one_channel_and_a_quarter_of_the_width(name, stem):
    torch.manual_seed(0)
    model = models.build(name, 10, width=16, stem=stem, in_channels=1).eval()
    assert model.conv1.weight.shape[:2] == (16, 1)
    assert model.fc.in_features == 8 * 16 * models.DEPTHS[name][0].expansion
    with torch.no_grad():
        assert model(torch.randn(2, 1, 32, 32)).shape == (2, 10)


def test_the_small_stem_keeps_the_resolution():
    model = models.resnet50(10, stem="small", width=8)
    assert (model.conv1.kernel_size, model.conv1.stride) == ((3, 3), (1, 1))
    assert isinstance(model.maxpool, nn.Identity)
    assert set(model.state_dict()) == set(models.resnet50(10, width=8).state_dict())


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (("resnet18",), {}),
        (("resnet50", 10), {"width": 8, "stem": "small", "in_channels": 1}),
        (("resnet101", 3), {"width": 8, "stride_in": "1x1", "zero_init": True}),
        (("resnet34", 5), {"width": 8, "option": "A"}),
    ],
)
def test_spec_builds_the_same_network_again(arguments, options):
    model = on_meta(*arguments, **options)
    assert {"name", "num_classes", "zero_init", *options} == set(model.spec)
    again = on_meta(**model.spec)
    assert str(again) == str(model)
    assert again.spec == model.spec


@every_model
def test_the_named_functions_build_what_they_say(name):
    with torch.device("meta"):
        model = getattr(models, name)(10, width=8)
    assert model.spec == {"name": name, "num_classes": 10, "zero_init": False, "width": 8}
    assert str(model) == str(on_meta(name, 10, width=8))


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("resnet51",), {}, r"model must be one of resnet18, .*resnet152, got 'resnet51'"),
        (("resnet50",), {"stem": "tiny"}, r"stem must be one of imagenet, small, got 'tiny'"),
        (("resnet50",), {"stride_in": "7x7"}, r"stride_in must be one of 3x3, 1x1, got '7x7'"),
        (("resnet18",), {"stride_in": "1x1"}, r"option of bottlenecks: resnet18 has basic blocks"),
        (("resnet18",), {"option": "D"}, r"shortcut option must be one of A, B, C, got 'D'"),
        (("resnet50", 0), {}, r"num_classes must be at least 1, got 0"),
        (("resnet50",), {"width": 0}, r"width must be at least 1, got 0"),
        (("resnet50",), {"in_channels": -1}, r"in_channels must be at least 1, got -1"),
    ],
)
def test_a_users_mistake_gets_one_line(arguments, options, message):
    with pytest.raises(UserError, match=message) as caught:
        on_meta(*arguments, **options)
    assert "\n" not in str(caught.value)


def test_import_is_cheap():
    """At most 0.3 s on top of torch and torchvision, in the best of three fresh interpreters."""
    code = (
        "import time, torch, torchvision; start = time.perf_counter(); "
        "import resnet_lib.models; print(time.perf_counter() - start)"
    )
    seconds = []
    while len(seconds) < 3 and min(seconds, default=1) > 0.3:
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        seconds.append(float(run.stdout))
    assert min(seconds) <= 0.3
