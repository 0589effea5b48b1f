"""Hidden items of assignment 2: cases that the self-checks leave out."""

from resnet_lib.assignments.a2 import judge_behaviour, question
from resnet_lib.assignments.items import Item


def ask_edges(draw, task):
    """A stride without new channels, a wider image than high, and a single image."""
    e = task["expansion"]
    sizes = [(e * 4, 4, 2, 6, 6, 2), (e * 3, 5, 2, 4, 10, 1), (e * 3, 5, 1, 5, 3, 1)]
    return question(draw, task, sizes)


ITEMS = (Item("edges", "Unusual sizes", 1, "Block", ask_edges, "collect", judge_behaviour),)
