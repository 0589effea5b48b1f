"""What a student reads: the marks with their reasons, as Markdown and as a page of its own.

Nothing of a hidden item is told beyond whether it was passed. Words that come from a student's
process are shown as text, never as markup.
"""

import hashlib
import html
import re
from collections.abc import Iterator
from pathlib import Path

from resnet_lib.assignments.items import Assignment
from resnet_lib.grading.marks import FAILED, Cell, Mark, Result, number, replace_file

NOT_PASSED = "A hidden item was not passed."
SORRY = "This notebook could not be graded because of a fault of the grader; your teacher knows."
STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .4rem .6rem; border-bottom: 1px solid #999; }
td:nth-child(2) { white-space: nowrap; }
td, li { overflow-wrap: anywhere; }
.total { font-size: 1.3rem; font-weight: 600; }
""".strip()  # noqa: E501


def file_name(submission: str) -> str:
    """A name for files about a submission: legible, safe everywhere, and no two alike."""
    plain = re.sub(r"[^\w.-]+", "_", submission).strip("._")[:80]
    if plain == submission:
        return plain
    return f"{plain}-{hashlib.sha256(submission.encode()).hexdigest()[:8]}"


def table(result: Result) -> Iterator[tuple[str, str, str]]:
    """(item, points, what was found), as students may see it."""
    hidden = 0
    for mark in result.marks:
        points = f"{number(mark.points)} of {number(mark.most)}"
        if mark.hidden:
            hidden += 1
            yield f"Hidden item {hidden}", points, hidden_text(mark)
        else:
            yield mark.title, points, mark.text


def hidden_text(mark: Mark) -> str:
    """All that a student learns about a hidden item."""
    if mark.points >= mark.most:
        return "Passed."
    return "A hidden item was passed in part." if mark.points > 0 else NOT_PASSED


def opening(result: Result) -> list[str]:
    """Sentences before the table."""
    if result.status == FAILED:
        return [SORRY]
    return [f"Nothing could be run: {result.reason}."] if result.reason else []


def cell_words(cell: Cell, ending: str = "") -> tuple[str, str, str]:
    """(which cell, its start as code, what happened)."""
    return f"Code cell {cell.number}, which starts", cell.start, f"{cell.reason}{ending}"


def lists(result: Result) -> Iterator[tuple[str, str, list[tuple[str, str, str]]]]:
    """(heading, explanation, cells) of what did not run to its end."""
    if result.left_out:
        text = "The rest of the notebook ran without them."
        yield "Cells that were left out", text, [cell_words(cell, ".") for cell in result.left_out]
    if result.errors:
        text = "The cells after them ran all the same."
        yield (
            "Cells that ended with an error",
            text,
            [cell_words(cell) for cell in result.errors],
        )


def markdown(result: Result, assignment: Assignment) -> str:
    """The feedback as Markdown."""
    lines = [
        f"# {plain(assignment.title)}",
        f"Feedback for {plain(result.submission)}",
        f"**{number(result.total)} of {number(result.most)} points**",
        *opening(result),
        "\n".join(
            ["| Item | Points | What was found |", "|---|---|---|"]
            + [f"| {' | '.join(map(plain, row))} |" for row in table(result)]
        ),
    ]
    for heading, text, cells in lists(result):
        items = [f"- {plain(a)} `{code.replace('`', chr(39))}`: {plain(b)}" for a, code, b in cells]
        lines += [f"## {heading}", text, "\n".join(items)]
    return "\n\n".join(lines) + "\n"


def plain(text: str) -> str:
    """Text in which Markdown finds nothing to do."""
    line = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*_\[\]|~$!])", r"\\\1", line)


def page(result: Result, assignment: Assignment) -> str:
    """The feedback as one HTML file that needs no other."""
    title = html.escape(f"{assignment.title}: {result.submission}")
    rows = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in row) + "</tr>"
        for row in table(result)
    )
    sections = "\n".join(f"<p>{html.escape(text)}</p>" for text in opening(result))
    after = "".join(
        f"<h2>{heading}</h2>\n<p>{text}</p>\n<ul>\n"
        + "\n".join(
            f"<li>{html.escape(a)} <code>{html.escape(code)}</code>: {html.escape(b)}</li>"
            for a, code, b in cells
        )
        + "\n</ul>\n"
        for heading, text, cells in lists(result)
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{STYLE}
</style>
</head>
<body>
<main>
<h1>{html.escape(assignment.title)}</h1>
<p>Feedback for {html.escape(result.submission)}</p>
<p class="total">{number(result.total)} of {number(result.most)} points</p>
{sections}
<table>
<thead><tr><th scope="col">Item</th><th scope="col">Points</th>
<th scope="col">What was found</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
{after}</main>
</body>
</html>
"""


def write(folder: Path, result: Result, assignment: Assignment) -> None:
    """Both files, in the folder ``feedback`` of the marks."""
    name = file_name(result.submission)
    replace_file(folder / "feedback" / f"{name}.md", markdown(result, assignment))
    replace_file(folder / "feedback" / f"{name}.html", page(result, assignment))
