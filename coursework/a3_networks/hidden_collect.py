"""Collections of the hidden items of assignment 3; they are sent into the sandbox as text."""

from resnet_lib.assignments.a3 import collect_list

__all__ = ["collect_list"]
