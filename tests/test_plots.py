"""Plots: the data, labels, colours and sizes that a figure shows, and what the diagrams say."""

import io
import subprocess
import sys
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex, to_rgba
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from matplotlib.text import Text
from PIL import Image
from torch import nn

from resnet_lib import UserError, blocks, models, plots, pyramid

OKABE_ITO = {
    *("#000000", "#e69f00", "#56b4e9", "#009e73"),
    *("#f0e442", "#0072b2", "#d55e00", "#cc79a7"),
}


def make_history(epochs=6, shift=0.0, val=True):
    rows = []
    for epoch in range(1, epochs + 1):
        row = {"epoch": epoch, "train_loss": 2 / epoch, "val_loss": 2.5 / epoch + shift}
        row |= {"train_accuracy": 1 - 0.5 / epoch, "val_accuracy": 0.9 - 0.5 / epoch + shift}
        row |= {"lr": 0.1, "seconds": 3.0}
        rows.append(row if val else row | {"val_loss": None, "val_accuracy": None})
    return SimpleNamespace(epochs=rows)


GREY = torch.arange(6 * 64, dtype=torch.int64).remainder(256).to(torch.uint8).reshape(6, 1, 8, 8)
NAMES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"]
NAMES += ["Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
TEN = np.eye(10, dtype=int) * 150 + np.arange(100).reshape(10, 10) % 7
STEPS = np.arange(1, 21)
BINS = np.array([[0, 0, 0], [0, 0, 0], [10, 0.5, 0.3], [20, 0.7, 0.8], [30, 0.95, 0.9]])
RESNET50 = ((3, 4, 6, 3), True)
MAPS = {f"C{2 + i}": torch.rand(3, 8 >> i, 8 >> i) for i in range(3)}
OVERLAYS = {"C3": torch.rand(6, 8, 8), "C4": torch.zeros(6, 8, 8)}
SPOT = torch.exp(-(torch.linspace(-3, 3, 31)[:, None] ** 2 + torch.linspace(-3, 3, 31) ** 2) / 2)
SPOTS = {"before": (SPOT, 2, 59, 10.5), "after": (SPOT, 9, 971, 40), "alone": (SPOT, 1, 33, 5.2)}
FIGURES = {
    "history": lambda: plots.history(make_history()),
    "histories": lambda: plots.histories({"plain": [make_history(), make_history(shift=0.05)]}),
    "lines": lambda: plots.lines(
        {f"line {i}": (STEPS, STEPS * (i + 1)) for i in range(7)}, "step", "speed (images/s)"
    ),
    "band": lambda: plots.lines(
        {"a": (STEPS, STEPS, STEPS - 1, STEPS + 1)}, "size (px)", "accuracy (%)", logx=True
    ),
    "bars": lambda: plots.bars({"ResNet-50": 25.6, "ResNet-101": 44.5}, "parameters (millions)"),
    "intervals": lambda: plots.bars({"a": (1, 0.5, 2), "b": (-1, -3, 0.5)}, "difference (%)"),
    "points": lambda: plots.bars({"a": (90, 89, 91)}, "accuracy (%)", points=True),
    "reliability": lambda: plots.reliability({"as trained": BINS, "cooled": BINS}),
    "images": lambda: plots.images(GREY, NAMES[:6]),
    "colour images": lambda: plots.images(GREY.expand(6, 3, 8, 8)),
    "rows of images": lambda: plots.image_rows({"Shirt taken for T-shirt/top": GREY, "a": GREY}),
    "feature maps": lambda: plots.feature_maps(GREY[0], MAPS),
    "overlays": lambda: plots.overlays(GREY, OVERLAYS, NAMES[:6]),
    "receptive fields": lambda: plots.receptive_fields(SPOTS),
    "pyramid": lambda: plots.pyramid_diagram((256, 512, 1024, 2048), (56, 28, 14, 7), 256),
    "confusion": lambda: plots.confusion(TEN, NAMES),
    "confusion, counts": lambda: plots.confusion(TEN, NAMES, counts=True),
    "identity": lambda: plots.basic_block_diagram(64, 64),
    "projection": lambda: plots.basic_block_diagram(64, 128, 2),
    "padding": lambda: plots.basic_block_diagram(256, 512, 2, option="A"),
    "plain": lambda: plots.basic_block_diagram(64, 128, 2, residual=False),
    "pre-activation": lambda: plots.basic_block_diagram(64, 64, preactivation=True),
    "bottleneck": lambda: plots.bottleneck_diagram(1024, 512, 2),
    "bottleneck v1": lambda: plots.bottleneck_diagram(1024, 512, 2, "1x1"),
    "ResNet-50": lambda: plots.network_diagram(*RESNET50),
    "small": lambda: plots.network_diagram((2, 2, 2, 2), False, 32, 16, "small", 1, 10),
}
DIAGRAMS = list(FIGURES)[list(FIGURES).index("identity") :]
WITHOUT_AXES = {"images", "colour images", "rows of images", "feature maps", "overlays", "pyramid"}


def texts(figure):
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]


