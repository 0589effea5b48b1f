"""Checks of a learner's answers: each compares an object with a reference and explains::

    from resnet_lib import checks

    checks.check_merged(merged)

A module holds the checks of a chapter. Every function whose name starts with ``check_`` is named
here. The self-checks of the assignments are here, too: ``checks.check_a2_stride(Block)`` for the
item "stride" of a2; they are loaded when they are asked for.
"""

import importlib
import re
from collections.abc import Callable

from resnet_lib.checks import (
    blocks,
    bottlenecks,
    comparison,
    conventions,
    convolution,
    costs,
    dataset,
    degradation,
    explanation,
    introduction,
    machine,
    metrics,
    networks,
    normalisation,
    pyramid,
    recipes,
    scaling,
    serving,
    training,
    transfer,
)
from resnet_lib.checks.verdict import Mismatch, Verdict, check

PARTS = (
    introduction,
    machine,
    convolution,
    normalisation,
    degradation,
    blocks,
    costs,
    bottlenecks,
    networks,
    pyramid,
    dataset,
    training,
    recipes,
    scaling,
    metrics,
    comparison,
    explanation,
    serving,
    conventions,
    transfer,
)

__all__ = ["Mismatch", "Verdict", "check"]
for _part in PARTS:
    _names = [name for name in vars(_part) if name.startswith("check_")]
    globals().update({name: getattr(_part, name) for name in _names})
    __all__ += _names


def __getattr__(name: str) -> Callable:
    """``check_a2_stride``: the self-check of an assignment's item."""
    parts = re.fullmatch(r"check_(a\d+)_(\w+)", name)
    if parts:
        # By name, since the assignments are made of checks and import this package.
        assignments = importlib.import_module("resnet_lib.assignments")
        if parts[1] in assignments.names():
            assignment = assignments.find(parts[1])
            if parts[2] in [item.name for item in assignment.items]:
                return assignments.items.as_check(assignment, parts[2])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
