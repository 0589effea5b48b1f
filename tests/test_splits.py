"""Which images: stratified, balanced, disjoint, nested, fixed by the seed."""

import numpy as np
import pytest
import torch

from resnet_lib import UserError, splits
from resnet_lib.splits import Selection, derived_generator

# Of very different sizes, and in no order.
LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [100, 37, 5]))


def counts(indices):
    return np.bincount(LABELS[indices], minlength=3).tolist()


def test_training_and_validation_part_the_images():
    train, val = (Selection(split).pick(LABELS, True) for split in ("train", "val"))
    both = Selection("train+val").pick(LABELS, True)
    assert not set(train) & set(val)
    assert sorted([*train, *val]) == both.tolist() == list(range(len(LABELS)))


def test_validation_is_stratified():
    assert counts(Selection("val", val_fraction=0.2).pick(LABELS, True)) == [20, 7, 1]
    # A class gives one image at the least, and keeps one.
    assert counts(Selection("val", val_fraction=0.01).pick(LABELS, True)) == [1, 1, 1]
    assert counts(Selection("train", val_fraction=0.99).pick(LABELS, True)) == [1, 1, 1]


def test_a_class_of_one_image_stays_in_training():
    labels = np.array([0, 1, 1])
    assert Selection("train").pick(labels, True)[0] == 0
    assert len(Selection("val").pick(labels, True)) == 1


def test_the_validation_part_is_no_stretch_of_the_images():
    val = Selection("val", val_fraction=0.3).pick(np.zeros(1000, int), True)
    # Uniform over 1,000 places: the mean of 300 has a standard deviation of 14.
    assert abs(val.mean() - 499.5) < 70


def test_a_part_of_its_own_is_not_divided():
    assert len(Selection("val").pick(LABELS, False)) == len(LABELS)


def test_the_seed_decides_the_parts():
    first, again, other = (Selection("val", seed=s).pick(LABELS, True) for s in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("limit", [3, 4, 10, 15])
def test_limit_is_exact_and_balanced(limit):
    indices = Selection("test", limit=limit).pick(LABELS, False)
    assert len(set(indices)) == limit
    assert max(counts(indices)) - min(counts(indices)) <= 1


def test_when_a_class_runs_out_the_others_fill_up():
    assert counts(Selection("test", limit=30).pick(LABELS, False)) in ([13, 12, 5], [12, 13, 5])
    assert counts(Selection("test", limit=10_000).pick(LABELS, False)) == [100, 37, 5]


def test_a_larger_limit_contains_a_smaller_one():
    small, large = (set(Selection("train", limit=n).pick(LABELS, True)) for n in (10, 25))
    assert small < large


def test_the_seed_decides_who_is_within_the_limit():
    first, other = (Selection("test", limit=9, seed=s).pick(LABELS, False) for s in (0, 1))
    assert not np.array_equal(first, other)


def test_unusable_images_are_replaced_and_leave_the_rest_as_it_was():
    selection = Selection("train", limit=30)
    before = selection.pick(LABELS, True)
    usable = np.ones(len(LABELS), bool)
    lost = next(index for index in before if LABELS[index] == 0)
    usable[lost] = False
    after = selection.pick(LABELS, True, usable)
    assert len(after) == 30 and lost not in after
    assert len(set(before) - set(after)) == 1
    val = Selection("val")
    assert not set(val.pick(LABELS, True, usable)) & set(after)
    assert np.array_equal(val.pick(LABELS, True), val.pick(LABELS, True, usable))


def test_splits_that_do_not_exist_are_listed():
    with pytest.raises(UserError, match=r"one of train, val, train\+val, test, got 'valid'"):
        Selection("valid")


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_impossible_fractions_are_refused(fraction):
    with pytest.raises(UserError, match="val_fraction must lie between 0 and 1"):
        Selection("val", val_fraction=fraction)


@pytest.mark.parametrize("limit", [-1, 0, 2])
def test_a_limit_below_the_number_of_classes_is_refused(limit):
    with pytest.raises(UserError, match=f"limit must be at least 3.*got {limit}"):
        Selection("train", limit=limit).check_limit("abc")


def test_derived_generators_differ_by_seed_and_purpose_and_repeat():
    def draw(*key):
        return torch.rand(4, generator=derived_generator(*key)).tolist()

    assert draw(0, "a") == draw(0, "a")
    assert len({tuple(draw(*key)) for key in [(0, "a"), (1, "a"), (0, "b"), (0, "a", 1)]}) == 4


def grouped(counts, size):
    """Labels and groups: of each class so many groups of so many images."""
    labels, groups = [], []
    for label, count in enumerate(counts):
        for number in range(count):
            labels += [label] * size
            groups += [f"{label}-{number}"] * size
    return np.array(labels), groups


@pytest.mark.parametrize("size", [1, 3])
def test_no_group_is_divided_and_every_class_gives_its_share(size):
    labels, groups = grouped((20, 10, 40), size)
    mask = splits.hold_out(labels, groups, 0.2, seed=1)
    inside = {group for group, chosen in zip(groups, mask, strict=True) if chosen}
    outside = {group for group, chosen in zip(groups, mask, strict=True) if not chosen}
    assert not inside & outside
    assert np.bincount(labels[mask]).tolist() == [4 * size, 2 * size, 8 * size]


def test_what_is_held_out_depends_on_the_seed_alone():
    labels, groups = grouped((20, 10), 2)
    first = splits.hold_out(labels, groups, 0.2, seed=1)
    assert np.array_equal(first, splits.hold_out(labels, groups, 0.2, seed=1))
    assert not np.array_equal(first, splits.hold_out(labels, groups, 0.2, seed=2))


@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.99])
def test_a_class_keeps_and_gives_a_group_however_large_they_are(fraction):
    labels = np.array([0] * 10 + [0, 1, 1])
    groups = ["big"] * 10 + ["small", "a", "b"]
    mask = splits.hold_out(labels, groups, fraction)
    for label in (0, 1):
        assert 0 < mask[labels == label].sum() < (labels == label).sum()


def test_a_single_group_cannot_be_divided():
    labels, groups = grouped((3, 1), 5)
    with pytest.raises(UserError, match="class 'dog' has 1 group of images"):
        splits.hold_out(labels, groups, 0.2, classes=("cat", "dog"))
    with pytest.raises(UserError, match="between 0 and 1"):
        splits.hold_out(labels, groups, 1.0)


def test_rare_images_repeat_until_the_classes_are_equal():
    labels = np.array([0] * 7 + [1] * 3 + [2])
    indices = splits.repeat_rare(labels)
    assert np.bincount(labels[indices]).tolist() == [7, 7, 7]
    times = np.bincount(indices)
    assert times[:7].tolist() == [1] * 7 and sorted(times[7:10]) == [2, 2, 3] and times[10] == 7
