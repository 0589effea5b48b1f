"""From a master to the students' notebook and to the solved one: marks, variants, the command."""

import homework
import nbformat
import notebooks
import pytest

from resnet_lib import UserError, assignments, cli
from resnet_lib.authoring import files, questions, solved, strip

MASTERS = homework.masters()


def stripped(source, texts=None):
    return strip.strip("code", source, "m.ipynb, cell 3", texts or {})


# Marks

SOLVED = """def f(x):
    ### BEGIN SOLUTION
    y = x + 1
    return y
    ### END SOLUTION"""


def test_a_solution_becomes_an_error():
    found = stripped(SOLVED)
    assert found.source == 'def f(x):\n    raise NotImplementedError("Write your answer here.")'
    assert found.solution == ["    y = x + 1", "    return y"]


def test_students_lines_stand_in_for_a_solution():
    source = SOLVED + "\n    ### BEGIN STUDENT\n    # y = ...\n    #\n    # if y:\n    #     pass\n"
    found = stripped(source + "    ### END STUDENT\nf(1)")
    assert found.source == "def f(x):\n    y = ...\n\n    if y:\n        pass\nf(1)"


def test_an_empty_students_block_leaves_nothing():
    assert stripped(SOLVED + "\n### BEGIN STUDENT\n### END STUDENT").source == "def f(x):"


def test_a_variant_block_takes_its_text():
    source = "a = 0\n  ### BEGIN VARIANT broken\n  old\n  ### END VARIANT\nb = 1"
    found = stripped(source, {"broken": "if 1:\n    new\n"})
    assert found.source == "a = 0\n  if 1:\n      new\nb = 1"
    assert strip.strip("code", source, "here").source == "a = 0\n  old\nb = 1"


def test_the_solved_cell_has_neither_marks_nor_students_lines():
    source = SOLVED + "\n    ### BEGIN STUDENT\n    # pass\n    ### END STUDENT"
    assert strip.strip("code", source, "here").source == ("def f(x):\n    y = x + 1\n    return y")


NEAR_MARKS = [
    "#BEGIN SOLUTION", "# BEGIN SOLUTION", "## BEGIN SOLUTION", "#### BEGIN SOLUTION",
    "### Begin solution", "### begin solution", "# begin  solutions", "###BEGIN SOLUTION",
    "### BEGIN  SOLUTION", "### BEGIN SOLUTION.", "### BEGIN SOLUTION here", "### BEGIN_SOLUTION",
    "### BEGIN-SOLUTION", "### BEGINSOLUTION", "### BEGIN SOLUTON", "### BEGN SOLUTION",
    "### BEGIN SOLUTIONS", "### END SOLUTION ###", "#END SOLUTION", "# end of the solution",
    "# SOLUTION", "# Solution:", "# SOLUTION BEGIN", "### SOLUTION END",
    "x = 1  ### BEGIN SOLUTION", "x = 1  # END SOLUTION", "### BEGIN HIDDEN TESTS",
    "### BEGIN STUDENT CODE", "# begin student", "### BEGIN VARIANT", "### BEGIN VARIANT Broken",
    "### END VARIANT broken", "# BEGIN ANSWER", "# TEACHER", "#### TEACHER", "start_solution()",
    "print('BEGIN SOLUTION')",
    "### BEGIN\tSOLUTION",
    "### ВEGIN SOLUTION",  # the first letter is Cyrillic
]  # fmt: skip


@pytest.mark.parametrize("line", NEAR_MARKS)
def test_what_resembles_a_mark_is_refused_with_its_place(line):
    with pytest.raises(UserError, match=r"^m\.ipynb, cell 3, line 2: ") as error:
        stripped(f"a = 1\n{line}\nb = 2")
    assert "resembles a mark" in str(error.value)


