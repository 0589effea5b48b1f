"""Checks of a learner's answers: each compares an object with a reference and explains.

    from resnet_lib import checks

    checks.check_merged(merged)

A module of the package holds the checks of a chapter; its checks are named here by themselves.
"""

from resnet_lib.checks import convolution
from resnet_lib.checks.verdict import Mismatch, Verdict, check

PARTS = (convolution,)

__all__ = ["Mismatch", "Verdict", "check"]
for _part in PARTS:
    _names = [name for name in vars(_part) if name.startswith("check_")]
    globals().update({name: getattr(_part, name) for name in _names})
    __all__ += _names
