"""What each chapter says of itself: time, what it needs, what is built; from its first cell.

Two directives show it. ``chapter-map`` draws which chapter needs which, ``chapter-table`` lists
the chapters of a part, or all of them. Both read the notebooks, so they cannot drift from them.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import chapter_drawing
import yaml
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

FACTS = re.compile(r"\*\*Time\*\* (.+?) · \*\*You need\*\* (.+?) · \*\*You build\*\* (.+)")
LINKED = re.compile(r"\[([^\]]*)\]\([^)]*\)")
NAMED = re.compile(r"\bchapters? (\d+(?:(?:, and |, | and )\d+)*)")
FIGURE = "fig-map-of-the-chapters"
CAPTION = (
    "The chapters and what they need. Read from the top; a line leads on to what builds on it."
)


@dataclass(frozen=True)
class Chapter:
    """A chapter; ``time``, ``needs`` and ``builds`` are Markdown."""

    stem: str
    part: str
    number: int
    title: str
    question: str
    time: str
    needs: str
    builds: str

    @property
    def minutes(self):
        """The time as a number."""
        return int(re.search(r"(\d+) minutes", self.time)[1])

    @property
    def needed(self):
        """Numbers of the chapters that it says it needs."""
        groups = NAMED.findall(LINKED.sub(r"\1", self.needs))
        return sorted({int(number) for group in groups for number in re.findall(r"\d+", group)})


def chapter(path, part):
    """The chapter in a notebook; ValueError where its first cell does not have the form."""
    first = json.loads(path.read_text(encoding="utf-8"))["cells"][0]
    head, *paragraphs = "".join(first["source"]).split("\n\n")
    title = re.fullmatch(r"# (\d+)\. (.+)", head)
    facts = FACTS.fullmatch(" ".join(paragraphs[-1].split())) if paragraphs else None
    if not title or not facts:
        raise ValueError(f"{path.name}: the first cell has no number, time, needs or what is built")
    question = " ".join(paragraphs[0].split())
    return Chapter(path.stem, part, int(title[1]), title[2], question, *facts.groups())


def collect(source):
    """[chapter …] in the order of ``_toc.yml`` in that folder."""
    toc = yaml.safe_load((source / "_toc.yml").read_text(encoding="utf-8"))
    pages = [(source / f"{page['file']}.ipynb", part["caption"])
             for part in toc.get("parts", []) for page in part["chapters"]]  # fmt: skip
    return [chapter(path, part) for path, part in pages if path.exists()]


def needs(chapters):
    """{number: numbers it needs}; ValueError for a chapter that is not there or comes later."""
    known = {one.number for one in chapters}
    for one in chapters:
        for number in one.needed:
            if number not in known or number >= one.number:
                raise ValueError(f"{one.stem} needs chapter {number}, which is not before it")
    return {one.number: one.needed for one in chapters}


def description(chapters):
    """The drawing in words, for those who cannot see it."""
    lines = []
    for one in chapters:
        numbers = [str(number) for number in one.needed]
        listed = " and ".join(filter(None, (", ".join(numbers[:-1]), *numbers[-1:])))
        wanted = f"needs {listed}" if numbers else "needs no other"
        lines.append(f"{one.number} {wanted}")
    return f"A map of the chapters. {'; '.join(lines)}."


def table(chapters):
    """The chapters as a Markdown table."""
    rows = ["| chapter | time | you need | you build |", "|---|---|---|---|"]
    for one in chapters:
        link = f"[{one.number}. {one.title}]({one.stem}.ipynb)"
        cells = (link, f"{one.minutes} min", one.needs, one.builds)
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(rows)


class ChapterDirective(SphinxDirective):
    """A directive that shows the chapters; the page is read again when one of them changes."""

    def chapters(self):
        source = Path(self.env.srcdir)
        self.env.note_dependency("_toc.yml")
        found = collect(source)
        for one in found:
            self.env.note_dependency(f"book/{one.stem}.ipynb")
        return found


class ChapterTable(ChapterDirective):
    """The chapters of the part that is named, or of all."""

    optional_arguments = 1
    final_argument_whitespace = True

    def run(self):
        wanted = self.arguments[0] if self.arguments else None
        found = [one for one in self.chapters() if wanted in (None, one.part)]
        if not found:
            return [self.state.document.reporter.warning(f"no chapters in the part {wanted}")]
        holder = nodes.container(classes=["chapter-table"])
        text = StringList(table(found).splitlines(), source=self.env.docname)
        self.state.nested_parse(text, self.content_offset, holder)
        return [holder]


class ChapterMap(ChapterDirective):
    """The drawing, as a figure with a number, a caption and a description."""

    def run(self):
        found = self.chapters()
        svg = chapter_drawing.draw(
            {one.number: (one.title, f"{one.minutes} min") for one in found},
            needs(found),
            description(found),
        )
        figure = nodes.figure(classes=["chapter-map"])
        figure += nodes.raw("", svg, format="html")
        figure += nodes.caption("", CAPTION)
        self.set_source_info(figure)
        figure["names"].append(FIGURE)
        self.state.document.note_explicit_target(figure, figure)
        return [figure]


def setup(app):
    app.add_directive("chapter-map", ChapterMap)
    app.add_directive("chapter-table", ChapterTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
