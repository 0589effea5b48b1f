# fails: folded
"""eps is forgotten."""


def folded(weight, scale, shift, mean, variance, eps):
    factor = scale / variance.sqrt()
    bias = weight.sum((2, 3)) @ (shift - factor * mean)
    return weight * factor[:, None, None], bias
