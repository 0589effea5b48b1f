"""The receptive-field explorer in a real browser, on a page built as the book's are.

Needs Chromium and the Python package playwright, which drives it; skipped without them.
"""

import base64

import explorer
import explorer_data
import pytest
import torch
from browsing import CHROMIUM, DESKTOP, PHONE, book_of_one_page, opened
from notebooks import ROOT

from resnet_lib import models, pyramid, records

pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

MARGIN, DENSITY, SIDE = 64, 2, explorer_data.SIDE
BLUE = (0, 114, 178)
QUIET = 600  # milliseconds in which the announcement must have come
CHOICES = [
    (network, version, stage)
    for network in explorer_data.NETWORKS
    for version in explorer_data.VERSIONS
    for stage in ("C2", "C3", "C4", "C5")
]


@pytest.fixture(scope="session")
def address(tmp_path_factory):
    """A book with one page that has the explorer."""
    texts = ("# 9. Scale", f"{explorer.HEADING}\n\nMove.", "## Next\n\nThe text goes on.")
    return book_of_one_page(tmp_path_factory, "09_scale", texts)


@pytest.fixture
def page(chromium, address):
    with opened(chromium, address) as page:
        yield page


@pytest.fixture(scope="module")
def fields():
    """{(network, version): {stage: Field}} straight from the package."""
    found = {}
    with torch.device("meta"):
        for network in explorer_data.NETWORKS:
            for version, stride_in in (("v1", "1x1"), ("v1.5", "3x3")):
                model = models.build(network, stride_in=stride_in)
                found[network, version] = pyramid.receptive_field(model)
    return found


def choose(page, **values):
    for name, value in values.items():
        page.check(f"[name=fe-{name}][value='{value}']")


def plain(text):
    """The same with plain spaces and minus signs."""
    return text.replace("\xa0", " ").replace("−", "-")


def text(page, part):
    """A line of the text beside the picture."""
    return plain(page.text_content(f"[data-fe={part}]"))


def unit(page):
    """(row, column) as the page tells them."""
    words = text(page, "unit").replace(",", "").split()
    return int(words[words.index("row") + 1]), int(words[words.index("column") + 1])


def on_screen(page, x, y):
    """Where the middle of a pixel of the picture is in the window."""
    page.locator("canvas").scroll_into_view_if_needed()
    box = page.locator("canvas").bounding_box()
    scale = box["width"] / (SIDE + 2 * MARGIN)
    return box["x"] + (x + 0.5 + MARGIN) * scale, box["y"] + (y + 0.5 + MARGIN) * scale


