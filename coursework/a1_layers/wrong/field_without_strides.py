# fails: field
"""The kernels added up, as if nothing strode."""


def receptive_field(layers):
    return 1 + sum(dilation * (kernel - 1) for kernel, _, dilation in layers)
