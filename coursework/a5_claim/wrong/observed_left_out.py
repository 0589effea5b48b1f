# fails: flips ties
"""Only choices that are more extreme than the observed one."""

import itertools


def flip_test(differences):
    sums = [
        sum(s * d for s, d in zip(signs, differences, strict=True))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    return sum(value > sum(differences) + 1e-12 for value in sums) / len(sums)
