"""Chapter 19: each check accepts right answers, however written, and names each mistake."""

import os

import numpy as np
import pytest
import torch
from judging import SEEDS, judged
from torch import nn

from resnet_lib import UserError, checks, models

os.environ.setdefault("KERAS_TORCH_DEVICE", "cpu")
in_keras = pytest.importorskip("resnet_lib.in_keras", exc_type=UserError)
keras, layers = in_keras.keras, in_keras.layers

# 19.1


def split(total):
    return total // 2, total - total // 2


def needed(size, kernel, stride):
    return (-(-size // stride) - 1) * stride + kernel - size


def same_padding(size, kernel, stride):
    return split(max(needed(size, kernel, stride), 0))


def test_same_padding():
    def measured(size, kernel, stride):
        """By a Keras convolution whose kernel has one 1: which pixel does the first output see?"""
        conv = layers.Conv2D(1, (1, kernel), (1, stride), padding="same", use_bias=False)
        conv.build((None, 1, size, 1))
        row = np.arange(1, size + 1, dtype="float32").reshape(1, 1, size, 1)

        def seen(tap):
            weight = np.zeros((1, kernel, 1, 1), "float32")
            weight[0, tap] = 1
            conv.set_weights([weight])
            return keras.ops.convert_to_numpy(conv(row)).ravel()

        before = sum(seen(tap)[0] == 0 for tap in range(kernel))
        after = sum(seen(tap)[-1] == 0 for tap in range(kernel))
        return int(before), int(after)

    judged(
        checks.check_same_padding,
        right=[same_padding, measured, lambda *case: torch.tensor(same_padding(*case)).tolist()],
        wrong=[
            (lambda *case: same_padding(*case)[::-1], "an odd pixel goes to the end"),
            (lambda size, kernel, stride: (kernel // 2,) * 2, "that is PyTorch's padding"),
            (lambda *case: (sum(same_padding(*case)) / 2,) * 2, "paddings are whole pixels"),
            (lambda *case: split(needed(*case)), "no padding is less than zero"),
            (lambda size, k, s: split(max(k - s, 0)), "where the stride divides the size"),
            (lambda n, k, s: split(max((n // s - 1) * s + k - n, 0)), "round the output size up"),
            (lambda size, kernel, stride: split(kernel - 1), "that is PyTorch's padding"),
            (lambda *case: (9, 9), "the padding is (0, 1), not (9.0, 9.0)"),
            (lambda *case: sum(same_padding(*case)), "should return 2 values"),
        ],
    )


# 19.2


def turned(weight, channels, height, width):
    return weight.reshape(-1, channels, height, width).permute(2, 3, 1, 0)


def dense_kernel(*arguments):
    return turned(*arguments).flatten(0, 2)


def test_dense_kernel():
    def by_numpy(weight, channels, height, width):
        kernel = weight.numpy().T.reshape(channels, height * width, -1).swapaxes(0, 1)
        return kernel.reshape(channels * height * width, -1)

    def by_layers(weight, channels, height, width):
        """The output for each unit image, flattened by Keras."""
        count = channels * height * width
        units = torch.eye(count, dtype=weight.dtype).view(count, height, width, channels)
        return units.permute(0, 3, 1, 2).flatten(1) @ weight.T

    def backwards(weight, channels, height, width):
        return weight.reshape(-1, height, width, channels).permute(3, 1, 2, 0).flatten(0, 2)

    judged(
        checks.check_dense_kernel,
        right=[dense_kernel, by_numpy, by_layers],
        wrong=[
            (lambda weight, *sizes: weight.T, "still in PyTorch's order"),
            (lambda weight, *sizes: weight, "transpose it as well"),
            (lambda *arguments: dense_kernel(*arguments).T, "the outputs come last"),
            (lambda *a: turned(*a).transpose(0, 1).flatten(0, 2), "rows and columns are swapped"),
            (lambda w, *sizes: w.reshape(w.shape[::-1]), "reads the numbers in a row"),
            (turned, "two axes"),
            (backwards, "that is the way back"),
            (lambda *arguments: 2 * dense_kernel(*arguments), "differs from the reference"),
        ],
    )


# 19.3


def without_bias(bias, mean, variance, epsilon, ours):
    return mean - bias, variance + epsilon - ours


def test_without_bias():
    def by_numpy(*arguments):
        *tensors, epsilon, ours = arguments
        bias, mean, variance = (array.numpy() for array in tensors)
        return [mean - bias, variance - (ours - epsilon)]

    def wrong(change):
        """The answer with one part replaced."""
        return lambda b, m, v, e, o: change(b, m, v, e, o, *without_bias(b, m, v, e, o))

    judged(
        checks.check_without_bias,
        right=[without_bias, by_numpy],
        wrong=[
            (wrong(lambda b, m, v, e, o, mean, var: (m + b, var)), "the sign of the bias"),
            (wrong(lambda b, m, v, e, o, mean, var: (m, var)), "the mean has to change"),
            (wrong(lambda b, m, v, e, o, mean, var: (b - m, var)), "the new mean has the wrong"),
            (wrong(lambda b, m, v, e, o, mean, var: (mean, v)), "the variance has to change"),
            (wrong(lambda b, m, v, e, o, mean, var: (mean, v - e + o)), "the sign is turned"),
            (wrong(lambda b, m, v, e, o, mean, var: (mean, v + e)), "take that off"),
            (wrong(lambda b, m, v, e, o, mean, var: (mean, v + e + o)), "taken off, not added"),
            (wrong(lambda b, m, v, e, o, mean, var: (mean, v * e / o)), "no factor of it"),
            (wrong(lambda b, m, v, e, o, mean, var: (mean, v - b**2)), "it doesn't spread them"),
            (wrong(lambda b, m, v, e, o, mean, var: (mean, var + 1)), "differs from the reference"),
            (lambda b, m, *rest: m - b, "should return 2 values"),
        ],
    )


def test_without_bias_is_the_same_function():
    generator = torch.Generator().manual_seed(0)
    x, bias, mean = (torch.randn(6, 4, generator=generator) for _ in range(3))
    variance = torch.rand(6, 4, generator=generator) + 0.1
    new_mean, new_variance = without_bias(bias, mean, variance, 1e-3, 1e-5)
    torch.testing.assert_close(
        (x + bias - mean) / (variance + 1e-3).sqrt(), (x - new_mean) / (new_variance + 1e-5).sqrt()
    )


# 19.4

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
CAFFE = torch.tensor([103.939, 116.779, 123.68])


def pixels_of(images):
    """(N, H, W, 3), from 0 to 255."""
    return (images.permute(0, 2, 3, 1) * STD + MEAN) * 255


def for_caffe(images):
    return pixels_of(images).flip(3) - CAFFE


def test_for_caffe():
    def by_library(images):
        pixels = pixels_of(images).round().numpy()
        return keras.applications.resnet.preprocess_input(pixels, data_format="channels_last")

    def in_place(images):
        found = for_caffe(images)
        images *= 2
        return found

    judged(
        checks.check_for_caffe,
        right=[for_caffe, by_library],
        wrong=[
            (lambda x: pixels_of(x) - CAFFE, "still in the order red, green, blue"),
            (lambda x: pixels_of(x) - CAFFE.flip(0), "still in the order red, green, blue"),
            (lambda x: pixels_of(x).flip(3) - CAFFE.flip(0), "the means are in the order"),
            (lambda x: pixels_of(x).flip(3), "subtract the means"),
            (lambda x: for_caffe(x) / 255, "leaves the scale"),
            (lambda x: pixels_of(x).flip(3) / 255 - CAFFE, "back to the scale 0 to 255"),
            (lambda x: x.permute(0, 2, 3, 1).flip(3), "undo the normalisation"),
            (lambda x: x.permute(0, 2, 3, 1).flip(3) - CAFFE, "undo the normalisation"),
            (lambda x: for_caffe(x).permute(0, 3, 1, 2), "Keras wants the channels last"),
            (lambda x: for_caffe(x).transpose(1, 2), "rows and columns are swapped"),
            (lambda x: pixels_of(x).flip(1) - CAFFE, "flip the channels, not the image"),
            (lambda x: pixels_of(x).flip(2) - CAFFE, "flip the channels, not the image"),
            (lambda x: 0 * for_caffe(x), "differs from the reference"),
            (in_place, "are changed"),
        ],
    )


# 19.5


def carried(keras_model, stride_in="1x1", bias=True, order=(3, 2, 0, 1)):
    """By the order of the layers: in each block Keras lists the shortcut's convolution first."""
    convolutions = [layer for layer in keras_model.layers if isinstance(layer, layers.Conv2D)]
    weights = {layer.name: layer.get_weights() for layer in keras_model.layers}
    model = models.build("resnet50", keras_model.output_shape[1], stride_in=stride_in)
    ours = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]

    def place(layer):
        """conv2_block1_0_conv -> (2, 1, 4), since our projection comes last in its block."""
        if layer.name == "conv1_conv":
            return (1, 0, 0)
        stage, block, index, _ = layer.name.split("_")
        return int(stage[4:]), int(block[5:]), int(index) or 4

    for layer, conv, norm in zip(sorted(convolutions, key=place), ours, norms, strict=True):
        kernel, shift = map(torch.tensor, weights[layer.name])
        scale, offset, mean, variance = map(
            torch.tensor, weights[layer.name.removesuffix("conv") + "bn"]
        )
        conv.weight.data = kernel.permute(order)
        norm.weight.data, norm.bias.data = scale, offset
        norm.running_mean, norm.running_var = mean - shift * bias, variance + 1.001e-5 - norm.eps
    kernel, shift = map(torch.tensor, weights["predictions"])
    model.fc.weight.data, model.fc.bias.data = kernel.T, shift
    return model


@pytest.mark.slow
def test_carried():
    judged(
        checks.check_carried,
        right=[carried],
        wrong=[
            (lambda k: carried(k, stride_in="3x3"), "the stride is in the 3x3"),
            (lambda k: carried(k, bias=False), "the convolutions' biases are lost"),
            (lambda k: carried(k, order=(3, 2, 1, 0)), "rows and columns of the kernels"),
            (
                lambda k: carried(k, stride_in="3x3", bias=False),
                "and the stride is in the wrong place",
            ),
            (lambda k: nn.Sequential(carried(k), nn.Softmax(1)), "leave the softmax to the loss"),
            (lambda k: models.resnet50(10), "differs from the reference"),
            (lambda k: carried(k).state_dict(), "should be our network"),
            (models.resnet50(10), "hand in the function carried itself"),
        ],
        seeds=SEEDS[:1],  # each network has 24 million numbers
    )
