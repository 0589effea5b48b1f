"""Every page of the book, as a reader's browser shows it: from a folder, and from a sub-path."""

import gzip
import itertools
import os
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import notebooks
import pytest
from browsing import DESKTOP, OWN, PHONE, opened, set_formulas

WEIGHT = 1_000_000  # bytes of a chapter's page, packed, without what all pages share
# Of the theme, and of MathJax: fetched once for the whole book.
SHARED = ("_static/mathjax", "_static/vendor", "_static/scripts", "_static/styles")
OWN_FILES = (".png", ".svg", ".jpg", ".css", ".js")
# From a folder the results have no excerpts: a browser lets no script read another file.
EXCERPTS = ("from origin 'null' has been blocked", "net::ERR_FAILED", "Failed to fetch")
KINDS = (
    "book/index.html",
    "book/07_bottleneck.html",
    "book/classifier.html",
    "book/glossary.html",
    "book/api.html",
    "coursework/README.html",
    "search.html",
)
ALL = "PAGES_ALL"  # this variable makes axe judge every page, in each width and theme: 25 minutes
CHAPTERS = [path.stem for path in notebooks.chapters()]


def pages(html):
    return sorted(path for path in html.rglob("*.html") if "_static" not in path.parts)


@contextmanager
def page_at(chromium, address, **options):
    """A page of ours, from a file or the local host."""
    parts = urlsplit(address)
    own = (*OWN, f"{parts.scheme}://{parts.netloc}/") if parts.netloc else OWN
    with opened(chromium, address, own=own, **options) as page:
        yield page


def ours(path):
    """Whether a page is read: one is for hosts only, and names its files from the host's root."""
    leads_on = 'http-equiv="refresh"' in path.read_text(encoding="utf-8").lower()
    return path.name != "404.html" and not leads_on


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*KINDS, ALL] if os.environ.get(ALL) else KINDS)
def test_pages_are_accessible(chromium, html, kind):
    """axe finds nothing in light and dark, on a desktop and on a phone.

    One page of each kind: axe takes many seconds for a chapter.
    """
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    looks, paths = [("light", DESKTOP), ("dark", PHONE)], [html / kind]
    if kind == ALL:
        looks = list(itertools.product(("light", "dark"), (DESKTOP, PHONE)))
        paths = [path for path in pages(html) if ours(path)]
        assert len(paths) > len(CHAPTERS) + 10
    found = []
    for path, (theme, size) in itertools.product(paths, looks):
        options = {"size": size, "color_scheme": theme, "expected": EXCERPTS}
        with opened(chromium, path.as_uri(), **options) as page:
            page.wait_for_load_state("networkidle")
            set_formulas(page)
            page.wait_for_timeout(500)  # what scrolls is found a little after the page is there
            for violation in axe.run(page, options={"preload": False}).response["violations"]:
                what = f"{path.stem}, {theme}, {size[0]}: {violation['id']}"
                where = violation["nodes"][0]["target"]
                found.append(f"{what}: {where} ({len(violation['nodes'])})")
    assert not found, "\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("width", [PHONE[0], DESKTOP[0]])
def test_no_page_scrolls_sideways(chromium, html, width):
    """Nor does any ask for something elsewhere, or report an error."""
    found = []
    for path in pages(html):
        if not ours(path):
            continue
        with opened(chromium, path.as_uri(), size=(width, 844)) as page:
            set_formulas(page)
            wide = page.evaluate("document.documentElement.scrollWidth")
            if wide > width:
                found.append(f"{path.name}: {wide} pixels wide")
    assert not found, "\n".join(found)


@pytest.fixture(params=["file", "host"])
def address(request, html):
    """Where the book lies."""
    return html.as_uri() if request.param == "file" else request.getfixturevalue("served")


def test_formulas_are_set(chromium, address):
    with page_at(chromium, f"{address}/book/04_normalisation_dropout.html") as page:
        assert page.locator(".bd-article .math").count() > 20
        set_formulas(page)
        assert page.locator("mjx-merror").count() == 0


def test_formulas_in_view_are_set_at_once(chromium, address):
    with page_at(chromium, f"{address}/book/notation.html") as page:
        page.wait_for_selector("mjx-container")
        page.wait_for_load_state("networkidle")
        assert page.locator("mjx-container").count() < page.locator(".math").count()


def test_a_page_without_a_formula_in_view_loads_no_mathjax_until_its_reader_moves(
    chromium, address
):
    with page_at(chromium, f"{address}/book/06_residual_block.html", size=PHONE) as page:
        page.wait_for_load_state("networkidle")
        assert page.evaluate("window.MathJax.version") is None
        page.mouse.wheel(0, 50)
        page.wait_for_selector("mjx-container")


def test_search_finds(chromium, address):
    with page_at(chromium, f"{address}/search.html?q=bottleneck", expected=EXCERPTS) as page:
        page.wait_for_selector("ul.search li a")
        found = page.locator("ul.search li a").all_inner_texts()
        assert any("bottleneck" in text for text in map(str.lower, found))


