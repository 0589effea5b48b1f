"""Diagrams of blocks, networks and the pyramid, drawn from their arguments in one style."""

import math

from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path

from resnet_lib import UserError
from resnet_lib.plots.style import (
    BLACK,
    FONT,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    YELLOW,
    BookFigure,
    book_style,
)

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


def _box(axes, x: float, y: float, text: str, colour: str, width: float) -> None:
    """A box with its middle at x and y."""
    height, kind = _height(text), "round,pad=0,rounding_size=0.06"
    corner = (x - width / 2, y - height / 2)
    axes.add_patch(FancyBboxPatch(corner, width, height, boxstyle=kind, fc=colour, ec=BLACK))
    axes.text(x, y, text, ha="center", va="center")


def _boxes(axes, x: float, y: float, boxes, width: float = 2.0) -> float:
    """Boxes (text, colour[, note]) from y downwards, an arrow into each; returns the last edge."""
    for text, colour, *note in boxes:
        if y > MARGIN:
            _arrow(axes, (x, y), (x, y + GAP))
            y += GAP
        middle = y + _height(text) / 2
        _box(axes, x, middle, text, colour, width)
        axes.text(x + width / 2 + 0.15, middle, "".join(note), va="center")
        y += _height(text)
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


@book_style()
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


@book_style()
def bottleneck_diagram(in_channels, width, stride=1, stride_in="3x3") -> Figure:
    """1x1, 3x3 and 1x1 convolution beside a shortcut; ``stride_in`` "3x3" (v1.5) or "1x1" (v1)."""
    if stride_in not in ("3x3", "1x1"):
        raise UserError(f"stride_in must be 3x3 or 1x1, got {stride_in!r}")
    stride1, stride2 = (1, stride) if stride_in == "3x3" else (stride, 1)
    branch = [_conv(1, in_channels, width, stride1), NORM, RELU]
    branch += [_conv(3, width, width, stride2), NORM, RELU, _conv(1, width, 4 * width), NORM]
    return _block(in_channels, 4 * width, stride, branch, [RELU])


@book_style()
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


@book_style()
def pyramid_diagram(channels, sizes, out_channels: int) -> Figure:
    """The feature pyramid over stages C2, C3, ... with those channels and sides, finest first.

    Lin et al. 2017, DOI 10.48550/arXiv.1612.03144, figure 3.
    """
    levels = list(zip(channels, sizes, strict=True))
    if len(levels) < 2:
        raise UserError(f"a pyramid has two or more levels, got {len(levels)}")
    left, middle, right, width, radius, step = 0.83, 2.48, 4.2, 1.54, 0.16, 1.05
    figure = BookFigure(step * len(levels) + 0.62, 5.0, "none")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 5), ylim=(step * len(levels) + 0.62, 0))
    axes.set_axis_off()
    heads = {left: "stages of\nthe network", middle: "top-down\npath", right: "pyramid"}
    for x, text in heads.items():
        axes.text(x, 0.3, text, ha="center", va="center")
    edge = _height("two\nlines") / 2
    for index, (depth, side) in enumerate(reversed(levels)):
        y, name = 0.62 + step * (index + 0.5), len(levels) + 1 - index
        _box(axes, left, y, f"C{name}\n{depth} × {side} × {side}", GREEN, width)
        _box(axes, right, y, f"P{name}\n{out_channels} × {side} × {side}", SKY, width)
        _arrow(axes, (left + width / 2, y), (middle - radius, y))
        _arrow(axes, (middle + radius, y), (right - width / 2, y))
        axes.text((left + width / 2 + middle - radius) / 2, y - 0.15, "1×1", ha="center")
        axes.text((middle + radius + right - width / 2) / 2, y - 0.15, "3×3", ha="center")
        axes.add_patch(Circle((middle, y), radius, fc="white", ec=BLACK))
        if index:
            axes.text(middle, y, "+", ha="center", va="center", fontsize=FONT + 4)
            _arrow(axes, (middle, y - step + radius), (middle, y - radius))
            axes.text(middle + 0.1, y - step / 2, "× 2", va="center")
            _arrow(axes, (left, y - edge), (left, y - step + edge))
    return figure
