"""Slides for each part of the book, made from the chapters' own figures, outputs and questions.

    python tools/slides.py [PART ...]

A file of ``coursework/slides`` selects what is shown for a part; the figures, tables, recaps and
questions come from the chapters, so they can't differ from them. Each slide show is one HTML file,
which asks for nothing elsewhere: ``_build/slides/PART.html``. Keys: arrows and space move, S opens
the speaker's notes, Esc the overview, ? lists the others. For paper or PDF, add ``?print-pdf`` to
the address and print.
"""

import argparse
import base64
import hashlib
import html
import re
import struct
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import notebooks
import self_tests
import yaml
from jinja2 import Environment, FileSystemLoader
from markdown_it import MarkdownIt
from notebooks import ROOT

SELECTIONS = ROOT / "coursework" / "slides"
OUTPUT = ROOT / "_build" / "slides"
WITHOUT = {"Appendices"}  # the parts that have no slides
# The libraries' files that go into a slide show, a line each: SHA-256, library, file.
SCRIPTS = Path(__file__).with_suffix(".sha256")

# In pixels of a slide of 1280 x 720.
FIGURE = (820, 650)  # the largest figure
SMALLEST_SCALE = 0.55  # of a figure's own pixels: below it, its text can't be read from the back
TABLE_WIDTH, LARGEST_CODE, SMALLEST_CODE = 1200, 30, 20
WIDTH_OF_A_CHARACTER = 0.61  # of the font's size
LONGEST_TITLE, LONGEST_LINE, MOST_LINES = 60, 150, 3  # characters; lines of text