@pytest.mark.parametrize(
    "line",
    [
        "solutions = [1, 2]",
        "x = solve(a)  # the solution of the equation",
        "# Ends where the student began.",
        "for student in students:",
        "# the end",
        "variant = 3",
    ],
)
def test_ordinary_lines_pass(line):
    assert stripped(f"a = 1\n{line}").source == f"a = 1\n{line}"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("### BEGIN SOLUTION\na", "line 1: the SOLUTION that begins here has no end"),
        ("a\n### END SOLUTION", "line 2: '### END SOLUTION' has no BEGIN"),
        (SOLVED + "\n    ### END SOLUTION", "line 6: '### END SOLUTION' has no BEGIN"),
        (
            "### BEGIN SOLUTION\n### BEGIN SOLUTION\n### END SOLUTION\n### END SOLUTION",
            "line 2: '### BEGIN SOLUTION' inside of the SOLUTION that began in line 1",
        ),
        (
            "### BEGIN SOLUTION\n### BEGIN STUDENT\n### END STUDENT\n### END SOLUTION",
            "inside of the SOLUTION",
        ),
        ("### BEGIN SOLUTION\n### END STUDENT", "ends the SOLUTION that began in line 1"),
        ("### BEGIN STUDENT\n# a\n### END STUDENT", "has to follow a SOLUTION directly"),
        (SOLVED + "\nb\n### BEGIN STUDENT\n### END STUDENT", "follow a SOLUTION directly"),
        (SOLVED + "\n### BEGIN STUDENT\nb = 1\n### END STUDENT", "have to be comments: 'b = 1'"),
        ('s = """\n### BEGIN SOLUTION\n### END SOLUTION\n"""', "line 2: the mark"),
        ("### BEGIN VARIANT other\n### END VARIANT", "no text for the variant block 'other'"),
        ("if 1:\n\t### BEGIN SOLUTION\n\tx\n\t### END SOLUTION", "with spaces, not with tabs"),
    ],
)
def test_faulty_marks_are_refused(source, words):
    with pytest.raises(UserError) as error:
        stripped(source, {})
    assert words in str(error.value) and str(error.value).startswith("m.ipynb, cell 3, line ")


@pytest.mark.parametrize(
    "line",
    ["<!--teacher-->", "<!-- Teacher -->", "<!-- teachers -->", "<!-- teacher", "### BEGIN "
    "SOLUTION",
     "`# begin solution`", "teacher -->", "Here ends the solution: end solution"],
)  # fmt: skip
def test_text_that_resembles_a_mark_is_refused(line):
    with pytest.raises(UserError, match=r"^m\.ipynb, cell 3, line 2: .* resembles a mark"):
        strip.strip("markdown", f"Words.\n{line}", "m.ipynb, cell 3")


def test_the_teachers_mark_is_one_only_in_the_first_line():
    assert strip.is_teachers("markdown", "<!-- teacher -->\nwords")
    assert not strip.is_teachers("markdown", " <!-- teacher -->")
    assert strip.is_teachers("code", "### TEACHER\nx")
    with pytest.raises(UserError, match="line 2"):
        strip.strip("markdown", "words\n<!-- teacher -->", "cell 1")
    with pytest.raises(UserError, match="line 2"):
        stripped("x\n### TEACHER")


# Whole notebooks

CONFIGURED = "VARIANT = 0\nx = 1"


def master(folder, *cells, name="a2_own"):
    """A master's file; a cell is code, or ("markdown", text)."""
    made = []
    for cell in cells:
        kind, source = cell if isinstance(cell, tuple) else ("code", cell)
        make = nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell
        made.append(make(source))
    path = folder / name / "master.ipynb"
    path.parent.mkdir(exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=made), path)
    return path


def test_nothing_of_a_solution_is_written(tmp_path):
    path = master(tmp_path, CONFIGURED, SOLVED, ("markdown", "<!-- teacher -->\nwords"))
    notebook = nbformat.read(path, 4)
    secret = "a value that only the solution prints"
    output = nbformat.v4.new_output("stream", text=secret)
    notebook.cells[1].outputs, notebook.cells[1].execution_count = [output], 4
    notebook.cells[1].metadata = {"note": secret, "tags": ["setup", "raises-exception"]}
    notebook.metadata["note"] = secret
    nbformat.write(notebook, path)
    made = questions(path)
    files.write(made, tmp_path / "student.ipynb")
    assert secret not in (tmp_path / "student.ipynb").read_text(encoding="utf-8")
    assert [cell["metadata"] for cell in made] == [{}, {"tags": ["setup"]}]
    assert all(c["outputs"] == [] and c["execution_count"] is None for c in made)
    nbformat.validate(nbformat.read(tmp_path / "student.ipynb", 4))


