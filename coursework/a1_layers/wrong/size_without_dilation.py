# fails: size
"""The kernel's weights counted instead of what they cover."""


def output_size(size, kernel, stride, padding, dilation):
    return (size + 2 * padding - kernel) // stride + 1


def convolve(x, weight, stride, padding, dilation, right=convolve):  # noqa: F821
    """As before: the master's answer calls output_size."""
    import torch.nn.functional as F

    x = F.pad(x, [padding] * 4, mode="reflect") if padding else x
    return F.conv2d(x, weight, stride=stride, dilation=dilation)
