"""The classifier in the page by mouse, finger and keyboard, and for every reader.

Needs Chromium, the Python package playwright, and npm or an earlier download of the runtime;
skipped without them.
"""

import re

import classifier_data
import pytest
import torch
from browsing import CHROMIUM, DESKTOP, PHONE, opened
from classifying import SIDE, SIZE, a_file, give, load, scene, status, taken, told

pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


# The drawing


def cell(page, row, column):
    """Where a cell's middle is in the window."""
    page.locator(".cl-paper").scroll_into_view_if_needed()
    box = page.locator(".cl-paper").bounding_box()
    return box["x"] + (column + 0.5) * box["width"] / SIDE, box["y"] + (row + 0.5) * (
        box["height"] / SIDE
    )


def test_mouse_draws_lines_that_the_network_gets(page):
    page.check("[name=cl-way][value=drawing]")
    page.check("[name=cl-width][value='1']")
    page.mouse.move(*cell(page, 5, 3))
    page.mouse.down()
    page.mouse.move(*cell(page, 5, 20))
    page.mouse.up()
    page.mouse.move(*cell(page, 25, 25))
    told(page, "Your drawing")
    wanted = torch.zeros(SIZE, SIZE).long()
    wanted[7, 5:23] = 255
    assert torch.equal(taken(page), wanted)
    page.check("[name=cl-ink][value='128']")
    page.check("[name=cl-width][value='3']")
    page.mouse.click(*cell(page, 0, 0))  # half of it would lie outside
    wanted[2:4, 2:4] = 128
    page.wait_for_timeout(1000)
    assert torch.equal(taken(page), wanted)
    page.get_by_role("button", name="Clear").click()
    page.wait_for_timeout(1000)
    assert not taken(page).any()


def test_finger_draws_and_the_page_stays(chromium, classifier_address):
    with opened(chromium, classifier_address, PHONE, has_touch=True, is_mobile=True) as page:
        load(page)
        page.check("[name=cl-way][value=drawing]")
        page.check("[name=cl-width][value='1']")
        start = cell(page, 20, 4)
        scrolled = page.evaluate("scrollY")
        touch = page.context.new_cdp_session(page)
        for kind, point in (
            ("Start", start),
            ("Move", cell(page, 12, 4)),
            ("Move", cell(page, 4, 4)),
        ):
            points = [{"x": point[0], "y": point[1]}]
            touch.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})
            page.wait_for_timeout(100)  # a browser passes on one movement a frame
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        told(page, "Your drawing")
        assert (taken(page)[6:23, 6] == 255).all() and taken(page).sum() == 17 * 255
        assert page.evaluate("scrollY") == scrolled


def test_test_image_in_the_drawing_arrives_unchanged(page):
    page.locator("[name=cl-image]").nth(6).check(force=True)
    told(page, "Test image 7")
    before = taken(page)
    page.check("[name=cl-way][value=drawing]")
    page.get_by_role("button", name="Go on from the last picture").click()
    told(page, "Your drawing")
    assert torch.equal(taken(page), before) and before.any()


# For everybody


def focused(page):
    """(name or class of what has the focus, how its outline is drawn)."""
    return page.evaluate("""() => {
      const element = document.activeElement;
      const shown = element.closest("label") ?? element;
      const name = element.dataset.cl ?? (element.name || element.id || element.className);
      return [name, getComputedStyle(shown).outlineStyle];
    }""")


def test_everything_goes_by_keyboard_alone(chromium, classifier_address):
    with opened(chromium, classifier_address) as page:
        page.locator("article h1").click()  # the place from which Tab goes on
        for _ in range(5):
            page.keyboard.press("Tab")
            if focused(page)[0] == "load":
                break
        assert focused(page) == ["load", "solid"]
        page.keyboard.press("Enter")
        page.get_by_text("The network is ready").wait_for(timeout=60_000)
        assert focused(page) == ["cl-way", "solid"]
        page.keyboard.press("Tab")
        assert focused(page) == ["cl-image", "solid"]
        page.keyboard.press("Space")
        told(page, "Test image 1")
        page.keyboard.press("ArrowRight")
        told(page, "Test image 2")
        page.keyboard.press("Tab")
        assert focused(page) == ["cl-class", "solid"]
        before = page.text_content("[data-cl=heat]")
        page.keyboard.press("ArrowDown")
        assert page.text_content("[data-cl=heat]") != before
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Tab")
        assert focused(page) == ["cl-paper", "solid"]
        page.keyboard.press("Space")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Space")
        page.keyboard.press("ArrowDown")
        scrolled = page.evaluate("scrollY")
        told(page, "Your drawing")
        wanted = torch.zeros(SIZE, SIZE).long()
        wanted[15:18, 15:19] = 255
        assert torch.equal(taken(page), wanted)
        assert page.text_content("[data-cl=pen]") == "Row 16, column 16 of 28, pen up."
        assert page.evaluate("scrollY") == scrolled
        for name in ("cl-ink", "cl-width", "clear", "copy"):
            page.keyboard.press("Tab")
            assert focused(page) == [name, "solid"]
        page.check("[name=cl-way][value=file]")
        page.locator("[name=cl-way][value=file]").focus()
        for name in ("cl-file", "cl-invert"):
            page.keyboard.press("Tab")
            assert focused(page) == [name, "solid"]


def test_screen_readers_get_names_and_announcements(page):
    assert page.get_by_role("group", name="Classifier", exact=True).count() == 1
    for group in ("Picture", "Test images, which the network never saw in training"):
        assert page.get_by_role("group", name=group, exact=True).count() == 1
    images = page.get_by_role("radio", name=re.compile(r"^\D+, test image \d+$"))
    assert images.count() == classifier_data.GALLERY
    images.first.check(force=True)
    told(page, "Test image 1")
    said = page.locator("[data-cl=status]")
    assert said.get_attribute("role") == "status"
    assert status(page).count(".") <= 3  # one sentence, the others are decimal points
    assert page.get_by_role("img", name="The picture that the network gets").is_visible()
    assert page.get_by_role("img", name=re.compile("speaks for")).is_visible()
    assert page.get_by_role("radio", name=re.compile(r"^Sandal [\d.]+\s%$")).is_visible()
    page.check("[name=cl-way][value=drawing]")
    paper = page.get_by_role("application", name="Drawing of 28 by 28 cells")
    assert "arrows move the pen" in page.text_content(f"#{paper.get_attribute('aria-describedby')}")
    page.check("[name=cl-way][value=file]")
    assert page.get_by_label("A file with a picture").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_no_violation_of_accessibility_and_nothing_to_scroll_sideways(
    chromium, classifier_address, scheme, size
):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")

    def look(page):
        violations = axe.Axe().run(page, options={"preload": False}).response["violations"]
        assert not [(each["id"], each["nodes"][0]["html"][:200]) for each in violations]
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0

    with opened(chromium, classifier_address, size, color_scheme=scheme) as page:
        look(page)
        load(page)
        page.locator("[name=cl-image]").first.check(force=True)
        told(page, "Test image 1")
        look(page)
        page.check("[name=cl-way][value=drawing]")
        look(page)
        give(page, a_file(scene(50, 50)) | {"name": f"{'long-' * 20}name.png"})
        look(page)


def test_nothing_is_loaded_before_the_reader_asks(chromium, classifier_address):
    with opened(chromium, classifier_address) as page:
        scripts = "[...document.scripts].map((script) => script.src)"
        assert not [src for src in page.evaluate(scripts) if "/classifier/" in src]
        load(page)
        assert len([src for src in page.evaluate(scripts) if "/classifier/" in src]) == 2
