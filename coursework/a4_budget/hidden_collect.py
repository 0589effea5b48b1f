"""Collections of the hidden items of assignment 4; they are sent into the sandbox as text."""

from resnet_lib.assignments.a4 import collect

__all__ = ["collect"]
