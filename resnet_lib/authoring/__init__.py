"""From a master notebook with its solutions to the notebook that students get."""

from resnet_lib.authoring.author import questions, solved

__all__ = ["questions", "solved"]
