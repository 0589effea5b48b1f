"""Every figure of the book: data in, a Figure out. The only package that imports matplotlib.

Colours are those of Okabe and Ito (2008), told apart by line style and marker too. The background
is opaque, and text has at least 9 points when the figure is scaled to a phone 360 pixels wide.
Where a function takes a history, that is an object with ``epochs`` or such a list of dicts itself.
"""

from resnet_lib.plots.charts import bars, histories, history, lines, reliability
from resnet_lib.plots.diagrams import (
    basic_block_diagram,
    bottleneck_diagram,
    network_diagram,
    pyramid_diagram,
)
from resnet_lib.plots.live import Live
from resnet_lib.plots.pictures import (
    confusion,
    feature_maps,
    image_rows,
    images,
    overlays,
    receptive_fields,
)
from resnet_lib.plots.style import BookFigure

__all__ = [
    "BookFigure",
    "Live",
    "bars",
    "basic_block_diagram",
    "bottleneck_diagram",
    "confusion",
    "feature_maps",
    "histories",
    "history",
    "image_rows",
    "images",
    "lines",
    "network_diagram",
    "overlays",
    "pyramid_diagram",
    "receptive_fields",
    "reliability",
]
