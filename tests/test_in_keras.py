"""Our networks in Keras: the same numbers, weights that travel both ways, and what breaks them."""

import copy
import importlib
import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from resnet_lib import UserError, cifar, models

os.environ.setdefault("KERAS_TORCH_DEVICE", "cpu")
in_keras = pytest.importorskip("resnet_lib.in_keras", exc_type=UserError)
keras, layers = in_keras.keras, in_keras.layers

SPECS = [
    {"name": name, "stem": stem, "in_channels": channels}
    for name in models.DEPTHS
    for stem, channels in (("imagenet", 3), ("small", 1))
]
SPECS += [
    {"name": "resnet50", "stem": stem, "stride_in": "1x1", "in_channels": channels}
    for stem, channels in (("imagenet", 1), ("small", 3))
]
SPECS += [{"name": "resnet18", "option": "C"}, {"name": "resnet18", "zero_init": True}]


@pytest.fixture(autouse=True)
def one_thread():
    """Narrow strided 1x1 convolutions, channels last, must not run backward in several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def network(name="resnet18", seed=0, **options):
    """Narrow, with weights and statistics that are all different from their start."""
    torch.manual_seed(seed)
    model = models.build(name, 5, **{"width": 4, "in_channels": 1, "stem": "small"} | options)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.2)
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 2)
    return model.eval()


def images(model, count=2, height=33, width=40, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, model.spec["in_channels"], height, width, generator=generator)


def answer(keras_model, x, **options):
    found = keras_model(x.permute(0, 2, 3, 1).numpy(), **options)
    return torch.as_tensor(keras.ops.convert_to_numpy(found))


def difference(keras_model, model, x, **options):
    """The largest difference of the logits, as a share of the largest logit."""
    with torch.no_grad():
        expected = model(x)
    return (
        (answer(keras_model, x, **options) - expected).abs().max() / expected.abs().max()
    ).item()


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: "-".join(map(str, spec.values())))
def test_logits_are_ours(spec):
    model = network(**spec)
    keras_model = in_keras.to_keras(model)
    assert difference(keras_model, model, images(model)) < 1e-5
    assert difference(keras_model, model, images(model, 1, 64, 32)) < 1e-5
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    norms = sum(2 * m.out_channels for m in convolutions)
    assert keras_model.count_params() == models.parameter_count(model) + norms


@pytest.mark.parametrize("stride_in", ["3x3", "1x1"])
def test_weights_come_back_bit_for_bit(stride_in):
    spec = {"name": "resnet50", "stride_in": stride_in, "stem": "imagenet"}
    model, other = network(**spec), network(**spec, seed=1)
    assert not torch.equal(model.fc.weight, other.fc.weight)
    found = in_keras.to_torch(in_keras.to_keras(model), other)
    assert found is other and not found.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_to_keras_makes_copies():
    model = network()
    keras_model = in_keras.to_keras(model)
    before = keras_model.get_layer("conv1").get_weights()[0]
    with torch.no_grad():
        model.conv1.weight.zero_()
    assert np.array_equal(keras_model.get_layer("conv1").get_weights()[0], before)
    keras_model.get_layer("bn1").set_weights([np.zeros(4)] * 4)
    assert model.bn1.running_var.min() > 0


def test_training_mode_is_ours_but_for_the_running_variance():
    model = network("resnet50", stem="imagenet")
    keras_model, before = in_keras.to_keras(model), copy.deepcopy(model)
    model.train()
    x = images(model, 8, 32, 32)
    # Keras takes the variance as E[x²] - E[x]², which loses digits.
    assert difference(keras_model, model, x, training=True) < 1e-3
    counts = {"bn1": 8 * 16 * 16, "layer4.2.bn3": 8}  # values for each channel
    for name, count in counts.items():
        ours, layer = model.get_submodule(name), keras_model.get_layer(name.replace(".", "_"))
        mean, variance = map(torch.as_tensor, layer.get_weights()[2:])
        old = 0.9 * before.get_submodule(name).running_var
        assert_close(mean, ours.running_mean)
        assert_close(variance - old, (ours.running_var - old) * (count - 1) / count)


def test_gradients_are_ours():
    model = network("resnet50").train()
    keras_model = in_keras.to_keras(model)
    x, labels = images(model, 6, 16, 16), torch.arange(6) % 5
    F.cross_entropy(model(x), labels).backward()
    F.cross_entropy(keras_model(x.permute(0, 2, 3, 1), training=True), labels).backward()
    for module, layer in in_keras.pairs(model, keras_model):
        gradients = [variable.value.grad for variable in layer.trainable_variables]
        parameters = [module.weight, *([] if module.bias is None else [module.bias])]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            back = np.argsort(in_keras.AXES[gradient.dim()]).tolist()
            scale = parameter.grad.abs().max().item()
            assert_close(gradient.permute(back), parameter.grad, rtol=0, atol=1e-3 * scale)


def changed(keras_model, change):
    """A copy in which change(layer's class, its configuration) has been made."""

    def make(layer):
        config = layer.get_config()
        return change(type(layer), config) or type(layer).from_config(config)

    found = keras.models.clone_model(keras_model, clone_function=make)
    found.set_weights(keras_model.get_weights())
    return found


def same_padding(kind, config):
    if kind is layers.ZeroPadding2D:
        return layers.Identity(name=config["name"])
    if kind is layers.Conv2D:
        config["padding"] = "same"
    return None


def default_epsilon(kind, config):
    if kind is layers.BatchNormalization:
        config["epsilon"] = 1e-3
    return None


@pytest.mark.parametrize("change", [same_padding, default_epsilon])
def test_a_convention_of_keras_makes_another_network(change):
    model = network()
    keras_model = in_keras.to_keras(model)
    x = images(model, 2, 32, 32)
    assert difference(changed(keras_model, lambda kind, config: None), model, x) < 1e-5
    assert difference(changed(keras_model, change), model, x) > 1e-4


def test_same_padding_is_right_where_the_size_is_odd():
    # The reason why such a mistake survives a test with one size.
    model = network()
    keras_model = changed(in_keras.to_keras(model), same_padding)
    assert difference(keras_model, model, images(model, 2, 33, 33)) < 1e-5
    assert difference(keras_model, model, images(model, 2, 32, 32)) > 1e-2


@pytest.mark.parametrize("order", [(3, 2, 1, 0), (2, 3, 0, 1)])
def test_other_orders_of_the_axes_are_noticed(order, monkeypatch):
    model = network(width=1)
    monkeypatch.setitem(in_keras.AXES, 4, order)
    try:
        found = difference(in_keras.to_keras(model), model, images(model))
    except ValueError:  # a shape that does not fit
        return
    assert found > 1e-3


def test_a_saved_file_is_the_same_network(tmp_path):
    model = network()
    in_keras.to_keras(model).save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert difference(loaded, model, images(model)) < 1e-5
    restored = in_keras.to_torch(loaded, network(seed=3))
    assert torch.equal(restored.layer4[1].conv2.weight, model.layer4[1].conv2.weight)


# Mistakes


@pytest.mark.parametrize("model", [cifar.build(20), nn.Linear(1, 1)])
def test_only_networks_that_know_their_spec(model):
    with pytest.raises(UserError, match="takes a network of models"):
        in_keras.to_keras(model)


def test_shortcuts_without_a_twin():
    with pytest.raises(UserError, match="take option B or C"):
        in_keras.to_keras(models.build("resnet18", 5, width=2, option="A"))


def test_a_keras_model_of_another_network():
    keras_model = in_keras.to_keras(network("resnet18"))
    with pytest.raises(UserError, match="no layer 'layer1_2_conv1': is it made by to_keras"):
        in_keras.to_torch(keras_model, network("resnet34"))
    wider = network(width=8)
    before = copy.deepcopy(wider.state_dict())
    with pytest.raises(UserError, match=r"layer 'conv1' has .*4, 1, 3, 3.*, not .*8, 1, 3, 3"):
        in_keras.to_torch(keras_model, wider)
    assert all(torch.equal(before[name], tensor) for name, tensor in wider.state_dict().items())


def test_without_keras(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    monkeypatch.delitem(sys.modules, "resnet_lib.in_keras")
    with pytest.raises(UserError, match=r"this needs the library keras .*: pip install keras$"):
        importlib.import_module("resnet_lib.in_keras")


# The backend

CARRY = """
import os
{choice}
import torch
from resnet_lib import in_keras, models
torch.manual_seed(0)
model, other = (models.build("resnet18", 3, width=2).eval() for _ in range(2))
keras_model = in_keras.to_keras(model)
assert torch.equal(in_keras.to_torch(keras_model, other).fc.weight, model.fc.weight)
x = torch.randn(1, 3, 32, 32)
found = keras_model.predict(x.permute(0, 2, 3, 1).numpy(), verbose=0)
torch.testing.assert_close(torch.from_numpy(found), model(x), rtol=1e-4, atol=1e-4)
print(in_keras.keras.backend.backend())
"""
CHOSEN = "os.environ['KERAS_BACKEND'] = 'jax'"


def carry(choice):
    """What a fresh process says that carries weights after this choice of a backend."""
    done = subprocess.run(
        [sys.executable, "-c", CARRY.format(choice=choice)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return (done.stdout or done.stderr).strip().splitlines()[-1]


def test_the_backend_is_torch_where_nobody_chose_another():
    assert carry("os.environ.pop('KERAS_BACKEND', None)") == "torch"


@pytest.mark.skipif(not find_spec("jax"), reason="jax is not installed")
@pytest.mark.parametrize("choice", [CHOSEN, f"{CHOSEN}; import keras; os.environ.clear()"])
def test_another_backend_stays_and_computes_the_same(choice):
    assert carry(choice) == "jax"


@pytest.mark.skipif(bool(find_spec("jax")), reason="jax is installed")
def test_a_backend_that_is_missing():
    assert carry(CHOSEN).endswith("(No module named 'jax'): set KERAS_BACKEND to torch")
