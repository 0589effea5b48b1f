"""Asking and judging half of the hidden item."""

from resnet_lib.assignments.items import Item, Mismatch, Question


def ask(draw, parameters):
    return Question({"kernels": [1] * draw.integer(7, 9)}, {"field": 1})


def judge(question, outputs):
    if outputs["field"] != question.key["field"]:
        raise Mismatch("SECRET: kernels of one pixel see one pixel")
    return "SECRET: one pixel"


ITEMS = (Item("ones", "SECRET: kernels of 1", 2, "receptive_field", ask, "collect_none", judge),)
