# fails: folded
"""The batch norm of the outputs, as in chapter 4: it fits only if the channels happen to."""


def folded(weight, scale, shift, mean, variance, eps):
    out = len(weight)
    repeat = [values.repeat(2)[:out] for values in (scale, shift, mean, variance)]
    scale, shift, mean, variance = repeat
    factor = scale / (variance + eps).sqrt()
    return weight * factor[:, None, None, None], shift - factor * mean