def legend_labels(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()] if figure.legends else []


def column(figure, x):
    """The texts of a diagram's boxes centred on x, from top to bottom."""
    found = [text for text in figure.axes[0].texts if text.get_ha() == "center"]
    found = [text for text in found if abs(text.get_position()[0] - x) < 0.01]
    return [t.get_text() for t in sorted(found, key=lambda text: text.get_position()[1])]


def branch(figure):
    return column(figure, 1.07)


def side(figure):
    return column(figure, 3.23)


# What holds for every figure


@pytest.mark.parametrize("name", FIGURES)
def test_png_repeats_byte_for_byte_and_is_opaque_on_white(name):
    first, second = FIGURES[name](), FIGURES[name]()
    assert first.png() == second.png() == first.png()
    picture = Image.open(io.BytesIO(first.png()))
    assert picture.format == "PNG" and "transparency" not in picture.info
    assert "A" not in picture.getbands()
    assert picture.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    assert len(first.png()) < 60_000


@pytest.mark.parametrize("name", FIGURES)
def test_text_has_nine_points_on_a_phone(name):
    figure = FIGURES[name]()
    scale = min(1, 360 / 96 / figure.get_size_inches()[0])
    assert len(texts(figure)) > 1 or name == "colour images"
    assert all(text.get_fontsize() * scale >= 9 for text in texts(figure))


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_cut_off_at_the_edge(name):
    figure = FIGURES[name]()
    figure.draw_without_rendering()
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert drawn.x0 >= 0 and drawn.y0 >= 0
    assert drawn.x1 <= width and drawn.y1 <= height


@pytest.mark.parametrize("name", set(FIGURES) - set(DIAGRAMS) - WITHOUT_AXES)
def test_axes_are_labelled(name):
    axes = FIGURES[name]().axes
    # Two panels share the x axis of the lower one, the rows of bars are named one by one, and a
    # colour bar has one axis.
    across = axes[1:] if name in ("history", "reliability") else axes
    up = [] if name in ("bars", "intervals", "points") else axes
    if name == "receptive fields":  # in two columns, where neighbours share a label
        across, up = axes[-2:], axes[::2]
    assert all(each.get_xlabel() for each in across)
    assert all(each.get_ylabel() for each in up if each.get_label() != "<colorbar>")


@pytest.mark.parametrize("name", FIGURES)
def test_colours_are_okabe_and_itos(name):
    used = set()
    for axes in FIGURES[name]().axes:
        used |= {to_hex(line.get_color()) for line in axes.lines}
        used |= {to_hex(patch.get_facecolor()) for patch in axes.patches}
    if axes.get_label() != "<colorbar>" and name not in WITHOUT_AXES - {"pyramid"}:
        assert used
    assert used <= OKABE_ITO | {"#ffffff"}


def test_the_readers_settings_neither_change_a_figure_nor_are_changed():
    expected = FIGURES["lines"]().png()
    settings = {"font.size": 30, "axes.facecolor": "black", "savefig.bbox": "tight"}
    with matplotlib.rc_context(settings):
        before = dict(matplotlib.rcParams)
        assert FIGURES["lines"]().png() == expected
        assert dict(matplotlib.rcParams) == before


def test_a_notebook_shows_a_figure_once_without_pyplot():
    code = """
import sys
from IPython.core.interactiveshell import InteractiveShell
from resnet_lib import plots
shell = InteractiveShell.instance()
figure = plots.basic_block_diagram(64, 64)
formats, metadata = shell.display_formatter.format(figure)
assert formats["image/png"] == figure.png(), list(formats)
width, height = figure.get_size_inches() * 96
assert metadata["image/png"] == {"width": round(width), "height": round(height)}, metadata
assert "matplotlib.pyplot" not in sys.modules
"""
    pytest.importorskip("IPython")
    subprocess.run([sys.executable, "-c", code], check=True)


# Curves


def test_history_draws_both_parts_in_both_panels():
    history = make_history()
    loss, accuracy = plots.history(history).axes
    for axes, measure, scale in ((loss, "loss", 1), (accuracy, "accuracy", 100)):
        assert [line.get_label() for line in axes.lines] == ["training", "validation"]
        for line, part in zip(axes.lines, ("train", "val"), strict=True):
            assert line.get_xdata().tolist() == [1, 2, 3, 4, 5, 6]
            expected = [scale * row[f"{part}_{measure}"] for row in history.epochs]
            np.testing.assert_allclose(line.get_ydata(), expected)
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("loss (nats)", "accuracy (%)")
    assert accuracy.get_xlabel() == "epoch"
    assert legend_labels(plots.history(history)) == ["training", "validation"]


def test_history_takes_the_rows_of_a_record_and_one_epoch_and_no_validation():
    history = make_history(1, val=False)
    figure = plots.history(history)
    assert plots.history(history.epochs).png() == figure.png()
    training, validation = figure.axes[0].lines
    assert training.get_ydata().tolist() == [2.0]
    assert np.isnan(validation.get_ydata()).all()


