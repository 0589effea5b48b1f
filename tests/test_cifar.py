import pytest
import torch
from torch import nn

from resnet_lib import UserError, blocks, cifar, models


@pytest.mark.parametrize(("depth", "parameters"), [(20, 270_000), (56, 850_000), (110, 1_730_000)])
def test_parameters_are_those_of_the_paper(depth, parameters):
    # He et al. 2015, table 6, gives 0.27, 0.85 and 1.7 million.
    with torch.device("meta"):
        model = cifar.build(depth)
    assert models.parameter_count(model) == pytest.approx(parameters, rel=0.02)
    assert models.layer_count(model) == depth


@pytest.mark.parametrize("depth", [8, 20])
def test_plain_and_residual_have_the_same_parameters(depth):
    plain, residual = (cifar.build(depth, shortcuts) for shortcuts in (False, True))
    shapes = [{k: v.shape for k, v in m.state_dict().items()} for m in (plain, residual)]
    assert shapes[0] == shapes[1]


def test_with_dead_branches_only_the_residual_network_sees_its_input():
    x = torch.randn(4, 3, 16, 16)
    for residual in (True, False):
        model = cifar.build(8, residual).eval()
        for block in model.modules():
            if isinstance(block, blocks.BasicBlock):
                nn.init.zeros_(block.bn2.weight)
        spread = model(x).std(0).max().item()
        assert (spread > 1e-3) == residual


def test_the_resolution_halves_twice_and_the_channels_double():
    model = cifar.build(8, width=4, in_channels=1, num_classes=7)
    shapes = []
    for layer in (model.layer1, model.layer2, model.layer3):
        layer.register_forward_hook(lambda m, i, output: shapes.append(tuple(output.shape)))
    assert model(torch.randn(2, 1, 16, 16)).shape == (2, 7)
    assert shapes == [(2, 4, 16, 16), (2, 8, 8, 8), (2, 16, 4, 4)]


def test_spec_repeats_the_network():
    model = cifar.build(14, False, width=4)
    again = cifar.build(**model.spec)
    assert again.load_state_dict(model.state_dict())
    assert type(again.layer1[0]) is blocks.PlainBlock


@pytest.mark.parametrize("depth", [2, 18, 21, 101])
def test_other_depths_are_refused(depth):
    with pytest.raises(UserError, match="6n \\+ 2"):
        cifar.build(depth)
