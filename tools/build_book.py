"""Render the book, with warnings as errors.

    python tools/build_book.py [--execute]

Without ``--execute`` the pages show the committed outputs, as ``jupyter-book build .`` does. With
it, copies of the chapters run first, on this machine's device; the working tree stays as it is.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from importlib.metadata import version

import notebooks
from notebooks import ROOT, ChapterError, digest

BUILD = ROOT / "_build"
SOURCES = (
    "_config.yml",
    "_toc.yml",
    "CHANGELOG.md",
    "CITATION.cff",
    "genindex.md",
    "book",
    "coursework",
)
KNOWN = ("html", "singlehtml")  # to jupyter-book; the others are Sphinx's
ADDRESSES = ("BOOK_REPOSITORY", "BOOK_BRANCH", "BOOK_URL")


def up_to_date(result, mark, key):
    """Whether the result was made under that key; ``remember`` wrote it into the mark."""
    return result.exists() and mark.exists() and mark.read_text() == key


def execute(root=ROOT, build=BUILD):
    """Run a copy of every chapter, except those for which nothing changed since they last ran.

    Returns {chapter: its executed copy}.
    """
    folder, copies = build / "executed", {}
    folder.mkdir(parents=True, exist_ok=True)
    around = notebooks.surroundings(root)
    for chapter in notebooks.chapters(root):
        copies[chapter] = copy = folder / chapter.name
        key, mark = digest([chapter], around), folder / f"{chapter.stem}.key"
        if up_to_date(copy, mark, key):
            print(f"{chapter.stem:<32}unchanged", flush=True)
            continue
        mark.unlink(missing_ok=True)
        notebooks.execute(chapter, copy)
        mark.write_text(key)
    return copies


def jupyter_book(source, output, builder="html"):
    """Build with one of Sphinx's builders into ``output``/_build and return the folder it filled.

    Always from nothing: an incremental build neither repeats warnings nor copies changed styles.
    Raises ChapterError with what jupyter-book printed when there was a warning or an error.
    """
    for name in (builder, ".doctrees", "jupyter_execute"):
        shutil.rmtree(output / "_build" / name, ignore_errors=True)
    program = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", program, "build", str(source), "--path-output", str(output)]
    command += ["-W", "--keep-going", "--builder"]
    command += [builder] if builder in KNOWN else ["custom", "--custom-builder", builder]
    result = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if result.returncode:
        raise ChapterError(f"{result.stdout}\nThe pages could not be built; see above.")
    return output / "_build" / builder


def render_copies(copies, root=ROOT, build=BUILD):
    """Build the pages with the executed copies in place of the chapters; returns their folder."""
    source, output, pages = build / "source", build / "render", build / "book"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    for name in SOURCES:
        copy = shutil.copytree if (root / name).is_dir() else shutil.copy2
        copy(root / name, source / name)
    for chapter, copy in copies.items():
        shutil.copy2(copy, source / chapter.relative_to(root))
    addresses = (os.environ.get(name, "") for name in ADDRESSES)
    npm = shutil.which("npm") or ""  # without it, a page says so in place of its classifier
    key, mark = digest([source], version("jupyter-book"), npm, *addresses), build / "book.key"
    if not up_to_date(pages, mark, key):
        mark.unlink(missing_ok=True)
        html = jupyter_book(source, output)
        shutil.rmtree(pages, ignore_errors=True)
        html.replace(pages)
        shutil.rmtree(output)
        mark.write_text(key)
    return pages


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--execute", action="store_true", help="run the chapters first")
    options = parser.parse_args(arguments)
    try:
        copies = execute() if options.execute else None
        print(f"{'pages':<32}", end="", flush=True)
        started = time.perf_counter()
        pages = render_copies(copies) if options.execute else jupyter_book(ROOT, ROOT)
        print(f"{time.perf_counter() - started:6.1f} s", flush=True)
    except ChapterError as error:
        raise SystemExit(f"\n{error}") from None
    print(f"\nThe book is ready. Open this page in a browser:\n{pages / 'index.html'}")


if __name__ == "__main__":
    main()