def test_histories_draw_mean_and_range():
    runs = {"plain": [make_history(shift=s) for s in (0, 0.03, 0.09)], "residual": [make_history()]}
    figure = plots.histories(runs)
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "validation accuracy (%)")
    assert legend_labels(figure) == ["plain, 3 runs", "residual, 1 run"]
    base = np.array([100 * row["val_accuracy"] for row in make_history().epochs])
    np.testing.assert_allclose(axes.lines[0].get_ydata(), base + 4)
    band = axes.collections[0].get_paths()[0].vertices
    for epoch, low in zip(range(1, 7), base, strict=True):
        inside = band[band[:, 0] == epoch, 1]
        np.testing.assert_allclose((inside.min(), inside.max()), (low, low + 9))


def test_histories_turn_accuracy_into_error():
    axes = plots.histories({"plain": [make_history()]}, "train_error").axes[0]
    expected = [100 * (1 - row["train_accuracy"]) for row in make_history().epochs]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), expected)
    assert axes.get_ylabel() == "training error (%)"


def test_lines_draw_the_data_on_the_scales_asked_for():
    x = torch.tensor([1.5, 10, 100], requires_grad=True)
    figure = plots.lines({"a": (x, [1, 2, 3]), "b": ([1, 2], [3, 4])}, "x (px)", "y (s)", logy=True)
    axes = figure.axes[0]
    assert axes.lines[0].get_xdata().tolist() == [1.5, 10, 100]
    assert axes.lines[0].get_ydata().tolist() == [1, 2, 3]
    assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "log")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x (px)", "y (s)")
    assert legend_labels(figure) == ["a", "b"]
    assert FIGURES["band"]().axes[0].get_xscale() == "log"
    assert not axes.collections and len(FIGURES["band"]().axes[0].collections) == 1


def test_lines_of_whole_numbers_have_whole_ticks():
    axes = plots.lines({"": ([1, 2, 3], [1, 2, 3])}, "block", "norm").axes[0]
    assert all(tick % 1 == 0 for tick in axes.get_xticks())
    axes = plots.lines({"": ([1, 1.5, 2], [1, 2, 3])}, "size", "norm").axes[0]
    assert any(tick % 1 for tick in axes.get_xticks())


def test_lines_differ_without_colour_too():
    drawn = FIGURES["lines"]().axes[0].lines
    forms = {(line.get_color(), line.get_marker(), str(line._dash_pattern)) for line in drawn}
    for part in zip(*forms, strict=True):
        assert len(set(part)) == len(drawn) == 7


def test_a_line_without_a_name_has_no_legend():
    assert legend_labels(plots.lines({"": (STEPS, STEPS)}, "x", "y")) == []


# Bars


def test_bars_draw_values_and_intervals():
    axes = FIGURES["intervals"]().axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert [bar.get_width() for bar in axes.patches] == [1, -1]
    drawn = [bar.lines[2][0].get_segments()[0][:, 0].tolist() for bar in axes.containers[1::2]]
    assert drawn == [[0.5, 2], [-3, 0.5]]
    assert [text.get_text() for text in axes.texts] == ["1", "−1"]
    # The first row is on top, and every number stands to the right of its row.
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    assert [text.xy for text in axes.texts] == [(2, 0), (0.5, 1)]


def test_bars_start_at_zero_and_points_need_not():
    low, high = FIGURES["bars"]().axes[0].get_xlim()
    assert low == 0 and high > 44.5
    axes = FIGURES["points"]().axes[0]
    assert not axes.patches and 80 < axes.get_xlim()[0] < 89
    assert axes.lines[0].get_xdata().tolist() == [90]


def test_bars_format_their_numbers():
    axes = plots.bars({"a": 0.256, "b": -0.1}, "change (points)", text="+.1f").axes[0]
    assert [text.get_text() for text in axes.texts] == ["+0.3", "−0.1"]
    assert [text.xy for text in axes.texts] == [(0.256, 0), (0, 1)]  # beside the bars, not on them


def test_bars_with_two_intervals_draw_the_wider_one_thin_and_the_narrower_one_thick():
    axes = plots.bars({"a": (1, 0.5, 2, -1, 4)}, "change (points)", points=True).axes[0]
    (thin,) = axes.containers[0].lines[2]
    assert thin.get_segments()[0][:, 0].tolist() == [-1, 4]
    thick = axes.lines[-2]  # before the line at zero
    assert thick.get_xdata().tolist() == [0.5, 2]
    assert thick.get_linewidth() > 2 * thin.get_linewidth()[0]
    assert axes.texts[0].xy == (4, 0)


# Images


