# fails: interval
"""Two separate means, as if the seeds had nothing in common."""

from resnet_lib.compare import t_quantile


def paired_interval(first, second):
    n = len(first)
    means = sum(first) / n, sum(second) / n
    spreads = [
        sum((value - mean) ** 2 for value in values) / (n - 1)
        for values, mean in zip((first, second), means, strict=True)
    ]
    half = t_quantile(n - 1, 0.95) * (sum(spreads) / n) ** 0.5
    middle = means[0] - means[1]
    return middle, middle - half, middle + half
