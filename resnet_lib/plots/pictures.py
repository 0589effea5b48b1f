"""Pictures: grids of images, and matrices shown as colours."""

import math
import textwrap

import numpy as np
from matplotlib.figure import Figure

from resnet_lib import UserError
from resnet_lib.plots.style import BLACK, FONT, WIDTH, BookFigure, as_array, book_style


@book_style()
def images(images, titles=None, columns: int | None = None) -> Figure:
    """A grid of the images, uint8 (N, 1 or 3, H, W), each under its title."""
    shape, dtype = tuple(images.shape), str(images.dtype).removeprefix("torch.")
    if dtype != "uint8" or len(shape) != 4 or shape[0] < 1 or shape[1] not in (1, 3):
        raise UserError(f"images must be uint8 (N, 1 or 3, H, W), got {dtype} {shape}")
    count, _, height, width = shape
    if titles is not None and len(titles) != count:
        raise UserError(f"{count} images need {count} titles, got {len(titles)}")
    columns = columns or min(count, 8 if titles is None else 4)
    rows, cell = math.ceil(count / columns), WIDTH / columns
    wrap = max(4, int(72 * cell / (0.6 * FONT)))
    titles = [textwrap.fill(str(title), wrap) for title in titles or [""] * count]
    title_lines = max(title.count("\n") + bool(title) for title in titles)
    figure = BookFigure(rows * (cell * height / width + title_lines * FONT * 1.35 / 72 + 0.08))
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.04, wspace=0, hspace=0)
    pixels = np.moveaxis(np.asarray(images.cpu() if hasattr(images, "cpu") else images), 1, -1)
    for index, (picture, title) in enumerate(zip(pixels, titles, strict=True)):
        axes = figure.add_subplot(rows, columns, index + 1, title=title)
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_axis_off()
    return figure


@book_style()
def confusion(cm, classes, counts: bool = False) -> Figure:
    """A confusion matrix (K, K), rows true and columns predicted, as percentages of its rows.

    ``counts`` writes numbers of images into the cells instead. Over 12 classes: colours alone.
    """
    cm, size = as_array(cm), len(classes)
    if cm.shape != (size, size):
        raise UserError(f"{size} classes need a matrix of {size} x {size}, got shape {cm.shape}")
    share, figure = 100 * cm / np.maximum(cm.sum(1, keepdims=True), 1), BookFigure(5.9)
    axes = figure.subplots()
    picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    for row, column in np.argwhere(cm > 0) if size <= 12 else ():
        value, ink = share[row, column], "white" if share[row, column] > 71.5 else BLACK
        text = f"{cm[row, column]:.0f}" if counts else "<1" if value < 0.5 else f"{value:.0f}"
        axes.text(column, row, text, color=ink, ha="center", va="center")
    step = math.ceil(size / 20)
    axes.set_xticks(range(0, size, step), classes[::step], rotation=90)
    axes.set_yticks(range(0, size, step), classes[::step])
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.grid(visible=False)
    figure.colorbar(picture, location="top", label="colour: " * counts + "% of the true class")
    return figure
