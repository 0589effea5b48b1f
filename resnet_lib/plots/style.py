"""The book's style: colours, sizes, and the figure that shows itself."""

import io

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure
from PIL import Image

BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, YELLOW, BLACK = "#E69F00", "#56B4E9", "#F0E442", "#000000"
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)  # yellow lines are hard to see
LINES = ("-", "--", "-.", ":", (0, (8, 2)), (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

WIDTH, FONT = 5.0, 12  # inches, points: at 360 pixels, which are 3.75 inches, 12 points become 9


def book_style():
    """The book's style on top of matplotlib's defaults, whatever the reader's own settings are."""
    text = {"font.size": FONT, "axes.titlesize": FONT, "legend.frameon": False}
    axes = {"axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True}
    rest = {"axes.grid": True, "grid.color": "#DDDDDD", "lines.linewidth": 2, "lines.markersize": 5}
    return style.context({**text, **axes, **rest}, after_reset=True)


class BookFigure(Figure):
    """Shows itself as a cell's last expression; no pyplot, so none stays open or appears twice."""

    def __init__(self, height: float, width: float = WIDTH, layout: str = "constrained"):
        super().__init__(figsize=(width, height), dpi=144, layout=layout)

    def png(self) -> bytes:
        """The PNG file; the same bytes for the same data. A palette makes it a third as large."""
        raw, small = io.BytesIO(), io.BytesIO()
        with book_style():
            self.draw_without_rendering()
            self.set_layout_engine("none")  # a second pass of the layout would move things a little
            self.savefig(raw, format="png")
        colours = Image.open(raw).convert("RGB").quantize(256, dither=Image.Dither.NONE)
        colours.save(small, "PNG", optimize=True)
        return small.getvalue()

    def _repr_png_(self):
        width, height = (round(96 * inches) for inches in self.get_size_inches())
        return self.png(), {"width": width, "height": height}


def as_array(values) -> np.ndarray:
    values = values.detach().double().cpu() if hasattr(values, "detach") else values
    return np.asarray(values, dtype=float)
