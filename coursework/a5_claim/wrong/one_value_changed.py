# fails: record
"""A value was improved after mean and interval were computed."""

RESULTS["with"] = [*RESULTS["with"][:-1], RESULTS["with"][-1] + 0.02]  # noqa: F821
