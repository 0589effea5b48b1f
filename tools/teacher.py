"""What teachers get and students don't: solved assignments, and all solutions as pages.

    python tools/teacher.py [--notebooks]

Everything goes into ``_build/teacher``, which is never published: ``solved`` holds the assignments'
notebooks with their solutions, ``pages`` the same as web pages, together with the rubrics and with
the solutions of the book's exercises. With ``--notebooks`` the pages are left out.
"""

import argparse
import copy
import shutil

import build_book
import yaml
from notebooks import ROOT, ChapterError

from resnet_lib.authoring import files, solved

OUT = ROOT / "_build" / "teacher"
# They belong to the published book: its buttons, its explorer, its folded solutions.
PUBLIC = ("public_home", "explorer", "solutions")
TITLE = "Solutions for teachers"
INDEX = """# {title}

Not for students: this is no part of the published book. It holds the solved assignments, with the
bugs and remarks of the masters' own variants, the rubrics, and the solutions of the book's
exercises.
"""


def masters(root=ROOT):
    return sorted((root / "coursework").glob("*/master.ipynb"))


def solve(out=OUT, root=ROOT):
    """Write the solved notebook of each assignment; returns their paths."""
    shutil.rmtree(out / "solved", ignore_errors=True)
    made = []
    for master in masters(root):
        made.append(out / "solved" / f"{master.parent.name}.ipynb")
        files.write(solved(master), made[-1])
    return made


def write_source(source, notebooks, root=ROOT):
    """The pages' source: a book of its own, with the book's looks and bibliography."""
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(root / "book" / "_ext", source / "book" / "_ext")
    shutil.copytree(root / "book" / "_static", source / "book" / "_static")
    shutil.copy2(root / "book" / "references.bib", source / "book" / "references.bib")
    assignments, exercises = [], []
    for path in notebooks:
        shutil.copy2(path, source / path.name)
        assignments.append({"file": path.stem})
        rubric = root / "coursework" / path.stem / "rubric.md"
        if rubric.exists():
            shutil.copy2(rubric, source / f"{path.stem}_rubric.md")
            assignments.append({"file": f"{path.stem}_rubric"})
    for path in sorted((root / "book" / "solutions").glob("*.md")):
        shutil.copy2(path, source / path.name)
        exercises.append({"file": path.stem})
    (source / "index.md").write_text(INDEX.format(title=TITLE), encoding="utf-8")
    parts = [
        {"caption": "Assignments", "chapters": assignments},
        {"caption": "Exercises", "chapters": exercises},
    ]
    toc = {"format": "jb-book", "root": "index", "parts": parts}
    for name, content in (("_toc.yml", toc), ("_config.yml", config(root))):
        text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
        (source / name).write_text(text, encoding="utf-8")


def config(root=ROOT):
    """The book's configuration, without what belongs to the published book alone."""
    found = copy.deepcopy(yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8")))
    found["title"] = found["project"] = TITLE
    found["exclude_patterns"] = []
    found.pop("repository", None)
    extensions = found["sphinx"]["local_extensions"]
    found["sphinx"]["local_extensions"] = {
        name: folder for name, folder in extensions.items() if name not in PUBLIC
    }
    return found


def render(notebooks, out=OUT, root=ROOT):
    """Build the pages and return their folder."""
    source, output, pages = out / "source", out / "render", out / "pages"
    write_source(source, notebooks, root)
    html = build_book.jupyter_book(source, output)
    shutil.rmtree(pages, ignore_errors=True)
    html.replace(pages)
    for folder in (source, output):
        shutil.rmtree(folder)
    return pages


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--notebooks", action="store_true", help="only the notebooks, no pages")
    options = parser.parse_args(arguments)
    made = solve()
    print(f"{len(made)} solved assignments in {made[0].parent}")
    if not options.notebooks:
        try:
            print(f"Open this page in a browser: {render(made) / 'index.html'}")
        except ChapterError as error:
            raise SystemExit(f"\n{error}") from None


if __name__ == "__main__":
    main()
