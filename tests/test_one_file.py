"""The book as one file: a small one as EPUB and as PDF, nothing cut, nothing folded."""

import posixpath
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
import zipfile

import build_book
import nbformat
import notebooks
import on_paper
import one_file
import pytest
import self_tests
import yaml
from docutils.utils.math import MathError
from notebooks import ROOT, ChapterError

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
LONG_LINE = "x = [" + ", ".join(f"'cell-{n}'" for n in range(40)) + "]"
HEAD = "# 1. One\n\nWhy $a$?\n\n**Time** about 5 minutes · **You need** it · **You build** it"
FORMULA = r"$$y = \Big( \tfrac12 \textstyle\sum_i x_i \Big), \quad \operatorname{f}(1, \dots, n)$$"
EXERCISE = "### Exercise 1.1: One\n*Easy, about 1 minutes.*\n\nDo it."
SOLUTION = "# Solutions to chapter 1\n\n## Exercise 1.1\n\nDone.\n"
QUESTION = self_tests.Question(
    1,
    1,
    "How many?",
    tuple(
        self_tests.Option(letter, f"Exactly `{number}`", number == 2, f"It says so in {number}.")
        for number, letter in enumerate("ABC", 1)
    ),
)


def figure():
    shown = nbformat.v4.new_output("display_data", {"image/png": PIXEL})
    settings = {"image": {"alt": "A dot"}, "figure": {"name": "fig-01-x", "caption": "A dot."}}
    return nbformat.v4.new_code_cell(
        LONG_LINE, outputs=[shown], metadata={"mystnb": settings}, execution_count=2
    )


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """A book of one chapter, with the real configuration."""
    root = tmp_path_factory.mktemp("book")
    for folder in ("_ext", "_static"):
        shutil.copytree(ROOT / "book" / folder, root / "book" / folder)
    for name in ("_config.yml", "CITATION.cff", "genindex.md"):
        shutil.copy(ROOT / name, root)
    shutil.copy(ROOT / "book" / "references.bib", root / "book")
    chapters = [{"file": name} for name in ("book/01_one", "book/map", "book/glossary", "genindex")]
    toc = {"format": "jb-book", "root": "book/index",
           "parts": [{"caption": "Start", "chapters": chapters}]}  # fmt: skip
    (root / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False))
    image = "```{image} _static/residual-block.svg\n:alt: A block\n```"
    (root / "book" / "index.md").write_text(
        f"# Book\n\n{image}\n\n[One](01_one.ipynb) {{{{ colab }}}}\n"
    )
    (root / "book" / "map.md").write_text(
        "# Map\n\n[Front](index.md)\n\n```{classifier}\n```\n\n```{chapter-map}\n```\n"
    )
    (root / "book" / "glossary.md").write_text("# Glossary\n\n## stride\n\nA step.\n")
    cells = [
        nbformat.v4.new_markdown_cell(HEAD),
        nbformat.v4.new_code_cell("import secret", metadata={"tags": ["setup"]}, execution_count=1),
        nbformat.v4.new_markdown_cell(f"A [stride](glossary.md#stride).\n\n{FORMULA}"),
        figure(),
        nbformat.v4.new_markdown_cell(self_tests.INTRODUCTION),
        nbformat.v4.new_markdown_cell(self_tests.write(QUESTION)),
        nbformat.v4.new_markdown_cell(EXERCISE),
    ]
    notebooks.write(nbformat.v4.new_notebook(cells=cells), root / "book" / "01_one.ipynb")
    (root / "book" / "solutions").mkdir()
    (root / "book" / "solutions" / "01_one.md").write_text(SOLUTION)
    return root


@pytest.fixture(scope="module")
def epub(book, tmp_path_factory):
    return one_file.make("epub", tmp_path_factory.mktemp("made") / "book.epub", book)


def words(element):
    return " ".join("".join(element.itertext()).split())


