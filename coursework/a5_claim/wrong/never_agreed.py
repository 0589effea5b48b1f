# fails: extremes
"""Divides by the number of disagreements, which can be zero."""


def disagreement(right, other, given=disagreement):  # noqa: F821
    one, two, p = given(right, other)
    return one, two, p * (one + two) / (one + two)
