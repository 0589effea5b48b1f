"""Marks for learning platforms: tables for Canvas and Moodle, and an autograder for Gradescope.

Canvas and Moodle know a student by a number that stands in the names of the files they hand out.
With the table that the platform exports (``roster``), the marks are filled into it; that is the
safe way, since the platform gets back its own rows.
"""

import csv
import importlib.metadata
import json
import re
import shlex
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import resnet_lib
from resnet_lib import UserError
from resnet_lib.assignments.items import Assignment
from resnet_lib.grading import feedback
from resnet_lib.grading.marks import FAILED, Result, harmless, number, replace_file

CANVAS = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]
MOODLE = ["Identifier", "Full name", "Grade", "Maximum Grade", "Feedback comments"]
# lastfirst_LATE_1234_5678_name-of-the-file
CANVAS_NAME = re.compile(r"^(?P<who>[^_/]+)_(?:LATE_)?(?P<id>\d+)_\d+_.+$")
# Full Name_1234567_assignsubmission_file_/notebook
MOODLE_NAME = re.compile(r"^(?P<who>[^/]+?)_(?P<id>\d+)_assignsubmission_file[^/]*(?:/.*)?$")


def key(text: str) -> str:
    """A name without what differs between two lists: capitals, spaces, commas."""
    return re.sub(r"[\W_]+", "", text).casefold()


def words(text: str) -> str:
    """The same, whichever of the names comes first."""
    return " ".join(sorted(filter(None, re.split(r"[\W_]+", text.casefold()))))


def owners(result: Result, pattern: re.Pattern) -> dict[str, str]:
    """What a submission's name says of its student: the platform's number, and a name."""
    match = pattern.match(result.submission)
    return match.groupdict() if match else {"who": result.submission, "id": ""}


def read_roster(path: Path | str, needed: str) -> tuple[list[str], list[list[str]]]:
    """The header and the rows of a table that a platform exported."""
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read the roster {path}: {error}") from None
    if not rows or needed not in rows[0]:
        raise UserError(f"{path} has no column {needed!r}: export it from the platform as CSV")
    return rows[0], rows[1:]


def best_of(results: Iterable[Result], find: Callable[[Result], Any]) -> dict[Any, Result]:
    """{student: the result with most points}; ``find`` gives the student, or None."""
    found: dict[Any, Result] = {}
    for result in results:
        student = find(result)
        if student is not None and (student not in found or found[student].total < result.total):
            found[student] = result
    return found


def fill(
    results: list[Result], rows: list[list[str]], identity: Callable[[list[str]], list[str]],
    pattern: re.Pattern, sheet: str,
) -> tuple[dict[int, Result], list[str]]:  # fmt: skip
    """{index of a row: result}, and the submissions that belong to no row, or to several.

    A submission is found by the platform's number or a name in its own name, or by the name that
    the sheet asks for: ``sheet``_FAMILYNAME_GIVENNAME.
    """
    index: dict[str, set[int]] = {}
    for position, row in enumerate(rows):
        for value in identity(row):
            for word in filter(None, (key(value), words(value))):
                index.setdefault(word, set()).add(position)

    def student(result: Result) -> int | None:
        who = owners(result, pattern)
        first = result.submission.partition("/")[0]
        known = [key(word) for word in (who["id"], who["who"], first, result.submission)]
        asked = result.submission.removeprefix(f"{sheet}_")
        for word in (*known, words(asked)):
            places = index.get(word, set())
            if len(places) == 1:
                return next(iter(places))
        return None

    lost = [result.submission for result in results if student(result) is None]
    return best_of(results, student), lost


def by_name(results: list[Result], pattern: re.Pattern) -> Iterator[tuple[str, str, Result]]:
    """(name, the platform's number, best result) of each student, as the file names say."""
    best = best_of(results, lambda result: tuple(owners(result, pattern).values()))
    for (who, identifier), result in best.items():
        yield harmless(who), identifier, result


def graded(results: Iterable[Result]) -> list[Result]:
    """Without those that the grader failed on: no mark is better than a wrong one."""
    return [result for result in results if result.status != FAILED]


def canvas(
    results: list[Result], assignment: Assignment, out: Path, roster: Path | str | None = None
) -> list[str]:
    """Write canvas.csv for the import in Canvas's gradebook.

    Returns the submissions that could not be assigned to a row of the roster.
    """
    results = graded(results)
    if roster:
        header, rows = read_roster(roster, "ID")
        columns = {name: header.index(name) for name in CANVAS if name in header}

        def identity(row: list[str]) -> list[str]:
            values = [row[at] for at in columns.values() if at < len(row)]
            student = row[columns["Student"]] if "Student" in columns else ""
            return [*values[:4], " ".join(reversed(student.split(",")))]

        found, lost = fill(results, rows, identity, CANVAS_NAME, assignment.name)
        title = next((n for n in header if n.startswith(assignment.title)), assignment.title)
        kept = [n for n in CANVAS if n in columns]
        table = [[*kept, title]]
        for index, row in enumerate(rows):
            row = row + [""] * (len(header) - len(row))
            points = number(found[index].total) if index in found else ""
            if row[0].strip() == "Points Possible":
                points = number(assignment.points)
            elif index not in found:
                continue
            table.append([*(row[columns[n]] for n in kept), points])
    else:
        lost = []
        table = [[*CANVAS, assignment.title]]
        table.append(["    Points Possible", "", "", "", "", number(assignment.points)])
        for who, identifier, result in by_name(results, CANVAS_NAME):
            table.append([who, identifier, "", "", "", number(result.total)])
    save(out / "canvas.csv", table)
    return lost


