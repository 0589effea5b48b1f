"""A page in an installed Chromium, for the tests in this folder."""

import shutil
from contextlib import contextmanager

import build_book
import nbformat
import notebooks
from notebooks import ROOT

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
DESKTOP, PHONE = (1280, 900), (390, 844)
OWN = ("file:", "data:", "blob:")  # addresses that no host is asked for


@contextmanager
def opened(chromium, address, size=DESKTOP, own=OWN, expected=(), **options):
    """The page; afterwards nothing may have been asked for elsewhere, and no error reported.

    own: how addresses begin that are not elsewhere. expected: words of errors that may appear.
    """
    width, height = size
    context = chromium.new_context(viewport={"width": width, "height": height}, **options)
    page = context.new_page()
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    page.goto(address)
    yield page
    context.close()
    assert asked and not [url for url in asked if not url.startswith(own)]
    assert not [error for error in errors if not any(words in error for words in expected)]


def set_formulas(page):
    """Have every formula set; all but those in view wait until the reader does something."""
    page.mouse.move(5, 5)
    page.wait_for_function(
        "[...document.querySelectorAll('.math')].every((one) => one.querySelector('mjx-container'))"
    )


def book_of_one_page(tmp_path_factory, name, texts):
    """The address of a page with these Markdown cells, built as the book's chapters are."""
    source = tmp_path_factory.mktemp(name)
    for folder in ("_ext", "_static"):
        shutil.copytree(ROOT / "book" / folder, source / "book" / folder)
    shutil.copy(ROOT / "_config.yml", source)
    shutil.copy(ROOT / "book" / "references.bib", source / "book")
    notebooks.set_repository("", source)
    toc = f"format: jb-book\nroot: book/index\nchapters:\n  - file: book/{name}\n"
    (source / "_toc.yml").write_text(toc)
    (source / "book" / "index.md").write_text("# Book\n\n{{ colab }}\n")
    cells = [nbformat.v4.new_markdown_cell(text) for text in texts]
    notebooks.write(nbformat.v4.new_notebook(cells=cells), source / "book" / f"{name}.ipynb")
    html = build_book.jupyter_book(source, tmp_path_factory.mktemp("pages"))
    return (html / "book" / f"{name}.html").as_uri()
