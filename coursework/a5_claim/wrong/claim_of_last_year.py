# fails: record
"""A record about another claim."""

RESULTS["claim"] = "mirroring"  # noqa: F821
