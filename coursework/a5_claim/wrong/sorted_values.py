# fails: adjusted
"""Right values in the wrong order."""


def adjusted(p_values, given=adjusted):  # noqa: F821
    return sorted(given(p_values))