@pytest.mark.parametrize(
    "leak",
    [
        "value = previous_value  +  another_value",
        "#   value = previous_value + another_value",
        ("markdown", "Note: value = previous_value + another_value"),
        ("markdown", "value = previous_value +\nanother_value"),
    ],
)
def test_a_line_that_is_left_over_is_found(tmp_path, leak):
    solution = "### BEGIN SOLUTION\nvalue = previous_value + another_value\n### END SOLUTION"
    assert questions(master(tmp_path, CONFIGURED, solution, "other = 2"))
    with pytest.raises(UserError, match="solution in the master's cell 2 also stands in"):
        questions(master(tmp_path, CONFIGURED, solution, leak))


def test_a_teachers_code_is_secret_too(tmp_path):
    secret = "expected = [1, 2, 3, 4, 5]"
    with pytest.raises(UserError, match="also stands in"):
        questions(master(tmp_path, CONFIGURED, f"### TEACHER\n{secret}", secret))


def test_variant_and_placeholders(tmp_path):
    path = master(
        tmp_path, CONFIGURED, ("markdown", "{{expansion}} times, {{points_stride}} points")
    )
    first, other = questions(path), questions(path, variant=6)
    assert first[1]["source"] == "2 times, 2 points"
    assert other[0]["source"] == "VARIANT = 6\nx = 1" and other[1]["source"].startswith("6 times")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a\n{{nothing}}", "cell 2, line 2: {{nothing}} is not known; there are adjusted, "[:40]),
        ("{{ expansion }}", "double braces that are no placeholder"),
        ("{expansion}}", "double braces"),
        ("{{expansion}", "double braces"),
    ],
)
def test_faulty_placeholders_are_refused(tmp_path, text, words):
    with pytest.raises(UserError) as error:
        questions(master(tmp_path, CONFIGURED, ("markdown", text)))
    assert words in str(error.value)


@pytest.mark.parametrize(
    "source",
    ["x = 1", "VARIANT=0", "VARIANT: int = 0", "VARIANT = 0  # years", "VARIANT = seed",
     " VARIANT = 0", "VARIANT = 0\nVARIANT = 1"],
)  # fmt: skip
def test_the_variant_stands_in_one_plain_line(tmp_path, source):
    with pytest.raises(UserError, match="VARIANT = number"):
        questions(master(tmp_path, source))


def test_own_placeholders_stand_beside_the_master(tmp_path):
    path = master(tmp_path, CONFIGURED, ("markdown", "{{year}}"))
    (path.parent / "variants.py").write_text("def placeholders(v): return {'year': 2000 + v}")
    assert questions(path, variant=26)[1]["source"] == "2026"


def test_the_folder_says_which_assignment(tmp_path):
    path = master(tmp_path, CONFIGURED, ("markdown", "{{points}}"), name="mine")
    with pytest.raises(UserError, match="--assignment"):
        questions(path)
    assert questions(path, assignment="a2")[1]["source"] == "11"  # without the hidden point


@pytest.mark.parametrize("content", ["", "{", "[]", '{"nbformat": 3}'])
def test_a_file_that_is_no_notebook_is_refused(tmp_path, content):
    path = tmp_path / "a2_own" / "master.ipynb"
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(UserError, match="not a notebook"):
        questions(path)


# The command


