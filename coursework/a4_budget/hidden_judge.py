"""Hidden items of assignment 4: whether the network is ready for use."""

from resnet_lib.assignments.a4 import ask_form, formed
from resnet_lib.assignments.items import Item
from resnet_lib.checks.answers import same_tensor


def judge_alone(question, outputs):
    """An image alone has the scores that it has among others: the network is set to evaluate."""
    scores = formed(question, outputs)
    what = "the scores of an image alone"
    same_tensor(outputs.get("alone"), scores[:3], what, tolerance=1e-3)
    if scores.std(0).max() < 1e-6:
        return 0.0, "all images have the same scores"
    return "an image has the same scores alone and among others"


ITEMS = (Item("alone", "Ready for use", 1, "train_model", ask_form, "collect", judge_alone),)
