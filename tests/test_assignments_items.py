"""What assignments are made of: questions and outputs as bytes, collecting and judging."""

import json
import struct

import grading_cases as cases
import homework
import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from resnet_lib import UserError, assignments
from resnet_lib.assignments import a2, items, sending
from resnet_lib.assignments.items import Assignment, Item, Mismatch, Question
from resnet_lib.assignments.sending import pack, unpack
from resnet_lib.blocks import Bottleneck

TOY = assignments.find(str(cases.TOY / "assignment.py"))


def scaled(x):
    return 2 * x


def make(judge=lambda question, outputs: "right", collect=lambda answer, inputs: {"y": answer}):
    item = Item("thing", "A thing", 2, "thing", lambda draw, p: Question({}), collect, judge)
    return Assignment("own", "Own", lambda variant: {}, (item,))


# Sending


def test_values_arrive_as_they_were_sent():
    shared = torch.arange(12.0).reshape(3, 4)
    values = {
        "tensor": shared, "turned": shared.T, "part": shared[1], "scalar": torch.tensor(2),
        "half": torch.ones(2, dtype=torch.bfloat16), "none": torch.zeros(0, 3),
        "list": [1, 2.5, True, None, "text", [torch.ones(1)]],
        "dictionary": {"a": {"b": torch.eye(2)}}, "sly": "tensor:0", "slyer": "text:tensor:0",
        "nan": float("nan"), "big": 2**62,
    }  # fmt: skip
    found = unpack(pack(values))
    assert found.keys() == values.keys()
    for name in ("tensor", "turned", "part", "scalar", "half", "none"):
        assert torch.equal(found[name], values[name]) and found[name].dtype == values[name].dtype
    assert found["list"][:5] == values["list"][:5] and torch.equal(
        found["list"][5][0], torch.ones(1)
    )
    assert torch.equal(found["dictionary"]["a"]["b"], torch.eye(2))
    assert (found["sly"], found["slyer"]) == ("tensor:0", "text:tensor:0")
    assert found["nan"] != found["nan"] and found["big"] == 2**62


def test_what_a_student_returns_by_habit_is_accepted():
    weight = nn.Parameter(torch.ones(2, requires_grad=True) * 3)
    found = unpack(pack({"a": (1, 2), "b": np.float32(2.5), "c": np.arange(3), "d": weight}))
    assert found["a"] == [1, 2] and found["b"] == 2.5
    assert found["c"].tolist() == [0, 1, 2] and found["d"].tolist() == [3, 3]
    assert not found["d"].requires_grad


@pytest.mark.parametrize(
    "value, words",
    [
        (nn.ReLU(), "y should be a tensor, a number, a text or lists of them; it is an instance"),
        ([1, [nn.ReLU]], "y[1][0] should be"),
        ({1: 2}, "y has the key 1, which is no string"),
        (1j, "it is a complex"),
        (torch.ones(2, device="meta"), "y is a tensor of the kind"),
        (torch.ones(2).to_sparse(), "torch.sparse"),
        (torch.ones(2, dtype=torch.complex64), "complex64"),
        ([[[[[[[[[[1]]]]]]]]]], "nested too deeply"),
        ("x" * 2**21, "more than can be handed over"),
    ],
)
def test_other_values_are_named(value, words):
    with pytest.raises(Mismatch) as error:
        pack({"y": value})
    assert words in str(error.value)


def message(structure, tensors=None, length=None):
    text = structure if isinstance(structure, bytes) else json.dumps(structure).encode()
    start = struct.pack(">I", len(text) if length is None else length)
    return start + text + safetensors.torch.save(tensors or {"t": torch.ones(1)})


