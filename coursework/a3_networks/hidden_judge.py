"""Hidden items of assignment 3: which of the named bugs are in the network."""

import runpy
from pathlib import Path

from resnet_lib.assignments.a3 import BUGS, listed_bugs
from resnet_lib.assignments.items import Item, Question

VARIANTS = runpy.run_path(str(Path(__file__).with_name("variants.py")))


def ask_bugs(draw, task):
    """The names stay with the judge."""
    return Question({}, {"planted": VARIANTS["planted"](task["variant"])})


def judge_bugs(question, outputs):
    """A fifth of the points for each bug that is there."""
    found = listed_bugs(outputs)
    right = set(found) & set(question.key["planted"])
    return len(right) / BUGS, f"{len(right)} of {BUGS} bugs are named"


ITEMS = (Item("bugs", "Bugs named", 5, "BUGS", ask_bugs, "collect_list", judge_bugs),)
