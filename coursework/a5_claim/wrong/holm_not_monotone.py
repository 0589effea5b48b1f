# fails: adjusted
"""Holm's factors, without the rule that none may be smaller than one before it."""


def adjusted(p_values):
    order = sorted(p_values)
    return [min(1.0, p * (len(p_values) - order.index(p))) for p in p_values]
