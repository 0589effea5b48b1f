# fails: record
"""One seed too few."""

for name in ("seeds", "with", "without"):
    RESULTS[name] = RESULTS[name][:4]  # noqa: F821
RESULTS["planned_seeds"] = 4  # noqa: F821