def test_an_epub_holds_all_and_every_page_is_well_formed(epub):
    with zipfile.ZipFile(epub) as archive:
        names = archive.namelist()
        assert names[0] == "mimetype"
        pages = {name: archive.read(name).decode() for name in names if name.endswith(".xhtml")}
        listed = archive.read("content.opf").decode()
    trees = {name: ElementTree.fromstring(text) for name, text in pages.items()}
    for name, text in pages.items():
        for target in re.findall(r'(?:src|href)="([^"#:]+)(?:#[^"]*)?"', text):
            path = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
            assert path in names, (name, target)
    chapter = words(trees["book/01_one.xhtml"])
    assert "secret" not in chapter  # the set-up cell
    assert "cell-39" in chapter and "Exactly 2" in chapter and "It says so" not in chapter
    assert "Fig. 1.1" in chapter and "(1.1)" in chapter
    assert "Done." in words(trees["book/solutions/01_one.xhtml"])
    assert "Question 1.1: B. It says so in 2." in words(trees["book/solutions/01_one.xhtml"])
    assert "The classifier itself is on the" in words(trees["book/map.xhtml"])
    assert len(re.findall("<math", pages["book/01_one.xhtml"])) == 2
    assert "<details" not in pages["book/01_one.xhtml"]
    assert re.search(r'properties="mathml"[^>]*href="book/01_one.xhtml"', listed)
    assert re.search(r'properties="svg"[^>]*href="book/map.xhtml"', listed)
    order = re.findall(r'<itemref idref="([^"]+)"', listed)
    assert len(order) == len(set(order)) >= 5


EPUBCHECK = shutil.which("epubcheck")


@pytest.mark.skipif(not EPUBCHECK or not shutil.which("java"), reason="needs epubcheck and Java")
def test_the_checker_finds_nothing_in_an_epub(epub):
    # Debian's is a Java archive that only some kernels start by themselves.
    done = subprocess.run(["java", "-jar", EPUBCHECK, epub], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout


@pytest.mark.skipif(
    not any(map(shutil.which, one_file.CHROMIUM)) or not shutil.which("pdftotext"),
    reason="needs Chromium and pdftotext",
)
def test_a_pdf_has_every_part_and_no_line_is_cut(book, tmp_path):
    path = one_file.make("pdf", tmp_path / "book.pdf", book)
    done = subprocess.run(["pdftotext", "-layout", path, "-"], capture_output=True, text=True)
    text = " ".join(done.stdout.split())
    for number in range(40):  # of a line that is wider than a sheet
        assert f"cell-{number}'" in text
    for part in ("Exercise 1.1", "Exactly 2", "Done.", "Question 1.1: B.", "A step.", "Fig. 1.1"):
        assert part in text
    assert text.index("Exercise 1.1: One") < text.index("Done.")
    assert "secret" not in text and r"\sum" not in text
    assert done.stdout.count("\f") >= 5  # each page of the book begins on a new sheet
    pictures = subprocess.run(["pdfimages", "-list", path], capture_output=True, text=True).stdout
    assert len(pictures.splitlines()) > 2


def test_without_chromium_a_line_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(one_file.shutil, "which", lambda name: None)
    with pytest.raises(ChapterError, match="make epub") as error:
        one_file.make("pdf", tmp_path / "book.pdf")
    assert "\n" not in str(error.value)


def formulas():
    """Every formula of the chapters and solutions: (where, TeX, whether it is displayed)."""
    pattern = re.compile(r"\$\$(.*?)\$\$|\$((?:[^$\n]|\n(?!\n))+)\$", re.DOTALL)
    for path in [*notebooks.chapters(), *sorted((ROOT / "book" / "solutions").glob("*.md"))]:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".ipynb":
            cells = nbformat.reads(text, as_version=4).cells
            text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        text = re.sub(r"(?ms)^```.*?^```|`[^`\n]+`", "", text)
        for block, inline in pattern.findall(text):
            yield path.name, block or inline, bool(block)


def test_every_formula_of_the_book_becomes_well_formed_mathml():
    found = list(formulas())
    assert len(found) > 500
    for where, tex, block in found:
        try:
            ElementTree.fromstring(on_paper.as_mathml(tex, block))
        except (MathError, ElementTree.ParseError) as error:
            pytest.fail(f"{where}: {tex}: {error}")


def test_the_kinds_are_those_of_the_builders():
    assert set(one_file.BUILDERS) == {"pdf", "epub"}
    assert one_file.BUILDERS["pdf"] in build_book.KNOWN
