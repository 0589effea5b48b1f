"""The marks in a master's cells, and what becomes of the lines between them.

In a code cell, each a line of its own::

    ### BEGIN SOLUTION
    lines that only the master has
    ### END SOLUTION
    ### BEGIN STUDENT
    # lines that stand there instead, as comments; without this block, an error is raised
    ### END STUDENT
    ### BEGIN VARIANT name
    lines that are replaced by the text of that name, which differs by variant
    ### END VARIANT

A code cell that starts with ``### TEACHER``, or a Markdown cell that starts with
``<!-- teacher -->``, is the teacher's alone. Whatever resembles a mark and isn't one is refused,
since a solution behind it would reach the students.
"""

import difflib
import io
import re
import textwrap
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass, field

from resnet_lib import UserError

MARK = re.compile(
    r"### (BEGIN|END) (SOLUTION|STUDENT)|### (BEGIN) VARIANT ([a-z_]\w*)|### END VARIANT"
)
TEACHER_CODE, TEACHER_TEXT = "### TEACHER", "<!-- teacher -->"
BLANK = 'raise NotImplementedError("Write your answer here.")'

KINDS = "solutions?|students?|variants?|answers?|hidden|teachers?"
ENDS = "begin|beginning|end|start|stop"
# "begin solution", "SOLUTION_END", "#beginsolution", "end of the solution"
NEAR = re.compile(
    rf"(?:{ENDS})[\W_]*(?:of[\W_]*)?(?:the[\W_]*)?(?:{KINDS})(?![a-z])"
    rf"|(?<![a-z])(?:{KINDS})[\W_]*(?:{ENDS})(?![a-z])",
    re.IGNORECASE,
)
NEAR_TEXT = re.compile(r"<!-*\W*teachers?\b|\bteachers?\W*-*->", re.IGNORECASE)
COMMENTS = (  # a comment of nothing but letters like these is meant as a mark
    *(end + kind for end in ("begin", "end") for kind in ("solution", "student", "variant")),
    "teacher", "solution", "solutions", "studentversion", "beginhiddentests", "endhiddentests",
)  # fmt: skip
ALIKE = 0.8


@dataclass
class Stripped:
    """A cell's source for the students, and the lines that were taken from it."""

    source: str
    solution: list[str] = field(default_factory=list)


def is_teachers(kind: str, source: str) -> bool:
    """Whether the whole cell is for teachers."""
    return source.split("\n", 1)[0] == (TEACHER_CODE if kind == "code" else TEACHER_TEXT)


def strip(
    kind: str,
    source: str,
    where: str,
    texts: Mapping[str, str] | None = None,
    solved: bool = False,
) -> Stripped:
    """The cell without its solutions, or, ``solved``, without the students' lines in their place.

    ``texts`` fills the VARIANT blocks; without it, the cell is as the master runs it: solved, and
    with the blocks as they stand. UserError names the cell and line of a faulty mark.
    """
    solved = solved or texts is None
    if kind != "code":
        _refuse_in_text(source, where)
        return Stripped(source)
    marks = _marks(source, where)
    out, taken, block, name, start, pending = [], [], None, "", 0, None
    for number, line in enumerate(source.split("\n"), 1):
        place, indent = f"{where}, line {number}", line[: len(line) - len(line.lstrip())]
        mark = marks.get(number)
        if mark is None:
            if block is None:
                pending = None
                out.append(line)
            elif block == "SOLUTION":
                taken.append(line)
                out += [line] if solved else []
            elif block == "STUDENT":
                shown = re.fullmatch(r"\s*# ?(.*)", line)
                if not shown and line.strip():
                    raise UserError(f"{place}: the students' lines have to be comments: {line!r}")
                if shown and not solved:
                    out.append((indent + shown[1]).rstrip())
            elif texts is None:
                out.append(line)
        elif mark.startswith("### BEGIN"):
            if block is not None:
                raise UserError(
                    f"{place}: {mark!r} inside of the {block} that began in line {start}"
                )
            block, start = mark.split()[2], number
            if block == "SOLUTION":
                pending = len(out), indent + BLANK
                out += [] if solved else [indent + BLANK]
            elif block == "STUDENT":
                if pending is None:
                    raise UserError(f"{place}: a STUDENT block has to follow a SOLUTION directly")
                if not solved:
                    del out[pending[0]]
            else:
                pending, name = None, mark.split()[3]
                if texts is not None:
                    if name not in texts:
                        raise UserError(f"{place}: there is no text for the variant block {name!r}")
                    out += textwrap.indent(texts[name].strip("\n"), indent).split("\n")
        else:
            if block != mark.split()[2]:
                raise UserError(
                    f"{place}: {mark!r} has no BEGIN"
                    if block is None
                    else f"{place}: {mark!r} ends the {block} that began in line {start}"
                )
            pending = pending if block == "SOLUTION" else None
            block = None
    if block is not None:
        raise UserError(f"{where}, line {start}: the {block} that begins here has no end")
    return Stripped("\n".join(out), taken)


def _marks(source: str, where: str) -> dict[int, str]:
    """{line number: mark}; everything else that looks like one is refused."""
    lines = source.split("\n")
    comments = _comments(source)
    marks = {}
    for number, line in enumerate(lines, 1):
        text, place = line.strip(), f"{where}, line {number}"
        if MARK.fullmatch(text):
            if comments.get(number) != text:
                raise UserError(f"{place}: the mark {text!r} stands inside of a string")
            if "\t" in line:
                raise UserError(f"{place}: indent the mark {text!r} with spaces, not with tabs")
            marks[number] = text
        elif number == 1 and line == TEACHER_CODE:
            continue
        elif NEAR.search(line) or _like_a_mark(line):
            raise UserError(
                f"{place}: {text!r} resembles a mark and isn't one; write '### BEGIN SOLUTION' "
                "(or END, STUDENT, VARIANT name) on a line of its own, or other words"
            )
    return marks


def _like_a_mark(line: str) -> bool:
    """Whether a comment has little but the letters of a mark, perhaps with a slip."""
    for start in (index for index, letter in enumerate(line) if letter == "#"):
        letters = re.sub(r"[\W\d_]+", "", line[start:]).lower()
        if any(difflib.SequenceMatcher(None, letters, word).ratio() >= ALIKE for word in COMMENTS):
            return True
    return False


def _comments(source: str) -> dict[int, str]:
    """{line number: comment}, as Python reads them; magics count as comments of IPython."""
    plain = re.sub(r"(?m)^(\s*)[%!]", r"\1# ", source)
    found = {}
    try:
        for token in tokenize.generate_tokens(io.StringIO(plain).readline):
            if token.type == tokenize.COMMENT:
                found[token.start[0]] = token.string
    except (tokenize.TokenError, IndentationError):
        # What could be read until then; a mark after that counts as inside of a string.
        pass
    return found


def _refuse_in_text(source: str, where: str) -> None:
    for number, line in enumerate(source.split("\n"), 1):
        if number == 1 and line == TEACHER_TEXT:
            continue
        if NEAR_TEXT.search(line) or re.search(r"#\s*(?:BEGIN|END)\b", line) or NEAR.search(line):
            raise UserError(
                f"{where}, line {number}: {line.strip()!r} resembles a mark; in text there is only "
                f"'{TEACHER_TEXT}', as the first line of a cell that students don't get"
            )
