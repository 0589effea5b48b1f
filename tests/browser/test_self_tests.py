"""The self-tests of all chapters in a real browser, on one page built as the book's are.

Needs Chromium and the Python package playwright, which drives it; skipped without them.
"""

import notebooks
import pytest
import self_tests
from browsing import CHROMIUM, DESKTOP, PHONE, book_of_one_page, opened, set_formulas

pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

QUESTIONS = [
    question
    for path in notebooks.chapters()
    for question in self_tests.questions(notebooks.read(path))
]
SUMMARY = "article details:not([class]) > summary"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A book with one page that has every question."""
    texts = ["# 1. Questions", self_tests.INTRODUCTION, *map(self_tests.write, QUESTIONS)]
    return book_of_one_page(tmp_path_factory, "01_questions", texts)


@pytest.fixture
def page(chromium, address):
    with opened(chromium, address) as page:
        yield page


def is_open(summary):
    return summary.evaluate("summary => summary.parentElement.open")


def open_all(page):
    page.evaluate("document.querySelectorAll('article details').forEach(all => all.open = true)")


def test_options_are_there_and_closed(page):
    summaries = page.locator(SUMMARY)
    shown = [" ".join(text.split()) for text in summaries.all_text_contents()]
    expected = [
        f"{option.letter}. {option.text.replace('`', '')}"
        for q in QUESTIONS
        for option in q.options
    ]
    assert shown == expected
    assert page.locator("article details[open]").count() == 0
    assert not page.get_by_text("Right.", exact=True).first.is_visible()


def test_option_opens_by_keyboard_and_tells(page):
    first = page.locator(SUMMARY).first
    page.locator("#question-1-1 > p").first.click()  # the place from which Tab goes on
    page.keyboard.press("Tab")
    assert first.evaluate("summary => summary === document.activeElement")
    assert first.evaluate("summary => getComputedStyle(summary).outlineStyle") == "solid"
    for key, state in (("Enter", True), ("Enter", False), ("Space", True), ("Space", False)):
        page.keyboard.press(key)
        assert is_open(first) is state
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    second = page.locator(SUMMARY).nth(1)
    assert is_open(second) and not is_open(first)
    option = QUESTIONS[0].options[1]
    verdict = "Right." if option.right else "Not quite."
    assert second.locator("xpath=..").inner_text().split("\n")[-1].startswith(verdict)


def test_each_option_tells_its_own_verdict(page):
    open_all(page)
    shown = page.locator("article details:not([class])").evaluate_all(
        "all => all.map((one) => one.querySelector('summary ~ p > strong').textContent)"
    )
    options = [option for question in QUESTIONS for option in question.options]
    assert shown == ["Right." if option.right else "Not quite." for option in options]


def test_formulas_in_explanations_are_set(page):
    open_all(page)
    set_formulas(page)
    assert page.locator("details mjx-container").count() > 50
    assert page.locator("mjx-merror").count() == 0
    text = page.locator("article").inner_text()
    assert "$" not in text and "<code>" not in text and "**" not in text


def test_screen_reader_hears_name_and_state(page):
    tool = page.context.new_cdp_session(page)
    page.locator(SUMMARY).nth(2).click()
    nodes = tool.send("Accessibility.getFullAXTree")["nodes"]
    found = [
        (node["name"]["value"], {p["name"]: p["value"]["value"] for p in node["properties"]})
        for node in nodes
        if node["role"]["value"] == "DisclosureTriangle"
    ]
    assert len(found) == sum(len(question.options) for question in QUESTIONS)
    for index, (name, properties) in enumerate(found[:3]):
        assert name.startswith(f"{'ABC'[index]}. ")
        assert properties["expanded"] is (index == 2) and properties["focusable"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_no_accessibility_violation_and_nothing_to_scroll_sideways(chromium, address, scheme, size):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    with opened(chromium, address, size, color_scheme=scheme) as page:
        open_all(page)
        set_formulas(page)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        boxes = page.locator("article details:not([class])").evaluate_all(
            "all => all.map((one) => one.scrollWidth - one.clientWidth)"
        )
        assert max(boxes) <= 0
        # All have one form, and axe takes long for hundreds of options: every eighth will do.
        page.evaluate(
            "document.querySelectorAll('section[id^=question]').forEach("
            "(one, index) => { if (index % 8) one.remove(); })"
        )
        violations = axe.Axe().run(page, options={"preload": False}).response["violations"]
        assert not [(each["id"], each["nodes"][0]["html"][:200]) for each in violations]


def test_without_scripts_options_open_all_the_same(chromium, address):
    with opened(chromium, address, java_script_enabled=False) as page:
        details = page.locator("article details:not([class])").first
        hidden = details.locator("p").first
        assert not hidden.is_visible()
        details.locator("summary").click()
        assert hidden.is_visible()
