"""Spelling: prose, code and comments hold no word that codespell knows as a typing error."""

import subprocess
import sys

import notebooks
import pytest
from notebooks import ROOT
from test_project import tracked

TEXTS = {".md", ".py", ".toml", ".yml", ".cff", ".bib", ".js", ".css", ".html"}


def complaints(*paths):
    """What codespell says of files; the words to leave alone stand in pyproject.toml."""
    command = [sys.executable, "-m", "codespell_lib", "--toml", ROOT / "pyproject.toml", *paths]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.stdout + done.stderr


def test_files_are_spelt_right():
    paths = [path for path in tracked() if path.suffix in TEXTS]
    assert len(paths) > 100
    assert complaints(*paths) == ""


@pytest.mark.parametrize("path", notebooks.chapters(), ids=lambda path: path.stem)
def test_chapters_are_spelt_right(path, tmp_path):
    """Their cells alone: a picture in an output is full of letters."""
    text = tmp_path / f"{path.stem}.md"
    text.write_text("\n\n".join(cell.source for cell in notebooks.read(path).cells), "utf-8")
    assert complaints(text) == ""


def test_a_typing_error_is_noticed(tmp_path):
    text = tmp_path / "text.md"
    text.write_text("One can recie" + "ve it.\n")
    assert "==> receive" in complaints(text)
