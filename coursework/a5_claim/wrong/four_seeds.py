# fails: record
"""One seed too few; everything else fits."""

for name in ("seeds", "with", "without"):
    RESULTS[name] = RESULTS[name][:4]  # noqa: F821
first, second = RESULTS["with"], RESULTS["without"]  # noqa: F821
mean, *interval = paired_interval(first, second)  # noqa: F821
gains = [a - b for a, b in zip(first, second, strict=True)]
RESULTS |= {"planned_seeds": 4, "mean": mean, "interval": interval, "p_value": flip_test(gains)}  # noqa: F821
RESULTS["verdict"] = "supported" if interval[0] > 0 else "refuted"
