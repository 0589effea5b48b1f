# fails: size
"""A window that sticks out is counted."""

import math


def output_size(size, kernel, stride, padding, dilation):
    return math.ceil((size + 2 * padding - dilation * (kernel - 1) - 1) / stride) + 1


def convolve(x, weight, stride, padding, dilation):
    """As before: the master's answer calls output_size."""
    import torch.nn.functional as F

    x = F.pad(x, [padding] * 4, mode="reflect") if padding else x
    return F.conv2d(x, weight, stride=stride, dilation=dilation)
