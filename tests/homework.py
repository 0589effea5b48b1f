"""The assignments' masters, and the answers beside them that are wrong or differently right.

An answer's file starts with comments: ``# variant: 7`` (0 without it) and, where it is wrong,
``# fails:`` with the names of all items that it fails. It runs after the master's own answers and
replaces some of them.
"""

import contextlib
import functools
import itertools
import random
import re
import sys
import time
import types
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from notebooks import ROOT

from resnet_lib import assignments
from resnet_lib.assignments import a4, items
from resnet_lib.assignments.sending import pack
from resnet_lib.authoring import files, strip, variants
from resnet_lib.checks import verdict

COURSEWORK = ROOT / "coursework"
SIZES = {"TRAINING": 60, "HELD_OUT": 60, "FEW": 60}  # of assignment 4, where they don't matter


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
def solution_code(name, variant=0):
    """The solved code cells of that variant, but for set-up, checks and what is the teacher's."""
    found, folder = [], folders()[name]
    known = variants.values(assignments.find(name), variant, folder)
    for cell in files.read(folder / "master.ipynb")["cells"]:
        source, tags = cell["source"], cell["metadata"].get("tags", [])
        wanted = cell["cell_type"] == "code" and "setup" not in tags
        if wanted and not source.startswith(("checks.check_", strip.TEACHER_CODE)):
            source = strip.strip("code", source, name, known, solved=True).source
            source = variants.set_variant(source, variant)
            found.append(variants.set_asked(source, known, name))
    return found


def namespace(name, answer=None, variant=0):
    """What the master defines, for that variant or the answer's, then what the answer does."""
    module = types.ModuleType(f"handed_in_{name}")
    sys.modules[module.__name__] = module  # where a dataclass looks itself up
    variant = answer.variant if answer else variant
    for number, source in enumerate(solution_code(name, variant), 1):
        exec(compile(source, f"{name} master, code cell {number}", "exec"), vars(module))
    if answer is not None:
        code = answer.path.read_text(encoding="utf-8")
        module.__file__ = str(answer.path)
        exec(compile(code, str(answer.path), "exec"), vars(module))
    return vars(module)


def question(name, item, variant, seed):
    """The question of an item, and its inputs as they are sent."""
    return _question(name, item, variant, seed, tuple(getattr(a4, size) for size in SIZES))


@functools.cache
def _question(name, item, variant, seed, sizes):
    found = items.ask(whole(name).item(item), whole(name).parameters(variant), seed)
    return found, pack(found.inputs)


@contextlib.contextmanager
def fewer_images_and_a_clock_of_calls():
    """Assignment 4 with few images, and with a clock that moves on with each look at it.

    So a training takes a few steps, the same number on every machine. What an answer does wrong,
    it does in these, too; only the accuracy of a right one can't be judged by them.
    """
    clock = itertools.count()
    with pytest.MonkeyPatch.context() as patch:
        for size, images in SIZES.items():
            patch.setattr(a4, size, images)
        patch.setattr(a4, "step_seconds", lambda: 0.02)
        patch.setattr(time, "process_time", lambda: 0.4 * next(clock))
        yield


@contextlib.contextmanager
def seeded(seed):
    """As ``undisturbed``, without the mode for tensors' devices, which a third of the time goes to.

    Nor does it put the generators back: nothing draws from them here.
    """
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    with torch.enable_grad():
        yield


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
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(verdict, "undisturbed", seeded)
            outputs, failure = items.gather(item.collect, answer, inputs)
        judged = None if failure else items.judge(item, asked, outputs)
        assert not (judged and judged.trouble), judged
        found.add((judged.share, judged.text) if judged else (0.0, failure))
    return found
