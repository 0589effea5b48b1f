"""Memory of a step: prediction against measurement, and checkpointing that changes no number."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from resnet_lib import UserError, memory, models

CPU = torch.device("cpu")


def network(name="resnet50", width=8):
    torch.manual_seed(0)
    return models.build(name, 5, width=width, in_channels=3)


def batch(count=12, size=64):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, size, size, generator=generator), torch.arange(count) % 5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_prediction_and_measurement_agree_part_by_part(dtype, optimizer):
    model, (images, labels) = network(), batch()
    predicted = memory.estimate(model, len(labels), 64, 3, dtype, optimizer)
    kind = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[optimizer]
    options = {"momentum": 0.9} if optimizer == "sgd" else {}
    steps = kind(model.parameters(), lr=1e-3, **options)
    measured = memory.measure(model, images, labels, steps, dtype)
    assert list(predicted) == list(memory.PARTS)
    for part in memory.PARTS:
        assert measured[part] == pytest.approx(predicted[part], rel=0.02), part
    assert predicted["parameters"] == 4 * models.parameter_count(model)
    assert predicted["optimizer"] == predicted["parameters"] * (1 if optimizer == "sgd" else 2)
    always = measured["parameters"] + measured["optimizer"]
    assert always + measured["activations"] < measured["peak"] < 1.2 * sum(predicted.values())


def test_a_prediction_leaves_the_model_as_it_was():
    model = network().eval()
    before = copy.deepcopy(model.state_dict())
    memory.estimate(model, 100, 32)
    assert not model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_activations_grow_with_the_images_and_the_area():
    model = network()
    small, twice = (memory.estimate(model, n, 64)["activations"] for n in (8, 16))
    fixed = 2 * small - twice  # the batches' statistics
    assert 0 < fixed < small / 100
    # All feature maps at 128 px have four times the area of those at 64 px.
    assert memory.estimate(model, 8, 128)["activations"] == pytest.approx(4 * small, rel=0.01)
    half = [memory.estimate(model, n, 64, dtype=torch.bfloat16)["activations"] for n in (8, 16)]
    copies = 2 * half[0] - half[1] - fixed
    convolutions = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Conv2d))
    assert copies == pytest.approx(2 * (convolutions + model.fc.weight.numel()), rel=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "adagrad"}, "optimizer must be one of sgd, adamw, got 'adagrad'"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_mistakes_of_a_prediction(options, message):
    with pytest.raises(UserError, match=message):
        memory.estimate(network("resnet18"), **{"batch_size": 4, "image_size": 32} | options)


def test_allocated_tells_the_peak_and_what_is_left():
    kept = []

    def work():
        first = torch.ones(1000, 1000)  # 4 MB
        kept.append(first[:, 0].clone())  # 4 kB
        second = first + 1  # 8 MB together
        del first
        second.add_(1)

    peak, left = memory.allocated(work, CPU)
    assert 8_000_000 <= peak < 8_100_000
    assert left == 4000


@pytest.mark.skipif(not memory.CLEAR.exists(), reason="the system keeps no such account")
def test_the_resident_peak_is_that_since_the_reset():
    def use(count):
        torch.ones(count * 2**20, dtype=torch.uint8)

    use(400)
    memory.reset_peak(CPU)
    low = memory.peak(CPU)
    use(200)
    assert 180 * 2**20 < memory.peak(CPU) - low < 300 * 2**20


def step(model, images, labels, dtype=torch.float32):
    """Loss and gradients of a step."""
    model.train().zero_grad()
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        logits = model(images)
    loss = F.cross_entropy(logits.float(), labels)
    loss.backward()
    return loss.detach(), [p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_checkpointed_blocks_change_no_number(dtype):
    plain, (images, labels) = network(), batch()
    saving = memory.checkpoint_blocks(copy.deepcopy(plain))
    for _ in range(2):
        (loss, gradients), (same, equal) = (
            step(model, images, labels, dtype) for model in (plain, saving)
        )
        assert torch.equal(same, loss)
        for a, b in zip(gradients, equal, strict=True):
            assert torch.equal(a, b)
    # The running statistics move once in a step, though the blocks run twice.
    for (name, a), (other, b) in zip(
        plain.state_dict().items(), saving.state_dict().items(), strict=True
    ):
        assert name == other and torch.equal(a, b), name
    norms = [m for m in saving.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {norm.momentum for norm in norms} == {0.1}


def test_checkpointed_blocks_keep_less():
    plain, (images, _) = network(), batch()
    saving = memory.checkpoint_blocks(copy.deepcopy(plain))
    before, after = (memory.saved_bytes(m.train(), images, torch.float32) for m in (plain, saving))
    assert after < before / 2


def test_checkpointed_blocks_predict_as_before():
    plain, (images, _) = network(), batch(4)
    saving = memory.checkpoint_blocks(copy.deepcopy(plain)).eval()
    with torch.inference_mode():
        assert_close(saving(images), plain.eval()(images), rtol=0, atol=0)


def test_the_statistics_are_put_back_after_an_error():
    norm = nn.BatchNorm2d(2)
    with pytest.raises(ZeroDivisionError), memory.kept_statistics(norm):
        norm(torch.randn(3, 2, 4, 4))
        raise ZeroDivisionError
    assert norm.momentum == 0.1 and norm.num_batches_tracked == 0
    assert torch.equal(norm.running_mean, torch.zeros(2))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_prediction_and_measurement_agree_on_cuda():
    model, (images, labels) = network(width=16).cuda(), batch(32)
    predicted = memory.estimate(model, 32, 64)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    measured = memory.measure(model, images.cuda(), labels.cuda(), optimizer)
    for part in memory.PARTS:
        assert measured[part] == pytest.approx(predicted[part], rel=0.1), part
