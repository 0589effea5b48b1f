import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from resnet_lib import blocks, cifar, models, signals


def batch(count=8, channels=1, size=8):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(count, channels, size, size, generator=generator)
    return images, torch.arange(count) % 2


def test_the_lists_hold_what_autograd_gives():
    torch.manual_seed(0)
    model, (images, labels) = cifar.build(8, width=4, in_channels=1, num_classes=2), batch()
    found = signals.block_signals(model, images, labels)
    model.train()
    x = model.relu(model.bn1(model.conv1(images)))
    outputs = []
    for block in (model.layer1[0], model.layer2[0], model.layer3[0]):
        x = block(x)
        outputs.append(x)
    loss = F.cross_entropy(model.fc(x.mean((2, 3))), labels)
    gradients = torch.autograd.grad(loss, outputs, retain_graph=True)
    for index, (output, gradient) in enumerate(zip(outputs, gradients, strict=True)):
        assert found["activation"][index] == pytest.approx(output.square().mean().sqrt().item())
        rms = gradient.square().mean().sqrt().item()
        assert found["gradient"][index] == pytest.approx(rms * len(images), rel=1e-5)
    weights = [model.layer2[0].conv1.weight, model.layer2[0].conv2.weight]
    moved = torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)]).norm()
    length = torch.cat([w.detach().flatten() for w in weights]).norm()
    assert found["step"][1] == pytest.approx((moved / length).item(), rel=1e-5)


def test_the_gradient_does_not_depend_on_the_batch_size():
    torch.manual_seed(0)
    model, (images, labels) = cifar.build(8, width=4, in_channels=1, num_classes=2), batch()
    once = signals.block_signals(model, images, labels)
    # The same images twice: the batch statistics are equal, the mean loss too.
    twice = signals.block_signals(model, images.repeat(2, 1, 1, 1), labels.repeat(2))
    assert twice["gradient"] == pytest.approx(once["gradient"], rel=1e-4)
    assert twice["step"] == pytest.approx(once["step"], rel=1e-4)


def test_the_model_is_left_alone():
    torch.manual_seed(0)
    model = cifar.build(8, False, width=4, in_channels=1, num_classes=2).eval()
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        signals.block_signals(model, *batch())
    assert not model.training and all(p.grad is None for p in model.parameters())
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_bottlenecks_and_zeroed_branches():
    torch.manual_seed(0)
    model = models.build("resnet50", 2, width=4, stem="small", in_channels=1, zero_init=True)
    found = signals.block_signals(model, *batch(size=16))
    assert len(found["gradient"]) == 16
    # A branch of zeros passes no gradient to its convolutions, the projection's excepted.
    projecting = [
        isinstance(block.downsample, nn.Sequential)
        for block in model.modules()
        if isinstance(block, blocks.Bottleneck)
    ]
    assert [step > 0 for step in found["step"]] == projecting
