# fails: images extremes
"""The exact test, where the sheet asks for mid-p."""

from resnet_lib.compare import mcnemar as disagreement  # noqa: F401
