"""The masters of the book: students' notebooks, solved ones, and what a variant changes."""

import ast
import re

import homework
import nbformat
import notebooks
import pytest

from resnet_lib import assignments, checks
from resnet_lib.authoring import author, files, questions, solved, variants

MASTERS = homework.masters()
SEEDS = (0, 1, 7)  # variants that students' files are made for


def by_name(path):
    return path.parent.name


def test_every_assignment_has_a_master():
    assert list(homework.folders()) == assignments.names()


def code_of(cells):
    return [cell["source"] for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", MASTERS, ids=by_name)
def test_students_notebook_is_in_order(path, tmp_path):
    for variant in SEEDS:
        made = questions(path, variant)
        files.write(made, tmp_path / "student.ipynb")
        notebook = nbformat.read(tmp_path / "student.ipynb", 4)
        nbformat.validate(notebook)
        assert notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source[:2] == "# "
        setup = [cell for cell in notebook.cells if notebooks.is_setup(cell)]
        assert [c.source for c in setup] == [notebooks.setup_source(notebooks.repository())]
        text = "\n".join(cell.source for cell in notebook.cells)
        assert "{{" not in text and "BEGIN" not in text and "teacher -->" not in text
        assert f"VARIANT = {variant}" in text
        for source in code_of(made):
            ast.parse(source)


@pytest.mark.parametrize("path", MASTERS, ids=by_name)
def test_every_visible_item_has_its_check_after_the_answer(path):
    assignment = author.assignment_of(path)
    code = "\n".join(code_of(questions(path)))
    called = re.findall(r"^checks\.(check_\w+)\((\w+), variant=VARIANT\)$", code, re.MULTILINE)
    asked = {(f"check_{assignment.name}_{i.name}", i.answer) for i in assignment.items}
    assert sorted(called) == sorted(asked)
    for name, answer in called:
        assert code.index(f"checks.{name}") > min(
            code.find(text) for text in (f"{answer} =", f"def {answer}(", f"class {answer}(")
            if text in code
        )  # fmt: skip
        assert getattr(checks, name).__name__ == name


@pytest.mark.parametrize("path", MASTERS, ids=by_name)
def test_untouched_students_notebook_runs_and_earns_nothing(path):
    # Every cell runs, so that a student can begin anywhere; each check says "Not yet".
    module, verdicts = {"__name__": "student"}, []
    for source in code_of(questions(path)):
        tree = ast.parse(source)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "cell", "exec"), module)
        if last is not None:
            verdicts.append(eval(compile(ast.Expression(last.value), "cell", "eval"), module))
    verdicts = [verdict for verdict in verdicts if isinstance(verdict, checks.Verdict)]
    assert len(verdicts) == len(author.assignment_of(path).items)
    assert not any(verdicts), verdicts


@pytest.mark.parametrize("path", MASTERS, ids=by_name)
def test_master_is_the_sheet_of_its_own_variant(path):
    # So that the master runs as it is: what ASKED says there is what its own variant asks.
    cells = [cell for cell in files.read(path)["cells"] if cell["cell_type"] == "code"]
    known = variants.values(author.assignment_of(path), 0, path.parent)
    asked = [cell["source"] for cell in cells if "ASKED = {" in cell["source"]]
    assert len(asked) == 1 and variants.own_variant(code_of(files.read(path)["cells"])) == 0
    assert variants.set_asked(asked[0], known, "here") == asked[0]
    assert variants.set_asked(asked[0], dict.fromkeys(known, 0), "here") != asked[0]


@pytest.mark.slow
@pytest.mark.parametrize("variant", [0, 2027])
@pytest.mark.parametrize("path", MASTERS, ids=by_name)
def test_solved_notebook_runs_and_every_check_says_right(path, variant):
    # With the teacher's cells, which assert the same once more.
    module, verdicts = {"__name__": "teacher"}, []
    for source in code_of(solved(path, variant)):
        if source.startswith("checks."):
            verdicts.append(eval(compile(source, "cell", "eval"), module))
        else:
            exec(compile(source, "cell", "exec"), module)
    assert module["VARIANT"] == variant
    assert len(verdicts) == len(author.assignment_of(path).items)
    assert all(verdicts), verdicts


@pytest.mark.parametrize("path", MASTERS, ids=by_name)
def test_master_carries_the_text_of_its_variant_blocks(path):
    # So that the master, which runs as it is, has what students of its own variant get.
    own = variants.own_variant(code_of(files.read(path)["cells"]))
    known = variants.values(author.assignment_of(path), own, path.parent)
    for source in code_of(files.read(path)["cells"]):
        for name, text in re.findall(
            r"### BEGIN VARIANT (\w+)\n(.*?)\n### END VARIANT", source, re.DOTALL
        ):
            assert text.strip("\n") == known[name].strip("\n"), name


@pytest.mark.parametrize("path", MASTERS, ids=by_name)
def test_sheet_says_how_it_is_handed_in_and_graded(path):
    name = path.parent.name.partition("_")[0]
    cells = [cell["source"] for cell in questions(path) if cell["cell_type"] == "markdown"]
    first, last = (" ".join(cell.split()) for cell in (cells[0], cells[-1]))
    assert "A mistake counts in every item that it touches." in first
    assert "It is graded without a GPU" in first and '`"cuda"`' in first
    assert f"Save it as `{name}_FAMILYNAME_GIVENNAME.ipynb`" in last
    penalty = "A report above 300 words loses a point for each further 100."
    rubric = path.parent / "rubric.md"
    promised = rubric.exists() and penalty in rubric.read_text(encoding="utf-8")
    assert (penalty in " ".join("\n".join(cells).split())) == promised == rubric.exists()
