"""Assignment 4: what the judge makes of accuracies, sizes and times, and one whole training."""

import subprocess
import sys
import time

import homework
import pytest
import torch

from resnet_lib.assignments import a4, items
from resnet_lib.assignments.sending import pack


@pytest.fixture(scope="module")
def asked():
    item = homework.whole("a4").item("accuracy")
    return item, items.ask(item, a4.parameters(0), 0)


def outputs(question, accuracy, **changed):
    """As from a network of that accuracy on the held-out images."""
    labels = question.key["labels"].clone()
    wrong = round((1 - accuracy) * len(labels))
    labels[:wrong] = (labels[:wrong] + 1) % a4.CLASSES
    scores = torch.nn.functional.one_hot(labels, a4.CLASSES).double()
    return {"scores": scores, "seconds": 10.0, "taken": 9.8, "parameters": 50_000} | changed


def judged(asked, **options):
    item, question = asked
    return items.judge(item, question, pack(outputs(question, **options)))


def test_each_step_is_worth_as_much(asked):
    for number, step in enumerate(a4.STEPS, 1):
        assert judged(asked, accuracy=step).share == pytest.approx(number / len(a4.STEPS))
        assert judged(asked, accuracy=step - 0.01).share == pytest.approx(
            (number - 1) / len(a4.STEPS)
        )
    assert judged(asked, accuracy=1.0).share == 1 and judged(asked, accuracy=0.1).share == 0


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"parameters": 100_001}, "at most 100,000 are allowed"),
        ({"taken": 13.1}, "13.1 s of the processor"),
        ({"taken": float("nan")}, "not a finite number"),
        ({"seconds": None}, "the budget should be a number"),
        ({"parameters": "few"}, "should be a number"),
        ({"scores": torch.zeros(1000)}, "the shape (1000,), expected (1000, 10)"),
        ({"scores": torch.full((1000, 10), float("inf"))}, "not finite"),
        ({"scores": None}, "is None"),
    ],
)
def test_form_and_budget_come_before_accuracy(asked, changed, words):
    found = judged(asked, accuracy=1.0, **changed)
    assert found.share == 0 and words in found.text, found


def test_a_little_more_than_the_budget_is_forgiven(asked):
    assert judged(asked, accuracy=1.0, taken=12.9).share == 1


@pytest.mark.parametrize("variant", [0, 1, 4, 6])
def test_images_and_labels_have_the_sheets_form(variant):
    task = a4.parameters(variant)
    given = homework.question("a4", "form", variant, 0)[0]
    shape = (a4.FEW, 32, 32, 3) if task["layout"] == "channels last" else (a4.FEW, 3, 32, 32)
    assert given.inputs["images"].shape == shape
    assert given.inputs["images"].dtype == torch.uint8
    labels, first = given.inputs["labels"], 1 if task["labels"] == "from one" else 0
    assert labels.dtype == torch.int64 and labels.shape == (a4.FEW,)
    assert labels.unique().tolist() == list(range(first, first + 10))
    assert given.key["labels"].max() == 9


def test_labels_of_the_unseen_images_stay_with_the_judge(asked):
    _, question = asked
    assert "labels" in question.key and len(question.key["labels"]) == a4.HELD_OUT
    assert len(question.inputs["labels"]) == a4.TRAINING
    flat = question.inputs["images"].flatten(1).float()
    unseen = question.inputs["held_out"][:50].flatten(1).float()
    assert torch.cdist(unseen, flat).min() > 100, "an unseen image is among those to learn from"


def test_budget_is_the_time_of_fixed_steps():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    a4.step_seconds()  # the first optimizer of a process loads modules
    started = time.process_time()
    seconds = a4.step_seconds()
    whole = time.process_time() - started
    torch.set_num_threads(threads)
    # All but the warm-up and the making of the layers.
    assert 0.3 * whole < a4.TIMED * seconds < whole


LOADED = """
import sys, torch
from resnet_lib.assignments import a4
def train_model(images, labels, seconds):
    before = set(sys.modules)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 10))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net(images).sum().backward()
    optimizer.step()
    print(len(set(sys.modules) - before))
    return net
images, labels = torch.ones(4, 3, 2, 2), torch.zeros(4).long()
a4.collect(train_model, {"budget": 1, "images": images, "labels": labels, "held_out": images})
"""


def test_modules_of_the_first_optimizer_load_before_the_students_time():
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True)
    assert done.stdout == "0\n", done.stderr


@pytest.mark.slow
def test_masters_answer_earns_all_points():
    train_model = homework.namespace("a4")["train_model"]
    ((share, text),) = homework.shares("a4", "accuracy", train_model, 0, range(1))
    assert share == 1, text
