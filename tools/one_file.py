"""The whole book as one file, from the same sources as its pages: PDF or EPUB.

    python tools/one_file.py pdf|epub

What a page folds away stands at the end: the solutions of the exercises and the answers of the
self-tests. The set-up cells, which are the same in each chapter, are left out. An installed
Chromium prints the PDF; the EPUB needs no other program.
"""

import argparse
import copy
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import build_book
import notebooks
import self_tests
import yaml
from notebooks import ROOT, ChapterError

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
NAME = "residual-networks-from-scratch"
BUILDERS = {"pdf": "singlehtml", "epub": "epub"}
# They belong to pages in a browser.
PAGES_ONLY = ("classifier", "explorer", "light_pages", "public_home", "solutions")
INTERACTIVE = re.compile(r"^```\{classifier\}\n```$", re.MULTILINE)
INSTEAD = "*The classifier itself is on the book's web pages, since it runs in a browser.*"
INDEX = "genindex.md"  # which Sphinx fills on pages and in an EPUB, not in a single document
NO_INDEX = (
    "# Index\n\nThe index is part of the web pages and of the EPUB. Here the search of the program"
    " that shows you this file takes its place.\n"
)
# A link or an image beside the front page.
RELATIVE = re.compile(r"(\]\(|\{image\} )(?![a-z]+:|#|/)")
# A style that myst-nb links, but which Sphinx does not put into an EPUB.
MYST_STYLE = re.compile(rb'<link [^>]*href="[^"]*mystnb\.[^"]*"[^>]*/>')
COLAB = "{{ colab }}"
PART = "Solutions"
SECONDS = 580  # for Chromium to set all formulas and print


def contents(toc):
    """The table of contents as Markdown, linked."""
    lines = ["## Contents"]
    for part in toc.get("parts", [{"caption": "Chapters", "chapters": toc.get("chapters", [])}]):
        pages = [page["file"] for page in part["chapters"] if page["file"] != "genindex"]
        pages = [page for page in pages if not page.startswith("book/part_")]
        lines += [f"**{part['caption']}**", "\n".join(f"- [](/{page})" for page in pages)]
    return "\n\n".join(lines)


def question(found):
    """A self-test's question with its options, unanswered."""
    options = "\n".join(f"- {option.letter}. {option.text}" for option in found.options)
    return f"### Question {found.name}\n\n{found.text}\n\n{options}"


def answers(questions):
    """The answers of a chapter's self-test, each option explained."""
    parts = ["## Self-test"]
    for one in questions:
        parts.append(f"**Question {one.name}: {one.right.letter}.** {one.right.reason}")
        wrong = [option for option in one.options if not option.right]
        parts.append("\n".join(f"- {option.letter}: {option.reason}" for option in wrong))
    return "\n\n".join(parts)


def flatten(path, solutions):
    """Rewrite a chapter's copy for paper; its solutions' copy gets the answers too."""
    notebook = notebooks.read(path)
    found = self_tests.questions(notebook)
    by_source = {self_tests.write(one): question(one) for one in found}
    for cell in notebook.cells:
        cell.source = by_source.get(cell.source, cell.source)
        cell.source = cell.source.replace(
            self_tests.INTRODUCTION,
            f"{self_tests.HEADING}\n\nWhich answer would you give? The answers stand at the end of"
            " the book, with a reason for each option.",
        )
        if notebooks.is_setup(cell):
            cell.metadata["tags"] = ["remove-cell"]
    notebooks.write(notebook, path)
    if found and solutions.exists():
        text = solutions.read_text(encoding="utf-8").rstrip()
        solutions.write_text(f"{text}\n\n{answers(found)}\n", encoding="utf-8")


