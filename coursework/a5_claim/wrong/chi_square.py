# fails: images extremes
"""The approximation of the textbooks, which a few images don't allow."""

import math


def disagreement(right, other):
    one, two = (right & ~other).sum().item(), (other & ~right).sum().item()
    z = abs(one - two) / math.sqrt(one + two) if one != two else 0
    return one, two, math.erfc(z / math.sqrt(2))
