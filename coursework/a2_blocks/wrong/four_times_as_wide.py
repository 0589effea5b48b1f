# fails: shapes parameters stride addition training edges
"""The expansion of the book."""

from resnet_lib.blocks import Bottleneck as Block  # noqa: F401
