# fails: convolution corners
"""Every window, whatever the stride."""


def convolve(x, weight, stride, padding, dilation, given=convolve):  # noqa: F821
    return given(x, weight, 1, padding, dilation)
