# fails: flips ties
"""A thousand random choices instead of all."""

import random


def flip_test(differences):
    total, hits = sum(differences), 0
    for _ in range(1000):
        hits += sum(random.choice((1, -1)) * d for d in differences) >= total - 1e-12
    return (hits + 1) / 1001
