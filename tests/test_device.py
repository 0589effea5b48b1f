import random

import numpy as np
import pytest
import torch

from resnet_lib import UserError, device

CPU = torch.device("cpu")


def test_auto_takes_cuda_only_where_it_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device.choose_device("auto") == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device.choose_device("auto") == torch.device("cuda")


def test_a_missing_cuda_device_is_refused_with_the_way_out(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert device.choose_device("cuda:0").type == "cuda"
    with pytest.raises(UserError, match=r"cuda:1 asked for, but torch sees 1 .*--device cpu"):
        device.choose_device("cuda:1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UserError, match="sees 0 CUDA devices"):
        device.choose_device("cuda")


@pytest.mark.parametrize("name", ["gpu", "meta", "", "cpu:x"])
def test_an_unknown_device_names_the_known_ones(name):
    with pytest.raises(UserError, match="auto, cpu, cuda"):
        device.choose_device(name)


@pytest.mark.parametrize("has, expected", [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_precision_follows_the_hardware(monkeypatch, has, expected):
    monkeypatch.setattr(device, "has_bfloat16", lambda _: has)
    assert device.choose_precision("auto", CPU) is expected
    assert device.choose_precision("float32", CPU) is torch.float32


@pytest.mark.parametrize("capability, expected", [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_a_card_has_bfloat16_from_ampere_on(monkeypatch, capability, expected):
    # torch.cuda.is_bf16_supported() says yes on a T4 too, where it is emulated.
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert device.has_bfloat16(torch.device("cuda")) is expected


@pytest.mark.skipif(not hasattr(torch.cpu, "get_capabilities"), reason="an older torch")
@pytest.mark.parametrize("flags", [{}, {"avx512_bf16": True}, {"amx_bf16": True}])
def test_a_cpu_has_bfloat16_where_its_flags_say_so(monkeypatch, flags):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags)
    assert device.has_bfloat16(CPU) is bool(flags)


def test_precision_mistakes():
    with pytest.raises(UserError, match="auto, float32, bfloat16, float16"):
        device.choose_precision("double", CPU)
    with pytest.raises(UserError, match="float16 training needs CUDA"):
        device.choose_precision("float16", CPU)


def test_one_seed_fixes_all_generators():
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002

    device.seed_everything(3)
    first = draw()
    device.seed_everything(3)
    assert draw() == first
    device.seed_everything(4)
    assert all(a != b for a, b in zip(draw(), first, strict=True))
