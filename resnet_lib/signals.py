"""How large activations and gradients are along the depth of a network."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_lib.blocks import BasicBlock, Bottleneck


def rms(x: Tensor) -> float:
    """Root mean square of all elements."""
    return x.detach().double().square().mean().sqrt().item()


def block_signals(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, list[float]]:
    """One forward and backward pass in training mode; lists with an entry a block, input first.

    images float (N, C, H, W), labels int64 (N,), on the model's device; the loss is the mean
    cross-entropy. The model is left as it was.
    "activation": root mean square of the block's output. "gradient": root mean square of the
    loss's gradient by that output, times N, so that it does not depend on the batch's size.
    "step": the gradient by the weights of the block's convolutions, as a length, over the length
    of these weights: the share by which plain gradient descent moves them at learning rate 1.
    """
    model = copy.deepcopy(model).train().requires_grad_(True)
    blocks = [m for m in model.modules() if isinstance(m, (BasicBlock, Bottleneck))]
    outputs: list[Tensor] = []

    def keep(module, inputs, output):
        output.retain_grad()
        outputs.append(output)

    for block in blocks:
        block.register_forward_hook(keep)
    with torch.enable_grad():
        F.cross_entropy(model(images), labels).backward()
    steps = []
    for block in blocks:
        weights = [m.weight for m in block.modules() if isinstance(m, nn.Conv2d)]
        moved = sum(w.grad.double().square().sum() for w in weights)
        length = sum(w.detach().double().square().sum() for w in weights)
        steps.append((moved / length).sqrt().item())
    return {
        "activation": [rms(output) for output in outputs],
        "gradient": [rms(output.grad) * len(images) for output in outputs],
        "step": steps,
    }
