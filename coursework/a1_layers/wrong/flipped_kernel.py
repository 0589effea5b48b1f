# fails: convolution corners
"""Convolution as mathematics defines it."""


def convolve(x, weight, stride, padding, dilation, given=convolve):  # noqa: F821
    return given(x, weight.flip(2, 3), stride, padding, dilation)
