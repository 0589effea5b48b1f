"""Pictures: grids of images, matrices shown as colours, feature maps, receptive fields."""

import math
import textwrap

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from resnet_lib import UserError
from resnet_lib.plots.style import (
    BLACK,
    FONT,
    VERMILION,
    WIDTH,
    BookFigure,
    as_array,
    book_style,
)


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
def image_rows(rows: dict) -> Figure:
    """{label: uint8 (n, 1 or 3, H, W)}: a row of images for each label, which stands at its left.

    Rows may differ in length.
    """
    if not rows:
        raise UserError("image_rows needs at least one row")
    for label, pictures in rows.items():
        shape, dtype = tuple(pictures.shape), str(pictures.dtype).removeprefix("torch.")
        if dtype != "uint8" or len(shape) != 4 or shape[0] < 1 or shape[1] not in (1, 3):
            raise UserError(
                f"the images of {label!r} must be uint8 (n, 1 or 3, H, W), got {dtype} {shape}"
            )
    columns = max(len(pictures) for pictures in rows.values())
    names = [textwrap.fill(label, 15) for label in map(str, rows)]
    left = 0.1 + 0.6 * FONT / 72 * max(len(line) for name in names for line in name.split("\n"))
    side = min((WIDTH - left) / columns, 0.95)
    figure = BookFigure(side * len(rows), layout="none")
    for row, (name, pictures) in enumerate(zip(names, rows.values(), strict=True)):
        middle = 1 - (row + 0.5) / len(rows)
        figure.text((left - 0.08) / WIDTH, middle, name, ha="right", va="center")
        pixels = np.asarray(pictures.cpu() if hasattr(pictures, "cpu") else pictures)
        for column, picture in enumerate(np.moveaxis(pixels, 1, -1)):
            x, y = (left + side * column) / WIDTH, 1 - (row + 1) / len(rows)
            axes = figure.add_axes((x, y, 0.94 * side / WIDTH, 0.94 / len(rows)))
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
        text = f"{cm[row, column]:.0f}" if counts else "<1" if value <= 0.5 else f"{value:.0f}"
        axes.text(column, row, text, color=ink, ha="center", va="center")
    step = math.ceil(size / 20)
    axes.set_xticks(range(0, size, step), classes[::step], rotation=90)
    axes.set_yticks(range(0, size, step), classes[::step])
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.grid(visible=False)
    figure.colorbar(picture, location="top", label="colour: " * counts + "% of the true class")
    return figure


@book_style()
def receptive_fields(fields: dict, columns: int = 2) -> Figure:
    """{title: (heat, cell, size, width)}: where units look, each around its middle.

    heat (S, S) in cells of ``cell`` pixels, from white for 0 to dark; the hottest half percent of
    the cells is equally dark. ``size`` is the side of the theoretical square, drawn where it fits,
    ``width`` the Gaussian width: the circle has twice that radius. All in pixels.
    """
    rows = math.ceil(len(fields) / columns)
    if not fields:
        raise UserError("receptive_fields needs at least one field")
    figure = BookFigure(rows * WIDTH / columns * 1.06 + 0.45)
    angle = np.linspace(0, 2 * math.pi, 100)
    for index, (title, (heat, cell, size, width)) in enumerate(fields.items()):
        heat = as_array(heat)
        if heat.ndim != 2 or heat.shape[0] != heat.shape[1]:
            raise UserError(f"the heat of {title!r} must be square, got shape {heat.shape}")
        axes = figure.add_subplot(rows, columns, index + 1, title=title)
        reach, top = cell * len(heat) / 2, np.quantile(heat, 0.995)
        axes.imshow(heat, cmap="Blues", vmin=0, vmax=top, extent=(-reach, reach, reach, -reach))
        half = size / 2
        if half <= 1.1 * reach:
            across, down = (-half, half, half, -half, -half), (-half, -half, half, half, -half)
            axes.plot(across, down, color=BLACK, label="theoretical field")
        circle = 2 * width * np.cos(angle), 2 * width * np.sin(angle)
        axes.plot(*circle, color=VERMILION, linestyle="--", label="two Gaussian widths")
        limit = 1.06 * max(reach, half if half <= 1.1 * reach else 0)
        axes.set(xlim=(-limit, limit), ylim=(limit, -limit))
        step = 10 ** math.floor(math.log10(limit))
        step = next(k * step for k in (5, 2, 1, 0.5) if k * step <= 0.85 * limit)
        axes.set_xticks((-step, 0, step))
        axes.set_yticks((-step, 0, step))
        axes.grid(visible=False)
        if index % columns == 0:
            axes.set_ylabel("pixels")
        if index >= len(fields) - columns:
            axes.set_xlabel("pixels")
    shown = {}
    for axes in figure.axes:
        shown |= {line.get_label(): line for line in axes.lines}
    figure.legend(shown.values(), shown.keys(), loc="outside upper left", ncols=2)
    return figure


