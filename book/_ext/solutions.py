"""Fold each exercise's solution under it, on the page only.

The notebook that a reader downloads stays without solutions: they are put in when the page is
read. ``book/solutions/NAME.md`` holds those of ``book/NAME.ipynb``, a section an exercise.
"""

import json
import re
from pathlib import Path

from sphinx.util import logging

logger = logging.getLogger(__name__)

EXERCISE = re.compile(r"### Exercise (\d+\.\d+):")
SECTION = re.compile(r"^## Exercise (\d+\.\d+)\b.*$", re.MULTILINE)


def read(path):
    """{exercise's number: Markdown of its solution}, empty without a file."""
    if not path.exists():
        return {}
    _, *parts = SECTION.split(path.read_text(encoding="utf-8"))
    return {number: text.strip() for number, text in zip(parts[::2], parts[1::2], strict=True)}


def folded(number, text):
    """A notebook cell with the solution in a closed dropdown."""
    # More colons than any directive inside could have.
    source = f"::::::::{{dropdown}} Solution {number}\n\n{text}\n\n::::::::"
    identity = f"solution-{number.replace('.', '-')}"
    return {"cell_type": "markdown", "id": identity, "metadata": {}, "source": source}


def add(notebook, solutions, warn):
    """Put the solutions behind their exercises' cells; ``warn`` takes a message."""
    cells, waiting = [], dict(solutions)
    for cell in notebook["cells"]:
        cells.append(cell)
        exercise = EXERCISE.match("".join(cell["source"]))
        if cell["cell_type"] != "markdown" or not exercise:
            continue
        number = exercise[1]
        if number in waiting:
            cells.append(folded(number, waiting.pop(number)))
        else:
            warn(f"exercise {number} has no solution")
    for number in waiting:
        warn(f"solution {number} has no exercise")
    notebook["cells"] = cells


def insert(app, docname, source):
    """Change the text of a notebook before it is parsed."""
    page = Path(app.env.doc2path(docname))
    if page.suffix != ".ipynb":
        return
    path = page.parent / "solutions" / f"{page.stem}.md"
    if path.exists():
        app.env.note_dependency(str(path))
    notebook = json.loads(source[0])

    def warn(message):
        logger.warning(message, location=docname, type="book", subtype="solution")

    add(notebook, read(path), warn)
    source[0] = json.dumps(notebook)


def setup(app):
    app.connect("source-read", insert)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
