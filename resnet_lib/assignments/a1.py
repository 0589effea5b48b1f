"""Assignment 1, convolution and batch norm: both by tensor operations, each with a twist."""

from resnet_lib.assignments.a1_convolution import (
    PADDING_MODES,
    ask_convolution,
    ask_field,
    ask_size,
    collect_convolution,
    collect_field,
    collect_size,
    judge_convolution,
    judge_field,
    judge_size,
)
from resnet_lib.assignments.a1_norm import (
    ask_dropout,
    ask_folded,
    ask_running,
    ask_training,
    collect_dropout,
    collect_folded,
    collect_running,
    collect_training,
    judge_dropout,
    judge_folded,
    judge_running,
    judge_training,
)
from resnet_lib.assignments.items import Assignment, Item
from resnet_lib.assignments.layers import choose

OPTIONS = {  # torch's own conventions are never all chosen at once
    "padding_mode": PADDING_MODES,
    "spread": ("dilation", "groups"),
    "momentum": (0.9, 0.8, 0.7),
    "momentum_of": ("old", "new"),
    "running_variance": ("n", "n - 1"),
    "dropout": ("evaluation", "training"),
}
PADDINGS = {
    "reflect": "mirrored at the border pixels, which are not repeated: a row 1 2 3 4 with "
    "padding 2 becomes 3 2 1 2 3 4 3 2",
    "replicate": "the border pixels, repeated: a row 1 2 3 4 with padding 2 becomes "
    "1 1 1 2 3 4 4 4",
    "circular": "taken from the other side: a row 1 2 3 4 with padding 2 becomes 3 4 1 2 3 4 1 2",
}
SPREADS = {
    "dilation": "`dilation` is the distance of neighbouring weights in pixels, 1 for a usual "
    "convolution. `weight` has the shape (out, in, k, k)",
    "groups": "`groups` divides the channels: the first in / groups input channels feed the first "
    "out / groups output channels, and so on. `weight` has the shape (out, in / groups, k, k)",
}
MOMENTA = {
    "old": "running = {m} · running + (1 - {m}) · new",
    "new": "running = (1 - {m}) · running + {m} · new",
}
VARIANCES = {
    "n": "the variance that the batch was divided with, that is, divided by n",
    "n - 1": "the variance of the batch divided by n - 1, although the batch itself is normalised "
    "with the one divided by n",
}
DROPOUTS = {
    "evaluation": "In training, what is kept stays as it is; in evaluation, every value is "
    "multiplied by 1 - p. This is dropout as it was first published",
    "training": "In training, what is kept is divided by 1 - p; in evaluation, nothing happens",
}


def parameters(variant: int) -> dict:
    """What this year's sheet asks, and the same in words."""
    task = choose("a1", variant, OPTIONS)
    return task | {
        "padding_words": PADDINGS[task["padding_mode"]],
        "spread_words": SPREADS[task["spread"]],
        "momentum_words": MOMENTA[task["momentum_of"]].format(m=task["momentum"]),
        "variance_words": VARIANCES[task["running_variance"]],
        "dropout_words": DROPOUTS[task["dropout"]],
    }


ITEMS = (
    Item("size", "The output's size", 1, "output_size", ask_size, collect_size, judge_size),
    Item(
        "convolution", "Convolution", 3, "convolve", ask_convolution, collect_convolution,
        judge_convolution,
    ),
    Item("field", "Receptive field", 1, "receptive_field", ask_field, collect_field, judge_field),
    Item(
        "training", "Batch norm in training", 2, "BatchNorm", ask_training, collect_training,
        judge_training,
    ),
    Item(
        "running", "Running statistics", 2, "BatchNorm", ask_running, collect_running,
        judge_running,
    ),
    Item("dropout", "Dropout", 1, "dropout", ask_dropout, collect_dropout, judge_dropout),
    Item("folded", "Folding", 2, "folded", ask_folded, collect_folded, judge_folded),
)  # fmt: skip

ASSIGNMENT = Assignment("a1", "Convolution and batch norm", parameters, ITEMS)