@book_style()
def feature_maps(picture, maps: dict) -> Figure:
    """A picture uint8 (1 or 3, H, W), and below it a row of maps (K, h, w) for each name.

    Every map has its own scale, from dark at its smallest value to light at its largest.
    """
    shape, dtype = tuple(picture.shape), str(picture.dtype).removeprefix("torch.")
    if dtype != "uint8" or len(shape) != 3 or shape[0] not in (1, 3):
        raise UserError(f"the picture must be uint8 (1 or 3, H, W), got {dtype} {shape}")
    arrays = {name: as_array(values) for name, values in maps.items()}
    counts = {len(values) if values.ndim == 3 else 0 for values in arrays.values()}
    if len(counts) != 1 or 0 in counts:
        raise UserError("feature_maps needs maps (K, h, w), the same number K for every name")
    (columns,) = counts
    side = (WIDTH - 1) / columns
    figure = BookFigure(2.1 + len(arrays) * (side * shape[1] / shape[2] + 0.06))
    figure.get_layout_engine().set(w_pad=0.04, h_pad=0.03, wspace=0, hspace=0)
    heights = [2.1 / (side * shape[1] / shape[2]), *[1] * len(arrays)]
    grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
    axes = figure.add_subplot(grid[0, :])
    pixels = np.moveaxis(np.asarray(picture.cpu() if hasattr(picture, "cpu") else picture), 0, -1)
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_axis_off()
    for row, (name, values) in enumerate(arrays.items(), start=1):
        for column, values_of_channel in enumerate(values):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(values_of_channel, cmap="cividis", interpolation="nearest")
            axes.set(xticks=(), yticks=())
            axes.grid(visible=False)
            if column == 0:
                height, width = values.shape[1:]
                axes.set_ylabel(
                    f"{name}\n{height} × {width}", rotation=0, ha="right", va="center", labelpad=6
                )
    return figure


@book_style()
def overlays(pictures, maps: dict, labels) -> Figure:
    """A row for each picture, under its label at the left: itself, then each map laid over it.

    pictures uint8 (N, 1 or 3, H, W), labels N texts, maps {name: (N, H, W) from 0 to 1}. The more a
    map says, the redder is the picture, shown in grey there.
    """
    shape, dtype = tuple(pictures.shape), str(pictures.dtype).removeprefix("torch.")
    if dtype != "uint8" or len(shape) != 4 or shape[0] < 1 or shape[1] not in (1, 3):
        raise UserError(f"pictures must be uint8 (N, 1 or 3, H, W), got {dtype} {shape}")
    count, _, height, width = shape
    if len(labels) != count:
        raise UserError(f"{count} pictures need {count} labels, got {len(labels)}")
    arrays = {name: as_array(values) for name, values in maps.items()}
    for name, values in arrays.items():
        if values.shape != (count, height, width) or values.min() < 0 or values.max() > 1:
            raise UserError(f"the maps {name!r} must be {(count, height, width)}, from 0 to 1")
    labels = [textwrap.fill(str(label), 15) for label in labels]
    left = 0.1 + 0.6 * FONT / 72 * max(len(line) for text in labels for line in text.split("\n"))
    side, top = (WIDTH - left) / (1 + len(arrays)), 1.6 * FONT / 72
    tall = side * height / width
    total = top + tall * count
    figure = BookFigure(total, layout="none")
    pixels = np.moveaxis(
        np.asarray(pictures.cpu() if hasattr(pictures, "cpu") else pictures), 1, -1
    )
    grey = pixels.mean(-1, keepdims=True) / 255
    red = np.array(to_rgb(VERMILION))
    shown = {"image": pixels}
    for name, values in arrays.items():
        shown[name] = grey + 0.8 * values[..., None] * (red - grey)
    for column, (name, stack) in enumerate(shown.items()):
        x = left + side * column
        figure.text((x + side / 2) / WIDTH, 1 - top / 2 / total, name, ha="center", va="center")
        for row, picture in enumerate(stack):
            y = total - top - tall * (row + 1)
            box = (x / WIDTH, y / total, 0.94 * side / WIDTH, 0.94 * tall / total)
            axes = figure.add_axes(box)
            axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes.set_axis_off()
    for row, label in enumerate(labels):
        middle = 1 - (top + tall * (row + 0.5)) / total
        figure.text((left - 0.08) / WIDTH, middle, label, ha="right", va="center")
    return figure
