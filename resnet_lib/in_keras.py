"""The networks of models.build in Keras 3, and their weights carried there and back.

Keras computes with one of several backends. Where neither the environment variable KERAS_BACKEND
nor an earlier import has chosen one, importing this module chooses torch. Nothing here depends on
the choice: weights travel as NumPy arrays. The library keras is an extra of this package.
"""

import os
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from resnet_lib import UserError, models
from resnet_lib.blocks import Bottleneck

os.environ.setdefault("KERAS_BACKEND", "torch")  # keras reads it once, when it is first imported
try:
    import keras
    from keras import layers
except ImportError as error:
    remedy = "pip install keras" if error.name == "keras" else "set KERAS_BACKEND to torch"
    raise UserError(f"this needs the library keras and its backend ({error}): {remedy}") from None

# Where PyTorch's axes go: kernels are (O, I, H, W) there and (H, W, I, O) here, those of a dense
# layer (O, I) and (I, O).
AXES = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}
# In the order of a Keras layer's weights.
TENSORS = {
    nn.Conv2d: ("weight",),
    nn.Linear: ("weight", "bias"),
    nn.BatchNorm2d: ("weight", "bias", "running_mean", "running_var"),
}


def conv_norm(x, channels: int, size: int, stride: int, conv: str, norm: str):
    """(N, H, W, C) -> (N, H / stride, W / stride, channels); conv and norm are the layers' names.

    The layers are PyTorch's in every convention: padding, epsilon, momentum.
    """
    if size > 1:
        # Not padding="same": with stride 2 that adds less on the left and above.
        x = layers.ZeroPadding2D(size // 2, data_format="channels_last")(x)
    x = layers.Conv2D(
        channels, size, stride, use_bias=False, data_format="channels_last", name=conv
    )(x)
    # Keras' momentum is the weight of the old value: 1 - PyTorch's.
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=norm)(x)


def branch_sizes(bottleneck: bool, width: int, stride: int, stride_in: str) -> list[tuple]:
    """(channels, size of the kernel, stride) of the convolutions in a block's branch."""
    if not bottleneck:
        return [(width, 3, stride), (width, 3, 1)]
    stride1, stride2 = (1, stride) if stride_in == "3x3" else (stride, 1)
    return [(width, 1, stride1), (width, 3, stride2), (4 * width, 1, 1)]


def block(x, name: str, sizes: list[tuple], stride: int, option: str = "B"):
    """A residual block, (N, H, W, C) -> (N, H / stride, W / stride, channels of the last size)."""
    shortcut, channels = x, sizes[-1][0]
    if option == "C" or stride > 1 or x.shape[-1] != channels:
        names = f"{name}_downsample_0", f"{name}_downsample_1"
        shortcut = conv_norm(x, channels, 1, stride, *names)
    for index, size in enumerate(sizes, 1):
        if index > 1:
            x = layers.ReLU()(x)
        x = conv_norm(x, *size, f"{name}_conv{index}", f"{name}_bn{index}")
    return layers.ReLU()(layers.Add()([x, shortcut]))


def twin(
    name: str,
    num_classes: int = 1000,
    width: int = 64,
    stem: str = "imagenet",
    in_channels: int = 3,
    stride_in: str = "3x3",
    option: str = "B",
    zero_init: bool = False,
) -> keras.Model:
    """The network that models.build makes of these arguments: (N, H, W, in_channels) -> logits.

    Its layers have the names of our modules, with "_" for ".". Its weights are Keras' own first
    values, whatever ``zero_init`` says: ``to_keras`` carries ours.
    """
    kind, depths = models.DEPTHS[name]
    images = keras.Input((None, None, in_channels))
    size, stride = (7, 2) if stem == "imagenet" else (3, 1)
    x = layers.ReLU()(conv_norm(images, width, size, stride, "conv1", "bn1"))
    if stem == "imagenet":
        # After a ReLU zeros are as good as PyTorch's minus infinity: no maximum is below zero.
        x = layers.ZeroPadding2D(1, data_format="channels_last")(x)
        x = layers.MaxPooling2D(3, 2, data_format="channels_last")(x)
    for number, depth in enumerate(depths, 1):
        for index in range(depth):
            stride = 2 if number > 1 and index == 0 else 1
            sizes = branch_sizes(kind is Bottleneck, width * 2 ** (number - 1), stride, stride_in)
            x = block(x, f"layer{number}_{index}", sizes, stride, option)
    x = layers.GlobalAveragePooling2D(data_format="channels_last")(x)
    return keras.Model(images, layers.Dense(num_classes, name="fc")(x), name=name)


def pairs(model: nn.Module, keras_model: keras.Model) -> Iterator[tuple]:
    """(module, layer of the same place) for all modules that have weights."""
    names = {layer.name for layer in keras_model.layers}
    for name, module in model.named_modules():
        if type(module) in TENSORS:
            layer = name.replace(".", "_")
            if layer not in names:
                raise UserError(f"the Keras model has no layer {layer!r}: is it made by to_keras?")
            yield module, keras_model.get_layer(layer)


def to_keras(model: nn.Module) -> keras.Model:
    """A Keras model with the weights and running statistics of a network of models.build."""
    if getattr(model, "spec", {}).get("name") not in models.DEPTHS:
        raise UserError("to_keras takes a network of models.build, which knows its spec")
    if model.spec.get("option") == "A":
        raise UserError("shortcuts of option A have no twin in Keras: take option B or C")
    keras_model = twin(**model.spec)
    for module, layer in pairs(model, keras_model):
        tensors = [getattr(module, name).detach().cpu().numpy() for name in TENSORS[type(module)]]
        layer.set_weights([array.transpose(AXES[array.ndim]) for array in tensors])
    return keras_model


def to_torch(keras_model: keras.Model, model: nn.Module) -> nn.Module:
    """Copy the weights and running statistics of a model of to_keras into ``model``.

    Keras counts no batches: ``num_batches_tracked`` stays as it is.
    """
    found = []
    for module, layer in pairs(model, keras_model):
        tensors = [getattr(module, name) for name in TENSORS[type(module)]]
        arrays = [array.transpose(np.argsort(AXES[array.ndim])) for array in layer.get_weights()]
        shapes = [tuple(tensor.shape) for tensor in tensors], [array.shape for array in arrays]
        if shapes[0] != shapes[1]:
            raise UserError(f"the Keras layer {layer.name!r} has {shapes[1]}, not {shapes[0]}")
        found += zip(tensors, arrays, strict=True)
    with torch.no_grad():
        for tensor, array in found:
            tensor.copy_(torch.from_numpy(array.copy()))
    return model
