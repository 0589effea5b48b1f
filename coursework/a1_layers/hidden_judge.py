"""Hidden items of assignment 1: cases that the self-checks leave out."""

from resnet_lib.assignments.a1_convolution import convolution_question, judge_convolution
from resnet_lib.assignments.items import Item


def ask_corners(draw, task):
    """Wider than high, a kernel of one pixel, an even kernel, a stride beyond the kernel."""
    sizes = [
        (4, 2, 3, 6, 9, 2, 1, 1, 2),
        (2, 4, 1, 5, 4, 1, 2, 0, 1),
        (4, 4, 2, 8, 5, 1, 3, 2, 2),
    ]
    return convolution_question(draw, task, sizes)


ITEMS = (
    Item(
        "corners", "Unusual sizes", 1, "convolve", ask_corners, "collect_convolution",
        judge_convolution,
    ),
)  # fmt: skip
