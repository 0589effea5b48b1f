"""Hidden items of assignment 5: cases that the self-checks leave out."""

from resnet_lib.assignments.a5_statistics import images_question, judge_flips, judge_images
from resnet_lib.assignments.items import Item, Question


def ask_ties(draw, task):
    """Differences that are zero, that are equal, and a single pair of seeds."""
    step = draw.integer(1, 9) / 256  # sums of these are exact
    cases = [[step, -step, 0.0, 2 * step], [0.0, 0.0, 0.0], [step, step], [-step, 3 * step, step]]
    return Question({"cases": cases}, {"sides": task["sides"]})


def ask_extremes(draw, task):
    """Never, always, and equally often in disagreement."""
    even = draw.integer(3, 9)
    return images_question(draw, task, [(0, 0), (even, even), (0, even), (even + 1, 0)])


ITEMS = (
    Item("ties", "Ties over seeds", 1, "flip_test", ask_ties, "collect_flips", judge_flips),
    Item(
        "extremes", "Extremes on images", 1, "disagreement", ask_extremes, "collect_images",
        judge_images,
    ),
)  # fmt: skip
