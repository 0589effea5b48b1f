import pytest
import torch
import torchvision
from torch import nn
from torchvision.ops import FeaturePyramidNetwork

from resnet_lib import UserError, blocks, cifar, models, pyramid

# Sizes in pixels: the values usually quoted for v1, and what v1.5's later stride makes of them.
KNOWN = {
    ("resnet50", "3x3"): (35, 91, 267, 427),
    ("resnet101", "3x3"): (35, 91, 811, 971),
    ("resnet50", "1x1"): (35, 99, 291, 483),
    ("resnet101", "1x1"): (35, 99, 835, 1027),
}


@pytest.mark.parametrize(("name", "stride_in"), KNOWN)
def test_sizes_are_the_known_ones(name, stride_in):
    with torch.device("meta"):
        fields = pyramid.receptive_field(models.build(name, stride_in=stride_in))
    assert list(fields) == ["C2", "C3", "C4", "C5"]
    assert tuple(field.size for field in fields.values()) == KNOWN[name, stride_in]
    assert [field.jump for field in fields.values()] == [4, 8, 16, 32]


def test_torchvision_networks_walk_too():
    with torch.device("meta"):
        theirs = pyramid.receptive_field(torchvision.models.resnet50())
        ours = pyramid.receptive_field(models.resnet50())
    assert theirs == ours


