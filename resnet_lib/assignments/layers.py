"""What the assignments on layers share: weights that find their layer by its shape.

The names of a student's layers are free, so weights are handed over by the kernel's shape, and the
numbers of a batch norm by its channels. Questions choose sizes such that no two kernels are alike.
"""

import itertools
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from resnet_lib.checks.verdict import Draw, Mismatch

Weights = dict[str, list[Tensor]]  # "kernels", and "norms" of the rows scale, shift, mean, variance


def choose(
    name: str,
    variant: int,
    options: Mapping[str, Sequence],
    fits: Callable[[dict[str, Any]], bool] = lambda chosen: True,
) -> dict[str, Any]:
    """One value for each option: the first ones for variant 0, others for any other.

    The variants from 1 on go through all other combinations that fit, in an order that looks
    random, so two of them ask the same only where as many lie between them as there are
    combinations.
    """
    products = itertools.product(*options.values())
    combinations = (dict(zip(options, values, strict=True)) for values in products)
    first, *others = filter(fits, combinations)
    random.Random(name).shuffle(others)
    return others[(variant - 1) % len(others)] if variant else first


def draw_weights(draw: Draw, kernels: Iterable[tuple[int, ...]], norms: Iterable[int]) -> Weights:
    """Random numbers for kernels of these shapes and batch norms of these numbers of channels."""
    made = []
    for channels in sorted(set(norms)):
        rows = draw.normal(4, channels)
        rows[0] = rows[0].sign() * (0.5 + rows[0].abs())  # a scale near zero would hide a layer
        rows[3] = 0.5 + rows[3].abs()
        made.append(rows)
    shapes = sorted(set(kernels))
    return {
        "kernels": [draw.normal(*shape) / (shape[1] * shape[2]) ** 0.5 for shape in shapes],
        "norms": made,
    }


def fill(module: nn.Module, weights: Weights) -> None:
    """Copy the weights into the layers that they fit; a convolution's bias becomes zero."""
    kernels = {tuple(kernel.shape): kernel for kernel in weights["kernels"]}
    norms = {rows.shape[1]: rows for rows in weights["norms"]}
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d):
                if tuple(layer.weight.shape) in kernels:
                    layer.weight.copy_(kernels[tuple(layer.weight.shape)])
                if layer.bias is not None:
                    layer.bias.zero_()
            elif isinstance(layer, nn.BatchNorm2d) and layer.num_features in norms:
                values = (layer.weight, layer.bias, layer.running_mean, layer.running_var)
                for value, row in zip(values, norms[layer.num_features], strict=True):
                    if value is not None:
                        value.copy_(row)


def described(module: nn.Module) -> dict[str, Any]:
    """Numbers of the module: its parameters, kernels, biases of convolutions and batch norms."""
    convolutions = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    return {
        "parameters": sum(p.numel() for p in module.parameters()),
        "kernels": [list(m.weight.shape) for m in convolutions],
        "biases": sum(m.bias is not None for m in convolutions),
        "norms": [m.num_features for m in norms],
    }


def observed(module: nn.Module, x: Tensor, upstream: Tensor | None = None) -> dict[str, Tensor]:
    """Output, the input's gradient for that upstream, and the output in evaluation mode after it.

    Without an upstream, only the output. The module's mode stays, but for the last.
    """
    x = x.clone().requires_grad_(upstream is not None)
    output = module(x * 1)  # not a leaf: a layer may work in place
    found = {"output": output}
    if upstream is not None and output.shape == upstream.shape:
        found["gradient"] = torch.autograd.grad(output, x, upstream)[0]
        found["later"] = module.eval()(x.detach().clone())
    return found


def listed(outputs: Mapping, key: str, count: int) -> list:
    """A list of that length in what was collected."""
    values = outputs.get(key)
    if not isinstance(values, list) or len(values) != count:
        raise Mismatch("what was collected is incomplete")
    return values
