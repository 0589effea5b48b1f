"""The marks folder: marks.csv for a spreadsheet, and the history of all that was ever graded.

Both are written as each submission is finished, so that an interruption costs nothing.
"""

import csv
import json
import os
from collections.abc import Iterable, Mapping, Set
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from resnet_lib import UserError
from resnet_lib.assignments.items import Assignment

MARKS, HISTORY, SETTINGS, FLAGS = "marks.csv", "history.jsonl", "grading.json", "flags.csv"
LINES = "lines.json"  # digests of the students' own lines, to compare later submissions with
FAILED = "grader error"
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


@dataclass(frozen=True)
class Mark:
    """Points for an item, and why; ``hidden`` items are not explained to students."""

    item: str
    title: str
    points: float
    most: float
    text: str
    hidden: bool = False
    trouble: str = ""


@dataclass(frozen=True)
class Cell:
    """A cell left out, or ended by an error: its number from 1, its first line, the reason."""

    number: int
    start: str
    reason: str


@dataclass(frozen=True)
class Result:
    """What is known about a submission. ``key`` changes with everything that could change it."""

    submission: str
    status: str
    seconds: float
    marks: tuple[Mark, ...]
    reason: str = ""  # why there was nothing to run, or why the grader failed
    flags: tuple[str, ...] = ()  # for the teacher
    errors: tuple[Cell, ...] = ()
    left_out: tuple[Cell, ...] = ()
    key: str = ""
    date: str = ""
    seed: int | None = None  # of the questions; None in histories of earlier versions

    @property
    def total(self) -> float:
        return round(sum(mark.points for mark in self.marks), 2)

    @property
    def most(self) -> float:
        return sum(mark.most for mark in self.marks)


def result_of(entry: dict[str, Any]) -> Result:
    """The result that a line of the history holds."""
    cells = {name: tuple(Cell(**each) for each in entry[name]) for name in ("errors", "left_out")}
    marks = tuple(Mark(**each) for each in entry["marks"])
    return Result(**entry | cells | {"marks": marks, "flags": tuple(entry["flags"])})


def harmless(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    return f"'{text}" if text.lstrip().startswith(FORMULA) else text


def number(value: float) -> str:
    """12, 7.5 or 3.33."""
    return f"{round(value, 2):g}"


@dataclass
class Marks:
    """The folder."""

    folder: Path
    items: tuple[str, ...]
    latest: dict[str, Result] = field(default_factory=dict)
    earlier: dict[str, list[Result]] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path | str, assignment: Assignment, settings: dict[str, Any]) -> "Marks":
        """The folder, made if needed, with what was graded before."""
        folder = Path(folder)
        try:
            (folder / "feedback").mkdir(parents=True, exist_ok=True)
            (folder / HISTORY).open("a").close()
            replace_file(folder / SETTINGS, json.dumps(settings, indent=2) + "\n")
        except OSError as error:
            raise UserError(f"cannot write to {folder}: {error.strerror}") from None
        marks = cls(folder, tuple(item.name for item in assignment.items))
        for line in (folder / HISTORY).read_text(encoding="utf-8").splitlines():
            try:
                result = result_of(json.loads(line))
            except (ValueError, TypeError, KeyError):  # the last line of an interrupted run
                continue
            marks.remember(result)
        return marks

    def remember(self, result: Result) -> None:
        """Note a result as the latest of its submission."""
        if result.submission in self.latest:
            old = self.latest[result.submission]
            self.earlier.setdefault(result.submission, []).append(old)
        self.latest[result.submission] = result

    def begin(self, kept: Iterable[Result]) -> None:
        """Start marks.csv with the rows that stay."""
        header = ["submission", "status", "seconds", "total", "max", *self.items]
        self._write(MARKS, [header, *map(self.row, sorted(kept, key=lambda r: r.submission))])

    def add(self, result: Result) -> None:
        """Write a result to the history and as a row of marks.csv, and make sure that it lasts."""
        self.remember(result)
        line = json.dumps(asdict(result), ensure_ascii=False)
        _append(self.folder / HISTORY, line + "\n")
        with (self.folder / MARKS).open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(self.row(result))
            _sync(file)

    def finish(self, results: Iterable[Result]) -> None:
        """Sort the rows by name, and list what the teacher should look at."""
        results = sorted(results, key=lambda r: r.submission)
        self.begin(results)
        notes = [(result.submission, note) for result in results for note in notes_of(result)]
        rows = [[harmless(name), harmless(note)] for name, note in notes]
        self._write(FLAGS, [["submission", "look at"], *rows])

    def lines(self) -> dict[str, frozenset[str]]:
        """What an earlier run kept of each submission's own lines."""
        return {name: frozenset(lines) for name, lines in _read(self.folder / LINES).items()}

    def keep_lines(self, own: Mapping[str, Set[str]]) -> None:
        """Keep them for the next run, which may be of another folder."""
        text = json.dumps({name: sorted(lines) for name, lines in own.items()})
        replace_file(self.folder / LINES, text + "\n")

    def row(self, result: Result) -> list[str]:
        """A line of marks.csv."""
        points = {mark.item: number(mark.points) for mark in result.marks}
        start = [harmless(result.submission), result.status, f"{result.seconds:.1f}"]
        totals = [number(result.total), number(result.most)]
        return start + totals + [points.get(name, "0") for name in self.items]

    def _write(self, name: str, rows: Iterable[list[str]]) -> None:
        # With a byte order mark, without which Excel takes UTF-8 for something else.
        path = self.folder / name
        with path.with_suffix(".part").open("w", newline="", encoding="utf-8-sig") as file:
            csv.writer(file).writerows(rows)
            _sync(file)
        path.with_suffix(".part").replace(path)


def notes_of(result: Result) -> list[str]:
    """What a teacher should look at."""
    stumbles = [
        f"{mark.item} could not be judged: {mark.trouble}" for mark in result.marks if mark.trouble
    ]
    reason = [result.reason] if result.status == FAILED else []
    return [*result.flags, *stumbles, *reason]


def settings_in(folder: Path | str) -> dict[str, Any]:
    """What an earlier run in the folder wrote down; empty where there was none."""
    return _read(Path(folder) / SETTINGS)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def replace_file(path: Path, text: str) -> None:
    """Write a file so that it is the old one or the new one at any time."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)
        _sync(file)


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
