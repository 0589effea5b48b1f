# fails: record
"""The interval is too narrow for the sheet's confidence."""

low, high = RESULTS["interval"]  # noqa: F821
RESULTS["interval"] = [low + (high - low) / 8, high - (high - low) / 8]  # noqa: F821
