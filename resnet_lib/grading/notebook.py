"""Submissions: finding them in a folder, and reading the code of whatever was handed in."""

import json
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnet_lib import UserError

LARGEST = 32 * 2**20  # bytes; figures in the outputs of an ordinary notebook take a few million
MOST_CELLS = 2000
SUFFIXES = (".ipynb", ".py")
SKIPPED = ("__MACOSX", "__pycache__")  # beside everything whose name starts with a dot


@dataclass(frozen=True)
class Submission:
    """A file, and the name under which its marks are listed."""

    name: str
    path: Path


@dataclass(frozen=True)
class Notebook:
    """The code cells in their order; ``problem`` says why there are none."""

    cells: tuple[str, ...] = ()
    problem: str = ""
    reason: str = ""


def submissions(folder: Path | str) -> tuple[list[Submission], list[str]]:
    """The notebooks in a folder and its sub-folders by name, and the other files there.

    A Python file counts at the top, and in a sub-folder without a notebook.
    """
    folder = Path(folder)
    if folder.is_file():
        return [Submission(folder.stem, folder)], []
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: name the one with the students' notebooks")
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if not any(part.startswith(".") or part in SKIPPED for part in _below(folder, path))
        and not stat.S_ISDIR(path.lstat().st_mode)
    ]
    with_notebook = {path.parent for path in files if path.suffix.lower() == ".ipynb"} - {folder}
    chosen = [
        path
        for path in files
        if path.suffix.lower() == ".ipynb"
        or (path.suffix.lower() == ".py" and path.parent not in with_notebook)
    ]
    if not chosen:
        raise UserError(f"no notebook (.ipynb) in {folder}")
    stems = [_name(folder, path.with_suffix("")) for path in chosen]
    found = [
        Submission(stem if stems.count(stem) == 1 else _name(folder, path), path)
        for stem, path in zip(stems, chosen, strict=True)
    ]
    return found, [_name(folder, path) for path in files if path not in chosen]


def _below(folder: Path, path: Path) -> tuple[str, ...]:
    return path.relative_to(folder).parts


def _name(folder: Path, path: Path) -> str:
    # A byte of a file's name that is no UTF-8 could not be written into a table.
    name = path.relative_to(folder).as_posix()
    return name.encode("utf-8", "replace").decode("utf-8")


def read(path: Path) -> Notebook:
    """The code cells of a notebook of any version, or of a Python file cut at ``# %%``.

    Neither metadata nor outputs nor execution counts are looked at.
    """
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        return Notebook(problem="not a notebook", reason="the file is a link or a device")
    if status.st_size > LARGEST:
        size = f"{status.st_size / 2**20:,.0f} MB"
        return Notebook(
            problem="too large",
            reason=f"the file has {size}: clear the outputs and hand it in again",
        )
    text = path.read_bytes().decode("utf-8-sig", "replace").replace("\0", "")
    if not text.strip():
        return Notebook(problem="empty", reason="the file is empty")
    if path.suffix.lower() == ".py":
        cells = re.split(r"^# ?%%.*$", text, flags=re.MULTILINE)
    else:
        try:
            cells = list(_code(json.loads(text)))
        except (ValueError, RecursionError, MemoryError):
            return Notebook(problem="not a notebook", reason="the file can't be read as a notebook")
    kept = tuple(cell for cell in cells if cell.strip())[:MOST_CELLS]
    if not kept:
        return Notebook(problem="empty", reason="there is no code in it")
    return Notebook(kept)


def _code(notebook: Any):
    """The sources of the code cells; ValueError if there is no list of cells."""
    if not isinstance(notebook, dict):
        raise ValueError
    lists = [notebook.get("cells")]
    worksheets = notebook.get("worksheets")  # format 3
    if isinstance(worksheets, list):
        lists += [sheet.get("cells") for sheet in worksheets if isinstance(sheet, dict)]
    lists = [cells for cells in lists if isinstance(cells, list)]
    if not lists:
        raise ValueError
    for cell in (cell for cells in lists for cell in cells if isinstance(cell, dict)):
        if cell.get("cell_type") != "code":
            continue
        source = cell.get("source", cell.get("input", ""))  # "input" in format 3
        if isinstance(source, list):
            source = "".join(line for line in source if isinstance(line, str))
        if isinstance(source, str):
            # Half a surrogate pair can stand in JSON, but not in a program.
            yield source.encode("utf-8", "replace").decode("utf-8")
