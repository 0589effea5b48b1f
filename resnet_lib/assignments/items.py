"""What an assignment is made of: items, each with a question, a collection and a judgement.

The student's process only *collects*: it calls the student's object on the question's inputs. The
judge's process never runs the student's code: it compares what was collected with a reference.
"""

import hashlib
import os
import runpy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from resnet_lib import UserError
from resnet_lib.assignments.sending import Sendable, pack, unpack
from resnet_lib.checks.verdict import Draw, Mismatch, Verdict, check, short

HIDDEN_COLLECT = "hidden_collect.py"
HIDDEN_JUDGE = "hidden_judge.py"
GRADING = "RESNET_LIB_GRADING"  # set in the environment of a notebook that is being graded

# Modules that hold what the assignments ask for. A submission that imports one may be a student's
# own comparison, or a wrapper around somebody else's answer: a teacher decides.
FOREIGN = (
    "torchvision.models",
    "torchvision.ops",
    "timm",
    "resnet_lib.blocks",
    "resnet_lib.models",
    "resnet_lib.cifar",
    "resnet_lib.pyramid",
)

__all__ = [
    "Assignment",
    "Draw",
    "Item",
    "Judgement",
    "Mismatch",
    "Question",
    "Sendable",
    "Verdict",
    "as_check",
    "ask",
    "gather",
    "hidden_items",
    "judge",
    "self_check",
]


@dataclass(frozen=True)
class Question:
    """``inputs`` go to the student's process; ``key`` stays with the judge."""

    inputs: dict[str, Sendable]
    key: dict[str, Sendable] = field(default_factory=dict)


@dataclass(frozen=True)
class Item:
    """Something with points.

    ``ask(draw, parameters)`` makes the question, with all its random numbers from the draw.
    ``collect(answer, inputs)`` calls the student's object, the one called ``answer`` in the
    notebook; a hidden item gives the name of a function in hidden_collect.py instead.
    ``judge(question, outputs)`` returns what was found right, or (share of the points, text), or
    raises Mismatch with the reason.
    """

    name: str
    title: str
    points: float
    answer: str
    ask: Callable[[Draw, dict], Question]
    collect: Callable[[Any, dict], dict[str, Sendable]] | str
    judge: Callable[[Question, dict], str | tuple[float, str]]
    hidden: bool = False


@dataclass(frozen=True)
class Assignment:
    """``parameters(variant)`` is a pure function: what this year's sheet asks.

    A notebook gets ``seconds`` in all, each of its cells and each item ``cell_seconds``, and
    ``gigabytes`` of memory. One that imports a module of ``foreign`` is flagged for the teacher.
    """

    name: str
    title: str
    parameters: Callable[[int], dict]
    items: tuple[Item, ...]
    seconds: float = 120
    cell_seconds: float = 20
    gigabytes: float = 4
    foreign: tuple[str, ...] = FOREIGN

    def __post_init__(self):
        names = [item.name for item in self.items]
        repeated = {name for name in names if names.count(name) > 1}
        if repeated:
            raise ValueError(f"{self.name}: two items are called {', '.join(sorted(repeated))}")

    def item(self, name: str) -> Item:
        """The item of that name."""
        for item in self.items:
            if item.name == name:
                return item
        known = ", ".join(item.name for item in self.items)
        raise UserError(f"{self.name} has no item {name!r}; it has {known}")

    def with_hidden(self, folder: Path | str) -> "Assignment":
        """Also the hidden items of a coursework folder, which come last."""
        return replace(self, items=self.items + hidden_items(folder))

    @property
    def points(self) -> float:
        return sum(item.points for item in self.items)


def hidden_items(folder: Path | str) -> tuple[Item, ...]:
    """ITEMS of hidden_judge.py, marked as hidden, each with its function of hidden_collect.py."""
    folder = Path(folder)
    collect, judges = folder / HIDDEN_COLLECT, folder / HIDDEN_JUDGE
    if not judges.exists() and not collect.exists():
        return ()
    for path in (judges, collect):
        if not path.exists():
            raise UserError(f"{path} is missing: hidden items need it")
    functions, found = runpy.run_path(str(collect)), runpy.run_path(str(judges))
    items = []
    for item in found.get("ITEMS", ()):
        if getattr(functions.get(item.collect), "__name__", "") != item.collect:
            raise UserError(f"{collect} has no function {item.collect}, which {item.name} needs")
        items.append(replace(item, hidden=True, collect=functions[item.collect]))
    return tuple(items)


def item_seed(seed: int, name: str) -> int:
    """Another seed for each item, from which the run's seed can't be found."""
    # 40 bits: Draw multiplies it by a million within 64.
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:5], "big")


def ask(item: Item, parameters: dict, seed: int) -> Question:
    """The item's question, as this seed draws it."""
    return item.ask(Draw(item_seed(seed, item.name)), parameters)


def gather(collect: Callable, answer: Any, inputs: bytes) -> tuple[bytes, str]:
    """The packed outputs of an item's ``collect``, and why there are none: one of them is empty.

    Runs in the student's process.
    """
    packed = []

    @check
    def collected(answer: Any) -> str:
        packed.append(pack(collect(answer, unpack(inputs))))
        return ""

    # The seed is not the run's, which the student's code must not learn.
    verdict = collected(answer, seed=0)
    return (packed[0], "") if verdict else (b"", verdict.message)


@dataclass(frozen=True)
class Judgement:
    """The share of the item's points, from 0 to 1, with the reason.

    ``trouble`` is for the teacher: why the judge stumbled over what it was given.
    """

    share: float
    text: str
    trouble: str = ""


def judge(item: Item, question: Question, outputs: bytes) -> Judgement:
    """What the outputs deserve. Never fails, whatever the outputs are."""
    try:
        found = item.judge(question, unpack(outputs))
        share, text = (1.0, found) if isinstance(found, str) else found
        return Judgement(min(max(float(share), 0.0), 1.0), text)
    except Mismatch as difference:
        return Judgement(0.0, str(difference))
    except Exception as error:
        trouble = f"{type(error).__name__}: {short(error)}"
        return Judgement(0.0, "what your code returned can't be judged", trouble)


def self_check(
    assignment: Assignment, name: str, answer: Any, variant: int = 0, seed: int = 0
) -> Verdict:
    """The item as the grader judges it, in the learner's own kernel."""
    item = assignment.item(name)
    question = ask(item, assignment.parameters(variant), seed)
    outputs, failure = gather(item.collect, answer, pack(question.inputs))
    if failure:
        return Verdict(False, failure)
    found = judge(item, question, outputs)
    if found.trouble:
        return Verdict(False, f"{found.text} ({found.trouble})")
    text = found.text if found.share in (0, 1) else f"{found.share:.0%} of the points: {found.text}"
    return Verdict(found.share == 1, text)


def as_check(assignment: Assignment, name: str) -> Callable[..., Verdict]:
    """``check_a2_stride(answer, variant=0, *, seed=0)`` for the item "stride" of a2."""
    item = assignment.item(name)

    def checked(answer: Any, variant: int = 0, *, seed: int = 0) -> Verdict:
        if os.environ.get(GRADING):  # the grader judges; its time is the student's
            return Verdict(True, "left to the grader")
        return self_check(assignment, name, answer, variant, seed)

    checked.__name__ = checked.__qualname__ = f"check_{assignment.name}_{name}"
    checked.__doc__ = f"Assignment {assignment.name}, {item.title}: hand in {item.answer}."
    return checked
