"""Notebooks as files, without the packages that students need not have."""

import json
from pathlib import Path
from typing import Any

from resnet_lib import UserError

Cell = dict[str, Any]
Notebook = dict[str, Any]
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def read(path: Path) -> Notebook:
    """The notebook in the file; each cell's source is one text.

    UserError where the file isn't a notebook of format 4.
    """
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is not there") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is not a notebook: {error}") from None
    if not isinstance(notebook, dict) or notebook.get("nbformat") != 4:
        raise UserError(f"{path} is not a notebook of format 4: save it with a newer Jupyter")
    for cell in notebook["cells"]:
        if isinstance(cell["source"], list):
            cell["source"] = "".join(cell["source"])
    return notebook


def bare(kind: str, source: str, number: int, tags: list[str]) -> Cell:
    """A cell without outputs, and with nothing that its editor left in it."""
    metadata = {"tags": tags} if tags else {}
    cell = {"cell_type": kind, "id": f"cell-{number}", "metadata": metadata, "source": source}
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})


def write(cells: list[Cell], path: Path) -> None:
    """A notebook of these cells."""
    cells = [cell | {"source": cell["source"].splitlines(keepends=True)} for cell in cells]
    notebook = {
        "cells": cells,
        "metadata": {"kernelspec": KERNEL, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    text = json.dumps(notebook, ensure_ascii=False, indent=1) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def texts(value: Any) -> list[str]:
    """Every text in a notebook: sources, outputs, attachments and metadata, keys too."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for pair in value.items() for part in pair for text in texts(part)]
    if isinstance(value, list):
        # The lines of a source, and whatever else is a list, as one text each and as parts.
        joined = ["".join(value)] if value and all(isinstance(v, str) for v in value) else []
        return joined + [text for part in value for text in texts(part)]
    return []