def nearest(pixel, field):
    """The unit whose middle is the nearest to a pixel, by trying all of them."""
    units = range(-(-SIDE // field.jump))
    return min(units, key=lambda unit: abs(sum(field.span(unit)) / 2 - pixel))


def canvas(page):
    """The canvas as a tensor (height, width, 4) of pixels of the picture, margin and all."""
    program = """(canvas) => {
      const { width, height } = canvas;
      const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
      let text = "";
      for (let at = 0; at < data.length; at += 8192) {
        text += String.fromCharCode(...data.subarray(at, at + 8192));
      }
      return btoa(text);
    }"""
    data = base64.b64decode(page.locator("canvas").evaluate(program))
    side = (SIDE + 2 * MARGIN) * DENSITY
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).view(side, side, 4).int()


def at(image, x, y):
    """The colour at a point of the picture, in its pixels from the top left corner."""
    return tuple(image[round((y + MARGIN) * DENSITY), round((x + MARGIN) * DENSITY), :3].tolist())


def is_blue(colour):
    return max(abs(a - b) for a, b in zip(colour, BLUE, strict=True)) < 12


# The hands


@pytest.mark.parametrize("stage", ["C2", "C5"])
def test_mouse_moves_the_unit_and_a_click_keeps_it(page, fields, stage):
    field = fields["resnet50", "v1.5"][stage]
    choose(page, network="resnet50", version="v1.5", stage=stage)
    start = unit(page)
    for x, y in ((3, 471), (239, 101), (479, 15)):
        page.mouse.move(*on_screen(page, x, y))
        assert unit(page) == (nearest(y, field), nearest(x, field))
    page.mouse.move(5, 5)  # away from the picture
    assert unit(page) == start
    page.mouse.click(*on_screen(page, 100, 300))
    page.mouse.move(*on_screen(page, 400, 20))
    page.mouse.move(5, 5)
    assert unit(page) == (nearest(300, field), nearest(100, field))


def test_units_change_half_way_between_their_middles(page, fields):
    field = fields["resnet50", "v1.5"]["C5"]
    choose(page, stage="C5")
    between = field.jump // 2 + 2 * field.jump  # as near to unit 2 as to unit 3
    page.mouse.move(*on_screen(page, between - 2, 240))
    assert unit(page)[1] == 2
    page.mouse.move(*on_screen(page, between + 2, 240))
    assert unit(page)[1] == 3


def test_finger_taps_and_draws(chromium, address, fields):
    field = fields["resnet50", "v1.5"]["C4"]
    with opened(chromium, address, PHONE, has_touch=True, is_mobile=True) as page:
        choose(page, stage="C4")
        page.touchscreen.tap(*on_screen(page, 60, 400))
        assert unit(page) == (nearest(400, field), nearest(60, field))
        scrolled = page.evaluate("scrollY")
        touch = page.context.new_cdp_session(page)
        for kind, point in (("Start", (60, 400)), ("Move", (200, 300)), ("Move", (350, 90))):
            x, y = on_screen(page, *point)
            event = {"type": f"touch{kind}", "touchPoints": [{"x": x, "y": y}]}
            touch.send("Input.dispatchTouchEvent", event)
            page.wait_for_timeout(100)  # a browser passes on one movement a frame
        assert unit(page) == (nearest(90, field), nearest(350, field))
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        assert unit(page) == (nearest(90, field), nearest(350, field))
        assert page.evaluate("scrollY") == scrolled


def test_keys_move_the_unit_and_not_the_page(page):
    choose(page, stage="C5")
    page.mouse.click(*on_screen(page, 7 * 32, 7 * 32))
    scrolled = page.evaluate("scrollY")
    assert unit(page) == (7, 7)
    steps = (
        ("ArrowLeft", (7, 6)),
        ("ArrowUp", (6, 6)),
        ("ArrowRight", (6, 7)),
        ("ArrowDown", (7, 7)),
        ("Home", (7, 0)),
        ("ArrowLeft", (7, 0)),  # there is none further left
        ("PageDown", (14, 0)),
        ("End", (14, 14)),
        ("ArrowRight", (14, 14)),
        ("ArrowDown", (14, 14)),
        ("PageUp", (0, 14)),
        ("ArrowUp", (0, 14)),
        ("Control+ArrowLeft", (0, 14)),  # a browser's or screen reader's own
    )
    for key, expected in steps:
        page.keyboard.press(key)
        assert unit(page) == expected, key
    assert page.evaluate("scrollY") == scrolled


def test_everything_is_reached_with_the_tab_key_and_shows_its_focus(page):
    page.locator("[name=fe-network]").first.focus()
    seen = []
    for _ in range(7):
        seen.append(
            page.evaluate("""() => {
              const element = document.activeElement;
              const shown = element.closest("label") || element;
              return [element.name || element.tagName, getComputedStyle(shown).outlineStyle];
            }""")
        )
        page.keyboard.press("Tab")
    names = ["network", "version", "stage", "time", "picture", "grid"]
    assert [name for name, _ in seen] == [*(f"fe-{name}" for name in names), "CANVAS"]
    assert {style for _, style in seen} == {"solid"}


# The numbers


def test_text_gives_the_packages_numbers(page, fields):
    for network, version, stage in CHOICES:
        field = fields[network, version][stage]
        choose(page, network=network, version=version, stage=stage)
        for x, y in ((5, 301), (243, 243), (471, 21)):  # never half-way between units
            page.mouse.click(*on_screen(page, x, y))
            row, column = nearest(y, field), nearest(x, field)
            (top, bottom), (left, right) = field.span(row), field.span(column)
            units = -(-SIDE // field.jump)
            assert text(page, "unit") == (
                f"{stage}, row {row}, column {column} of the map of {units} × {units}, "
                f"counted from 0; jump to the next: {field.jump} px"
            )
            expected = f"rows {top} to {bottom}, columns {left} to {right}"
            assert text(page, "field") == f"{field.size} × {field.size} px: {expected}"
            rows = sum(0 <= pixel < SIDE for pixel in range(top, bottom + 1))
            columns = sum(0 <= pixel < SIDE for pixel in range(left, right + 1))
            outside = 100 * (1 - rows * columns / field.size**2)
            if rows == columns == field.size:
                assert text(page, "outside") == "nothing of the square"
            else:
                assert abs(int(text(page, "outside").split()[0]) - outside) <= 0.51


def test_text_gives_the_recorded_widths(page):
    found = [r for r in records.load("receptive-fields") if r.variant == "resnet101-w16"]
    choose(page, network="resnet101", version="v1.5", stage="C4")
    for time in ("before", "after"):
        choose(page, time=time)
        width = sum(record.result[time]["C4"]["width"] for record in found) / len(found)
        words = text(page, "heat").split()
        assert words[:2] == ["Gaussian", "width"] and words[4] == time
        assert abs(float(words[2]) - width) <= 0.51
        square = sum(record.result[time]["C4"]["square"] for record in found) / len(found)
        assert abs(float(text(page, "share").split()[4]) - square) <= 0.51


# The picture


def test_square_is_drawn_where_the_field_lies(page, fields):
    field = fields["resnet50", "v1.5"]["C4"]
    choose(page, stage="C4", picture="shapes")
    page.mouse.click(*on_screen(page, 240, 272))
    (top, bottom), (left, right) = field.span(nearest(272, field)), field.span(15)
    image = canvas(page)
    # On the four edges, away from corners; the last pixel's far side is the square's edge.
    for x, y in ((left, 250), (right + 1, 250), (260, top), (260, bottom + 1)):
        assert is_blue(at(image, x, y)), (x, y)
    for shift in (-5, 5):
        assert not is_blue(at(image, left + shift, 250))
        assert not is_blue(at(image, 260, bottom + 1 + shift))


def test_square_goes_on_outside_and_points_beyond_the_canvas(page, fields):
    field = fields["resnet50", "v1.5"]["C3"]
    choose(page, stage="C3")
    page.mouse.click(*on_screen(page, 230, 0))
    first, last = field.span(29)
    image = canvas(page)
    assert first < 230 < last and -MARGIN < field.span(0)[0] < 0
    line = [is_blue(at(image, first, y)) for y in range(field.span(0)[0] + 4, -3)]
    assert any(line) and not all(line)  # dashes
    assert not is_blue(at(image, 230, 12 - MARGIN))
    choose(page, stage="C5")  # reaches further than the border shows
    image = canvas(page)
    assert is_blue(at(image, 224, 15 - MARGIN))
    assert not is_blue(at(image, 224, SIDE + MARGIN - 15))


@pytest.mark.parametrize(("stage", "place"), [("C3", (240, 240)), ("C5", (160, 352))])
def test_heat_lies_around_the_unit(page, fields, stage, place):
    field = fields["resnet50", "v1.5"][stage]
    found = [r for r in records.load("receptive-fields") if r.variant == "resnet50-w16"]
    heats = [record.result["before"][stage] for record in found]
    cell, side = heats[0]["cell"], heats[0]["side"]
    maps = [torch.tensor(list(bytes.fromhex(heat["heat"]))).double() ** 2 for heat in heats]
    mean = (sum(heat / heat.sum() for heat in maps)).sqrt().view(side, side)
    expected = mean / mean.max()

    choose(page, network="resnet50", version="v1.5", stage=stage, time="before", picture="clothes")
    page.mouse.click(*on_screen(page, *place))
    middles = [sum(field.span(nearest(pixel, field))) // 2 for pixel in place]
    image = canvas(page)
    # The picture is grey, so red minus blue tells how much vermilion lies on it.
    shade = (image[..., 0] - image[..., 2]) / 213 / 0.9

    def compare(shift):
        """The median distance of cells to what is drawn, with the map moved by pixels.

        The median, since the lines and the mark of the unit hide some of the cells.
        """
        distances = []
        for row in range(side):
            for column in range(side):
                x, y = (
                    middle - cell // 2 + (index - side // 2) * cell + cell / 2 + shift
                    for middle, index in zip(middles, (column, row), strict=True)
                )
                if 0 < x < SIDE and 0 < y < SIDE:
                    drawn = shade[int((y + MARGIN) * DENSITY), int((x + MARGIN) * DENSITY)]
                    distances.append(abs(drawn - expected[row, column]).item())
        return torch.tensor(distances).median().item()

    assert compare(0) < 0.02
    assert compare(cell) > 2 * compare(0)
    assert compare(-cell) > 2 * compare(0)


def test_grid_marks_the_middles_of_all_units(page, fields):
    field = fields["resnet50", "v1.5"]["C5"]
    choose(page, stage="C5", picture="clothes")
    page.mouse.click(*on_screen(page, 0, 0))
    before = canvas(page)
    page.check("[name=fe-grid]")
    after = canvas(page)
    changed = (before != after).any(-1).nonzero()
    middles = [sum(field.span(unit)) / 2 + 0.5 for unit in range(15)]
    for pixel in ((changed + 0.5) / DENSITY - MARGIN).flatten().unique().tolist():
        assert min(abs(pixel - middle) for middle in middles) <= 2.5, pixel
    for middle in middles[8:]:
        assert at(after, middle, middle) == (255, 255, 255)


# For everybody


def test_changes_are_announced(page):
    status = page.locator(".field-explorer").get_by_role("status")

    def said():
        return plain(status.text_content())

    page.wait_for_timeout(QUIET)
    choose(page, network="resnet101", stage="C3")
    page.wait_for_timeout(QUIET)
    before = said()
    assert "ResNet-101 v1.5, C3" in before and text(page, "heat") in before
    page.locator("canvas").focus()
    page.keyboard.press("Home")
    page.keyboard.press("PageUp")
    assert said() == before  # not while one is still on the way
    page.wait_for_timeout(QUIET)
    assert "row 0, column 0" in said()
    assert text(page, "outside") in said()


def test_canvas_and_controls_have_names(page):
    picture = page.get_by_role("application")
    assert picture.get_attribute("aria-label").startswith("Clothes: ")
    help_ = page.locator(f"#{picture.get_attribute('aria-describedby')}")
    assert "arrows" in help_.text_content()
    choose(page, picture="shapes")
    assert picture.get_attribute("aria-label").startswith("Shapes: ")
    for group in ("Network", "Version", "Stage", "Training", "Picture", "Show"):
        assert page.get_by_role("group", name=group, exact=True).count() == 1
    assert page.get_by_role("radio", name="C4", exact=True).count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_no_accessibility_violation_and_nothing_to_scroll_sideways(chromium, address, scheme, size):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    with opened(chromium, address, size, color_scheme=scheme) as page:
        page.locator("summary").click()  # the table, too
        page.wait_for_timeout(QUIET)
        violations = axe.Axe().run(page, options={"preload": False}).response["violations"]
        assert not [(each["id"], each["nodes"][0]["html"][:200]) for each in violations]
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        box = page.locator("canvas").bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= size[0]


def test_finger_finds_a_place_to_scroll_on_a_phone_held_sideways(chromium, address):
    with opened(chromium, address, PHONE[::-1]) as page:
        assert page.locator("canvas").bounding_box()["height"] <= 0.76 * PHONE[0]


def test_nothing_moves_by_itself(page):
    root = page.locator(".field-explorer")
    assert root.evaluate("root => root.getAnimations({subtree: true}).length") == 0
    durations = page.locator(".field-explorer *").evaluate_all(
        "all => [...new Set(all.map((one) => getComputedStyle(one).transitionDuration))]"
    )
    assert durations == ["0s"]


def test_without_scripts_the_table_is_there(chromium, address, fields):
    with opened(chromium, address, java_script_enabled=False) as page:
        assert not page.locator(".field-explorer").is_visible()
        assert (
            page.locator("article noscript")
            .inner_text()
            .startswith("The explorer needs JavaScript")
        )
        page.locator("summary").click()
        rows = [row.split() for row in page.locator("details tbody tr").all_inner_texts()]
        expected = [
            [
                *(explorer_data.NETWORKS[network], version, stage),
                *(str(field.size), str(field.jump), units, "×", units),
            ]
            for network, version, stage in CHOICES
            for field in [fields[network, version][stage]]
            for units in [str(-(-SIDE // field.jump))]
        ]
        assert rows == expected


def test_missing_measurement_is_named_and_its_control_disabled(chromium, tmp_path, monkeypatch):
    """Without the theme, since the real records cannot be taken away from a build."""
    found = explorer_data.recorded("resnet50", "v1.5")

    def only(network, version):
        return found if (network, version) == ("resnet50", "v1.5") else []

    monkeypatch.setattr(explorer_data, "recorded", only)
    data, _ = explorer_data.collect()
    script = (ROOT / "book" / "_static" / "explorer.js").read_text(encoding="utf-8")
    file = tmp_path / "page.html"
    body = f"<main>{explorer.markup(data)}</main><script>{script}</script>"
    file.write_text(f"<!DOCTYPE html><html><meta charset='utf-8'>{body}</html>", encoding="utf-8")
    with opened(chromium, file.as_uri()) as page:
        note = page.locator(".fe-missing").text_content()
        assert "ResNet-50 v1 (" in note and "ResNet-101 v1.5 (" in note
        assert "ResNet-50 v1.5" not in note
        assert page.locator("[name=fe-time]").first.is_enabled()
        assert text(page, "heat").startswith("Gaussian width")
        choose(page, version="v1", picture="clothes")
        assert page.locator("[name=fe-time]").first.is_disabled()
        assert text(page, "heat") == text(page, "share") == "not measured for ResNet-50 v1"
        image = canvas(page)
        inner = image[(MARGIN + 60) * DENSITY : (MARGIN + 420) * DENSITY, 400:800]
        assert (inner[..., 0] - inner[..., 2]).max() <= 2  # no vermilion
