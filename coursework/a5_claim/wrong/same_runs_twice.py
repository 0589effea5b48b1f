# fails: record
"""The change never reached the run."""

RESULTS["with"] = RESULTS["without"]  # noqa: F821
RESULTS |= {"mean": 0.0, "interval": [0.0, 0.0], "p_value": 1.0, "verdict": "undecided"}  # noqa: F821