def test_reliability_draws_accuracy_against_confidence_where_there_are_images():
    upper, lower = plots.reliability({"a": BINS, "b": BINS[:, [0, 2, 1]]}).axes
    diagonal, first, second = upper.lines
    assert diagonal.get_xydata().tolist() == [[0, 0], [100, 100]]
    np.testing.assert_allclose(first.get_xydata(), [[50, 30], [70, 80], [95, 90]])
    np.testing.assert_allclose(second.get_xydata(), [[30, 50], [80, 70], [90, 95]])
    shares, edges, _ = lower.patches[0].get_data()
    np.testing.assert_allclose(shares, [0, 0, 100 / 6, 200 / 6, 300 / 6])
    np.testing.assert_allclose(edges, [0, 20, 40, 60, 80, 100])


def test_images_are_the_pixels_in_reading_order():
    figure = plots.images(GREY, NAMES[:6], columns=4)
    assert len(figure.axes) == 6
    for axes, picture, title in zip(figure.axes, GREY, NAMES, strict=False):
        shown = axes.images[0]
        assert shown.get_array().tolist() == picture[0].tolist()
        assert (shown.get_clim(), shown.get_interpolation()) == ((0, 255), "nearest")
        assert axes.get_title() == title
    figure.canvas.draw()
    boxes = [axes.get_position() for axes in figure.axes]
    assert [int(4 * (box.x0 + box.x1) / 2) for box in boxes] == [0, 1, 2, 3, 0, 1]  # columns
    assert [int(2 * (box.y0 + box.y1) / 2) for box in boxes] == [1, 1, 1, 1, 0, 0]  # rows, upwards


def test_colour_images_keep_their_channels():
    colours = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8)
    for axes, picture in zip(plots.images(colours).axes, colours, strict=True):
        assert axes.images[0].get_array().tolist() == picture.permute(1, 2, 0).tolist()


def test_long_titles_are_wrapped():
    figure = plots.images(GREY, ["predicted: T-shirt or top"] * 6)
    assert "\n" in figure.axes[0].get_title()


# Feature maps, receptive fields, the pyramid


def test_feature_maps_stand_in_rows_under_the_picture():
    picture, *maps = plots.feature_maps(GREY[0], MAPS).axes
    assert picture.images[0].get_array().tolist() == GREY[0, 0].tolist()
    assert picture.images[0].get_clim() == (0, 255)
    expected = [values for stack in MAPS.values() for values in stack]
    for axes, values in zip(maps, expected, strict=True):
        np.testing.assert_allclose(axes.images[0].get_array(), values)
        np.testing.assert_allclose(axes.images[0].get_clim(), (values.min(), values.max()))
    assert [axes.get_ylabel() for axes in maps[::3]] == ["C2\n8 × 8", "C3\n4 × 4", "C4\n2 × 2"]


def test_feature_maps_show_a_colour_picture():
    colours = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8)
    axes = plots.feature_maps(colours, MAPS).axes[0]
    assert axes.images[0].get_array().tolist() == colours.permute(1, 2, 0).tolist()


def test_receptive_fields_are_drawn_in_pixels_around_the_middle():
    figure = plots.receptive_fields(SPOTS)
    before, after, alone = figure.axes
    assert [axes.get_title() for axes in figure.axes] == list(SPOTS)
    for axes, (heat, cell, _, width) in zip(figure.axes, SPOTS.values(), strict=True):
        shown = axes.images[0]
        np.testing.assert_allclose(shown.get_array(), heat)
        reach = cell * 31 / 2
        assert shown.get_extent() == [-reach, reach, reach, -reach]  # the first row is on top
        low, top = shown.get_clim()
        assert low == 0 and np.quantile(heat, 0.99) < top < heat.max()
        circle = axes.lines[-1]
        np.testing.assert_allclose(np.hypot(circle.get_xdata(), circle.get_ydata()), 2 * width)
        limits = axes.get_xlim(), axes.get_ylim()
        assert limits[0] == tuple(reversed(limits[1])) and limits[0][1] >= reach
        ticks = axes.get_xticks()
        assert ticks.tolist() == [-ticks[2], 0, ticks[2]] and 0 < ticks[2] < limits[0][1]
    for axes, size in ((before, 59), (alone, 33)):
        square = axes.lines[0]
        assert (square.get_xdata().min(), square.get_ydata().max()) == (-size / 2, size / 2)
        assert axes.get_xlim()[1] > size / 2
    assert len(after.lines) == 1  # a square of 971 pixels lies far outside
    assert legend_labels(figure) == ["theoretical field", "two Gaussian widths"]


def test_pyramid_diagram_says_what_the_pyramid_is():
    with torch.device("meta"):
        features = models.resnet50().features(torch.empty(1, 3, 224, 224))
        channels, sides = zip(*(x.shape[1:3] for x in features.values()), strict=True)
        levels = pyramid.FeaturePyramid(channels, 96)(features)
    axes = plots.pyramid_diagram(channels, sides, 96).axes[0]
    shown = [text.get_text() for text in axes.texts]
    for maps in (features, levels):
        expected = [f"{n}\n{' × '.join(map(str, x.shape[1:]))}" for n, x in maps.items()]
        assert [text for text in shown if text in expected] == expected[::-1]  # C5 on top
    assert (shown.count("1×1"), shown.count("3×3")) == (4, 4)
    assert (shown.count("+"), shown.count("× 2")) == (3, 3)


