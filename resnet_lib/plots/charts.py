"""Lines and bars: histories of training, measurements with their intervals."""

import textwrap

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from resnet_lib import UserError
from resnet_lib.plots.style import (
    BLACK,
    BLUE,
    COLOURS,
    FONT,
    LINES,
    MARKERS,
    SKY,
    WIDTH,
    BookFigure,
    as_array,
    book_style,
)

PARTS = {"train": "training", "val": "validation"}
UNITS = {"loss": ("loss (nats)", 1), "accuracy": ("accuracy (%)", 100), "error": ("error (%)", 100)}


def _series(axes, index: int, label: str, x, y, low=None, high=None) -> None:
    index %= len(COLOURS)
    colour, marker = COLOURS[index], MARKERS[index] if len(x) <= 30 else ""
    axes.plot(x, y, color=colour, linestyle=LINES[index], marker=marker, label=label)
    if low is not None:
        axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)


def _with_legend(figure: Figure) -> Figure:
    """Outside the axes, where it hides no data; in as many columns as fit."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    if any(labels):
        widest = max(len(label) for label in labels) + 7
        columns = max(1, min(len(labels), int(WIDTH * 72 / (0.62 * FONT * widest))))
        figure.legend(handles, labels, loc="outside upper left", ncols=columns)
    return figure


def _measure(history, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Epoch numbers and values in their unit, both (epochs,); a missing value is not drawn."""
    rows, unit = getattr(history, "epochs", history), key.split("_")[1]
    if not rows:
        raise UserError("the history is empty: train for at least one epoch before you plot it")
    values = as_array([row.get(key.replace("error", "accuracy")) for row in rows])
    values = 1 - values if unit == "error" else values
    return as_array([row["epoch"] for row in rows]), values * UNITS[unit][1]


@book_style()
def history(history) -> Figure:
    """Loss and accuracy against the epoch, for the training and the validation part of one run."""
    figure = BookFigure(5.6)
    panels = figure.subplots(2, 1, sharex=True)
    for axes, unit in zip(panels, ("loss", "accuracy"), strict=True):
        for index, (part, name) in enumerate(PARTS.items()):
            _series(axes, index, name, *_measure(history, f"{part}_{unit}"))
        axes.set_ylabel(UNITS[unit][0])
    panels[1].set_xlabel("epoch")
    panels[1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return _with_legend(figure)


def histories(groups: dict, key: str = "val_accuracy") -> Figure:
    """{label: [history, ...]}: mean and range over the runs. ``key``: "train_error", "val_loss"."""
    part, _, unit = key.partition("_")
    if part not in PARTS or unit not in UNITS or not groups or not all(groups.values()):
        raise UserError(f"need a history for every label, and a key like val_loss; got {key!r}")
    series = {}
    for label, runs in groups.items():
        measured = [_measure(run, key) for run in runs]
        epochs = measured[0][0]
        if any(not np.array_equal(epochs, other) for other, _ in measured):
            raise UserError(f"the runs of {label!r} have different epochs: plot them apart")
        values = np.stack([value for _, value in measured])
        label = f"{label}, {len(runs)} run{'s' if len(runs) > 1 else ''}"
        series[label] = epochs, values.mean(0), values.min(0), values.max(0)
    return lines(series, "epoch", f"{PARTS[part]} {UNITS[unit][0]}")


@book_style()
def lines(series: dict, xlabel: str, ylabel: str, logx: bool = False, logy: bool = False) -> Figure:
    """{label: (x, y)} or {label: (x, y, low, high)}, where low and high bound a band; each (N,)."""
    figure = BookFigure(3.9)
    axes = figure.subplots()
    for index, (label, values) in enumerate(series.items()):
        arrays = [as_array(value) for value in values]
        if len(arrays) not in (2, 4) or len({array.shape for array in arrays}) != 1:
            raise UserError(f"{label!r} needs (x, y) or (x, y, low, high), all of one length")
        _series(axes, index, label, *arrays)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if all((line.get_xdata() % 1 == 0).all() for line in axes.lines):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set(**{"xscale": "log"} if logx else {}, **{"yscale": "log"} if logy else {})
    return _with_legend(figure)


@book_style()
def bars(values: dict, xlabel: str, text: str = ".3g", points: bool = False) -> Figure:
    """{label: value} or {label: (value, low, high)}, one row each, with the interval drawn.

    (value, low, high, lowest, highest) has a second, wider interval, drawn as a thinner line.
    ``text`` formats the numbers. Bars start at zero; ``points`` suit small differences far from it,
    and differences that may have either sign: then a dashed line marks zero.
    """
    rows = [as_array(value).reshape(-1) for value in values.values()]
    if not rows or any(len(row) not in (1, 3, 5) for row in rows):
        raise UserError("bars needs at least one label with a value or (value, low, high)")
    figure = BookFigure(0.9 + 0.42 * len(rows))
    axes = figure.subplots()
    for y, (value, *interval) in enumerate(rows):
        if points:
            axes.plot(value, y, "o", color=BLUE, markersize=7)
        else:
            axes.barh(y, value, height=0.6, color=SKY, edgecolor=BLUE)
        ends = [value, *interval]
        low, high = min(ends), max(ends)
        if interval:
            reach = [[value - low], [high - value]]
            axes.errorbar(value, y, xerr=reach, color=BLACK, capsize=4, zorder=1)
        if len(interval) == 4:
            axes.plot(
                interval[:2], (y, y), color=SKY, linewidth=7, solid_capstyle="butt", zorder=1.5
            )
        number, end = format(value, text).replace("-", "−"), high if points else max(high, 0)
        patch = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # above the line at zero
        axes.annotate(number, (end, y), (6, 0), textcoords="offset points", va="center", bbox=patch)
    if points and min(row.min() for row in rows) < 0 < max(row.max() for row in rows):
        axes.axvline(0, color=BLACK, linestyle="--", linewidth=1)
    axes.set_yticks(range(len(rows)), [textwrap.fill(str(label), 18) for label in values])
    axes.set(xlabel=xlabel, ylim=(len(rows) - 0.5, -0.5))
    axes.grid(axis="y", visible=False)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.margins(x=0.22)  # room for the numbers
    return figure


@book_style()
def reliability(tables: dict) -> Figure:
    """{label: (bins, 3)}, each row the images, mean confidence and accuracy of a bin.

    Above: accuracy against confidence, on the dashed line where the two agree; empty bins are left
    out. Below: the share of all images in each bin, which are equally wide.
    """
    if not tables:
        raise UserError("reliability needs at least one table")
    figure = BookFigure(5.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2.6, 1))
    upper.plot((0, 100), (0, 100), color=BLACK, linestyle="--", linewidth=1)
    for index, (label, table) in enumerate(tables.items()):
        rows = as_array(table)
        if rows.ndim != 2 or rows.shape[1] != 3 or not rows[:, 0].sum() > 0:
            raise UserError(f"the table of {label!r} must be (bins, 3) with images in some bin")
        images, confidence, right = rows.T
        held, index = images > 0, index % len(COLOURS)
        _series(upper, index, label, 100 * confidence[held], 100 * right[held])
        share, edges = 100 * images / images.sum(), np.linspace(0, 100, len(rows) + 1)
        style = {"edgecolor": COLOURS[index], "facecolor": "none", "linestyle": LINES[index]}
        lower.stairs(share, edges, linewidth=2, **style)
    upper.set(ylabel="accuracy (%)", xlim=(0, 100), ylim=(0, 100))
    lower.set(xlabel="confidence (%)", ylabel="images (%)", ylim=(0, None))
    return _with_legend(figure)
