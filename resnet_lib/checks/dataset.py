"""Checks of chapter 10, data."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from resnet_lib.checks.answers import function, kind, number, returned, same_tensor, shaped, tensor
from resnet_lib.checks.verdict import Draw, Mismatch, check


def _weights(labels: Tensor, classes: int) -> Tensor:
    counts = torch.bincount(labels, minlength=classes).double()
    weights = torch.where(counts > 0, 1 / counts, 0)
    return weights / weights[labels].mean()


@check
def check_class_weights(class_weights: Callable, *, draw: Draw) -> str:
    """Exercise 10.1: class_weights(labels, classes) -> a weight for each class."""
    class_weights = function(class_weights, "class_weights(labels, classes)")
    for classes, empty in ((3, False), (5, False), (4, True)):
        # Three of one class to begin with, and no class as frequent as another.
        counts = [3 + 4 * index + draw.integer(0, 3) for index in range(classes)]
        counts[1] *= not empty
        labels = torch.arange(classes).repeat_interleave(torch.tensor(counts))
        labels = labels[torch.randperm(len(labels), generator=draw.generator)]
        given = labels.clone()
        answer = tensor(class_weights(given, classes), "the weights")
        if not torch.equal(given, labels):
            raise Mismatch("the function changes the labels that it was given")
        if empty and answer.shape == (classes,) and not answer.isfinite().all():
            raise Mismatch("a class without an image has the weight 0, not infinity")
        expected, frequencies = _weights(labels, classes), torch.tensor(counts).double()
        inverse = torch.where(frequencies > 0, 1 / frequencies, 0)
        same_tensor(
            answer,
            expected,
            f"the weights for {counts} images",
            [
                (inverse, "scale the weights so that their mean over all images is 1"),
                (
                    inverse / inverse.sum(),
                    "the mean over all images is 1, not the sum over classes",
                ),
                (inverse / inverse.mean(), "take the mean over all images, not over the classes"),
                (frequencies / frequencies.mean(), "a frequent class gets the smaller weight"),
                (expected.sqrt(), "a class three times as frequent gets a third, not its root"),
            ],
            tolerance=1e-5,
        )
    return "rare classes weigh more, in the right proportion, and the mean over all images is 1"


@check
def check_split_groups(split_groups: Callable, *, draw: Draw) -> str:
    """Exercise 10.2: split_groups(groups, fraction, generator) -> mask of the images held out."""
    split_groups = function(split_groups, "split_groups(groups, fraction, generator)")
    names = torch.randperm(1000, generator=draw.generator)[:12] * 7 + 3
    sizes = draw.integers(1, 9, 12)
    groups = names.repeat_interleave(sizes)
    groups = groups[torch.randperm(len(groups), generator=draw.generator)]
    # No share of so many images is a whole number, so "at least" leaves no doubt.
    for fraction in (0.1037, 0.3031, 0.6053):
        seed = draw.integer(0, 10**6)
        generators = [torch.Generator().manual_seed(seed) for _ in range(2)]
        masks = [
            _mask(split_groups(groups.clone(), fraction, each), len(groups)) for each in generators
        ]
        if not torch.equal(*masks):
            raise Mismatch("the same generator gives two different splits: draw from it alone")
        order = groups.unique()
        order = order[torch.randperm(len(order), generator=torch.Generator().manual_seed(seed))]
        _judge_groups(masks[0], groups, order.tolist(), fraction)
    return "groups stay whole, and as many are held out as the share asks for"


def _mask(answer, count: int) -> Tensor:
    if isinstance(answer, Tensor) and answer.dtype != torch.bool:
        raise Mismatch(f"the mask should hold booleans; it holds {answer.dtype}")
    if not isinstance(answer, Tensor):
        raise Mismatch(f"the mask should be a tensor of booleans; it is {kind(answer)}")
    return shaped(answer, (count,), "the mask").bool()


def _judge_groups(held: Tensor, groups: Tensor, order: list[int], fraction: float) -> None:
    inside, outside = set(groups[held].tolist()), set(groups[~held].tolist())
    if divided := inside & outside:
        raise Mismatch(f"the images of group {min(divided)} lie on both sides")
    wanted, count, expected = fraction * len(groups), int(held.sum()), []
    while int(torch.isin(groups, torch.tensor(expected)).sum()) < wanted:
        expected.append(order[len(expected)])
    if inside == set(expected):
        return
    share = f"{count} of {len(groups)} images are held out"
    if count < wanted:
        raise Mismatch(f"{share}, less than the share of {fraction}")
    if inside > set(expected):
        raise Mismatch(f"{share}, and the share of {fraction} was reached with a group less")
    raise Mismatch(
        "other groups are held out than the first in the drawn order: bring groups.unique() into "
        "the order of one torch.randperm with the generator"
    )


def _merged(reports: list[tuple[float, float, float]]) -> tuple[float, float]:
    total = sum(count for count, _, _ in reports)
    mean = sum(count * mean for count, mean, _ in reports) / total
    squares = sum(count * (std**2 + middle**2) for count, middle, std in reports) / total
    return mean, (squares - mean**2) ** 0.5


@check
def check_merge(merge: Callable, *, draw: Draw) -> str:
    """Exercise 10.3: merge([(count, mean, std), ...]) -> mean and std of all pixels."""
    merge = function(merge, "merge(reports)")
    for parts in (4, 1, 2, 7):
        values = [
            draw.normal(10 * (index + 1) + draw.integer(0, 5)) * draw.uniform(0.1, 0.3)
            + (index % 3 + draw.uniform(0.2, 0.8)) / 4
            for index in range(parts)
        ]
        reports = [(len(v), v.mean().item(), v.std(correction=0).item()) for v in values]
        answer = returned(merge(list(reports)), 2, "merge(reports)")
        mean, std = (
            number(x, what) for x, what in zip(answer, ("the mean", "the std"), strict=True)
        )
        _judge_merge(mean, std, reports)
    return "the mean and the standard deviation are those of all pixels"


def _judge_merge(mean: float, std: float, reports: list[tuple[float, float, float]]) -> None:
    def equal(found: float, value: float) -> bool:
        return abs(found - value) <= 1e-7 * max(1.0, abs(value))

    total, parts = sum(count for count, _, _ in reports), len(reports)
    true_mean, true_std = _merged(reports)
    if not equal(mean, true_mean):
        if equal(mean, sum(middle for _, middle, _ in reports) / parts):
            raise Mismatch("the mean weighs all parts alike: weight each by its number of pixels")
        raise Mismatch(f"the mean of {parts} parts is {mean:.6f}; it should be {true_mean:.6f}")
    if equal(std, true_std):
        return
    within = sum(count * own**2 for count, _, own in reports) / total
    for value, words in (
        (within**0.5, "the means of the parts differ, too, and that spread is missing in the std"),
        (sum(own for *_, own in reports) / parts, "the mean of the stds is not the std of all"),
        (sum(count * own for count, _, own in reports) / total, "average variances, not stds"),
        (true_std**2, "that is the variance: take its root"),
        (
            true_std * (total / (total - 1)) ** 0.5,
            "divide by the count, not by the count minus one",
        ),
    ):
        if equal(std, value):
            raise Mismatch(words)
    raise Mismatch(f"the std of {parts} parts is {std:.6f}; it should be {true_std:.6f}")


def _hash(images: Tensor, rows: int = 8, columns: int = 9) -> Tensor:
    grey = F.adaptive_avg_pool2d(images.double().mean(1, keepdim=True), (rows, columns))
    return (grey[..., 1:] > grey[..., :-1]).flatten(1)


@check
def check_difference_hash(difference_hash: Callable, *, draw: Draw) -> str:
    """Exercise 10.4: difference_hash(images uint8 (N, C, H, W)) -> booleans (N, 64)."""
    difference_hash = function(difference_hash, "difference_hash(images)")
    for channels, side in ((1, 32), (3, 40), (3, 27)):
        images = draw.integers(0, 255, 6, channels, side, side).to(torch.uint8)
        # Channels that are unlike, so that their mean differs from each of them.
        answer = difference_hash(images.clone())
        expected = _hash(images)
        if isinstance(answer, Tensor) and answer.shape == (6, 8, 8):
            raise Mismatch("the hash has the shape (6, 8, 8): flatten it to 64 for each image")
        found = shaped(answer, (6, 64), f"the hash of 6 images with {channels} channels")
        if answer.dtype != torch.bool:
            raise Mismatch(f"the hash should hold booleans; it holds {answer.dtype}")
        # Where neighbours are as good as equal, rounding may decide.
        wrong = (found.bool() != expected).double().mean().item()
        if wrong > 0.02:
            _explain_hash(found.bool(), images, wrong)
    return "the 64 bits of each image are right"


def _explain_hash(found: Tensor, images: Tensor, wrong: float) -> None:
    grey = F.adaptive_avg_pool2d(images.double().mean(1, keepdim=True), (9, 8))
    first = F.adaptive_avg_pool2d(images[:, :1].double(), (8, 9))
    square = F.adaptive_avg_pool2d(images.double().mean(1, keepdim=True), (8, 8))
    bits = _hash(images)
    for value, words in (
        (~bits, "the bits are turned round: true is where the right one is brighter"),
        (bits.view(-1, 8, 8).transpose(1, 2).flatten(1), "the bits stand column by column"),
        ((grey[..., 1:, :] > grey[..., :-1, :]).flatten(1), "those are vertical neighbours"),
        ((first[..., 1:] > first[..., :-1]).flatten(1), "only the first channel is used"),
        (
            (square > square.mean((2, 3), keepdim=True)).flatten(1),
            "that compares with the mean of the image, which is another hash",
        ),
    ):
        if (found != value).double().mean() <= 0.02:
            raise Mismatch(words)
    raise Mismatch(f"{100 * wrong:.0f} % of the bits are wrong")
