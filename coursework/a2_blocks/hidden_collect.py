"""Collections of the hidden items of assignment 2; they are sent into the sandbox as text."""

from resnet_lib.assignments.a2 import collect

__all__ = ["collect"]
