"""Assignment 5, test a claim: the statistics of a comparison, and a record that is consistent."""

from typing import Any

from resnet_lib.assignments.a5_statistics import (
    ask_adjusted,
    ask_flips,
    ask_images,
    ask_interval,
    collect_adjusted,
    collect_flips,
    collect_images,
    collect_interval,
    flipped,
    intervals,
    judge_adjusted,
    judge_flips,
    judge_images,
    judge_interval,
)
from resnet_lib.assignments.items import Assignment, Draw, Item, Mismatch, Question
from resnet_lib.assignments.layers import choose
from resnet_lib.checks.answers import number, numbers, table

OPTIONS = {
    "claim": ("zero start", "label smoothing", "mirroring", "shortcuts"),
    "confidence": (0.9, 0.99, 0.95),
    "sides": ("one", "two"),
    "on_images": ("mid-p", "exact"),
    "adjusted": ("Holm", "Bonferroni"),
}
CLAIMS = {
    "zero start": "Blocks that start as their shortcut (the last batch norm of each begins with a "
    "scale of zero) give a higher accuracy after a short training than the usual start",
    "label smoothing": "Label smoothing of 0.1 gives a higher accuracy after a short training "
    "than none",
    "mirroring": "Mirroring training images at random gives a higher accuracy after a short "
    "training than leaving them as they are",
    "shortcuts": "A network of 20 layers with shortcuts has a higher accuracy after a short "
    "training than the same network without them",
}
SIDES = {
    "one": "at least as large as the observed one. This is the one-sided test: the claim names a "
    "direction",
    "two": "at least as far from zero as the observed one, in either direction. This is the "
    "two-sided test",
}
ON_IMAGES = {
    "exact": "It is the probability, were each of the two as likely, of a division of these "
    "images at least as uneven as the observed one: the exact, two-sided test",
    "mid-p": "It is the probability, were each of the two as likely, of a division of these "
    "images at least as uneven as the observed one, but the probability of a division exactly as "
    "uneven counts only half: the two-sided mid-p test. The exact test is known to be too cautious",
}
ADJUSTED = {
    "Holm": "Holm's method: the smallest of the m p-values is multiplied by m, the next by m - 1, "
    "and so on. None may then be smaller than one before it in this order, and none larger than 1",
    "Bonferroni": "Bonferroni's method: each of the m p-values is multiplied by m, and none may "
    "be larger than 1",
}
VERDICTS = ("supported", "refuted", "undecided")
FEWEST_SEEDS = 5
RECORD = (
    "claim", "measure", "planned_seeds", "seeds", "with", "without", "mean", "interval", "p_value",
    "verdict",
)  # fmt: skip


def parameters(variant: int) -> dict:
    """What this year's sheet asks, and the same in words."""
    task = choose("a5", variant, OPTIONS)
    return task | {
        "claim_words": CLAIMS[task["claim"]],
        "percent": f"{100 * task['confidence']:g}",
        "sides_words": SIDES[task["sides"]],
        "on_images_words": ON_IMAGES[task["on_images"]],
        "adjusted_words": ADJUSTED[task["adjusted"]],
        "fewest_seeds": FEWEST_SEEDS,
    }


def ask_record(draw: Draw, task: dict) -> Question:
    """Nothing to ask: the record is handed over."""
    return Question({}, {"task": {name: task[name] for name in OPTIONS}})


def collect_record(answer: Any, inputs: dict) -> dict:
    """The record, if it is a dictionary."""
    return {"record": {str(key): value for key, value in table(answer, (), "RESULTS").items()}}