def make_positive(model):
    """Nothing cancels: every path from a pixel to a unit adds to the gradient."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            with torch.no_grad():
                module.weight.uniform_(0.5, 1, generator=generator)
                module.weight /= module.weight[0].numel()
        elif isinstance(module, nn.MaxPool2d):
            module.forward = pooled_mean(module)  # a maximum passes one of its pixels only
    return model.eval().double()


def pooled_mean(pool):
    def forward(x):
        return nn.functional.avg_pool2d(x, pool.kernel_size, pool.stride, pool.padding)

    return forward


NETWORKS = {
    "v1.5": lambda: models.build("resnet50", 2, width=1, in_channels=1),
    "v1": lambda: models.build("resnet50", 2, width=1, in_channels=1, stride_in="1x1"),
    "basic": lambda: models.build("resnet18", 2, width=1, in_channels=1),
    "small stem": lambda: models.build("resnet18", 2, width=1, in_channels=1, stem="small"),
    "options": lambda: models.build("resnet18", 2, width=1, in_channels=1, option="C"),
}


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("stage", ["C2", "C3", "C4", "C5"])
def test_the_support_of_the_gradient_is_exactly_the_predicted_square(kind, stage):
    torch.manual_seed(0)
    model = make_positive(NETWORKS[kind]())
    field = pyramid.receptive_field(model)[stage]
    side = 32 * (field.size // 32 + 3)
    image = torch.rand(1, 1, side, side, dtype=torch.float64, requires_grad=True)
    features = model.features(image)[stage]
    row, column = features.shape[2] // 2, features.shape[3] // 2 - 1
    (gradient,) = torch.autograd.grad(features[0, 0, row, column], image)
    seen = torch.zeros(side, side, dtype=torch.bool)
    (top, bottom), (left, right) = field.span(row), field.span(column)
    assert top >= 0 and bottom < side, "the square must lie inside the image"
    seen[top : bottom + 1, left : right + 1] = True
    assert torch.equal(gradient[0, 0] > 0, seen)


@pytest.mark.parametrize("residual", [True, False])
def test_the_cifar_family(residual):
    model = make_positive(cifar.build(14, residual, width=1, in_channels=1))
    field = pyramid.receptive_field(model)["C4"]
    image = torch.rand(1, 1, 96, 96, dtype=torch.float64, requires_grad=True)
    x = model.relu(model.bn1(model.conv1(image)))
    features = model.layer3(model.layer2(model.layer1(x)))
    (gradient,) = torch.autograd.grad(features[0, 0, 12, 12], image)
    touched = (gradient[0, 0] > 0).any(0).nonzero().flatten()
    assert (touched[0].item(), touched[-1].item()) == field.span(12)
    assert len(touched) == field.size and field.jump == 4


@pytest.mark.parametrize(
    "window",
    [
        nn.Conv2d(1, 1, 4, stride=2, padding=1),
        nn.Conv2d(1, 1, 3, dilation=3, padding=2),
        nn.Conv2d(1, 1, 5, stride=3),
        nn.AvgPool2d(2),
        nn.AvgPool2d(3, stride=2, padding=1),
    ],
)
def test_offset_of_uneven_windows(window):
    layers = nn.Sequential(window, nn.Conv2d(1, 1, 3, bias=False), nn.AvgPool2d(2, 2))
    for module in layers:
        if isinstance(module, nn.Conv2d):
            nn.init.ones_(module.weight)
    field = pyramid.walk(layers, pyramid.Field())
    image = torch.rand(1, 1, 48, 48, requires_grad=True)
    (gradient,) = torch.autograd.grad(layers(image)[0, 0, 2, 2], image)
    touched = (gradient[0, 0] > 0).any(0).nonzero().flatten()
    assert (touched[0].item(), touched[-1].item()) == field.span(2)
    assert field.offset + 2 * field.jump == pytest.approx((touched[0] + touched[-1]).item() / 2)


def test_what_cannot_be_walked_is_named():
    with pytest.raises(UserError, match="GroupNorm"):
        pyramid.walk(nn.Sequential(nn.GroupNorm(1, 4)), pyramid.Field())
    with pytest.raises(UserError, match="square windows"):
        pyramid.walk(nn.Conv2d(1, 1, (3, 5)), pyramid.Field())
    with pytest.raises(UserError, match="no stages"):
        pyramid.receptive_field(blocks.conv3x3(1, 1))


def small_network(seed=0, **options):
    torch.manual_seed(seed)
    return models.build("resnet18", 2, width=4, in_channels=1, **options)


def test_effective_field_is_the_squared_gradient():
    # One channel, so a random sign changes nothing, and the definition can be written out.
    model = models.build("resnet18", 2, width=1, in_channels=1, stem="small").eval()
    images = torch.randn(3, 1, 32, 32)
    heat = pyramid.effective_receptive_field(model, images, "C2")
    want = torch.zeros(32, 32, dtype=torch.float64)
    for image in images:
        image = image[None].requires_grad_(True)
        unit = model.features(image)["C2"][0, 0, 16, 16]
        want += torch.autograd.grad(unit, image)[0][0, 0].double() ** 2
    torch.testing.assert_close(heat, want / want.sum())


def test_effective_field_lies_inside_the_theoretical_square():
    model = small_network(stem="small")
    field = pyramid.receptive_field(model)["C3"]
    heat = pyramid.effective_receptive_field(model, torch.randn(2, 1, 64, 64), "C3")
    first, last = field.span(16)
    assert heat.sum().item() == pytest.approx(1)
    assert heat[first : last + 1, first : last + 1].sum().item() == pytest.approx(1)
    assert heat[first].max() > 0 and heat[:, last].max() > 0


@torch.no_grad()
def test_effective_field_leaves_the_model_as_it_was():
    model = small_network().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pyramid.effective_receptive_field(model, torch.randn(2, 1, 64, 64))
    assert model.training and all(p.grad is None for p in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_random_signs_average_over_channels():
    model = small_network(stem="small").eval()
    image = torch.randn(1, 1, 32, 32, requires_grad=True)
    heat = pyramid.effective_receptive_field(model, image.repeat(400, 1, 1, 1), "C2")
    middle = model.features(image)["C2"][0, :, 16, 16]
    exact = sum(
        torch.autograd.grad(unit, image, retain_graph=True)[0][0, 0].double() ** 2
        for unit in middle
    )
    exact /= exact.sum()
    assert ((heat - exact).norm() / exact.norm()).item() < 0.1


@pytest.mark.parametrize("sigma", [2.0, 5.5])
def test_gaussian_width_of_a_gaussian(sigma):
    x = torch.arange(101, dtype=torch.float64) - 47
    profile = torch.exp(-0.5 * (x / sigma) ** 2)
    heat = profile[:, None] * profile[None, :]
    assert pyramid.gaussian_width(heat / heat.sum()) == pytest.approx(sigma, rel=1e-3)


def test_gaussian_width_averages_the_variances_of_both_axes():
    heat = torch.zeros(9, 9, dtype=torch.float64)
    heat[4, 0] = heat[4, 8] = 0.5  # 4 pixels across, none down
    assert pyramid.gaussian_width(heat) == pytest.approx((16 / 2) ** 0.5)


def test_square_of_share():
    heat = torch.zeros(7, 7, dtype=torch.float64)
    heat[3, 3], heat[3, 5], heat[0, 6] = 0.6, 0.3, 0.1  # at distances 0, 2 and 3
    sides = [pyramid.square_of_share(heat, 3, share) for share in (0.5, 0.6, 0.61, 0.89, 0.95)]
    assert sides == [1, 1, 5, 5, 7]


@pytest.mark.parametrize("cell", [1, 2, 3])
def test_cells_are_centred_and_lose_nothing(cell):
    heat = torch.rand(12, 12, dtype=torch.float64)
    cells = pyramid.cells_around(heat, 5, cell, 13)  # reaches beyond the map on every side
    assert cells.shape == (13, 13)
    if cell > 1:
        assert cells.sum().item() == pytest.approx(heat.sum().item())
    half = cell // 2
    own = heat[5 - half : 5 - half + cell, 5 - half : 5 - half + cell].sum()
    assert cells[6, 6].item() == pytest.approx(own.item())
    inside = pyramid.cells_around(heat, 5, cell, 3)
    torch.testing.assert_close(inside, cells[5:8, 5:8])


def test_bytes_are_square_roots():
    heat = torch.tensor([[4.0, 1.0], [0.0, 0.25]])
    assert list(pyramid.to_bytes(heat)) == [255, 128, 0, 64]


def test_statistics_are_those_of_the_images():
    model, images = small_network(stem="small"), 3 + 2 * torch.randn(100, 1, 16, 16)
    settled = pyramid.with_statistics_of(model, images)
    assert not settled.training and model.bn1.running_mean.abs().max() == 0
    x = model.conv1(images)
    torch.testing.assert_close(settled.bn1.running_mean, x.mean((0, 2, 3)), rtol=0.05, atol=0.02)
    torch.testing.assert_close(settled.bn1.running_var, x.var((0, 2, 3)), rtol=0.05, atol=0.02)


def pyramids():
    torch.manual_seed(0)
    channels = (4, 8, 16, 32)
    ours, theirs = pyramid.FeaturePyramid(channels, 6), FeaturePyramidNetwork(list(channels), 6)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    # Odd sizes: the coarser map is not exactly half as large.
    sizes = [(21, 30), (11, 15), (6, 8), (3, 4)]
    features = {
        f"C{i + 2}": torch.randn(2, channels[i], *size, dtype=torch.float64, requires_grad=True)
        for i, size in enumerate(sizes)
    }
    return ours.double(), theirs.double(), features


def test_pyramid_equals_torchvision_forward_and_backward():
    ours, theirs, features = pyramids()
    found, want = ours(features), theirs(features)
    assert list(found) == ["P2", "P3", "P4", "P5"]
    for (name, level), expected in zip(found.items(), want.values(), strict=True):
        assert level.shape == (2, 6, *features[name.replace("P", "C")].shape[-2:])
        torch.testing.assert_close(level, expected, rtol=1e-12, atol=1e-12)
    loss, reference = (sum(x.square().sum() for x in out.values()) for out in (found, want))
    inputs = list(features.values())
    gradients = torch.autograd.grad(loss, [*inputs, *ours.parameters()])
    expected = torch.autograd.grad(reference, [*inputs, *theirs.parameters()])
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_the_finest_level_hears_from_the_coarsest_and_not_the_reverse():
    ours, _, features = pyramids()
    levels = ours(features)
    fine = torch.autograd.grad(levels["P2"].sum(), features["C5"], retain_graph=True)[0]
    assert fine.abs().max() > 0
    (coarse,) = torch.autograd.grad(levels["P5"].sum(), features["C2"], allow_unused=True)
    assert coarse is None


def test_pyramid_on_a_network():
    model = small_network()
    levels = pyramid.FeaturePyramid((4, 8, 16, 32), 6)(model.features(torch.randn(1, 1, 64, 64)))
    assert [level.shape[-1] for level in levels.values()] == [16, 8, 4, 2]
