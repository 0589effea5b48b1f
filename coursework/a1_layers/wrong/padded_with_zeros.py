# fails: convolution corners
"""PyTorch's usual padding."""

import torch.nn.functional as F


def convolve(x, weight, stride, padding, dilation):
    return F.conv2d(x, weight, None, stride, padding, dilation)