def test_arrows_of_the_pyramid_join_boxes_and_sums():
    axes = FIGURES["pyramid"]().axes[0]
    arrows = [ends(patch) for patch in axes.patches if isinstance(patch, FancyArrowPatch)]
    up = [arrow for arrow in arrows if arrow[0][1] > arrow[-1][1]]
    down = [arrow for arrow in arrows if arrow[0][1] < arrow[-1][1]]
    assert (len(up), len(down), len(arrows)) == (3, 3, 14)
    assert up[0][0][0] < down[0][0][0]  # stages on the left, the top-down path beside them
    edges = set()
    for patch in axes.patches:
        if isinstance(patch, FancyBboxPatch):
            half = patch.get_width() / 2, patch.get_height() / 2
            x, y = patch.get_x() + half[0], patch.get_y() + half[1]
        elif isinstance(patch, Circle):
            (x, y), half = patch.center, (patch.radius, patch.radius)
        else:
            continue
        edges |= {(x - half[0], y), (x + half[0], y), (x, y - half[1]), (x, y + half[1])}
    edges = {(round(x, 3), round(y, 3)) for x, y in edges}
    assert {point for arrow in arrows for point in (arrow[0], arrow[-1])} <= edges


# The confusion matrix


def test_rows_of_images_stand_beside_their_labels():
    figure = plots.image_rows({"first": GREY[:3], "second": GREY[3:5]})
    shown = [axes.images[0].get_array().tolist() for axes in figure.axes]
    assert shown == [picture[0].tolist() for picture in GREY[:5]]
    corners = [axes.get_position() for axes in figure.axes]
    assert corners[0].x0 < corners[1].x0 < corners[2].x0
    assert corners[3].x0 == corners[0].x0 and corners[3].y1 < corners[0].y0
    figure.draw_without_rendering()
    for text, first in zip(figure.texts, (corners[0], corners[3]), strict=True):
        box = text.get_window_extent().transformed(figure.transFigure.inverted())
        assert box.x1 < first.x0 and first.y0 < (box.y0 + box.y1) / 2 < first.y1
    assert [text.get_text() for text in figure.texts] == ["first", "second"]


def test_rows_of_images_show_colours():
    colour = GREY[:1].repeat(1, 3, 1, 1)
    colour[:, 1] = 7
    (axes,) = plots.image_rows({"a": colour}).axes
    assert axes.images[0].get_array().tolist() == colour[0].permute(1, 2, 0).tolist()


def test_overlays_redden_a_grey_picture():
    figure = plots.overlays(GREY[:2], {k: v[:2] for k, v in OVERLAYS.items()}, ["a", "b"])
    shown = [axes.images[0].get_array() for axes in figure.axes]
    assert [picture.tolist() for picture in shown[:2]] == [[*GREY[i, 0].tolist()] for i in (0, 1)]
    grey = GREY[:2, 0, :, :, None].double() / 255
    red = torch.tensor(to_rgba("#d55e00")[:3], dtype=torch.double)
    weight = 0.8 * OVERLAYS["C3"][:2, :, :, None].double()
    want = (1 - weight) * grey + weight * red
    np.testing.assert_allclose(np.stack(shown[2:4]), want)
    np.testing.assert_allclose(np.stack(shown[4:]), grey.expand(-1, -1, -1, 3))  # no evidence
    corners = [axes.get_position() for axes in figure.axes]
    assert corners[0].x0 == corners[1].x0 < corners[2].x0 < corners[4].x0
    assert corners[0].y0 == corners[2].y0 == corners[4].y0 > corners[1].y1
    assert [text.get_text() for text in figure.texts] == ["image", "C3", "C4", "a", "b"]
    figure.draw_without_rendering()
    for text, first in zip(figure.texts[3:], corners[:2], strict=True):
        box = text.get_window_extent().transformed(figure.transFigure.inverted())
        assert box.x1 < first.x0 and first.y0 < (box.y0 + box.y1) / 2 < first.y1


def test_overlays_keep_colours_in_the_picture_itself():
    colour = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8)
    figure = plots.overlays(colour, {"C3": torch.zeros(1, 8, 8)}, ["a"])
    picture, laid_over = (axes.images[0].get_array() for axes in figure.axes)
    assert picture.tolist() == colour[0].permute(1, 2, 0).tolist()
    grey = colour.double().mean(1)[0, :, :, None] / 255
    np.testing.assert_allclose(laid_over, grey.expand(-1, -1, 3))


def test_overlays_refuse_what_they_cannot_show():
    for maps in (torch.rand(6, 4, 4), torch.full((6, 8, 8), 1.5), -torch.rand(6, 8, 8)):
        with pytest.raises(UserError, match=r"must be \(6, 8, 8\), from 0 to 1"):
            plots.overlays(GREY, {"C3": maps}, NAMES[:6])
    with pytest.raises(UserError, match="6 pictures need 6 labels, got 5"):
        plots.overlays(GREY, OVERLAYS, NAMES[:5])
    with pytest.raises(UserError, match="must be uint8"):
        plots.overlays(GREY.float(), OVERLAYS, NAMES[:6])


