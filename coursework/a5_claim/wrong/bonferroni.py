# fails: adjusted
"""Bonferroni, where the sheet asks for Holm."""


def adjusted(p_values):
    return [min(1.0, len(p_values) * p) for p in p_values]
