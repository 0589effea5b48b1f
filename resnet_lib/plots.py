"""Every figure of the book: data in, a Figure out. The only module that imports matplotlib.

Colours are those of Okabe and Ito (2008), told apart by line style and marker too. The background
is opaque, and text has at least 9 points when the figure is scaled to a phone 360 pixels wide.
Where a function takes a history, that is an object with ``epochs`` or such a list of dicts itself.
"""

import io
import math
import textwrap

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator
from PIL import Image

from resnet_lib import UserError

BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, YELLOW, BLACK = "#E69F00", "#56B4E9", "#F0E442", "#000000"
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)  # yellow lines are hard to see
LINES = ("-", "--", "-.", ":", (0, (8, 2)), (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

WIDTH, FONT = 5.0, 12  # inches, points: at 360 pixels, which are 3.75 inches, 12 points become 9
PARTS = {"train": "training", "val": "validation"}
UNITS = {"loss": ("loss (nats)", 1), "accuracy": ("accuracy (%)", 100), "error": ("error (%)", 100)}


def _style():
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
        with _style():
            self.draw_without_rendering()
            self.set_layout_engine("none")  # a second pass of the layout would move things a little
            self.savefig(raw, format="png")
        colours = Image.open(raw).convert("RGB").quantize(256, dither=Image.Dither.NONE)
        colours.save(small, "PNG", optimize=True)
        return small.getvalue()

    def _repr_png_(self):
        width, height = (round(96 * inches) for inches in self.get_size_inches())
        return self.png(), {"width": width, "height": height}


def _array(values) -> np.ndarray:
    values = values.detach().double().cpu() if hasattr(values, "detach") else values
    return np.asarray(values, dtype=float)


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
    values = _array([row.get(key.replace("error", "accuracy")) for row in rows])
    values = 1 - values if unit == "error" else values
    return _array([row["epoch"] for row in rows]), values * UNITS[unit][1]


@_style()
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


@_style()
def lines(series: dict, xlabel: str, ylabel: str, logx: bool = False, logy: bool = False) -> Figure:
    """{label: (x, y)} or {label: (x, y, low, high)}, where low and high bound a band; each (N,)."""
    figure = BookFigure(3.9)
    axes = figure.subplots()
    for index, (label, values) in enumerate(series.items()):
        arrays = [_array(value) for value in values]
        if len(arrays) not in (2, 4) or len({array.shape for array in arrays}) != 1:
            raise UserError(f"{label!r} needs (x, y) or (x, y, low, high), all of one length")
        _series(axes, index, label, *arrays)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if all((line.get_xdata() % 1 == 0).all() for line in axes.lines):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set(**{"xscale": "log"} if logx else {}, **{"yscale": "log"} if logy else {})
    return _with_legend(figure)


@_style()
def bars(values: dict, xlabel: str, text: str = ".3g", points: bool = False) -> Figure:
    """{label: value} or {label: (value, low, high)}, one row each, with the interval drawn.

    ``text`` formats the numbers. Bars start at zero; ``points`` suit small differences far from it.
    """
    rows = [_array(value).reshape(-1) for value in values.values()]
    if not rows or any(len(row) not in (1, 3) for row in rows):
        raise UserError("bars needs at least one label with a value or (value, low, high)")
    figure = BookFigure(0.9 + 0.42 * len(rows))
    axes = figure.subplots()
    for y, (value, *interval) in enumerate(rows):
        if points:
            axes.plot(value, y, "o", color=BLUE, markersize=7)
        else:
            axes.barh(y, value, height=0.6, color=SKY, edgecolor=BLUE)
        low, high = interval or (value, value)
        if interval:
            axes.errorbar(value, y, xerr=[[value - low], [high - value]], color=BLACK, capsize=4)
        number, end = format(value, text).replace("-", "−"), high if points else max(high, 0)
        axes.annotate(number, (end, y), (6, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(rows)), [textwrap.fill(str(label), 18) for label in values])
    axes.set(xlabel=xlabel, ylim=(len(rows) - 0.5, -0.5))
    axes.grid(axis="y", visible=False)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.margins(x=0.22)  # room for the numbers
    return figure


@_style()
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


@_style()
def confusion(cm, classes, counts: bool = False) -> Figure:
    """A confusion matrix (K, K), rows true and columns predicted, as percentages of its rows.

    ``counts`` writes numbers of images into the cells instead. Over 12 classes: colours alone.
    """
    cm, size = _array(cm), len(classes)
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


GAP, MARGIN, LINE = 0.27, 0.06, 0.21  # inches, in which the diagrams are drawn; y points down
NORM, RELU = ("batch norm", YELLOW), ("ReLU", ORANGE)


def _conv(size: int, in_channels: int, out_channels: int, stride: int = 1) -> tuple[str, str]:
    strided = f", stride {stride}" if stride > 1 else ""
    return f"{size}×{size} conv{strided}\n{in_channels} → {out_channels} channels", SKY


def _height(text: str) -> float:
    return 0.1 + LINE * (text.count("\n") + 1)


def _arrow(axes, *points: tuple[float, float], head: str = "-|>") -> None:
    form = {"arrowstyle": head, "mutation_scale": 13, "fc": BLACK, "lw": 1.5}
    axes.add_patch(FancyArrowPatch(path=Path(points), **form))


def _boxes(axes, x: float, y: float, boxes, width: float = 2.0) -> float:
    """Boxes (text, colour[, note]) from y downwards, an arrow into each; returns the last edge."""
    for text, colour, *note in boxes:
        if y > MARGIN:
            _arrow(axes, (x, y), (x, y + GAP))
            y += GAP
        corner, height, kind = (x - width / 2, y), _height(text), "round,pad=0,rounding_size=0.06"
        axes.add_patch(FancyBboxPatch(corner, width, height, boxstyle=kind, fc=colour, ec=BLACK))
        axes.text(x, y + height / 2, text, ha="center", va="center")
        axes.text(x + width / 2 + 0.15, y + height / 2, "".join(note), va="center")
        y += height
    return y


def _canvas(boxes, width: float, extra: float = 0) -> tuple:
    height = 2 * MARGIN + extra + sum(_height(text) + GAP for text, *_ in boxes) - GAP
    figure = BookFigure(height, width, "none")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    return figure, axes


def _block(in_channels, out_channels, stride, branch, tail, option="B", residual=True) -> Figure:
    """Input, branch and output from top to bottom, the shortcut beside the branch."""
    if stride < 1 or option not in ("A", "B", "C"):
        raise UserError(f"need stride >= 1 and option A, B or C, got {stride} and {option!r}")
    size = f"H/{stride} × W/{stride}" if stride > 1 else "H × W"
    entry = (f"input\n{in_channels} × H × W", "white")
    tail = [*tail, (f"output\n{out_channels} × {size}", "white")]
    if not residual:
        figure, axes = _canvas([entry, *branch, *tail], 2.2)
        _boxes(axes, 1.1, MARGIN, [entry, *branch, *tail])
        return figure
    left, right, fork, radius = 1.07, 3.23, 0.14, 0.16
    figure, axes = _canvas([entry, *branch, *tail], 4.3, fork + GAP + 2 * radius)
    top = _boxes(axes, left, MARGIN, [entry]) + fork
    add = _boxes(axes, left, top, branch) + GAP + radius
    _arrow(axes, (left, add - radius - GAP), (left, add - radius))
    axes.add_patch(Circle((left, add), radius, fc="white", ec=BLACK))
    axes.text(left, add, "+", ha="center", va="center", fontsize=FONT + 4)
    _boxes(axes, left, add + radius, tail)
    side = [_conv(1, in_channels, out_channels, stride), NORM]
    if stride == 1 and in_channels == out_channels and option != "C":
        side = []
        axes.text(right - 0.1, (top + add) / 2, "identity", ha="right", va="center")
    elif option == "A":
        side = [(f"subsample, stride {stride}\n{in_channels} → {out_channels} with zeros", "white")]
    middle = (top + add - sum(_height(text) + GAP for text, _ in side)) / 2
    _arrow(axes, (left, top - fork), (left, top), (right, top), (right, middle), head="-")
    end = _boxes(axes, right, middle, side)
    _arrow(axes, (right, end), (right, add), (left + radius, add))
    return figure


@_style()
def basic_block_diagram(
    in_channels, width, stride=1, residual=True, preactivation=False, option="B"
) -> Figure:
    """Two 3x3 convolutions beside a shortcut; without ``residual`` the plain block.

    ``option`` is the shortcut's: A pads with zeros, B projects where the shape changes, C always.
    ``preactivation`` (He et al. 2016, DOI 10.48550/arXiv.1603.05027) keeps the shape.
    """
    first, second = _conv(3, in_channels, width, stride), _conv(3, width, width)
    branch, tail = [first, NORM, RELU, second, NORM], [RELU]
    if preactivation:
        if stride > 1 or in_channels != width:
            raise UserError("preactivation is drawn for stride 1 and in_channels equal to width")
        branch, tail = [NORM, RELU, first, NORM, RELU, second], []
    return _block(in_channels, width, stride, branch, tail, option, residual)


@_style()
def bottleneck_diagram(in_channels, width, stride=1, stride_in="3x3") -> Figure:
    """1x1, 3x3 and 1x1 convolution beside a shortcut; ``stride_in`` "3x3" (v1.5) or "1x1" (v1)."""
    if stride_in not in ("3x3", "1x1"):
        raise UserError(f"stride_in must be 3x3 or 1x1, got {stride_in!r}")
    stride1, stride2 = (1, stride) if stride_in == "3x3" else (stride, 1)
    branch = [_conv(1, in_channels, width, stride1), NORM, RELU]
    branch += [_conv(3, width, width, stride2), NORM, RELU, _conv(1, width, 4 * width), NORM]
    return _block(in_channels, 4 * width, stride, branch, [RELU])


@_style()
def network_diagram(
    depths, bottleneck, image_size=224, width=64, stem="imagenet", in_channels=3, num_classes=1000
) -> Figure:
    """A ResNet with that many blocks in its four stages, and the shape of every output."""
    if len(depths) != 4 or min(depths) < 1 or stem not in ("imagenet", "small"):
        raise UserError(f"need four depths >= 1, stem imagenet or small; got {depths}, {stem!r}")

    def shape(channels: int, halvings: int) -> str:
        size = math.ceil(image_size / 2**halvings)
        return f"{channels} × {size} × {size}"

    boxes = [("image\nchannels × H × W", "white", shape(in_channels, 0))]
    if stem == "imagenet":
        boxes.append(("7×7 conv, stride 2\nbatch norm, ReLU", SKY, shape(width, 1)))
        boxes.append(("3×3 max pool, stride 2", PURPLE, shape(width, 2)))
    else:
        boxes.append(("3×3 conv\nbatch norm, ReLU", SKY, shape(width, 0)))
    for stage, depth in enumerate(depths):
        kind = ("bottleneck" if bottleneck else "basic block") + ("s" if depth > 1 else "")
        text = f"C{stage + 2}: {depth} {kind}" + ("\nfirst one: stride 2" if stage else "")
        channels = width * 2**stage * (4 if bottleneck else 1)
        boxes.append((text, SKY, shape(channels, stage + (2 if stem == "imagenet" else 0))))
    boxes.append(("global average pool", PURPLE, f"{channels} × 1 × 1"))
    boxes.append(("linear", GREEN, f"{num_classes} scores"))
    figure, axes = _canvas(boxes, 4.3)
    _boxes(axes, 1.2, MARGIN, boxes, 2.28)
    return figure