def _declared(record: dict, task: dict) -> None:
    """Claim, measure and seeds, as planned."""
    if record["claim"] != task["claim"]:
        raise Mismatch(
            f'the claim of this sheet is "{task["claim"]}"; yours is {record["claim"]!r}'
        )
    measure = record["measure"]
    if not isinstance(measure, str) or len(measure.split()) < 2:
        raise Mismatch(
            'the measure should say what is measured and where, as in "accuracy on the test part"'
        )
    seeds = numbers(record["seeds"], "the seeds")
    if len(set(seeds)) < len(seeds):
        raise Mismatch("a seed occurs twice: that is one run, not two")
    if len(seeds) < FEWEST_SEEDS:
        raise Mismatch(f"there are {len(seeds)} seeds; at least {FEWEST_SEEDS} are asked for")
    planned = number(record["planned_seeds"], "the number of planned seeds")
    if planned != len(seeds):
        raise Mismatch(
            f"{planned:g} seeds were planned and {len(seeds)} are reported: report all, and none "
            f"more"
        )


def _values(record: dict) -> tuple[list[float], list[float]]:
    count = len(record["seeds"])
    first, second = (numbers(record[name], f'"{name}"', count) for name in ("with", "without"))
    if not all(0 <= value <= 1 for value in first + second):
        raise Mismatch("the values should be shares from 0 to 1")
    for name, values in (("with", first), ("without", second)):
        if len(set(values)) == 1:
            raise Mismatch(
                f'"{name}" has the same value for each seed: does the seed reach the run?'
            )
    if first == second:
        raise Mismatch('"with" and "without" are the same numbers: does the change reach the run?')
    return first, second


def _recomputed(record: dict, task: dict) -> str:
    """Mean, interval and p-value follow from the values; the verdict that follows from them."""
    first, second = _values(record)
    (low, high), _ = next(intervals([first, second], task["confidence"]))
    mean = (low + high) / 2
    tolerance = 1e-3 * max(high - low, 1e-6)  # room for rounding
    pair = numbers(record["interval"], "the interval", 2)
    for name, found, right in (
        ("mean", number(record["mean"], "the mean"), mean),
        ("lower end of the interval", pair[0], low),
        ("upper end of the interval", pair[1], high),
    ):
        if abs(found - right) > max(tolerance, 6e-5):  # four digits are enough
            raise Mismatch(f"from your values the {name} is {right:.4f}, not {found:.4f}")
    p = flipped([a - b for a, b in zip(first, second, strict=True)], task["sides"])
    found = number(record["p_value"], "the p-value")
    if abs(found - p) > 6e-5:
        raise Mismatch(f"from your values the p-value of the flip test is {p:.4f}, not {found:.4f}")
    return "supported" if low > 0 else "refuted" if high < 0 else "undecided"


def judge_record(question: Question, outputs: dict) -> tuple[float, str]:
    """A third each for what is declared, for the numbers, and for the verdict."""
    record, task = table(outputs.get("record"), RECORD, "RESULTS"), question.key["task"]
    _declared(record, task)
    try:
        verdict = _recomputed(record, task)
    except Mismatch as difference:
        return 1 / 3, f"the plan is complete, but {difference}"
    if record["verdict"] not in VERDICTS:
        return 2 / 3, f"plan and numbers are right; the verdict is one of {', '.join(VERDICTS)}"
    if record["verdict"] != verdict:
        return 2 / 3, f"plan and numbers are right, but by the interval the claim is {verdict}"
    return 1.0, f"plan, numbers and verdict fit together: the claim is {verdict}"


ITEMS = (
    Item(
        "interval", "A paired interval", 2, "paired_interval", ask_interval, collect_interval,
        judge_interval,
    ),
    Item("flips", "A test over seeds", 2, "flip_test", ask_flips, collect_flips, judge_flips),
    Item(
        "images", "A test on the same images", 2, "disagreement", ask_images, collect_images,
        judge_images,
    ),
    Item(
        "adjusted", "Several claims", 1, "adjusted", ask_adjusted, collect_adjusted, judge_adjusted
    ),
    Item("record", "The record", 3, "RESULTS", ask_record, collect_record, judge_record),
)  # fmt: skip

ASSIGNMENT = Assignment(
    "a5", "Test a claim", parameters, ITEMS, foreign=("scipy.stats", "statsmodels", "timm")
)
