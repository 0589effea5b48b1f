"""tools/teacher.py: solved notebooks and the source of the teachers' pages, outside of the book."""

import ast

import nbformat
import pytest
import teacher
import yaml
from notebooks import ROOT

from resnet_lib.authoring import author, files, strip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("teacher")
    solved = teacher.solve(out)
    teacher.write_source(out / "source", solved)
    return out, solved


def test_each_master_has_its_solved_notebook(made):
    _, solved = made
    assert [path.stem for path in solved] == [m.parent.name for m in teacher.masters()]
    for master, path in zip(teacher.masters(), solved, strict=True):
        notebook = nbformat.read(path, 4)
        nbformat.validate(notebook)
        text = author.squeezed("\n".join(cell.source for cell in notebook.cells))
        lines = [
            line
            for cell in files.read(master)["cells"]
            if cell["cell_type"] == "code"
            for line in strip.strip("code", cell["source"], "here").solution
        ]
        assert lines and all(author.squeezed(line) in text for line in lines)
        assert "{{" not in text and "BEGINSOLUTION" not in text and "<!--teacher" not in text
        for cell in notebook.cells:
            if cell.cell_type == "code":
                ast.parse(cell.source)


def test_pages_hold_assignments_rubrics_and_exercises(made):
    source = made[0] / "source"
    toc = yaml.safe_load((source / "_toc.yml").read_text(encoding="utf-8"))
    pages = [page["file"] for part in toc["parts"] for page in part["chapters"]]
    assert {"a1_layers", "a3_networks", "a4_budget_rubric", "06_residual_block"} <= set(pages)
    assert len(pages) == len(set(pages))
    for page in pages:
        assert any((source / f"{page}{end}").exists() for end in (".md", ".ipynb")), page


def test_pages_are_no_part_of_the_published_book(made):
    config = yaml.safe_load((made[0] / "source" / "_config.yml").read_text(encoding="utf-8"))
    assert "repository" not in config
    assert not set(teacher.PUBLIC) & set(config["sphinx"]["local_extensions"])
    assert config["title"] != yaml.safe_load((ROOT / "_config.yml").read_text())["title"]
    assert teacher.OUT.relative_to(ROOT).parts[0] == "_build"
    assert "_build/" in (ROOT / ".gitignore").read_text().splitlines()
    published = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    assert not [word for word in ("solutions", "master", "rubric", "wrong") if word in published]
