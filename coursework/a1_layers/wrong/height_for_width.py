# fails: corners
"""Right for square images only."""

import torch.nn.functional as F


def convolve(x, weight, stride, padding, dilation):
    kernel = weight.shape[-1]
    x = F.pad(x, [padding] * 4, mode="reflect") if padding else x
    side = (x.shape[2] - dilation * (kernel - 1) - 1) // stride + 1
    columns = F.unfold(x, kernel, dilation, 0, stride)
    return (weight.flatten(1) @ columns).reshape(len(x), len(weight), side, side)
