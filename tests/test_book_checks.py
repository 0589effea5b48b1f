"""Exercises and checks belong together: each is named, exists, and is used by the solution."""

import ast
import inspect
import itertools
import re

import notebooks
import pytest
import solutions
from notebooks import ROOT

from resnet_lib import checks

BOOK = ROOT / "book"
SNIPPET = re.compile(r"\n\n```python\nfrom resnet_lib import checks\n\n(.*?)\n```\Z", re.DOTALL)
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PUBLIC = {name for name in checks.__all__ if name.startswith("check_")}


def exercises():
    """{number: text} of all chapters."""
    found = {}
    for path in sorted(BOOK.glob("[0-9][0-9]_*.ipynb")):
        for cell in notebooks.read(path).cells:
            match = solutions.EXERCISE.match(cell.source)
            if cell.cell_type == "markdown" and match:
                found[match[1]] = cell.source
    return found


def solved():
    """{number: text} of all solutions."""
    paths = sorted((BOOK / "solutions").glob("*.md"))
    return {number: text for path in paths for number, text in solutions.read(path).items()}


EXERCISES, SOLVED = exercises(), solved()
WITH_CHECK = [number for number, text in EXERCISES.items() if "check_" in text]


def check_name(node):
    """The check's name, if the expression is a call of one."""
    named = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    if named and isinstance(node.func.value, ast.Name) and node.func.value.id == "checks":
        return node.func.attr
    return None


def names(argument):
    parts = argument.elts if isinstance(argument, ast.Tuple) else [argument]
    assert all(isinstance(part, ast.Name) for part in parts), "hands in more than names"
    return [part.id for part in parts]


def snippet(text):
    """The calls in the snippet at the end of an exercise, as {name of the check: its arguments}.

    An argument is a name, or a tuple of names; here it is the list of its names.

    AssertionError where it is not in the form that all exercises share.
    """
    match = SNIPPET.search(text)
    assert match, "does not end with a fenced snippet that imports checks and calls one"
    assert text.count("check_") == match[1].count("check_"), "names a check outside of the snippet"
    found = {}
    for statement in ast.parse(match[1]).body:
        name = check_name(statement.value) if isinstance(statement, ast.Expr) else None
        assert name, f"a line of the snippet calls no check: {ast.unparse(statement)}"
        assert not statement.value.keywords, "hands in by keyword"
        found[name] = [names(argument) for argument in statement.value.args]
    return found


def asserted(text):
    """The checks that the code of a solution calls and asserts, directly or by a name."""
    tree, found, verdicts = ast.parse("\n".join(FENCE.findall(text))), set(), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and check_name(node.value):
            verdicts[node.targets[0].id] = check_name(node.value)
        if isinstance(node, ast.Assert):
            found.add(check_name(node.test) or getattr(node.test, "id", None))
    return {verdicts.get(name, name) for name in found} - {None}


def called(text):
    tree = ast.parse("\n".join(FENCE.findall(text)))
    return {check_name(node) for node in ast.walk(tree)} - {None}


@pytest.mark.parametrize("number", WITH_CHECK)
def test_snippet_calls_what_exists_with_as_many_objects_as_it_takes(number):
    for name, arguments in snippet(EXERCISES[number]).items():
        assert name in PUBLIC, f"there is no {name}"
        judge = getattr(checks, name)
        inspect.signature(judge).bind(*arguments)  # TypeError with too many or too few
        assert re.match(rf"Exercise {re.escape(number)}\b", judge.__doc__), judge.__doc__


@pytest.mark.parametrize("number", WITH_CHECK)
def test_exercise_says_what_to_hand_in(number):
    text = SNIPPET.sub("", EXERCISES[number])
    for name in itertools.chain(*itertools.chain(*snippet(EXERCISES[number]).values())):
        assert re.search(rf"`[^`]*\b{name}\b[^`]*`", text), f"does not name `{name}`"


@pytest.mark.parametrize("number", WITH_CHECK)
def test_solution_calls_the_checks_of_its_exercise_and_asserts_them(number):
    wanted = set(snippet(EXERCISES[number]))
    assert called(SOLVED[number]) == wanted
    assert asserted(SOLVED[number]) >= wanted, "a verdict is not asserted"


def test_every_public_check_is_of_one_exercise():
    named = [name for number in WITH_CHECK for name in snippet(EXERCISES[number])]
    assert sorted(named) == sorted(PUBLIC)


def test_no_two_modules_have_a_check_of_the_same_name():
    names = [name for name in checks.__all__ if name.startswith("check_")]
    assert len(names) == len(PUBLIC)
    for name in names:
        homes = [part.__name__ for part in checks.PARTS if name in vars(part)]
        assert homes == [getattr(checks, name).__module__]


def test_solutions_without_a_check_name_none():
    for number in SOLVED.keys() - set(WITH_CHECK):
        assert not called(SOLVED[number]), number


GOOD = "Task.\n\n```python\nfrom resnet_lib import checks\n\nchecks.check_x(f)\n```"


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace("```python\n", "```\n"),
        GOOD + "\n\nMore.",
        GOOD.replace("checks.check_x(f)", "print(f)"),
        GOOD.replace("checks.check_x(f)", "check_x(f)"),
        GOOD.replace("(f)", "(f())"),
        GOOD.replace("(f)", "(f=f)"),
        GOOD.replace("Task.", "Call check_y."),
        GOOD.replace("from resnet_lib import checks\n\n", ""),
    ],
)
def test_malformed_snippet_is_noticed(text):
    assert snippet(GOOD) == {"check_x": [["f"]]}
    with pytest.raises(AssertionError):
        snippet(text)


def test_verdict_that_is_not_asserted_is_noticed():
    call = "checks.check_x(f)"
    for code, found in (
        (f"assert {call}, {call}", {"check_x"}),
        (f"verdict = {call}\nassert verdict, verdict", {"check_x"}),
        (call, set()),
        (f"verdict = {call}", set()),
        (f"assert True, {call}", set()),
    ):
        text = f"```python\n{code}\n```\n"
        assert called(text) == {"check_x"}
        assert asserted(text) & {"check_x"} == found