def run(capsys, *arguments):
    code = cli.main(["author", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_command_writes_both_files(tmp_path, capsys):
    path, student, teacher = MASTERS[1], tmp_path / "s.ipynb", tmp_path / "t.ipynb"
    code, out, _ = run(capsys, path, student, "--variant", 7, "--solution", teacher)
    lines = [line for line in out.splitlines() if not line.startswith("warning")]
    assert code == 0 and len(lines) == 2
    assert "VARIANT = 7" in student.read_text() and "VARIANT = 7" in teacher.read_text()
    assert "BEGIN SOLUTION" not in student.read_text() + teacher.read_text()
    once = student.read_bytes()
    run(capsys, path, student, "--variant", 7)
    assert student.read_bytes() == once


@pytest.mark.parametrize("address", ["", "https://example.org/book"])
def test_command_warns_of_a_sheet_that_cannot_install_the_package(tmp_path, capsys, address):
    path = master(tmp_path, notebooks.setup_source(address), CONFIGURED, SOLVED)
    notebook = nbformat.read(path, 4)
    notebook.cells[0].metadata = notebooks.SETUP_METADATA
    nbformat.write(notebook, path)
    code, out, _ = run(capsys, path, tmp_path / "s.ipynb", "--solution", tmp_path / "t.ipynb")
    warnings = [line for line in out.splitlines() if line.startswith("warning: ")]
    assert code == 0 and len(warnings) == (not address)
    assert address or "pip wheel --no-deps . -w dist" in warnings[0]
    _, out, _ = run(capsys, path, "--solution", tmp_path / "t.ipynb")
    assert "warning" not in out  # a teacher has the package


def test_command_explains_mistakes_in_one_line(tmp_path, capsys):
    path = master(tmp_path, CONFIGURED, "#BEGIN SOLUTION")
    student = tmp_path / "student.ipynb"
    cases = [
        ((path, student), "cell 2, line 1"),
        ((path,), "say where to write"),
        ((path, path), "is the master itself"),
        ((tmp_path / "a2_x" / "none.ipynb", student), "is not there"),
        ((MASTERS[0], student, "--variant", -1), "0 or more"),
        ((MASTERS[0], student, "--assignment", "a99"), "must be one of"),
    ]
    for arguments, words in cases:
        code, out, err = run(capsys, *arguments)
        assert code == 2 and out == "" and len(err.splitlines()) == 1, arguments
        assert words in err
    assert not student.exists()


# Solved sheets


def test_solved_sheet_is_of_the_variant(tmp_path):
    text = "{{expansion}} times"
    code = 'VARIANT = 0\n### BEGIN SOLUTION\nASKED = {\n    "expansion": 2,\n}\n### END SOLUTION'
    path = master(tmp_path, code, ("markdown", text), ("markdown", "<!-- teacher -->\n" + text))
    wanted = assignments.find("a2").parameters(6)["expansion"]
    code, text, remark = (cell["source"] for cell in solved(path, 6))
    assert code == f'VARIANT = 6\nASKED = {{\n    "expansion": {wanted},\n}}' and wanted != 2
    assert text == remark == f"{wanted} times"
    assert solved(path)[0]["source"].endswith('    "expansion": 2,\n}')
    assert "ASKED" not in questions(path, 6)[0]["source"]


def test_variant_blocks_of_the_solved_sheet_are_of_the_variant():
    source = "### BEGIN VARIANT broken\nold = 0\n### END VARIANT\n" + SOLVED
    source += "\n    ### BEGIN STUDENT\n    # pass\n    ### END STUDENT"
    found = strip.strip("code", source, "here", {"broken": "new = 1"}, solved=True)
    assert found.source == "new = 1\ndef f(x):\n    y = x + 1\n    return y"


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ('ASKED = {\n    "nothing": 2,\n}', "can't have 'nothing'; there are expansion"),
        ('ASKED = {"expansion": 2}', "a line for each name"),
        ('ASKED: dict = {\n    "expansion": 2,\n}', "a line for each name"),
        ("ASKED = {\n    expansion: 2,\n}", "can't have ''"),
    ],
)
def test_faulty_asked_is_refused(tmp_path, written, words):
    path = master(tmp_path, CONFIGURED, f"### BEGIN SOLUTION\n{written}\n### END SOLUTION")
    with pytest.raises(UserError, match=r"^master\.ipynb, cell 2: ") as error:
        solved(path)
    assert words in str(error.value)
