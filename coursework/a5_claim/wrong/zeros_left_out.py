# fails: ties
"""The difference that is zero is thrown away, and with none left there is an error."""

import itertools


def flip_test(differences):
    differences = [d for d in differences if d]
    signs = list(itertools.product((1, -1), repeat=len(differences)))
    total = sum(differences) / len(differences)
    means = [sum(s * d for s, d in zip(row, differences, strict=True)) for row in signs]
    return sum(m / len(differences) >= total - 1e-12 for m in means) / len(signs)