def test_confusion_shows_percentages_of_rows():
    axes = plots.confusion([[3, 1, 0], [0, 0, 0], [1, 999, 0]], ["cat", "dog", "fox"]).axes[0]
    shown = {text.get_position()[::-1]: text.get_text() for text in axes.texts}
    assert shown == {(0, 0): "75", (0, 1): "25", (2, 0): "<1", (2, 1): "100"}
    assert axes.images[0].get_array().tolist() == [[75, 25, 0], [0, 0, 0], [0.1, 99.9, 0]]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["cat", "dog", "fox"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog", "fox"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")


def test_confusion_shows_no_nought_for_a_cell_with_images():
    axes = plots.confusion([[199, 1], [0, 200]], ["cat", "dog"]).axes[0]  # half a percent
    assert "<1" in [text.get_text() for text in axes.texts]


def test_confusion_shows_counts_when_asked():
    figure = plots.confusion(torch.tensor([[30, 10], [0, 5]]), ["cat", "dog"], counts=True)
    axes, bar = figure.axes
    assert [text.get_text() for text in axes.texts] == ["30", "10", "5"]
    assert axes.images[0].get_array().tolist() == [[75, 25], [0, 100]]
    assert bar.get_xlabel() == "colour: % of the true class"


def luminance(colour):
    """Relative luminance of an RGBA colour, as WCAG 2 defines it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("first", range(1, 96, 12))
def test_confusion_numbers_stand_out_against_every_shade(first):
    shares = np.minimum(np.arange(first, first + 12), 99)
    cm = np.diag(shares) + np.roll(np.diag(100 - shares), 1, axis=1)
    axes = plots.confusion(cm, [*NAMES, "eleven", "twelve"]).axes[0]
    assert len(axes.texts) == 24
    shades = axes.images[0].to_rgba(axes.images[0].get_array())
    for text in axes.texts:
        column, row = text.get_position()
        light = sorted((luminance(shades[row, column]), luminance(to_rgba(text.get_color()))))
        assert (light[1] + 0.05) / (light[0] + 0.05) > 4.5


def test_confusion_numbers_stay_in_their_cells():
    figure = plots.confusion(TEN, NAMES, counts=True)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    cell = axes.transData.transform((1, 0))[0] - axes.transData.transform((0, 0))[0]
    assert max(text.get_window_extent().width for text in axes.texts) < cell
    assert max(len(text.get_text()) for text in axes.texts) == 3


def test_confusion_of_many_classes_names_some_and_writes_no_numbers():
    axes = plots.confusion(np.eye(50), [f"class {i}" for i in range(50)]).axes[0]
    assert not axes.texts
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert len(labels) <= 20
    assert labels == [f"class {i}" for i in axes.get_xticks()]


# Diagrams


def described(block, *, norm="batch norm"):
    """What a block's boxes must say, read off the modules of the block itself."""

    def conv(module):
        size, stride = module.kernel_size[0], module.stride[0]
        strided = f", stride {stride}" if stride > 1 else ""
        return f"{size}×{size} conv{strided}\n{module.in_channels} → {module.out_channels} channels"

    convs = [module for name, module in block.named_children() if name.startswith("conv")]
    boxes = []
    for module in convs:
        boxes += [conv(module), norm, "ReLU"]
    boxes[-1:] = ["+", "ReLU"]  # the last ReLU follows the addition
    beside = []
    if isinstance(block.downsample, nn.Sequential):
        beside = [conv(block.downsample[0]), norm]
        assert isinstance(block.downsample[1], nn.BatchNorm2d)
    return boxes, beside


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("in_channels", "width"), [(64, 64), (64, 128), (16, 32)])
def test_basic_block_diagram_says_what_the_block_is(in_channels, width, stride):
    expected, beside = described(blocks.BasicBlock(in_channels, width, stride))
    figure = plots.basic_block_diagram(in_channels, width, stride)
    size = "H/2 × W/2" if stride == 2 else "H × W"
    ends = f"input\n{in_channels} × H × W", f"output\n{width} × {size}"
    assert branch(figure) == [ends[0], *expected, ends[1]]
    assert side(figure) == beside
    assert ("identity" in [text.get_text() for text in figure.axes[0].texts]) == (not beside)


@pytest.mark.parametrize("stride_in", ["3x3", "1x1"])
@pytest.mark.parametrize(
    ("in_channels", "width", "stride"), [(256, 64, 1), (64, 64, 1), (256, 128, 2), (1024, 512, 2)]
)
def test_bottleneck_diagram_says_what_the_block_is(in_channels, width, stride, stride_in):
    expected, beside = described(blocks.Bottleneck(in_channels, width, stride, stride_in))
    figure = plots.bottleneck_diagram(in_channels, width, stride, stride_in)
    size = "H/2 × W/2" if stride == 2 else "H × W"
    ends = f"input\n{in_channels} × H × W", f"output\n{4 * width} × {size}"
    assert branch(figure) == [ends[0], *expected, ends[1]]
    assert side(figure) == beside
    assert ("identity" in [text.get_text() for text in figure.axes[0].texts]) == (not beside)


