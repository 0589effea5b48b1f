"""One submission, executed: the outputs of its objects, or why there are none.

A cell that takes too long, or that takes the process down, is left out, and the notebook runs again
without it. So nothing has to be interrupted from within.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resnet_lib.assignments.items import Item
from resnet_lib.grading.sandbox import Limits, Sandbox, Stopped

MOST_STARTS = 12
LONGEST_TEXT = 600  # characters of what a student's process says
CAUSES = {
    "time": "took longer than its {seconds:g} seconds",
    "memory": "took more than the {gigabytes:g} GB of memory that there are",
    "processes": "started too many processes or threads",
    "channel": "disturbed the messages to the grader",
    "died": "ended the process",
}
NO_TIME = "the notebook's {seconds:g} seconds were over before this could be run"


@dataclass
class Answer:
    """Of an item: packed outputs, or the reason why there are none; the modules it comes from."""

    outputs: bytes = b""
    failure: str = ""
    origins: list[str] = field(default_factory=list)


@dataclass
class Collected:
    """What a submission gave."""

    answers: dict[str, Answer] = field(default_factory=dict)  # by item
    errors: dict[int, str] = field(default_factory=dict)  # by cell, in words
    left_out: dict[int, str] = field(default_factory=dict)  # by cell: the cause
    causes: list[str] = field(default_factory=list)  # of all that was stopped, and "total"
    calls: dict[str, str] = field(default_factory=dict)  # by item: the cause


def text_of(value: Any) -> str:
    """Words of a student's process: one line of them, if they are words at all."""
    if not isinstance(value, str):
        return ""
    line = " ".join(value.encode("utf-8", "replace").decode().split())
    line = "".join(letter for letter in line if letter.isprintable())
    return line if len(line) <= LONGEST_TEXT else f"{line[:LONGEST_TEXT]} …"


def missing(name: str, similar: Any) -> str:
    """The sentence for a name that the notebook does not define."""
    valid = [each for each in similar if isinstance(each, str) and each.isidentifier()]
    text = f"your notebook defines no {name}"
    if not valid:
        return text
    listed = ", ".join(each[:50] for each in valid[:5])
    return f"{text}; it has {listed}: if that is your answer, call it {name}"


class Collector:
    """Runs notebooks for one assignment."""

    def __init__(
        self,
        assignment: str,
        items: Sequence[Item],
        inputs: Callable[[str], bytes],
        limits: Limits,
        hidden_source: bytes = b"",
        **sandbox: Any,
    ):
        self.assignment, self.items, self.inputs = assignment, items, inputs
        self.limits, self.hidden_source, self.options = limits, hidden_source, sandbox

    def collect(self, notebook: Path, cells: Sequence[str]) -> Collected:
        """Start as often as needed, until each item has its outputs or its reason."""
        found, left = Collected(), self.limits.seconds
        for _ in range(MOST_STARTS):
            with Sandbox(self.limits, notebook, **self.options) as sandbox:
                sandbox.start(self.assignment)  # importing torch is not the student's time
                start = sandbox.clock()
                attempt = _Attempt(self, sandbox, found, start + left)
                try:
                    attempt.run(cells)
                    return found
                except Stopped as stopped:
                    left -= sandbox.clock() - start
                    attempt.blame(stopped.cause, out_of_time=left <= 0)
            if left <= 0:
                break
        found.causes.append("total")
        for item in self.items:
            if item.name not in found.answers:
                failure = NO_TIME.format(seconds=self.limits.seconds)
                found.answers[item.name] = Answer(failure=failure)
        return found


class _Attempt:
    """One life of the student's process."""

    def __init__(self, owner: Collector, sandbox: Sandbox, found: Collected, end: float):
        self.owner, self.sandbox, self.found, self.end = owner, sandbox, found, end
        self.cell: int | None = None
        self.item: Item | None = None

    def request(self, head: dict, body: bytes = b"") -> tuple[dict, bytes]:
        seconds = min(self.owner.limits.cell_seconds, self.end - self.sandbox.clock())
        return self.sandbox.request(head, body, max(seconds, 0))

    def run(self, cells: Sequence[str]) -> None:
        """The cells, the visible items, and last, when no cell runs any more, the hidden ones."""
        self.found.errors.clear()
        for number, source in enumerate(cells):
            if number not in self.found.left_out:
                self.cell = number
                reply, _ = self.request({"do": "run"}, source.encode())
                if error := text_of(reply.get("error")):
                    self.found.errors[number] = error
        self.cell = None
        items = [item for item in self.owner.items if item.name not in self.found.answers]
        for item in items:
            if not item.hidden:
                self.collect(item, {})
        if any(item.hidden for item in items):
            self.item = next(item for item in items if item.hidden)
            self.request({"do": "reveal"}, self.owner.hidden_source)
        for item in items:
            if item.hidden:
                self.collect(item, {"hidden": item.collect.__name__})

    def collect(self, item: Item, extra: dict[str, str]) -> None:
        self.item = item
        head = {"do": "collect", "item": item.name, "answer": item.answer, **extra}
        reply, outputs = self.request(head, self.owner.inputs(item.name))
        similar, failure = reply.get("missing"), text_of(reply.get("failure"))
        if isinstance(similar, list):
            failure = missing(item.answer, similar)
        origins = reply.get("from")
        origins = [text_of(each) for each in origins] if isinstance(origins, list) else []
        if not outputs and not failure:
            failure = "nothing came back from your code"
        self.found.answers[item.name] = Answer(outputs if not failure else b"", failure, origins)

    def blame(self, cause: str, out_of_time: bool) -> None:
        """Note what was running when the process was stopped."""
        self.found.causes.append(cause)
        limits = self.owner.limits
        words = CAUSES[cause].format(seconds=limits.cell_seconds, gigabytes=limits.gigabytes)
        if out_of_time and cause == "time":
            words = f"was stopped: the notebook's {limits.seconds:g} seconds were over"
        if self.cell is not None:
            self.found.left_out[self.cell] = words
        elif self.item is not None:
            self.found.calls[self.item.name] = cause
            self.found.answers[self.item.name] = Answer(failure=f"your code {words}")


def first_line(source: str) -> str:
    """A cell's first line of code, to recognise it by."""
    lines = [line.strip() for line in source.splitlines()]
    code = [line for line in lines if line and not line.startswith("#")]
    return re.sub(r"\s+", " ", (code or lines or [""])[0])[:80]
