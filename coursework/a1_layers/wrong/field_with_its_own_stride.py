# fails: field
"""A layer's stride widens the layer itself, not only those behind it."""


def receptive_field(layers):
    field, jump = 1, 1
    for kernel, stride, dilation in layers:
        jump *= stride
        field += (kernel - 1) * dilation * jump
    return field
