"""The assignments' masters, and the answers beside them that are wrong or differently right.

An answer's file starts with comments: ``# variant: 7`` (0 without it) and, where it is wrong,
``# fails:`` with the names of all items that it fails. It runs after the master's own answers and
replaces some of them.
"""

import functools
import re
import sys
import types
from dataclasses import dataclass
from pathlib import Path

from notebooks import ROOT

from resnet_lib import assignments
from resnet_lib.assignments import items
from resnet_lib.assignments.sending import pack
from resnet_lib.authoring import files, strip

COURSEWORK = ROOT / "coursework"


def folders():
    """{a2: its folder} of all assignments that have a master."""
    found = {path.parent.name.partition("_")[0]: path.parent for path in masters()}
    return {name: found[name] for name in sorted(found)}


def masters():
    return sorted(COURSEWORK.glob("*/master.ipynb"))


@dataclass
class Answer:
    """A file with answers: right ones, or wrong ones that fail exactly these items."""

    path: Path
    variant: int
    fails: set

    def __str__(self):
        return self.path.stem


def answers(name, kind):
    """All files of an assignment: kind is "right" or "wrong"."""
    found = []
    for path in sorted((folders()[name] / kind).glob("*.py")):
        text = path.read_text(encoding="utf-8")
        variant = re.search(r"^# variant: (\d+)$", text, re.MULTILINE)
        fails = re.search(r"^# fails: ([\w ]+)$", text, re.MULTILINE)
        assert bool(fails) == (kind == "wrong"), path
        names = set(fails[1].split()) if fails else set()
        found.append(Answer(path, int(variant[1]) if variant else 0, names))
    assert found
    return found


@functools.cache
def whole(name):
    """The assignment with its hidden items."""
    return assignments.find(name).with_hidden(folders()[name])


@functools.cache
def solution_code(name):
    """The solved code cells, but for set-up, checks and what is the teacher's."""
    found = []
    for cell in files.read(folders()[name] / "master.ipynb")["cells"]:
        source, tags = cell["source"], cell["metadata"].get("tags", [])
        wanted = cell["cell_type"] == "code" and "setup" not in tags
        if wanted and not source.startswith(("checks.check_", strip.TEACHER_CODE)):
            found.append(strip.strip("code", source, name).source)
    return found


def namespace(name, answer=None):
    """What the master defines, then what the answer's file does."""
    module = types.ModuleType(f"handed_in_{name}")
    sys.modules[module.__name__] = module  # where a dataclass looks itself up
    for number, source in enumerate(solution_code(name), 1):
        exec(compile(source, f"{name} master, code cell {number}", "exec"), vars(module))
    if answer is not None:
        code = answer.path.read_text(encoding="utf-8")
        module.__file__ = str(answer.path)
        exec(compile(code, str(answer.path), "exec"), vars(module))
    return vars(module)


@functools.cache
def question(name, item, variant, seed):
    """The question of an item, and its inputs as they are sent."""
    found = items.ask(whole(name).item(item), whole(name).parameters(variant), seed)
    return found, pack(found.inputs)


def shares(name, item, answer, variant, seeds):
    """{(share of the points, why)} over these seeds, as the grader finds them.

    Where several seeds give the same question, it is judged once.
    """
    item, seen, found = whole(name).item(item), set(), set()
    for seed in seeds:
        asked, inputs = question(name, item.name, variant, seed)
        if inputs in seen:
            continue
        seen.add(inputs)
        outputs, failure = items.gather(item.collect, answer, inputs)
        judged = None if failure else items.judge(item, asked, outputs)
        assert not (judged and judged.trouble), judged
        found.add((judged.share, judged.text) if judged else (0.0, failure))
    return found
