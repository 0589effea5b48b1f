"""Checks of chapter 19, where PyTorch and Keras differ."""

import functools
import importlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

from resnet_lib import models
from resnet_lib.checks.answers import (
    function,
    kind,
    near,
    number,
    returned,
    same_tensor,
    tensor,
)
from resnet_lib.checks.verdict import Draw, Mismatch, check

# torchvision's normalisation, in RGB and on the scale 0..1, and the means of Keras' mode "caffe",
# in BGR and on the scale 0..255.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CAFFE_MEAN = (103.939, 116.779, 123.68)


@check
def check_same_padding(same_padding: Callable) -> str:
    """Exercise 19.1: same_padding(size, kernel, stride) -> (before, after)."""
    call = "same_padding(size, kernel, stride)"
    same_padding = function(same_padding, call)
    for case in ((8, 3, 2), (9, 3, 2), (32, 7, 2), (33, 7, 2), (14, 3, 1), (11, 6, 4), (8, 1, 2)):
        size, kernel, stride = case
        values = returned(same_padding(*case), 2, call)
        found = tuple(number(value, "a padding") for value in values)
        needed = (-(-size // stride) - 1) * stride + kernel - size
        total = max(needed, 0)
        mistakes = [
            (
                (total - total // 2, total // 2),
                "an odd pixel goes to the end, not the beginning",
            ),
            ((kernel // 2, kernel // 2), "that is PyTorch's padding, the same on both sides"),
            ((total / 2, total / 2), "paddings are whole pixels: an odd one goes to the end"),
            ((needed // 2, needed - needed // 2), "no padding is less than zero"),
            (_padding(kernel - stride), "that is right only where the stride divides the size"),
            (_padding((size // stride - 1) * stride + kernel - size), "round the output size up"),
        ]
        if found == _padding(total):
            continue
        for value, words in mistakes:
            if found == value:
                raise Mismatch(words)
        given = f"size {size}, kernel {kernel} and stride {stride}"
        raise Mismatch(f"for {given} the padding is {_padding(total)}, not {found}")
    return "the padding is right for seven sizes, kernels and strides"


def _padding(total: int) -> tuple[int, int]:
    total = max(total, 0)
    return total // 2, total - total // 2


@check
def check_dense_kernel(dense_kernel: Callable, *, draw: Draw) -> str:
    """Exercise 19.2: dense_kernel(weight, channels, height, width) -> (H * W * C, O)."""
    dense_kernel = function(dense_kernel, "dense_kernel(weight, channels, height, width)")
    for out, channels, height, width in ((4, 3, 2, 5), (6, 2, 3, 4)):
        weight = draw.normal(out, channels * height * width)
        turned = weight.view(out, channels, height, width)
        expected = turned.permute(2, 3, 1, 0).reshape(-1, out)
        backwards = weight.view(out, height, width, channels).permute(3, 1, 2, 0).reshape(-1, out)
        mistakes = [
            (weight.T, "transposed, but its rows are still in PyTorch's order: channels first"),
            (weight, "transpose it as well: the outputs come last in Keras"),
            (expected.T, "the order of the pixels is right; transpose: the outputs come last"),
            (turned.permute(3, 2, 1, 0).reshape(-1, out), "rows and columns are swapped"),
            (weight.reshape(-1, out), "that reads the numbers in a row into another shape"),
            (turned.permute(2, 3, 1, 0), "two axes: flatten height, width and channels"),
            (backwards, "that is the way back: the given weight is in the order C, H, W"),
        ]
        found = dense_kernel(weight.clone(), channels, height, width)
        same_tensor(found, expected, "the kernel", mistakes)
    return "each weight meets its pixel, for two shapes of the feature map"


@check
def check_without_bias(without_bias: Callable, *, draw: Draw) -> str:
    """Exercise 19.3: without_bias(bias, mean, variance, epsilon, ours) -> (mean, variance)."""
    call = "without_bias(bias, mean, variance, epsilon, ours)"
    without_bias = function(without_bias, call)
    for epsilon, ours in ((1e-3, 1e-5), (1e-5, 1e-2), (0.1, 0.02)):
        bias, mean, variance = draw.normal(5), draw.normal(5), draw.normal(5).exp() + 0.1
        values = returned(
            without_bias(bias.clone(), mean.clone(), variance.clone(), epsilon, ours), 2, call
        )
        means = [
            (mean + bias, "the sign of the bias is turned: the batch norm subtracts the mean"),
            (mean, "the mean has to change: the output of the convolution lost its bias"),
            (bias - mean, "the new mean has the wrong sign"),
        ]
        same_tensor(values[0], mean - bias, "the mean", means)
        change = epsilon - ours
        variances = [
            (variance, "the variance has to change: another epsilon is added to it"),
            (variance - change, "the sign is turned: the sum of variance and epsilon stays"),
            (variance + epsilon, "our batch norm adds an epsilon of its own: take that off"),
            (variance + epsilon + ours, "our epsilon is taken off, not added"),
            (variance * epsilon / ours, "epsilon is added to the variance, no factor of it"),
            (variance - bias**2, "a bias shifts the values; it doesn't spread them"),
        ]
        same_tensor(values[1], variance + change, "the variance", variances, tolerance=1e-9)
    return "the batch norm computes the same without the bias, for three pairs of epsilons"


@check
def check_for_caffe(for_caffe: Callable, *, draw: Draw) -> str:
    """Exercise 19.4: for_caffe(images), (N, 3, H, W) for torchvision -> (N, H, W, 3) for Keras."""
    for_caffe = function(for_caffe, "for_caffe(images)")
    pixels = draw.integers(0, 255, 2, 3, 4, 5).double()
    mean, std, caffe = (torch.tensor(v).double() for v in (MEAN, STD, CAFFE_MEAN))
    images = (pixels / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    last = pixels.permute(0, 2, 3, 1)
    expected = last.flip(3) - caffe
    mistakes = [
        (last - caffe, "the channels are still in the order red, green, blue"),
        (last - caffe.flip(0), "the channels are still in the order red, green, blue"),
        (last.flip(3) - caffe.flip(0), "the means are in the order blue, green, red, too"),
        (last.flip(3), "subtract the means"),
        (last.flip(3) / 255 - caffe / 255, "this mode leaves the scale at 0 to 255"),
        (last.flip(3) / 255 - caffe, "bring the pixels back to the scale 0 to 255 first"),
        (images.permute(0, 2, 3, 1).flip(3), "undo the normalisation of torchvision first"),
        (images.permute(0, 2, 3, 1).flip(3) - caffe, "undo the normalisation of torchvision first"),
        (expected.permute(0, 3, 1, 2), "Keras wants the channels last: (N, H, W, 3)"),
        (expected.transpose(1, 2), "rows and columns are swapped"),
        (last.flip(1) - caffe, "flip the channels, not the image"),
        (last.flip(2) - caffe, "flip the channels, not the image"),
    ]
    given = images.clone()
    found = for_caffe(given)
    same_tensor(found, expected, "the images", mistakes)
    if not torch.equal(given, images):
        raise Mismatch("the images that were handed in are changed: work on a copy")
    return "the images are what Keras' preprocess_input makes of the same pixels"


@functools.cache
def _application():
    """Keras' ResNet50 for ten classes, its logits as the output; made once."""
    keras = importlib.import_module("resnet_lib.in_keras").keras
    return keras.applications.ResNet50(
        weights=None, input_shape=(32, 32, 3), classes=10, classifier_activation=None
    )


def _place(name: str) -> str:
    """The layer of a keras.applications.ResNet50 that does the work of our module ``name``."""
    if "." not in name:
        return {"conv1": "conv1_conv", "bn1": "conv1_bn", "fc": "predictions"}[name]
    stage, index, part, *rest = name.removeprefix("layer").split(".")
    if part == "downsample":
        kind, number = ("conv", "bn")[int(rest[0])], 0
    else:
        kind, number = part[:-1], part[-1]
    return f"conv{int(stage) + 1}_block{int(index) + 1}_{number}_{kind}"


def _state(keras_model) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The state_dict with the application's weights, and what the biases took off its means."""
    state, taken = {}, {}
    with torch.device("meta"):
        model = models.resnet50()
    for name, module in model.named_modules():
        if not isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.Linear)):
            continue
        layer = keras_model.get_layer(_place(name))
        first, second, *rest = [torch.tensor(array) for array in layer.get_weights()]
        if isinstance(module, nn.BatchNorm2d):
            mean, variance = rest
            state[f"{name}.running_mean"] = mean - taken[f"{name}.running_mean"]
            state[f"{name}.running_var"] = variance
            state[f"{name}.num_batches_tracked"] = torch.tensor(0)
        if isinstance(module, nn.Conv2d):
            norm = name.replace("conv", "bn").replace("downsample.0", "downsample.1")
            taken[f"{norm}.running_mean"] = second
            state[f"{name}.weight"] = first.permute(3, 2, 0, 1)
        else:
            state |= {f"{name}.weight": first.t(), f"{name}.bias": second}
    return state, taken


def _network(state: dict[str, Tensor], stride_in: str) -> nn.Module:
    with torch.device("meta"):
        model = models.resnet50(len(state["fc.bias"]), stride_in=stride_in)
    model.load_state_dict(state, assign=True)
    return model


def _fill(keras_model, draw: Draw) -> None:
    """Random values for whatever a fresh model has zeros and ones in."""
    for layer in keras_model.layers:
        arrays = layer.get_weights()
        for index, array in enumerate(arrays):
            if array.ndim == 1:
                noise = 0.2 * draw.normal(*array.shape).numpy()
                positive = len(arrays) == 4 and index in (0, 3)  # scales and variances
                arrays[index] = 0.75 + abs(noise) if positive else noise
        if arrays:
            layer.set_weights(arrays)


@check
def check_carried(carried: Callable, *, draw: Draw) -> str:
    """Exercise 19.5: carried(keras_model), a keras.applications.ResNet50 -> our network."""
    carried = function(carried, "carried(keras_model)")
    keras_model = _application()
    _fill(keras_model, draw)
    x = draw.normal(2, 3, 32, 32).float()
    found = carried(keras_model)
    if not isinstance(found, nn.Module):
        raise Mismatch(f"carried(keras_model) should be our network; it is {kind(found)}")

    def logits(model: nn.Module) -> Tensor:
        with torch.no_grad():
            return model.cpu().eval()(x)

    expected = torch.tensor(keras_model.predict_on_batch(x.permute(0, 2, 3, 1).numpy()))
    answer = tensor(logits(found), "the network's output")
    right = "the logits of both networks are equal"
    if near(answer, expected.double(), 1e-3):
        return right
    state, taken = _state(keras_model)
    lost = state | {name: state[name] + bias for name, bias in taken.items()}
    swapped = {name: value.mT if value.dim() == 4 else value for name, value in state.items()}
    mistakes = [
        (logits(_network(state, "3x3")), "the stride is in the 3x3; look where Keras has it"),
        (logits(_network(lost, "1x1")), "the convolutions' biases are lost"),
        (logits(_network(swapped, "1x1")), "rows and columns of the kernels are swapped"),
        (logits(_network(lost, "3x3")), "biases are lost, and the stride is in the wrong place"),
        (expected.softmax(1), "give the logits: leave the softmax to the loss"),
    ]
    same_tensor(answer, expected, "the logits", mistakes, tolerance=1e-3)
    return right