@pytest.mark.parametrize("asked", ["pyramid", "residual+block"])
def test_excerpts_of_what_is_found_are_text(chromium, served, asked):
    with page_at(chromium, f"{served}/search.html?q={asked}") as page:
        page.wait_for_selector("ul.search li p.context")
        page.wait_for_load_state("networkidle")
        excerpts = [" ".join(text.split()) for text in page.locator("p.context").all_inner_texts()]
    headings = ("Contents", "Recap Self-test", "System Settings", "feature map feature pyramid")
    assert len(excerpts) > 5
    assert not [text for text in excerpts if any(heading in text for heading in headings)]


def test_search_does_not_find_what_is_not_there(chromium, address):
    with page_at(chromium, f"{address}/search.html?q=zzyzx") as page:
        page.wait_for_selector(".search-summary")
        assert page.locator("ul.search li a").count() == 0


def test_code_is_copied(chromium, served):
    chromium_page = page_at(
        chromium,
        f"{served}/book/06_residual_block.html",
        permissions=["clipboard-read", "clipboard-write"],
    )
    with chromium_page as page:
        cell = page.locator("div.highlight", has_text="class BasicBlock").first
        cell.hover()
        cell.locator("button.copybtn").click()
        text = page.evaluate("navigator.clipboard.readText()")
        assert text.lstrip().startswith("class BasicBlock") and "\n" in text


def test_a_solution_opens_by_keyboard(chromium, address):
    with page_at(chromium, f"{address}/book/06_residual_block.html") as page:
        solution = page.locator("details", has_text="Solution 6.1").first
        assert solution.get_attribute("open") is None
        solution.locator("summary").focus()
        page.keyboard.press("Enter")
        assert solution.get_attribute("open") is not None


WRONG_STOPS = """[...document.querySelectorAll(".bd-article pre")].filter((box) =>
  box.checkVisibility() && (box.tabIndex === 0) !== (box.scrollWidth > box.clientWidth)).length"""


def test_the_tab_key_stops_at_code_that_scrolls_and_at_no_other(chromium, address):
    with page_at(chromium, f"{address}/book/06_residual_block.html", size=PHONE) as page:
        stops = page.locator(".bd-article pre[tabindex='0']")
        page.wait_for_function(f"{WRONG_STOPS} === 0")
        before = stops.count()
        assert 0 < before < page.locator(".bd-article pre").count()
        page.locator("details summary", has_text="Solution 6.1").click()
        page.wait_for_function(f"{WRONG_STOPS} === 0")
        stops.locator("visible=true").first.focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_function("document.activeElement.scrollLeft > 0")
        page.set_viewport_size({"width": 1280, "height": 900})
        page.wait_for_function(f"{WRONG_STOPS} === 0")
        assert stops.count() < before


def test_contents_close_once_a_place_is_chosen(chromium, address):
    with page_at(chromium, f"{address}/book/06_residual_block.html", size=PHONE) as page:
        contents = page.locator("#pst-secondary-sidebar-modal")
        page.locator("button.secondary-toggle:visible").first.click()
        assert contents.evaluate("contents => contents.open")
        contents.get_by_role("link", name="Where to read on").click()
        assert not contents.evaluate("contents => contents.open")
        assert page.url.endswith("#where-to-read-on")


def test_the_theme_switches_and_stays(chromium, served):
    with page_at(chromium, f"{served}/book/06_residual_block.html") as page:
        root, seen = page.locator("html"), set()
        for _ in range(3):
            page.locator("button.theme-switch-button:visible").first.click()
            seen.add(root.get_attribute("data-mode"))
        assert seen == {"light", "dark", "auto"}
        mode = root.get_attribute("data-mode")
        page.reload()
        assert root.get_attribute("data-mode") == mode


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_page_is_bright_or_dark_from_its_first_moment(chromium, served, theme):
    """Without the scripts that could change it later, and with a choice of the reader's."""
    context = chromium.new_context(color_scheme=theme)
    page = context.new_page()
    page.route("**/*.js*", lambda route: route.abort())
    page.goto(f"{served}/book/06_residual_block.html")
    root = page.locator("html")
    assert root.get_attribute("data-theme") == theme
    for chosen in ("dark", "light"):
        page.evaluate("mode => localStorage.setItem('mode', mode)", chosen)
        page.reload()
        assert root.get_attribute("data-theme") == chosen
    context.close()


def test_previous_and_next_lead_through_the_chapters(chromium, address):
    with page_at(chromium, f"{address}/book/06_residual_block.html") as page:
        page.locator("a.right-next").click()
        assert "07_bottleneck" in page.url
        page.locator("a.left-prev").click()
        assert "06_residual_block" in page.url


def weight(html, path, asked):
    """Bytes over the wire of a page and of the files that it has for itself, packed."""
    total = len(gzip.compress(path.read_bytes()))
    for url in set(asked):
        file = Path(unquote(urlsplit(url).path))
        name = file.relative_to(html).as_posix() if file.is_relative_to(html) else ""
        shared = name.startswith(SHARED) or file == path or file.suffix not in OWN_FILES
        if name and not shared:
            content = file.read_bytes()
            packed = content if file.suffix in (".png", ".jpg") else gzip.compress(content)
            total += len(packed)
    return total


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_is_light(chromium, html, chapter):
    path = html / "book" / f"{chapter}.html"
    context = chromium.new_context()
    page, asked = context.new_page(), []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    context.close()
    assert 10_000 < weight(html, path, asked) <= WEIGHT
