"""Checks of a learner's answers: each compares an object with a reference and explains::

    from resnet_lib import checks

    checks.check_merged(merged)

A module holds the checks of a chapter. Every function whose name starts with ``check_`` is named
here.
"""

from resnet_lib.checks import (
    blocks,
    bottlenecks,
    convolution,
    costs,
    degradation,
    introduction,
    machine,
    metrics,
    networks,
    normalisation,
    pyramid,
    training,
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
    training,
    metrics,
)

__all__ = ["Mismatch", "Verdict", "check"]
for _part in PARTS:
    _names = [name for name in vars(_part) if name.startswith("check_")]
    globals().update({name: getattr(_part, name) for name in _names})
    __all__ += _names
