"""The order of things in a submission's run, with a process that only pretends."""

from pathlib import Path

import grading_cases as cases
import pytest

from resnet_lib import assignments
from resnet_lib.grading import collecting
from resnet_lib.grading.collecting import Collector, missing, text_of
from resnet_lib.grading.grade import status
from resnet_lib.grading.sandbox import Limits, Stopped

TOY = assignments.find(str(cases.TOY / "assignment.py")).with_hidden(cases.TOY)
LIMITS = Limits(30, 5, 2)


class Pretender:
    """Plays the sandbox: ``replies`` maps what is asked to a reply, or to a cause to stop for."""

    def __init__(self, replies, cost=0.0):
        self.replies, self.cost = replies, cost
        self.time, self.lives = 0.0, []

    def __call__(self, limits, notebook, **options):
        self.lives.append([])
        return self

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def start(self, assignment):
        pass

    def clock(self):
        return self.time

    def request(self, head, body, seconds):
        asked = {"run": body.decode(), "reveal": "reveal"}.get(head["do"], head.get("item"))
        self.lives[-1].append(asked)
        found = self.replies.get(asked, {})
        if isinstance(found, str):
            self.time += seconds if found == "time" else self.cost
            raise Stopped(found)
        self.time += self.cost
        if self.cost > seconds:
            raise Stopped("time")
        return {"error": ""} | found, found.get("outputs", b"outputs")


def collect(monkeypatch, replies, cells=("a", "b"), cost=0.0):
    pretender = Pretender(replies, cost)
    monkeypatch.setattr(collecting, "Sandbox", pretender)
    collector = Collector("toy", TOY.items, lambda name: b"in", LIMITS, b"source")
    return collector.collect(Path("x.ipynb"), cells), pretender


def test_hidden_items_are_revealed_after_everything_else(monkeypatch):
    found, pretender = collect(monkeypatch, {})
    assert pretender.lives == [["a", "b", "scaled", "stride", "field", "reveal", "ones"]]
    assert all(answer.outputs == b"outputs" for answer in found.answers.values())
    assert status(found, []) == "ok" and status(found, ["uses timm"]) == "flagged"


def test_cell_that_takes_too_long_is_left_out(monkeypatch):
    found, pretender = collect(monkeypatch, {"b": "time", "a": {"error": "KeyError: 'x'"}}, "abc")
    assert pretender.lives[0] == ["a", "b"] and pretender.lives[1][:3] == ["a", "c", "scaled"]
    assert found.left_out == {1: "took longer than its 5 seconds"}
    assert found.errors == {0: "KeyError: 'x'"}
    assert all(answer.outputs for answer in found.answers.values())
    assert status(found, []) == "time limit"


@pytest.mark.parametrize(
    "cause, words, word",
    [
        ("memory", "took more than the 2 GB", "memory limit"),
        ("processes", "started too many processes", "process limit"),
        ("channel", "disturbed the messages", "stopped"),
        ("died", "ended the process", "stopped"),
    ],
)
def test_every_cause_is_told(monkeypatch, cause, words, word):
    found, _ = collect(monkeypatch, {"b": cause})
    assert words in found.left_out[1] and status(found, []) == word


def test_item_that_fails_costs_only_itself(monkeypatch):
    found, pretender = collect(monkeypatch, {"stride": "time"})
    assert pretender.lives[1] == ["a", "b", "field", "reveal", "ones"], "what is known stays"
    assert found.answers["stride"].failure == "your code took longer than its 5 seconds"
    assert [name for name, answer in found.answers.items() if answer.outputs] == [
        "scaled", "field", "ones",
    ]  # fmt: skip


def test_hidden_source_that_stops_the_process_costs_one_item(monkeypatch):
    found, pretender = collect(monkeypatch, {"reveal": "died"})
    assert pretender.lives[0][-1] == "reveal" and len(pretender.lives) == 2
    assert found.answers["ones"].failure and found.answers["field"].outputs


def test_all_the_time_is_used_up(monkeypatch):
    found, pretender = collect(monkeypatch, dict.fromkeys("abcdefgh", "time"), "abcdefgh")
    assert pretender.time == LIMITS.seconds
    assert set(found.answers) == {item.name for item in TOY.items}
    assert "30 seconds were over before" in found.answers["stride"].failure
    assert len(found.left_out) == 6 and status(found, []) == "time limit"


def test_many_short_cells_are_too_much_together(monkeypatch):
    found, _ = collect(monkeypatch, {}, [f"x = {n}" for n in range(20)], cost=4.0)
    assert found.left_out[7] == "was stopped: the notebook's 30 seconds were over"
    assert not found.answers["scaled"].outputs


def test_process_that_dies_again_and_again_is_given_up(monkeypatch):
    cells = [str(number) for number in range(50)]
    found, pretender = collect(monkeypatch, dict.fromkeys(cells, "died"), cells)
    assert len(pretender.lives) == collecting.MOST_STARTS
    assert set(found.answers) == {item.name for item in TOY.items}


@pytest.mark.parametrize("junk", [None, 3, [], {}, [[]], "x" * 10**6, True, "\ud800\n\0"])
def test_replies_of_any_kind(monkeypatch, junk):
    reply = {"error": junk, "failure": junk, "missing": junk, "from": junk, "outputs": b""}
    found, _ = collect(monkeypatch, {"a": reply, "scaled": reply})
    answer = found.answers["scaled"]
    assert answer.failure and not answer.outputs and isinstance(answer.origins, list)
    assert all(len(text) < 700 and text.isprintable() for text in found.errors.values())


def test_words_of_a_process():
    assert text_of("a\nb\tc\x1b[31m") == "a b c[31m" and text_of(3) == ""
    assert len(text_of("x" * 10**6)) < 700


def test_missing_names():
    assert missing("Block", []) == "your notebook defines no Block"
    text = missing("Block", ["block", "<b>", 3, "BLOCK"])
    assert text.endswith("it has block, BLOCK: if that is your answer, call it Block")