MATH = re.compile(r"\$\$.+?\$\$|\$[^$\n]+\$", re.DOTALL)
RECAP = re.compile(r"^## Recap\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
MARKDOWN = MarkdownIt("commonmark")


class SlideError(Exception):
    """A selection that doesn't fit the chapters; the message names the slide and what is wrong."""


@dataclass(frozen=True)
class Figure:
    """A chapter's figure: data is the PNG in base64."""

    data: str
    alt: str
    caption: str

    @property
    def size(self):
        """(width, height) in its own pixels."""
        return struct.unpack(">II", base64.b64decode(self.data)[16:24])

    @property
    def scale(self):
        """From its own pixels to the slide's, as large as fits."""
        return min(most / own for most, own in zip(FIGURE, self.size, strict=True))


@dataclass
class Chapter:
    """What slides can show of a chapter."""

    stem: str
    title: str
    question: str  # the paragraphs below the title
    figures: dict[str, Figure] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    recap: list[str] = field(default_factory=list)
    questions: dict[int, self_tests.Question] = field(default_factory=dict)
    text: str = ""  # all of it, to look numbers up

    def output(self, first):
        """The one printed output that has this text."""
        found = [text for text in self.outputs if first in text]
        if len(found) != 1:
            raise SlideError(f"{self.stem}: {len(found)} outputs have {first!r}, not one")
        return found[0]


def recap(text):
    """What the reader can do now, item by item: a list in the chapter, or a sentence with ";"."""
    _, _, text = text.partition("You can now")
    items = re.split(
        r"^- " if re.search("^- ", text, re.MULTILINE) else ";", text, flags=re.MULTILINE
    )
    return [" ".join(item.split()).rstrip(";.") for item in items if item.strip()]


def read_chapter(path):
    """The chapter in a notebook."""
    notebook = notebooks.read(path)
    head, *paragraphs = notebook.cells[0].source.split("\n\n")
    chapter = Chapter(path.stem, head.removeprefix("# "), paragraphs[0])
    texts = []
    for cell in notebook.cells:
        texts.append(cell.source)
        if cell.cell_type == "markdown":
            if found := RECAP.search(cell.source):
                chapter.recap = recap(found[1])
            continue
        printed = "".join(output.get("text", "") for output in cell.outputs)
        pictures = [output.data for output in cell.outputs if "image/png" in output.get("data", {})]
        if printed:
            chapter.outputs.append(printed.rstrip("\n"))
            texts.append(printed)
        if pictures:
            settings = cell.metadata.mystnb
            chapter.figures[settings.figure.name] = Figure(
                pictures[0]["image/png"].strip(), settings.image.alt, settings.figure.caption
            )
    chapter.questions = {q.number: q for q in self_tests.questions(notebook)}
    chapter.text = "\n".join(texts)
    return chapter


def parts(root=ROOT):
    """{part: its chapters' files}, of the parts that have slides."""
    written = notebooks.chapters(root)
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    found = {part["caption"]: part["chapters"] for part in toc["parts"]}
    return {
        part: [path for page in pages if (path := root / f"{page['file']}.ipynb") in written]
        for part, pages in found.items()
        if part not in WITHOUT
    }


def selection(part):
    """The file that selects a part's slides."""
    return SELECTIONS / f"{part.lower()}.yml"


def markdown(text, block=False):
    """Markdown as HTML, formulas left for MathJax."""
    formulas = []

    def keep(match):
        formulas.append(match[0])
        return f"\ue000{len(formulas) - 1}\ue000"  # a character that no text has

    text = MATH.sub(keep, text).replace(" %", "\N{NO-BREAK SPACE}%")
    result = MARKDOWN.render(text) if block else MARKDOWN.renderInline(text)
    return re.sub(r"\ue000(\d+)\ue000", lambda m: html.escape(formulas[int(m[1])]), result)


def table(chapter, entry):
    """(the chosen lines of a printed output, the size of their letters)."""
    lines = chapter.output(entry["output"]).split("\n")
    wanted = entry.get("lines")
    if wanted:
        missing = [one for one in wanted if not any(one in line for line in lines)]
        if missing:
            raise SlideError(f"{chapter.stem}: no line of the output has {missing}")
        lines = [line for line in lines if any(one in line for one in wanted)]
    longest = max(map(len, lines))
    size = min(LARGEST_CODE, TABLE_WIDTH / (WIDTH_OF_A_CHARACTER * longest))
    if size < SMALLEST_CODE:
        raise SlideError(f"{chapter.stem}: {entry['title']!r} has a line of {longest} characters")
    return "\n".join(lines), size


def check_text(chapter, title, lines, notes):
    """SlideError for text that is too long, and for numbers that the chapter doesn't have."""
    if len(title) > LONGEST_TITLE:
        raise SlideError(f"{chapter.stem}: the title {title!r} is longer than {LONGEST_TITLE}")
    if len(lines) > MOST_LINES or any(len(line) > LONGEST_LINE for line in lines):
        raise SlideError(
            f"{chapter.stem}: {title!r} has more than {MOST_LINES} lines of {LONGEST_LINE}"
        )
    if len(notes.split()) < 10:
        raise SlideError(f"{chapter.stem}: {title!r} has no notes")
    known = set(NUMBER.findall(chapter.text))
    unknown = set(NUMBER.findall(" ".join([title, *lines, notes]))) - known
    if unknown:
        raise SlideError(f"{chapter.stem}: {title!r} has numbers that it hasn't: {sorted(unknown)}")


def slide(chapter, entry):
    """What the template needs of one selected slide."""
    if "question" in entry:
        return question_slide(chapter, entry)
    title, lines, notes = entry["title"], entry.get("text", []), entry["notes"]
    check_text(chapter, title, lines, notes)
    found = {
        "title": markdown(title),
        "lines": [markdown(line) for line in lines],
        "notes": [markdown(notes, block=True)],
        "source": chapter.title,
    }
    if "figure" in entry:
        if entry["figure"] not in chapter.figures:
            raise SlideError(f"{chapter.stem} has no figure {entry['figure']}")
        figure = chapter.figures[entry["figure"]]
        if figure.scale < SMALLEST_SCALE:
            raise SlideError(f"{entry['figure']} is too tall: its text would be too small")
        width, height = (round(pixels * figure.scale) for pixels in figure.size)
        caption = f"Figure: {figure.caption}"
        found |= {"kind": "figure", "figure": figure, "width": width, "height": height}
        found["notes"].append(markdown(caption, block=True))
    elif "output" in entry:
        text, size = table(chapter, entry)
        found |= {"kind": "table", "table": text, "size": f"{size:.1f}"}
    else:
        found |= {"kind": "text"}
    return found


def question_slide(chapter, entry):
    """A question of the chapter's self-test; its answer stands in the notes."""
    question = chapter.questions.get(entry["question"])
    if question is None:
        raise SlideError(f"{chapter.stem} has no question {entry['question']}")
    right = [f"The right answer is **{question.right.letter}**. Vote first."]
    for option in question.options:
        verdict = "right" if option.right else "wrong"
        right.append(f"**{option.letter}**, {verdict}. {option.reason}")
    return {
        "kind": "question",
        "title": f"Question {question.name}",
        "lines": [markdown(question.text)],
        "options": [(option.letter, markdown(option.text)) for option in question.options],
        "notes": [markdown(text, block=True) for text in right],
        "source": chapter.title,
    }


def opening(chapter, entry):
    """The slide with which a chapter begins: its number and title."""
    check_text(chapter, chapter.title, entry["text"], entry["notes"])
    return {
        "kind": "opening",
        "title": markdown(chapter.title),
        "lines": [markdown(line) for line in entry["text"]],
        "notes": [markdown(text, block=True) for text in (chapter.question, entry["notes"])],
        "source": chapter.title,
    }


def closing(chapter):
    """The chapter's recap."""
    if not chapter.recap:
        raise SlideError(f"{chapter.stem} has no recap")
    notes = f"Recap of chapter {chapter.title}. Ask who can do what, before you go on."
    return {
        "kind": "recap",
        "title": "You can now …",
        "items": [markdown(item) for item in chapter.recap],
        "notes": [markdown(notes, block=True)],
        "source": chapter.title,
    }


def collect(part, chapters):
    """[[slides of a chapter] …] of a part, as its file selects them."""
    path = selection(part)
    if not path.exists():
        raise SlideError(f"the part {part} has no {path.name}")
    chosen = yaml.safe_load(path.read_text(encoding="utf-8"))
    stems = [chapter.stem for chapter in chapters]
    if list(chosen) != stems:
        raise SlideError(f"{path.name} is about {list(chosen)}, the part has {stems}")
    found = []
    for chapter in chapters:
        entry = chosen[chapter.stem]
        slides = [slide(chapter, one) for one in entry["slides"]]
        found.append([opening(chapter, entry), *slides, closing(chapter)])
    return found


def scripts(listing=SCRIPTS):
    """{file's name: its text}; SlideError where a library is missing or a file is another one."""
    found = {}
    for line in listing.read_text(encoding="utf-8").splitlines():
        digest, library, name = line.split()
        try:
            paths = [path.locate() for path in files(library) if str(path).endswith(f"/{name}")]
        except PackageNotFoundError:
            raise SlideError(f"{library} is missing: run pip install -r requirements.txt") from None
        data = paths[0].read_bytes() if paths and paths[0].exists() else b""
        if hashlib.sha256(data).hexdigest() != digest:
            raise SlideError(f"{library}: {name} is not the file that {listing.name} lists")
        # "</script" would end the element, and stands in strings only.
        found[Path(name).name] = data.decode("utf-8").replace("</script", r"<\/script")
    return found


def build(part, paths, output=OUTPUT):
    """Write the slide show of a part and return its file."""
    chapters = [read_chapter(path) for path in paths]
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    text = environment.get_template("slides.html").render(
        part=part,
        book=yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["title"],
        chapters=collect(part, chapters),
        titles=[chapter.title for chapter in chapters],
        scripts=scripts(),
    )
    output.mkdir(parents=True, exist_ok=True)
    path = output / f"{part.lower()}.html"
    path.write_text(text, encoding="utf-8")
    return path


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    known = parts()
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(known)}; or all")
    options = parser.parse_args(arguments)
    unknown = set(options.parts) - set(known)
    if unknown:
        parser.error(f"no part {', '.join(sorted(unknown))}: choose from {', '.join(known)}")
    try:
        for part in options.parts or known:
            print(build(part, known[part]))
    except SlideError as error:
        raise SystemExit(f"{error}") from None


if __name__ == "__main__":
    main()
