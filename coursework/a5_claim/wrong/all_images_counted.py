# fails: images extremes
"""The images that each network has right, not those that only it has right."""


def disagreement(right, other, given=disagreement):  # noqa: F821
    return right.sum().item(), other.sum().item(), given(right, other)[2]
