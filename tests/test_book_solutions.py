"""Every solution runs on its own, in a fresh namespace, and asserts its answer."""

import ast
import re

import matplotlib
import matplotlib.pyplot as plt
import pytest
import solutions
from notebooks import ROOT

FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SOLUTIONS = {
    f"{path.stem} {number}": text
    for path in sorted((ROOT / "book" / "solutions").glob("*.md"))
    for number, text in solutions.read(path).items()
}


def code(text):
    """The Python of a solution's fences, as one program."""
    return "\n".join(FENCE.findall(text))


def execute(source):
    """Run a program whose plots need no screen."""
    matplotlib.use("Agg")
    try:
        exec(compile(source, "solution", "exec"), {"__name__": "__main__"})
    finally:
        plt.close("all")


@pytest.mark.parametrize("name", SOLUTIONS)
def test_solution_proves_its_answer(name, tmp_path, monkeypatch):
    source = code(SOLUTIONS[name])
    assert any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(source))), "no assert"
    monkeypatch.chdir(tmp_path)
    execute(source)
    assert not list(tmp_path.iterdir()), "leaves files in the working folder"


@pytest.mark.parametrize("name", SOLUTIONS)
def test_solution_can_be_folded_into_the_page(name):
    text = re.sub(r"^```.*?^```$", "", SOLUTIONS[name], flags=re.MULTILINE | re.DOTALL)
    assert len(text.split()) >= 5, "a solution explains, it is not only code"
    assert "```" not in text, "a code fence is not closed"
    assert not re.search(r"^#{1,6} ", text, re.MULTILINE), "a heading would break the page's order"


def test_a_wrong_answer_is_noticed():
    text = "Two and two.\n\n```python\nx = 2\n```\n\nso\n\n```python\nassert x + 2 == 5\n```\n"
    with pytest.raises(AssertionError):
        execute(code(text))


def test_solutions_share_nothing():
    execute("left_over = 1")
    with pytest.raises(NameError):
        execute("left_over")