def test_the_stride_moves_with_the_version():
    def strided(figure):
        return [t.split(",")[0] for t in branch(figure) if ", stride 2" in t]

    assert strided(plots.bottleneck_diagram(256, 128, 2)) == ["3×3 conv"]
    assert strided(plots.bottleneck_diagram(256, 128, 2, "1x1")) == ["1×1 conv"]
    first = branch(plots.bottleneck_diagram(256, 128, 2, "1x1"))[1]
    assert first == "1×1 conv, stride 2\n256 → 128 channels"


def test_options_of_the_shortcut():
    assert side(FIGURES["padding"]()) == ["subsample, stride 2\n256 → 512 with zeros"]
    always = plots.basic_block_diagram(64, 64, option="C")
    assert side(always) == ["1×1 conv\n64 → 64 channels", "batch norm"]
    assert side(plots.basic_block_diagram(64, 64, option="A")) == []


def test_plain_block_has_the_branch_alone():
    figure = FIGURES["plain"]()
    residual = [text for text in branch(FIGURES["projection"]()) if text != "+"]
    assert column(figure, 1.1) == residual
    assert not [patch for patch in figure.axes[0].patches if isinstance(patch, Circle)]


def test_preactivation_puts_norm_and_relu_first_and_nothing_after_the_sum():
    conv = "3×3 conv\n64 → 64 channels"
    expected = ["input\n64 × H × W", "batch norm", "ReLU", conv, "batch norm", "ReLU", conv]
    assert branch(FIGURES["pre-activation"]()) == [*expected, "+", "output\n64 × H × W"]
    assert side(FIGURES["pre-activation"]()) == []


def ends(arrow):
    """The points of an arrow's path, rounded so that they can be compared."""
    return [(round(float(x), 3), round(float(y), 3)) for x, y in arrow._path_original.vertices]


