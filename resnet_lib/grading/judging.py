"""The judge's process: it makes the questions and compares the outputs, and never runs their code.

It reads nothing but bytes that hold plain values, of limited size. Whatever they are, the process
answers or is replaced.
"""

import os
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from resnet_lib import assignments
from resnet_lib.assignments.items import Assignment, Judgement, ask, judge
from resnet_lib.assignments.sending import pack
from resnet_lib.grading import channel

START = 180  # seconds for importing torch on a busy machine
SECONDS = 300  # for one question or judgement, which takes a second where nothing goes wrong


def load(name: str, coursework: str) -> Assignment:
    """The assignment with the hidden items of that folder; without any if there is no folder."""
    assignment = assignments.find(name)
    return assignment.with_hidden(coursework) if coursework else assignment


class Judge:
    """The process, from outside. ``judge`` may be called from several threads."""

    def __init__(self, name: str, variant: int, seed: int, coursework: str = ""):
        self.task = {"assignment": name, "variant": variant, "seed": seed, "coursework": coursework}
        self.lock, self.inputs = threading.Lock(), {}
        self.peer: channel.Peer | None = None

    def start(self) -> None:
        """Start the process without waiting for it."""
        package = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH", "")]))
        self.peer = channel.Peer(
            [sys.executable, "-m", "resnet_lib.grading.judging"],
            env=os.environ | {"PYTHONPATH": path},
        )
        self.fresh = True

    def request(self, head: dict[str, Any], body: bytes = b"") -> tuple[dict, bytes]:
        """A reply; the process is replaced where there is none."""
        with self.lock:
            if self.peer is None:
                self.start()
            try:
                if self.fresh:
                    self.peer.request({"do": "start", **self.task}, seconds=START)
                    self.fresh = False
                return self.peer.request(head, body, SECONDS)
            except (channel.Broken, channel.Ended, channel.TimeUp) as error:
                lines = self.peer.complaint.decode("utf-8", "replace").strip().splitlines()
                self.close()
                reason = lines[-1] if lines else type(error).__name__
                raise RuntimeError(f"the judge's process stopped: {reason}") from None

    def question(self, item: str) -> bytes:
        """The packed inputs of an item."""
        if item not in self.inputs:
            self.inputs[item] = self.request({"do": "ask", "item": item})[1]
        return self.inputs[item]

    def judge(self, item: str, outputs: bytes) -> Judgement:
        """What the outputs deserve; nothing, with a note for the teacher, where no one can say.

        A process that stops gets a successor, so that a fault of the machine costs no student.
        """
        trouble = ""
        for _ in range(2):
            try:
                return Judgement(**self.request({"do": "judge", "item": item}, outputs)[0]["found"])
            except RuntimeError as error:
                trouble = str(error)
        return Judgement(0.0, "what your code returned can't be judged", trouble)

    def close(self) -> None:
        """End the process."""
        if self.peer:
            self.peer.close()
            self.peer = None


class Worker:
    """The process, from inside."""

    def answer(self, head: dict, body: bytes) -> tuple[dict, bytes]:
        """The reply to a request."""
        if head["do"] == "start":
            self.assignment = load(head["assignment"], head["coursework"])
            self.parameters = self.assignment.parameters(head["variant"])
            self.seed, self.questions = head["seed"], {}
            return {}, b""
        item = self.assignment.item(head["item"])
        if item.name not in self.questions:
            self.questions[item.name] = ask(item, self.parameters, self.seed)
        question = self.questions[item.name]
        if head["do"] == "ask":
            return {}, pack(question.inputs)
        return {"found": asdict(judge(item, question, body))}, b""


if __name__ == "__main__":
    channel.serve(Worker().answer)
