# fails: record
"""The verdict is the one that was hoped for, not the interval's."""

RESULTS["verdict"] = {"supported": "undecided"}.get(RESULTS["verdict"], "supported")  # noqa: F821
