# fails: convolution corners
"""Neighbouring weights on neighbouring pixels, always."""


def convolve(x, weight, stride, padding, dilation, given=convolve):  # noqa: F821
    return given(x, weight, stride, padding, 1)
