"""Assignment 4, train under a budget: accuracy on unseen images after seconds of training.

The images are scaled shapes, drawn from the judge's seed, so nobody has seen them. The budget is
the time that a number of fixed training steps takes on the machine in question, in seconds of the
processor on one thread. So a slow or busy machine takes longer, but trains about as much.
"""

import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_lib import scaled_shapes
from resnet_lib.assignments.items import Assignment, Draw, Item, Mismatch, Question
from resnet_lib.assignments.layers import choose
from resnet_lib.checks.answers import function, kind, number, shaped

OPTIONS = {
    "layout": ("channels last", "channels first"),
    "labels": ("from zero", "from one"),
    "most_parameters": (100_000, 60_000, 40_000),
}
LAYOUTS = {
    "channels last": "(N, 32, 32, 3), with the channels last, as image libraries have them",
    "channels first": "(N, 3, 32, 32), with the channels first, as PyTorch has them",
}
LABELS = {
    "from zero": "an int64 tensor of shape (N,) with the numbers 0 to 9 of the classes",
    "from one": "an int64 tensor of shape (N,) with the numbers 1 to 10 of the classes, as other "
    "languages count",
}
IMAGE_SIZE, SIZES = 32, (10, 14, 18)  # pixels: of an image, and of the objects
CLASSES = len(scaled_shapes.CLASSES)
TRAINING, HELD_OUT = 3000, 1000  # images
BUDGET = 1600  # steps of ``step_seconds``
SHORT, FEW = 60, 200  # such steps and images, where only the form counts
GRACE = 1.2, 1.0  # a budget may be exceeded by this factor, and by these seconds
TIMED = 20  # steps
# Of the held-out images: each step is worth as much. Chance is 0.1; see the rubric.
STEPS = (0.25, 0.45, 0.6, 0.75, 0.88, 0.95)


def parameters(variant: int) -> dict:
    """What this year's sheet asks, and the same in words."""
    task = choose("a4", variant, OPTIONS)
    return task | {
        "layout_words": LAYOUTS[task["layout"]],
        "labels_words": LABELS[task["labels"]],
        "most_parameters_words": f"{task['most_parameters']:,}",
        "budget": f"{BUDGET:,}",
        "training": f"{TRAINING:,}",
        "held_out": f"{HELD_OUT:,}",
        "steps": ", ".join(f"{100 * step:g}" for step in STEPS),
        "sizes": ", ".join(map(str, SIZES)),
    }


def images(draw: Draw, task: dict, count: int) -> tuple[Tensor, Tensor]:
    """Images in the sheet's layout, and their class numbers."""
    made, labels, _ = scaled_shapes.generate(
        count, draw.generator, image_size=IMAGE_SIZE, sizes=SIZES
    )
    last = task["layout"] == "channels last"
    return made.permute(0, 2, 3, 1).contiguous() if last else made, labels


def question(draw: Draw, task: dict, training: int, unseen: int, budget: int) -> Question:
    """Images to learn from, and others to judge by."""
    x, labels = images(draw, task, training)
    given = labels + 1 if task["labels"] == "from one" else labels
    held_out, answers = images(draw, task, unseen)
    inputs = {"images": x, "labels": given, "budget": budget, "held_out": held_out}
    return Question(inputs, {"labels": answers, "most_parameters": task["most_parameters"]})


def ask_form(draw: Draw, task: dict) -> Question:
    """Few images, and little time."""
    return question(draw, task, FEW, 40, SHORT)


def ask_accuracy(draw: Draw, task: dict) -> Question:
    """The whole budget."""
    return question(draw, task, TRAINING, HELD_OUT, BUDGET)


def step_seconds() -> float:
    """Seconds of the processor for a fixed training step: two convolutions, 64 images."""
    layers = [nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1)]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    # The first optimizer of a process loads modules for over a second, not at a student's expense.
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    x, labels = torch.ones(64, 3, IMAGE_SIZE, IMAGE_SIZE), torch.arange(64) % CLASSES
    started = 0.0
    for step in range(-3, TIMED):  # the first ones warm up
        started = time.process_time() if step == 0 else started
        optimizer.zero_grad()
        F.cross_entropy(net(x), labels).backward()
        optimizer.step()
    return (time.process_time() - started) / TIMED


def collect(answer: Any, inputs: dict) -> dict:
    """Scores of the held-out images, once all together and once for some of them alone."""
    answer = function(answer, "train_model(images, labels, seconds)")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = inputs["budget"] * step_seconds()
        start = time.process_time()
        net = answer(inputs["images"].clone(), inputs["labels"].clone(), seconds)
        taken = time.process_time() - start
        if not isinstance(net, nn.Module):
            raise Mismatch(f"train_model should return an nn.Module; it returns {kind(net)}")
        unseen = inputs["held_out"]
        with torch.no_grad():
            parts = [net(part.clone()) for part in unseen.split(200)]
            alone = [net(unseen[index : index + 1].clone()) for index in range(3)]
    finally:
        torch.set_num_threads(threads)
    return {
        "scores": torch.cat(parts),
        "alone": torch.cat(alone),
        "seconds": seconds,
        "taken": taken,
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
    }


def formed(question: Question, outputs: dict) -> Tensor:
    """The scores, if form, size and time are kept."""
    most, seconds = question.key["most_parameters"], number(outputs.get("seconds"), "the budget")
    count = number(outputs.get("parameters"), "the number of parameters")
    if count > most:
        raise Mismatch(f"the network has {count:,.0f} parameters, at most {most:,} are allowed")
    taken = number(outputs.get("taken"), "the time")
    if taken > GRACE[0] * seconds + GRACE[1]:
        raise Mismatch(f"training took {taken:.1f} s of the processor, {seconds:.1f} s are allowed")
    labels = question.key["labels"]
    scores = shaped(outputs.get("scores"), (len(labels), CLASSES), "the scores of the images")
    if not scores.isfinite().all():
        raise Mismatch("some scores are not finite: the training has diverged")
    return scores


def judge_form(question: Question, outputs: dict) -> str:
    """Everything but the accuracy."""
    formed(question, outputs)
    return (
        f"scores of the right shape, {outputs['parameters']:,} parameters, "
        f"{outputs['taken']:.1f} s for a budget of {outputs['seconds']:.1f} s"
    )


def judge_accuracy(question: Question, outputs: dict) -> tuple[float, str]:
    """A share of the points for each step."""
    labels = question.key["labels"]
    accuracy = (formed(question, outputs).argmax(1) == labels).double().mean().item()
    steps = sum(accuracy >= step for step in STEPS)
    text = f"{accuracy:.1%} of {len(labels):,} unseen images after {outputs['taken']:.1f} s"
    if steps < len(STEPS):
        text += f"; the next step is at {STEPS[steps]:.0%}"
    return steps / len(STEPS), text


ITEMS = (
    Item("form", "Form, size and time", 1, "train_model", ask_form, collect, judge_form),
    Item(
        "accuracy", "Accuracy on unseen images", 6, "train_model", ask_accuracy, collect,
        judge_accuracy,
    ),
)  # fmt: skip

ASSIGNMENT = Assignment(
    "a4",
    "Train under a budget",
    parameters,
    ITEMS,
    seconds=300,
    cell_seconds=100,
    foreign=("torchvision.models", "timm", "resnet_lib.scaled_shapes", "resnet_lib.checkpoint"),
)
