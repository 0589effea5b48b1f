"""How a folder is graded, and what of it is kept beside the marks."""

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import resnet_lib
from resnet_lib import UserError
from resnet_lib.assignments.items import Assignment
from resnet_lib.grading.marks import settings_in

SEED_BITS = 40  # as many as Draw can take


@dataclass(frozen=True)
class Options:
    """How to grade; None stands for what the assignment says."""

    assignment: str
    out: Path
    variant: int | None = None  # that of the folder of marks, else 0
    coursework: Path | None = None  # the folder of one assignment's hidden items
    seed: int | None = None
    seconds: float | None = None
    cell_seconds: float | None = None
    gigabytes: float | None = None
    trusting: bool = False  # no sandbox
    user: str | None = None  # without a sandbox: whose rights the notebooks have
    jobs: int = 1
    again: tuple[str, ...] = ()


def choose_settings(options: Options, assignment: Assignment) -> dict[str, Any]:
    """What is written beside the marks, so that they can be explained and repeated later."""
    before = settings_in(options.out)
    name = assignment.name
    if before and before.get("assignment") != name:
        other = before.get("assignment")
        raise UserError(
            f"{options.out} holds the marks of {other}: choose another --out for {name}"
        )
    variant, seed = before.get("variant"), before.get("seed")
    if variant is None:
        variant = options.variant or 0
    elif options.variant not in (None, variant):
        raise UserError(
            f"{options.out} holds marks of variant {variant}, and you asked for {options.variant}: "
            "choose another --out for it, or leave --variant out"
        )
    if options.seed is not None and not 0 <= options.seed < 2**SEED_BITS:
        raise UserError(f"seed must be from 0 to 2**{SEED_BITS} - 1, got {options.seed}")
    if seed is None:
        seed = secrets.randbits(SEED_BITS) if options.seed is None else options.seed
    elif options.seed not in (None, seed) and not options.again:
        raise UserError(
            f"{options.out} holds marks with seed {seed}: another one is for submissions that you "
            "name with --again"
        )
    return {
        "assignment": name,
        "variant": variant,
        "seed": seed,
        "version": resnet_lib.__version__,
        "sandbox": not options.trusting,
        "points": {item.name: item.points for item in assignment.items},
        "hidden": [item.name for item in assignment.items if item.hidden],
    }
