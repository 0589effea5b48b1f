"""The table of notation: every letter of the chapters' formulas, and no chapter too many."""

import re

import notebooks
import pytest
from notebooks import ROOT

FORMULA = re.compile(r"\$\$(.*?)\$\$|\$((?:[^$\n]|\n(?!\n))+)\$", re.DOTALL)
CODE = re.compile(r"(?ms)^```.*?^```|`[^`\n]+`")
# Words and upright names in a formula, and the commands that only set it.
WORDS = re.compile(r"\\(?:text|mathrm)\{[^{}]{2,}\}|\\(?:begin|end)\{[a-z]+\}|\\[a-zA-Z]+")
GREEK = re.compile(r"\\(alpha|beta|gamma|mu|sigma|varepsilon)(?![a-zA-Z])")
ROW = re.compile(r"^\| (\$.+?) \| (.+) \| (.+) \|$", re.MULTILINE)


def letters(text):
    """The letters that stand for a quantity in the text's formulas, Greek ones by name."""
    found = set()
    for pair in FORMULA.findall(CODE.sub("", text)):
        formula = "".join(pair)
        found |= set(GREEK.findall(formula))
        found |= set(re.findall(r"[A-Za-z]", WORDS.sub(" ", formula)))
    return found


def prose(path):
    cells = notebooks.read(path).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def listed(text):
    """{number of a chapter: the letters that the table has for it}."""
    found = {}
    for symbol, _, chapters in ROW.findall(text):
        for number in re.findall(r"\[(\d+)\]", chapters):
            found.setdefault(int(number), set()).update(letters(symbol))
    return found


def table():
    return (ROOT / "book" / "notation.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", notebooks.chapters(), ids=lambda path: path.stem)
def test_the_table_has_the_letters_of_the_chapter_and_no_others(path):
    number = int(path.stem.partition("_")[0])
    assert listed(table()).get(number, set()) == letters(prose(path)), "see book/notation.md"


def test_rows_link_the_chapters_that_their_text_names():
    rows = ROW.findall(table())
    assert len(rows) > 40
    for symbol, meaning, chapters in rows:
        named = set(re.findall(r"\d+", " ".join(re.findall(r"\((\d[\d, ]*)\)", meaning))))
        linked = re.findall(r"\[(\d+)\]\((\d+)_\w+\.ipynb\)", chapters)
        assert all(int(number) == int(file) for number, file in linked), symbol
        assert named <= {number for number, _ in linked}, symbol


def test_letters_are_found_in_formulas_alone():
    text = "No a. $x_i + \\hat{\\mu}$, `$q$` and $$\\max(0, \\text{input}\\, W')$$"
    assert letters(text) == {"x", "i", "mu", "W"}
    assert letters(r"$$\begin{aligned} y &= x \\ &= z \end{aligned}$$") == {"x", "y", "z"}
