"""Assignment 3's broken networks: every bug runs, is found by an item, and named by the list."""

import itertools
import runpy

import homework
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from resnet_lib.authoring import questions

FOLDER = homework.folders()["a3"]
PLAN = runpy.run_path(str(FOLDER / "variants.py"))
BUGS = PLAN["BUGS"]
FOUND_BY = {  # the cheapest item that sees the bug when it is the only one left
    "bias": "layers",
    "expansion": "layers",
    "shared norm": "layers",
    "projection norm": "layers",
    "number of blocks": "layers",
    "stride everywhere": "sizes",
    "pool padding": "sizes",
    "first stage": "sizes",
    "batch statistics": "scores",
    "inner relu": "scores",
    "relu before addition": "scores",
    "stem relu": "scores",
    "global pooling": "scores",
    "softmax": "scores",
}


def network(bugs):
    defined = {"nn": nn, "F": F}
    exec(PLAN["source"](bugs), defined)
    return defined["Mended"]


def test_there_are_many_bugs_and_each_has_an_item():
    assert len(BUGS) >= 10 and set(FOUND_BY) == set(BUGS)
    assert all(name in PLAN["SOURCE"] for name in BUGS)


@pytest.mark.parametrize("bug", BUGS)
def test_a_single_bug_that_is_left_is_found_each_time(bug):
    broken = network([bug])
    found = homework.shares("a3", f"mended_{FOUND_BY[bug]}", broken, 0, range(100))
    assert all(share < 1 for share, _ in found)


def test_the_source_without_bugs_is_right():
    for item in ("layers", "sizes", "scores", "training"):
        found = homework.shares("a3", f"mended_{item}", network([]), 0, range(3))
        assert [share for share, _ in found] == [1.0], found


@pytest.mark.parametrize("pair", list(itertools.combinations(BUGS, 2)), ids=" and ".join)
def test_bugs_never_show_as_an_error(pair):
    # Otherwise the traceback would find them: any two together run, forward and backward.
    net = network(pair)((2, 1, 1, 2), 3, 4)
    net(torch.ones(2, 3, 64, 64)).sum().backward()


def test_variants_plant_five_bugs_that_differ():
    plans = [tuple(PLAN["planted"](variant)) for variant in range(40)]
    assert all(len(set(plan)) == 5 and set(plan) <= set(BUGS) for plan in plans)
    assert len(set(plans)) > 35
    assert {bug for plan in plans for bug in plan} == set(BUGS)


def test_each_bug_changes_one_line():
    right = PLAN["source"]([]).splitlines()
    for bug, (line, words) in BUGS.items():
        broken = PLAN["source"]([bug]).splitlines()
        changed = [one for one in broken if one not in right]
        assert [one.strip() for one in changed] == ([line] if line else []), bug
        assert len(right) - len(broken) == (0 if line else 1), bug
        assert words.endswith(".")


@pytest.mark.parametrize("variant", [0, 3, 12])
def test_sheet_has_the_broken_code_and_the_catalogue_but_not_the_answers(variant):
    cells = questions(FOLDER / "master.ipynb", variant)
    code = [cell["source"] for cell in cells if cell["cell_type"] == "code"]
    assert sum(PLAN["source"](PLAN["planted"](variant)) in source for source in code) == 1
    text = "\n".join(cell["source"] for cell in cells)
    assert all(f"- `{bug}`: " in text for bug in BUGS)
    assert "should be" not in text.split("catalogue")[-1]


def test_list_is_worth_its_right_names():
    variant = 3
    right = PLAN["planted"](variant)
    wrong = [bug for bug in BUGS if bug not in right]
    for count in range(6):
        answer = right[:count] + wrong[: 5 - count]
        (found,) = homework.shares("a3", "bugs", answer, variant, range(3))
        assert found[0] == count / 5, found
    for answer in (right[:4], right + wrong[:1], right[:4] + right[:1], "bias", [1] * 5, None):
        assert [s for s, _ in homework.shares("a3", "bugs", answer, variant, range(1))] == [0.0]
        assert [s for s, _ in homework.shares("a3", "list", answer, variant, range(1))] == [0.0]


def test_another_salt_plants_other_bugs():
    text = (FOLDER / "variants.py").read_text(encoding="utf-8")
    defined = {}
    exec(text.replace('SALT = "public"', 'SALT = "ours"'), defined)
    assert [defined["planted"](v) for v in range(5)] != [PLAN["planted"](v) for v in range(5)]
