"""From a master notebook with its solutions to the notebook that students get."""

from resnet_lib.authoring.author import installs_nothing, questions, solved

__all__ = ["installs_nothing", "questions", "solved"]
