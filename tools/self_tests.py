"""The multiple-choice questions at the end of each chapter: their one format, read and written.

A question is a Markdown cell. Each option is a ``<details>`` that opens without a script, in a page
as in Jupyter, Colab and GitHub, and says whether the option is right, and why::

    ### Question 6.1

    Which of the two?

    <details><summary>A. This one</summary>

    **Not quite.** Since that one is.

    </details>

    <details><summary>B. That one, <code>x = 1</code></summary>

    **Right.** It is.

    </details>

Inside a ``summary`` nobody reads Markdown: code there stands in ``<code>``, and formulas are plain
text. Everywhere else Markdown and formulas work as usual.
"""

import html
import re
from dataclasses import dataclass

HEADING = "## Self-test"
INTRODUCTION = (
    f"{HEADING}\n\nWhich answer would you give? Open it: it tells you whether it is right, and why."
    " Then open the others, since each of them is a mistake that people make."
)
LETTERS = "ABCDE"
RIGHT, WRONG = "**Right.**", "**Not quite.**"

QUESTION = re.compile(r"### Question (\d+)\.(\d+)\n\n(.+?)\n\n(<details>.+)\Z", re.DOTALL)
OPTION = re.compile(
    r"<details><summary>([A-Z])\. ([^\n]+?)</summary>\n\n"
    r"(\*\*[^*\n]+\*\*) (.+?)\n\n</details>(?:\n\n|\Z)",
    re.DOTALL,
)
# What Markdown would read, and a summary shows as it is.
UNREAD = re.compile(r"[`$\\]|\*\*|\]\(")
TAG = re.compile(r"<[^>]*>")


class SelfTestError(Exception):
    """A question that does not keep the format; the message says where."""


@dataclass(frozen=True)
class Option:
    """text and reason are Markdown."""

    letter: str
    text: str
    right: bool
    reason: str


@dataclass(frozen=True)
class Question:
    """One question of a chapter; number is its place there, from 1."""

    chapter: int
    number: int
    text: str
    options: tuple[Option, ...]

    @property
    def name(self):
        return f"{self.chapter}.{self.number}"

    @property
    def right(self):
        """The right option."""
        return next(option for option in self.options if option.right)


def is_question(source):
    """Whether a cell means to be a question; ``parse`` tells whether it is one."""
    return source.startswith("### Question") or "<details" in source or "<summary" in source


def parse(source):
    """The question in a cell's source; SelfTestError where it does not keep the format."""
    match = QUESTION.match(source)
    if not match:
        raise SelfTestError(f"not '### Question N.M', a text and options: {source[:60]!r}")
    chapter, number, text, rest = match.groups()
    name = f"question {chapter}.{number}"
    found = [option.groups() for option in OPTION.finditer(rest)]
    if "".join(option[0] for option in OPTION.finditer(rest)) != rest:
        raise SelfTestError(f"{name}: something beside the options, or one that is malformed")
    if [letter for letter, *_ in found] != list(LETTERS[: len(found)]) or len(found) < 3:
        raise SelfTestError(f"{name}: needs three to five options, lettered from A")
    options = tuple(_option(name, *parts) for parts in found)
    if sum(option.right for option in options) != 1:
        raise SelfTestError(f"{name}: needs exactly one option that is right")
    if len({option.text for option in options}) < len(options):
        raise SelfTestError(f"{name}: two options are the same")
    if TAG.search(re.sub(r"`[^`]*`|\$[^$]*\$", "", text)):
        raise SelfTestError(f"{name}: a tag in the question")
    return Question(int(chapter), int(number), text, options)


def _option(name, letter, summary, verdict, reason):
    where = f"{name}, option {letter}"
    if verdict not in (RIGHT, WRONG):
        raise SelfTestError(f"{where}: does not begin with {RIGHT} or {WRONG}")
    if "<details" in reason or "</details" in reason:
        raise SelfTestError(f"{where}: is not closed")
    plain = re.sub(r"</?code>", "", summary)
    if TAG.search(plain) or summary.count("<code>") != summary.count("</code>"):
        raise SelfTestError(f"{where}: a summary may have <code> and no other tag")
    if UNREAD.search(plain) or html.escape(html.unescape(plain), quote=False) != plain:
        raise SelfTestError(f"{where}: a summary is no Markdown, and escapes & < and >")
    text = html.unescape(re.sub(r"</?code>", "`", summary))
    return Option(letter, text, verdict == RIGHT, reason)


def write(question):
    """The source of the cell for a question."""
    parts = [f"### Question {question.name}", question.text]
    for option in question.options:
        verdict = RIGHT if option.right else WRONG
        parts += [f"<details><summary>{option.letter}. {summary(option.text)}</summary>"]
        parts += [f"{verdict} {option.reason}", "</details>"]
    return "\n\n".join(parts)


def summary(text):
    """An option's text as HTML."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))


def without_tags(source):
    """A question's source without its tags, for checks that forbid tags elsewhere."""
    source = re.sub(
        r"^<details><summary>(.*)</summary>$",
        lambda match: re.sub(r"<code>.*?</code>", "", match[1]),
        source,
        flags=re.MULTILINE,
    )
    return re.sub(r"^</details>$", "", source, flags=re.MULTILINE)


def questions(notebook):
    """The questions of a chapter, in order."""
    cells = (cell for cell in notebook.cells if cell.cell_type == "markdown")
    return [parse(cell.source) for cell in cells if is_question(cell.source)]
