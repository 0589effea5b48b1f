# fails: folded
"""The running mean is forgotten."""


def folded(weight, scale, shift, mean, variance, eps):
    factor = scale / (variance + eps).sqrt()
    return weight * factor[:, None, None], (weight * shift[:, None, None]).sum((1, 2, 3))
