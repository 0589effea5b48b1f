"""The student's notebook, and the teacher's solved one, from a master."""

import re
from collections.abc import Iterable
from pathlib import Path

from resnet_lib import UserError, assignments
from resnet_lib.assignments.items import Assignment
from resnet_lib.authoring import files, strip, variants

KEPT_TAGS = {"hide-cell", "setup"}
NO_ADDRESS = 'os.environ.get("RESNET_LIB_SOURCE", "")'  # so in the set-up cell
SHORTEST = 16  # letters of a line, blanks left out, that may not stand in a student's file
# Blanks left out: what nearly every module has says nothing about a solution.
TRIVIAL = re.compile(r"super\(\)\.__init__\(\)|(with|@)torch\.no_grad\(\):?|(import|from)\w.*|"
                     r"def(__init__|forward)\(self.*\)(->\w+)?:|if__name__.*|"
                     r"assert(?P<same>\w+),(?P=same)")  # fmt: skip


def assignment_of(master: Path, name: str | None = None) -> Assignment:
    """The assignment of that name, or the one that the master's folder is called after."""
    found = re.match(r"a\d+(?=_|$)", master.resolve().parent.name)
    if name is None and not found:
        raise UserError(f"which assignment is {master}? Say --assignment a2, for example")
    return assignments.find(name or found[0])


def questions(
    master: Path, variant: int | None = None, assignment: str | None = None
) -> list[files.Cell]:
    """The cells that students get; UserError where a solution could reach them."""
    made = _cells(master, variant, assignment, for_teachers=False)
    refuse_leaks(made, secrets(master))
    return made


def solved(
    master: Path, variant: int | None = None, assignment: str | None = None
) -> list[files.Cell]:
    """The cells for teachers: the sheet of that variant with solutions and remarks."""
    return _cells(master, variant, assignment, for_teachers=True)


def _cells(
    master: Path, variant: int | None, assignment: str | None, for_teachers: bool
) -> list[files.Cell]:
    cells, own, whole = _opened(master, assignment)
    variant = own if variant is None else variant
    known = variants.values(whole, variant, master.resolve().parent)
    made = []
    for number, cell in enumerate(cells, 1):
        kind, source, where = cell["cell_type"], cell["source"], f"{master.name}, cell {number}"
        text = strip.strip(kind, source, where, known, solved=for_teachers).source
        if strip.is_teachers(kind, source):
            if not for_teachers:
                continue
            text = text.partition("\n")[2]
        if kind == "code":
            text = variants.set_asked(variants.set_variant(text, variant), known, where)
            text = without_gaps(text)
        else:
            text = variants.fill(text, known, where)
        tags = [tag for tag in cell.get("metadata", {}).get("tags", []) if tag in KEPT_TAGS]
        made.append(files.bare(kind, text, len(made) + 1, tags))
    return made


def installs_nothing(cells: Iterable[files.Cell]) -> bool:
    """Whether the set-up cell among these has no address to install the package from."""
    setup = [cell["source"] for cell in cells if "setup" in cell["metadata"].get("tags", [])]
    return any(NO_ADDRESS in source for source in setup)


def secrets(master: Path) -> list[tuple[str, int]]:
    """The lines that students must not see, each with the number of the master's cell."""
    found = []
    for number, cell in enumerate(_code_and_text(master), 1):
        source, where = variants.without_asked(cell["source"]), f"{master.name}, cell {number}"
        if cell["cell_type"] == "code":
            stripped = strip.strip("code", source, where)
            teachers = strip.is_teachers("code", source)
            lines = source.split("\n")[1:] if teachers else stripped.solution
            found += [(line, number) for line in lines]
    return found


def telling_lines(master: Path) -> frozenset[str]:
    """What to search for in a file that should hold nothing of the master's solutions."""
    return frozenset(filter(None, (telling(line) for line, _ in secrets(master))))


def _code_and_text(master: Path) -> list[files.Cell]:
    return [cell for cell in files.read(master)["cells"] if cell["cell_type"] != "raw"]


def _opened(master: Path, name: str | None) -> tuple[list[files.Cell], int, Assignment]:
    cells = _code_and_text(master)
    code = [cell["source"] for cell in cells if cell["cell_type"] == "code"]
    return cells, variants.own_variant(code), assignment_of(master, name)


def without_gaps(source: str) -> str:
    """At most two empty lines one after the other, and none at the ends."""
    return re.sub(r"\n{4,}", "\n\n\n", source).strip("\n")


def squeezed(text: str) -> str:
    """Without blanks and line ends, so that a line is found however it is set."""
    return re.sub(r"\s+", "", text)


def telling(line: str) -> str:
    """What to search for in a student's file; empty for a line that says nothing by itself."""
    text = squeezed(line)
    return "" if len(text) < SHORTEST or TRIVIAL.fullmatch(text) else text


def refuse_leaks(cells: list[files.Cell], secret: Iterable[tuple[str, int]]) -> None:
    """UserError where a line of a solution stands anywhere in these cells."""
    everything = [
        (number, squeezed(text))
        for number, cell in enumerate(cells, 1)
        for text in files.texts(cell)
    ]
    for line, origin in secret:
        text = telling(line)
        for number, other in everything:
            if text and text in other:
                raise UserError(
                    f"a line of the solution in the master's cell {origin} also stands in the "
                    f"students' cell {number}: {line.strip()!r}"
                )