HOSTILE = {
    "nothing": b"",
    "short": b"\0\0",
    "no tensors": message({"y": 1})[:10],
    "length beyond the end": message({"y": 1}, length=2**31),
    "no JSON": message(b"\xff\xfe{"),
    "a list": message([1, 2]),
    "deep": message(b"[" * 100_000),
    "deep but closed": message(b'{"y":' + b"[" * 50 + b"]" * 50 + b"}"),
    "many": message({"y": [0] * 200_000}),
    "a tensor that is not there": message({"y": "tensor:7"}),
    "a number of many digits": message(b'{"y": ' + b"9" * 10_000 + b"}"),
    "a header that promises too much": message({"y": 1})[:12] + struct.pack("<Q", 2**60) + b"{}",
    "pickle": b"\x80\x04cos\nsystem\n",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_no_message_is_believed(name):
    with pytest.raises(ValueError):
        unpack(HOSTILE[name])


def test_large_numbers_become_infinite():
    assert unpack(message({"y": 10**400, "z": -(2**63)})) == {"y": float("inf"), "z": -float("inf")}


@pytest.mark.parametrize("name", HOSTILE)
def test_judge_survives_every_message(name):
    question = items.ask(TOY.item("scaled"), {"factor": 2}, 0)
    found = items.judge(TOY.item("scaled"), question, HOSTILE[name])
    assert found.share == 0 and found.trouble


@pytest.mark.parametrize("y", [None, "x", [], {}, float("nan"), True, [[1, 2], 3]])
def test_judge_survives_every_value(y):
    for item, key in (("scaled", "y"), ("stride", "y"), ("field", "field")):
        question = items.ask(TOY.item(item), {"factor": 2}, 0)
        assert items.judge(TOY.item(item), question, pack({key: y})).share == 0
        assert items.judge(TOY.item(item), question, pack({})).trouble


# Items


def test_self_check_says_what_the_grader_will_say():
    check = items.self_check
    assert repr(check(TOY, "scaled", scaled)) == "Right: scaled by the right factor"
    assert "differs from the reference" in check(TOY, "scaled", lambda x: 3 * x).message
    assert "your code raised TypeError" in check(TOY, "scaled", 3).message
    half = check(TOY, "field", sum)
    assert not half and half.message.startswith("33% of the points: a kernel of 3 adds")


def test_variant_changes_what_is_right():
    assert items.self_check(TOY, "scaled", lambda x: 5 * x, variant=3)
    assert not items.self_check(TOY, "scaled", scaled, variant=3)


def test_another_seed_and_another_item_give_other_questions():
    item = TOY.item("scaled")
    draws = [items.ask(item, {"factor": 2}, seed).inputs["x"] for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert items.item_seed(0, "a") != items.item_seed(0, "b")
    assert 0 <= items.item_seed(2**40, "a") < 2**40


def test_answer_cannot_change_the_question():
    def vandal(x):
        x.zero_()
        return x

    assert not items.self_check(TOY, "scaled", vandal)


def test_collecting_does_not_learn_the_seed():
    found = [items.gather(lambda a, i: {"y": torch.rand(3)}, None, pack({}))[0] for _ in range(2)]
    assert found[0] == found[1]
    torch.manual_seed(0)
    assert torch.equal(unpack(found[0])["y"], torch.rand(3))


def test_share_is_kept_within_bounds_and_a_failing_judge_is_told_to_the_teacher():
    outputs = pack({"y": 1})
    assert items.judge(make(lambda q, o: (7, "")).items[0], Question({}), outputs).share == 1
    assert items.judge(make(lambda q, o: (-1, "")).items[0], Question({}), outputs).share == 0
    broken = make(lambda q, o: o["nothing"])
    found = items.judge(broken.items[0], Question({}), outputs)
    assert (found.share, found.trouble) == (0, "KeyError: 'nothing'")
    assert "can't be judged (KeyError" in items.self_check(broken, "thing", 3).message


def test_mismatch_while_collecting_is_the_reason():
    def collect(answer, inputs):
        raise Mismatch("hand in the class itself")

    assert items.self_check(make(collect=collect), "thing", 3).message == "hand in the class itself"


def test_check_of_an_item():
    check = items.as_check(TOY, "scaled")
    assert check.__name__ == "check_toy_scaled"
    assert check.__doc__ == "Assignment toy, scaled(x): hand in scaled."
    assert check(scaled) and check(lambda x: 3 * x, variant=1) and not check(scaled, 1, seed=3)


def test_checks_take_no_time_while_the_notebook_is_graded(monkeypatch):
    monkeypatch.setenv(items.GRADING, "1")
    verdict = items.as_check(TOY, "scaled")(lambda x: 3 * x)
    assert verdict and verdict.message == "left to the grader"
    assert not items.self_check(TOY, "scaled", lambda x: 3 * x)


def test_hidden_items_come_last_with_their_functions():
    complete = TOY.with_hidden(cases.TOY)
    assert [item.name for item in complete.items] == ["scaled", "stride", "field", "ones"]
    assert [item.hidden for item in complete.items] == [False, False, False, True]
    assert (TOY.points, complete.points) == (10, 12)
    assert items.self_check(complete, "ones", lambda kernels: 1 + sum(k - 1 for k in kernels))
    assert not items.self_check(complete, "ones", len)


def test_hidden_items_that_are_incomplete(tmp_path):
    assert items.hidden_items(tmp_path) == ()
    text = (cases.TOY / "hidden_judge.py").read_text()
    (tmp_path / "hidden_judge.py").write_text(text)
    with pytest.raises(UserError, match=r"hidden_collect\.py is missing"):
        items.hidden_items(tmp_path)
    (tmp_path / "hidden_collect.py").write_text("def other(answer, inputs): pass")
    with pytest.raises(UserError, match="has no function collect_none, which ones needs"):
        items.hidden_items(tmp_path)


def test_two_items_of_one_name():
    with pytest.raises(ValueError, match="two items are called thing"):
        Assignment("own", "Own", dict, make().items * 2)


# The book's assignments


def test_finding_assignments(tmp_path):
    with pytest.raises(UserError, match=r"assignment must be one of .*or a .py file; got 'b7'"):
        assignments.find("b7")
    with pytest.raises(UserError, match=r"no file .*nothing.py"):
        assignments.find(str(tmp_path / "nothing.py"))
    (tmp_path / "own.py").write_text("x = 3")
    with pytest.raises(UserError, match="does not define ASSIGNMENT"):
        assignments.find(str(tmp_path / "own.py"))
    with pytest.raises(UserError, match="toy has no item 'stripe'; it has scaled, stride"):
        TOY.item("stripe")


@pytest.mark.parametrize("name", assignments.names())
def test_questions_of_the_books_assignments_can_be_sent(name):
    assignment = assignments.find(name)
    assert assignment.name == name and assignment.points > 0
    for variant in (0, 1):
        parameters = assignment.parameters(variant)
        assert parameters == assignment.parameters(variant)
        for item in assignment.items:
            question = items.ask(item, parameters, 5)
            assert len(pack(question.inputs)) < sending.LARGEST


def test_no_variant_of_a2_is_the_books_block_with_another_expansion():
    asked = [a2.parameters(variant) for variant in range(18)]
    chosen = {tuple(task[option] for option in a2.OPTIONS) for task in asked}
    assert len(chosen) == 18 and a2.parameters(18) == asked[1]
    for variant, task in enumerate(asked):
        block = type("Block", (Bottleneck,), {"expansion": task["expansion"]})
        ((share, _),) = homework.shares("a2", "stride", block, variant, range(1))
        assert share < 1, variant
