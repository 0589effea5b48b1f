"""The slides in a real browser that can reach no host: legible, by keyboard, and on paper.

Needs Chromium and the Python package playwright, which drives it; skipped without them.
"""

import re

import pytest
import slides
from browsing import CHROMIUM, opened

pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

PARTS = slides.parts()
SIZE = (1280, 720)
SMALLEST_TEXT = 20  # pixels of a slide of 720
# Of the slide that is shown: its title, what reaches over its edge, and its smallest letters.
LOOK = """() => {
  const slide = Reveal.getCurrentSlide(), edge = slide.getBoundingClientRect();
  const found = {title: slide.querySelector("h1, h2").textContent, over: [], letters: []};
  for (const one of slide.querySelectorAll("*")) {
    if (one.closest("aside, mjx-container") || one.matches(".content")) continue;
    const box = one.getBoundingClientRect();
    const bottom = one.matches(".source") ? edge.bottom : edge.bottom - 44;
    if (box.width && (box.right > edge.right || box.bottom > bottom)) found.over.push(one.tagName);
    if ([...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim())) {
      found.letters.push(parseFloat(getComputedStyle(one).fontSize));
    }
  }
  return found;
}"""


@pytest.fixture(scope="module")
def addresses(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    return {part: slides.build(part, paths, folder).as_uri() for part, paths in PARTS.items()}


def ready(page):
    page.wait_for_function("window.Reveal && Reveal.isReady() && window.MathJax.startup")
    page.evaluate("MathJax.startup.promise")
    return page.evaluate("Reveal.getTotalSlides()")


@pytest.mark.parametrize("part", PARTS)
def test_every_slide_fits_and_can_be_read(chromium, addresses, part):
    with opened(chromium, addresses[part], SIZE) as page:
        total = ready(page)
        assert total > 10
        for index in range(total):
            page.evaluate(f"Reveal.slide({index})")
            look = page.evaluate(LOOK)
            assert not look["over"], look
            assert min(look["letters"]) >= SMALLEST_TEXT, look
        assert page.locator("mjx-merror").count() == 0
        assert "$" not in page.locator(".slides").inner_text()


def test_no_accessibility_violation(chromium, addresses):
    """One slide of each kind, since one template makes all of a kind."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    with opened(chromium, addresses["Start"], SIZE) as page:
        total = ready(page)
        kinds = page.locator(".slides > section").evaluate_all("all => all.map((s) => s.className)")
        seen = set()
        for index in range(total):
            kind = kinds[index].split()[0]
            if kind in seen:
                continue
            seen.add(kind)
            page.evaluate(f"Reveal.slide({index})")
            found = axe.Axe().run(page, options={"preload": False}).response
            violations = [
                (each["id"], each["nodes"][0]["html"][:200]) for each in found["violations"]
            ]
            assert not violations, kind
            # What lies over the text would keep axe from judging its contrast.
            passed = {each["id"]: len(each["nodes"]) for each in found["passes"]}
            assert passed["color-contrast"] >= 4, kind
        assert {"opening", "text", "table", "figure", "question", "recap"} <= seen


def test_keys_move_and_a_screen_reader_hears_the_slide(chromium, addresses):
    with opened(chromium, addresses["Start"], SIZE) as page:
        total = ready(page)
        assert page.evaluate("Reveal.getIndices().h") == 0
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Space")
        assert page.evaluate("Reveal.getIndices().h") == 2
        page.keyboard.press("ArrowLeft")
        assert page.evaluate("Reveal.getIndices().h") == 1
        title = page.evaluate("Reveal.getCurrentSlide().querySelector('h1').textContent")
        assert title in page.locator("[aria-live]").text_content()
        assert page.locator(".slides > section:not([aria-hidden])").count() == 1
        page.keyboard.press("End")
        assert page.evaluate("Reveal.getIndices().h") == total - 1
        page.keyboard.press("Escape")
        assert page.evaluate("Reveal.isOverview()")


def test_speakers_notes_open_in_their_own_window(chromium, addresses):
    with opened(chromium, addresses["Train"], SIZE) as page:
        ready(page)
        page.keyboard.press("ArrowRight")
        with page.expect_popup() as popup:
            page.keyboard.press("s")
        notes = popup.value.locator(".speaker-controls-notes .value")
        notes.get_by_text("The chapter runs on any set of images").wait_for()
        page.keyboard.press("ArrowRight")
        notes.get_by_text("Two hundred draws of ten images").wait_for()


def test_notes_are_not_on_the_slide(chromium, addresses):
    with opened(chromium, addresses["Start"], SIZE) as page:
        total = ready(page)
        for index in range(total):
            page.evaluate(f"Reveal.slide({index})")
            assert page.locator("aside.notes:visible").count() == 0


@pytest.mark.parametrize("part", ["Train", "Analyse"])
def test_prints_one_page_a_slide(chromium, addresses, part):
    with opened(chromium, f"{addresses[part]}?print-pdf", SIZE) as page:
        page.wait_for_function("document.querySelectorAll('.pdf-page').length > 0")
        page.evaluate("MathJax.startup.promise")
        total = page.evaluate("Reveal.getTotalSlides()")
        margins = page.locator(".pdf-page h1, .pdf-page h2").evaluate_all(
            "all => all.map((one) => one.getBoundingClientRect().left)"
        )
        assert len(margins) == total and min(margins) >= 24  # printers don't reach the edge
        printed = page.pdf(prefer_css_page_size=True, print_background=True)
        assert len(re.findall(rb"/Type\s*/Page\b", printed)) == total
        sizes = set(re.findall(rb"/MediaBox\s*\[([^\]]+)\]", printed))
        widths = {tuple(map(float, size.split())) for size in sizes}
        assert all(abs(w / h - 1280 / 720) < 0.01 for _, _, w, h in widths)