@pytest.mark.parametrize("name", DIAGRAMS)
def test_arrows_join_boxes_and_text_stays_in_its_box(name):
    figure = FIGURES[name]()
    axes = figure.axes[0]
    figure.canvas.draw()
    boxes = [patch for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    arrows = [patch for patch in axes.patches if isinstance(patch, FancyArrowPatch)]
    tops, bottoms = set(), set()
    for box in boxes:
        x, y = box.get_x() + box.get_width() / 2, box.get_y()
        tops.add((round(x, 3), round(y, 3)))
        bottoms.add((round(x, 3), round(y + box.get_height(), 3)))
    tops.remove(min(tops, key=lambda point: point[1]))  # nothing leads into the input
    bottoms.remove(max(bottoms, key=lambda point: point[1]))  # nor out of the output
    for circle in (patch for patch in axes.patches if isinstance(patch, Circle)):
        (x, y), radius = circle.center, circle.radius
        tops |= {(round(x, 3), round(y - radius, 3)), (round(x + radius, 3), round(y, 3))}
        bottoms.add((round(x, 3), round(y + radius, 3)))
    lines = [arrow for arrow in arrows if type(arrow.get_arrowstyle()).__name__ == "Curve"]
    heads = [arrow for arrow in arrows if arrow not in lines]
    joints = {point for line in lines for point in ends(line)[1:]}
    assert {ends(arrow)[-1] for arrow in heads} == tops  # boxes and both sides of the sum
    assert bottoms <= {ends(arrow)[0] for arrow in arrows} <= bottoms | joints
    # A shortcut branches off the way into the first box and goes on in an arrow of its own.
    for line in lines:
        assert {ends(line)[1], ends(line)[-1]} <= {ends(arrow)[0] for arrow in heads}

    for text in axes.texts:
        if text.get_ha() != "center" or text.get_text() == "+":
            continue
        extent = text.get_window_extent()
        holders = [b for b in boxes if b.get_window_extent().contains(*extent.get_points().mean(0))]
        assert len(holders) == 1
        box = holders[0].get_window_extent()
        assert box.x0 < extent.x0 and extent.x1 < box.x1
        assert box.y0 < extent.y0 and extent.y1 < box.y1


@pytest.mark.parametrize("name", models.DEPTHS)
@pytest.mark.parametrize(
    ("image_size", "width", "stem"), [(224, 64, "imagenet"), (33, 16, "small")]
)
def test_network_diagram_gives_the_shapes_of_the_network(name, image_size, width, stem):
    block, depths = models.DEPTHS[name]
    figure = plots.network_diagram(
        depths, block is blocks.Bottleneck, image_size, width, stem, in_channels=1, num_classes=7
    )
    with torch.device("meta"):
        model = models.build(name, 7, width=width, stem=stem, in_channels=1).eval()
        shapes = [torch.empty(1, 1, image_size, image_size)]
        shapes.append(model.conv1(shapes[0]))
        if stem == "imagenet":
            shapes.append(model.maxpool(shapes[-1]))
        shapes += model.features(shapes[0]).values()
        shapes.append(model.avgpool(shapes[-1]))
    expected = [" × ".join(map(str, shape.shape[1:])) for shape in shapes] + ["7 scores"]
    notes = [text.get_text() for text in figure.axes[0].texts if text.get_ha() == "left"]
    assert notes == expected

    kind = "bottlenecks" if block is blocks.Bottleneck else "basic blocks"
    stages = [text for text in column(figure, 1.2) if text.startswith("C")]
    assert stages[0] == f"C2: {depths[0]} {kind}"  # its first block does not stride
    for stage, text in enumerate(stages[1:], start=1):
        assert text == f"C{stage + 2}: {depths[stage]} {kind}\nfirst one: stride 2"


def test_network_diagram_shows_the_stem():
    assert column(FIGURES["ResNet-50"](), 1.2)[1:3] == [
        "7×7 conv, stride 2\nbatch norm, ReLU",
        "3×3 max pool, stride 2",
    ]
    assert column(FIGURES["small"](), 1.2)[1:3] == [
        "3×3 conv\nbatch norm, ReLU",
        "C2: 2 basic blocks",
    ]
    single = plots.network_diagram((1, 2, 2, 2), False)
    assert "C2: 1 basic block" in column(single, 1.2)


# Bad input

BAD = [
    (lambda: plots.history(SimpleNamespace(epochs=[])), "history is empty"),
    (lambda: plots.histories({}), "history for every label"),
    (lambda: plots.histories({"a": []}), "history for every label"),
    (lambda: plots.histories({"a": [make_history()]}, "test_loss"), "key like val_loss; got 'test"),
    (lambda: plots.histories({"a": [make_history()]}, "train_lr"), "got 'train_lr'"),
    (
        lambda: plots.histories({"a": [make_history(), make_history(3)]}),
        "'a' have different epochs",
    ),
    (lambda: plots.lines({"a": ([1, 2], [1])}, "x", "y"), "'a' needs .x, y. or"),
    (lambda: plots.lines({"a": ([1], [1], [1])}, "x", "y"), "'a' needs .x, y. or"),
    (lambda: plots.bars({}, "x"), "at least one"),
    (lambda: plots.bars({"a": (1, 2)}, "x"), "a value or .value, low, high"),
    (lambda: plots.reliability({}), "at least one table"),
    (lambda: plots.reliability({"a": BINS[:, :2]}), "'a' must be .bins, 3. with images"),
    (lambda: plots.reliability({"a": BINS[:2]}), "'a' must be .bins, 3. with images"),
    (lambda: plots.image_rows({}), "at least one row"),
    (lambda: plots.image_rows({"a": GREY.float()}), "of 'a' must be uint8 .* got float32"),
    (lambda: plots.image_rows({"a": GREY[:0]}), "of 'a' must be uint8"),
    (lambda: plots.images(GREY.float()), "must be uint8 .* got float32"),
    (lambda: plots.images(GREY[0]), r"got uint8 \(1, 8, 8\)"),
    (lambda: plots.images(GREY[:0]), r"got uint8 \(0, 1, 8, 8\)"),
    (lambda: plots.images(GREY.expand(6, 2, 8, 8)), "1 or 3"),
    (lambda: plots.images(GREY, ["a"]), "6 images need 6 titles, got 1"),
    (lambda: plots.feature_maps(GREY, MAPS), r"must be uint8 .* got uint8 \(6, 1, 8, 8\)"),
    (lambda: plots.feature_maps(GREY[0].float(), MAPS), "got float32"),
    (lambda: plots.feature_maps(GREY[0], {}), "same number K"),
    (lambda: plots.feature_maps(GREY[0], MAPS | {"C5": torch.rand(2, 1, 1)}), "same number K"),
    (lambda: plots.receptive_fields({}), "at least one field"),
    (lambda: plots.receptive_fields({"a": (SPOT[1:], 1, 9, 2)}), "'a' must be square, got shape"),
    (lambda: plots.pyramid_diagram((256,), (56,), 256), "two or more levels, got 1"),
    (lambda: plots.confusion(TEN, NAMES[:9]), "9 classes need a matrix of 9 x 9"),
    (lambda: plots.basic_block_diagram(64, 64, 0), "stride >= 1"),
    (lambda: plots.basic_block_diagram(64, 64, option="D"), "option A, B or C, got 1 and 'D'"),
    (lambda: plots.basic_block_diagram(64, 128, 2, preactivation=True), "stride 1"),
    (lambda: plots.bottleneck_diagram(64, 64, stride_in="5x5"), "got '5x5'"),
    (lambda: plots.network_diagram((3, 4, 6), True), "four depths"),
    (lambda: plots.network_diagram((3, 4, 0, 3), True), "four depths"),
    (lambda: plots.network_diagram((3, 4, 6, 3), True, stem="large"), "got .* 'large'"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input_gets_one_clear_line(call, message):
    with pytest.raises(UserError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