def configuration(root=ROOT):
    """The book's configuration without what needs a browser."""
    found = copy.deepcopy(yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8")))
    found["exclude_patterns"] = [one for one in found["exclude_patterns"] if "solutions" not in one]
    found.pop("repository", None)
    sphinx = found["sphinx"]
    kept = {k: v for k, v in sphinx["local_extensions"].items() if k not in PAGES_ONLY}
    sphinx["local_extensions"] = kept | {"on_paper": "book/_ext"}
    others = ("sphinxext.opengraph", "notfound.extension")
    sphinx["extra_extensions"] = [one for one in sphinx["extra_extensions"] if one not in others]
    sphinx["config"] = {
        key: value
        for key, value in sphinx["config"].items()
        if not key.startswith(("ogp_", "notfound_", "html_js_files"))
    } | {"html_math_renderer": "mathjax"}
    return found


def move_front_page(source, toc):
    """Put the front page at the root, with a table of contents.

    Both builders write addresses as if it stood there.
    """
    old = source / f"{toc['root']}.md"
    folder = old.parent.name
    text = old.read_text(encoding="utf-8").replace(COLAB, "")
    text = RELATIVE.sub(rf"\g<1>{folder}/", text).replace(f"{folder}/../", "")
    old.unlink()
    (source / "index.md").write_text(f"{text.rstrip()}\n\n{contents(toc)}\n", encoding="utf-8")
    for page in [*old.parent.glob("*.md"), *old.parent.glob("*.ipynb")]:
        text = page.read_text(encoding="utf-8")
        page.write_text(text.replace("](index.md", "](../index.md"), encoding="utf-8")
    toc["root"] = "index"


def prepare(kind, source, root=ROOT):
    """Write what is built: the book's sources, its folded parts moved to the end."""
    for name in build_book.SOURCES:
        if (root / name).exists():
            copy_of = shutil.copytree if (root / name).is_dir() else shutil.copy2
            copy_of(root / name, source / name)
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    move_front_page(source, toc)
    if kind == "pdf" and (source / INDEX).exists():
        (source / INDEX).write_text(NO_INDEX, encoding="utf-8")
    for page in (source / "book").glob("*.md"):
        text = page.read_text(encoding="utf-8")
        page.write_text(INTERACTIVE.sub(INSTEAD, text), encoding="utf-8")
    last = []
    for chapter in notebooks.chapters(root):
        solutions = source / "book" / "solutions" / f"{chapter.stem}.md"
        flatten(source / chapter.relative_to(root), solutions)
        if solutions.exists():
            last.append({"file": f"book/solutions/{chapter.stem}"})
    if last:
        toc["parts"].append({"caption": PART, "chapters": last})
    for name, content in (("_toc.yml", toc), ("_config.yml", configuration(root))):
        text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
        (source / name).write_text(text, encoding="utf-8")


def chromium():
    """The path of an installed Chromium; ChapterError without one."""
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if found is None:
        raise ChapterError(
            "make pdf prints with Chromium, which is not installed: install the package chromium, "
            "or take make epub, which needs none."
        )
    return found


def print_page(page, target, program):
    """Let Chromium print a page into a PDF."""
    with tempfile.TemporaryDirectory() as profile:
        command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"]
        command += [f"--user-data-dir={profile}", "--generate-pdf-document-outline"]
        command += ["--virtual-time-budget=120000", f"--print-to-pdf={target}", page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    if done.returncode or not target.exists():
        raise ChapterError(f"{done.stderr}\nChromium could not print the book; see above.")


def properties(text):
    """The properties that a page's entry in an EPUB must name, from its text."""
    marks = {"mathml": "<math", "svg": "<svg", "scripted": "<script"}
    return [name for name, mark in marks.items() if mark in text]


def mend(path):
    """Put right what Sphinx leaves wrong in an EPUB.

    Its list of files must name which pages have formulas and drawings, or a reader may leave them
    out; nothing may be linked that is not there, nor stand twice in the order of reading.
    """
    scratch = path.with_suffix(".partial")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(scratch, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            if info.filename == "content.opf":
                data = _mended_list(data.decode("utf-8"), old).encode("utf-8")
            elif info.filename.endswith(".xhtml"):
                data = MYST_STYLE.sub(b"", data)
            kind = zipfile.ZIP_STORED if info.filename == "mimetype" else zipfile.ZIP_DEFLATED
            new.writestr(info, data, compress_type=kind)
    scratch.replace(path)


def _mended_list(text, archive):
    def item(match):
        name = re.search(r'href="([^"]+)"', match[0])[1]
        if not name.endswith(".xhtml") or "properties=" in match[0]:
            return match[0]
        found = properties(archive.read(name).decode("utf-8"))
        return match[0].replace("<item ", f'<item properties="{" ".join(found)}" ') if found else (
            match[0]
        )  # fmt: skip

    text = re.sub(r"<item [^>]*>", item, text)
    # The index stands in the table of contents, and Sphinx adds it once more.
    twice = re.compile(
        r'(<itemref idref="([^"]+)"[^>]*>)(.*?)\s*<itemref idref="\2"[^>]*>', re.DOTALL
    )
    return twice.sub(r"\1\3", text)


def make(kind, target, root=ROOT):
    """Write the book as ``target``; raises ChapterError."""
    program = chromium() if kind == "pdf" else None
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder, "source"), Path(folder, "output")
        source.mkdir()
        prepare(kind, source, root)
        built = build_book.jupyter_book(source, output, BUILDERS[kind])
        if kind == "pdf":
            print_page(built / "index.html", target, program)
        else:
            (made,) = built.glob("*.epub")
            mend(made)
            shutil.move(made, target)
    return target


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("kind", choices=BUILDERS)
    options = parser.parse_args(arguments)
    try:
        made = make(options.kind, build_book.BUILD / f"{NAME}.{options.kind}")
    except ChapterError as error:
        raise SystemExit(f"{error}") from None
    print(f"The book is ready: {made}")


if __name__ == "__main__":
    sys.exit(main())