def moodle(
    results: list[Result], assignment: Assignment, out: Path, roster: Path | str | None = None
) -> list[str]:
    """Write moodle.csv: the grading worksheet of Moodle, with the column Grade filled in.

    Returns the submissions that could not be assigned to a row of the roster.
    """
    results = graded(results)
    if roster:
        header, rows = read_roster(roster, "Identifier")
        check_maximum(header, rows, assignment)
        for name in ("Grade", "Feedback comments"):
            if name not in header:
                header = [*header, name]
        rows = [row + [""] * (len(header) - len(row)) for row in rows]
        names = ("Identifier", "Full name", "Email address", "ID number", "Username")
        columns = [header.index(name) for name in names if name in header]

        def identity(row: list[str]) -> list[str]:
            return [row[at].removeprefix("Participant ") for at in columns]

        found, lost = fill(results, rows, identity, MOODLE_NAME, assignment.name)
        for index, result in found.items():
            rows[index][header.index("Grade")] = number(result.total)
            rows[index][header.index("Feedback comments")] = summary(result)
        table = [header, *rows]
    else:
        lost, table = [], [MOODLE]
        for who, identifier, result in by_name(results, MOODLE_NAME):
            participant = f"Participant {identifier}" if identifier else ""
            points = [number(result.total), number(result.most)]
            table.append([participant, who, *points, summary(result)])
    save(out / "moodle.csv", table)
    return lost


def check_roster(path: Path | str, assignment: Assignment) -> None:
    """UserError where Moodle's table can't take this assignment's marks."""
    check_maximum(*read_roster(path, "Identifier"), assignment)


def check_maximum(header: list[str], rows: list[list[str]], assignment: Assignment) -> None:
    """UserError where the platform would take the points for a share of another maximum."""
    at = header.index("Maximum Grade") if "Maximum Grade" in header else len(header)
    for value in {row[at] for row in rows if len(row) > at and row[at].strip()}:
        try:
            maximum = float(value.replace(",", "."))
        except ValueError:
            continue
        if maximum != assignment.points:
            raise UserError(
                f"the roster has a maximum grade of {value}, and {assignment.name} has "
                f"{assignment.points:g} points: set the maximum to {assignment.points:g} in Moodle "
                "and export the roster again"
            )


def summary(result: Result) -> str:
    """The feedback in one line."""
    parts = [f"{item}: {points}" for item, points, _ in feedback.table(result)]
    return harmless("; ".join(parts))


def save(path: Path, table: list[list[str]]) -> None:
    """Write a table as the platforms read it."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(table)


def gradescope(results: list[Result], out: Path) -> None:
    """Write results.json for Gradescope; of several notebooks the one with most points counts."""
    result = max(results, key=lambda each: each.total)
    tests = [
        {
            "name": item,
            "score": mark.points,
            "max_score": mark.most,
            "output": text,
            "output_format": "text",
            "visibility": "visible",
        }
        for mark, (item, _, text) in zip(result.marks, feedback.table(result), strict=True)
    ]
    words = feedback.opening(result)
    for heading, text, cells in feedback.lists(result):
        words += [f"{heading}. {text}", *(f"{a} {code}: {b}" for a, code, b in cells)]
    report = {
        "score": result.total,
        "execution_time": round(result.seconds),
        "output": "\n".join(words),
        "output_format": "text",
        "stdout_visibility": "hidden",
        "tests": tests,
    }
    replace_file(out / "results.json", json.dumps(report, indent=2) + "\n")


SETUP = """#!/usr/bin/env bash
# Once, when Gradescope builds the image: Python's packages, the book's package, and an account
# without rights for the students' code.
set -euo pipefail
apt-get install -y python3 python3-pip python3-venv
python3 -m venv /opt/grading
/opt/grading/bin/pip install {requirements}
site=$(/opt/grading/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
cp -r /autograder/source/resnet_lib "$site/"
id student > /dev/null 2>&1 || useradd --no-create-home student
"""

RUN = """#!/usr/bin/env bash
# For each submission. Only root may read what is beside the submission.
set -euo pipefail
chmod 700 /autograder/source /autograder/results
cd /
/opt/grading/bin/python -m resnet_lib grade /autograder/submission \\
  --assignment {assignment} --variant {variant} --seed {seed} {hidden} \\
  --no-sandbox --as-user student --format gradescope --out /autograder/results/marks
cp /autograder/results/marks/results.json /autograder/results/results.json
"""


def autograder(
    path: Path | str, assignment: Assignment, variant: int, seed: int, coursework: Path | None
) -> None:
    """Write the zip that Gradescope makes an autograder from.

    All submissions get the same questions, from the seed in it.
    """
    package = Path(resnet_lib.__file__).parent
    needed = [each for each in importlib.metadata.requires("resnet_lib") or [] if ";" not in each]
    words = [*needed, "ipython"]
    setup = SETUP.format(requirements=" ".join(map(shlex.quote, words)))
    hidden = "--coursework /autograder/source/coursework" if coursework else "--no-hidden"
    run = RUN.format(assignment=assignment.name, variant=variant, seed=seed, hidden=hidden)
    try:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in (("setup.sh", setup), ("run_autograder", run)):
                entry = zipfile.ZipInfo(name)
                entry.external_attr = 0o755 << 16
                archive.writestr(entry, text)
            for file in sorted(package.rglob("*")):
                if file.is_file() and "__pycache__" not in file.parts:
                    archive.write(file, f"resnet_lib/{file.relative_to(package).as_posix()}")
            for file in sorted(coursework.glob("*.py")) if coursework else ():
                archive.write(file, f"coursework/{file.name}")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
