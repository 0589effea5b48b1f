"""Generated shapes: sizes as told, balanced, and nothing but the object tells class or size."""

import math
import time

import numpy as np
import pytest
import torch
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.testing import assert_close

from resnet_lib import UserError, scaled_shapes
from resnet_lib.scaled_shapes import CLASSES, REACH, SHAPES, generate

NUISANCES = ("position", "angle", "colour", "background", "stripe", "contrast", "clutter")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def shapes():
    return generate(2000, seeded(), image_size=48, sizes=(8, 12, 16, 20))


def test_shapes_and_dtypes(shapes):
    images, labels, facts = shapes
    assert (images.shape, images.dtype) == ((2000, 3, 48, 48), torch.uint8)
    assert (labels.shape, labels.dtype) == ((2000,), torch.int64)
    assert (facts["mask"].shape, facts["mask"].dtype) == ((2000, 48, 48), torch.bool)
    assert set(facts) == {"size", "mask", *NUISANCES}
    assert {len(values) for values in facts.values()} == {2000}
    assert len(set(CLASSES)) == 10


def test_every_class_comes_in_every_size_equally_often(shapes):
    _, labels, facts = shapes
    cells = torch.stack([labels, facts["size"]], 1)
    unique, counts = torch.unique(cells, dim=0, return_counts=True)
    assert len(unique) == 40 and set(counts.tolist()) == {50}


@pytest.mark.parametrize("count", [1, 7, 10, 23, 99, 137])
def test_any_number_is_as_balanced_as_it_can_be(count):
    _, labels, facts = generate(count, seeded(), image_size=24, sizes=(6, 8, 10))
    by_class = torch.bincount(labels, minlength=10)
    assert by_class.max() - by_class.min() <= 1
    for label in range(10):
        sizes = facts["size"][labels == label]
        by_size = [int((sizes == size).sum()) for size in (6, 8, 10)]
        assert max(by_size) - min(by_size) <= 1
    by_size = torch.bincount(facts["size"], minlength=11)[[6, 8, 10]]
    assert by_size.max() - by_size.min() <= 2


def test_two_calls_can_be_balanced_together():
    first, second = generate(13, seeded(), image_size=24), generate(7, seeded(), start=13)
    assert torch.bincount(torch.cat([first[1], second[1]])).tolist() == [2] * 10


def test_size_is_the_root_of_the_area_of_every_class(shapes):
    _, labels, facts = shapes
    roots = facts["mask"].flatten(1).sum(1).double().sqrt()
    for label in range(10):
        for size in (8, 12, 16, 20):
            found = roots[(labels == label) & (facts["size"] == size)]
            # The pixel grid adds noise of a fraction of a pixel to each of these 50 objects.
            assert_close(found.mean().item(), float(size), atol=0.12, rtol=0)
            assert (found - size).abs().max() < 1


@pytest.mark.parametrize("shape", SHAPES)
def test_reach_holds_for_every_shape_and_is_met_by_one(shape):
    axis = torch.linspace(-30, 30, 1201)
    u, v = torch.meshgrid(axis, axis, indexing="xy")
    inside = SHAPES[shape](u, v, torch.tensor(30.0)) < 0
    farthest = torch.hypot(u, v)[inside].max().item()
    assert farthest <= 30 * REACH
    assert (farthest > 30 * REACH - 0.2) == (shape == "triangle")
    assert_close(inside.sum().item() * 0.05**2, 30.0**2, rtol=0.005, atol=0)


@pytest.mark.parametrize("sizes", [(8, 12, 16, 20), (4, 48 / (2 * REACH))])
def test_every_object_lies_inside_and_has_the_room_of_the_largest(sizes):
    _, _, facts = generate(2000, seeded(), image_size=48, sizes=sizes)
    margin = REACH * max(sizes)
    position = facts["position"]
    assert position.min() >= margin - 1e-4 and position.max() <= 48 - margin + 1e-4
    if margin < 20:
        for size in sizes:
            # The smallest and the largest of 1,000 uniform numbers come close to the ends.
            found = position[facts["size"] == size]
            assert found.min() < margin + 0.5 and found.max() > 48 - margin - 0.5
    # What was cut off at the edge would be missing from the area.
    roots = facts["mask"].flatten(1).sum(1).double().sqrt()
    assert (roots - facts["size"]).abs().max() < 1


def test_the_mask_lies_where_the_position_says(shapes):
    _, _, facts = shapes
    centres = torch.arange(48) + 0.5
    mask = facts["mask"].float()
    area = mask.sum((1, 2))
    x, y = (mask.sum(1) * centres).sum(1) / area, (mask.sum(2) * centres).sum(1) / area
    assert_close(torch.stack([x, y], 1), facts["position"], atol=0.5, rtol=0)


def test_pixels_under_the_mask_have_the_objects_colour(shapes):
    images, labels, facts = shapes
    for index in range(200):
        inner = facts["mask"][index]
        found = images[index][:, inner].double().mean(1) / 255
        wanted, ground = (facts[key][index].double() for key in ("colour", "background"))
        if CLASSES[labels[index]].startswith("plain"):
            # Pixels of the outline are mixed with the background.
            assert (found - wanted).norm() < 0.35 * (found - ground).norm()
        outer = images[index][:, ~inner].double().mean(1) / 255
        assert (outer - ground).norm() < (outer - wanted).norm()


def test_striped_objects_vary_in_colour_and_plain_ones_do_not():
    images, labels, facts = generate(200, seeded(), image_size=64, sizes=(32,))
    for index in range(200):
        # Two pixels away from the outline, where nothing is mixed.
        mask = facts["mask"][index][None, None].float()
        inner = -torch.nn.functional.max_pool2d(-mask, 5, 1, 2)[0, 0] > 0
        spread = images[index][:, inner].double().std(1).norm() / 255
        step = facts["stripe"][index].norm()
        striped = CLASSES[labels[index]].startswith("striped")
        assert spread > 0.7 * step if striped else spread < 1e-9


def test_contrast_is_the_distance_of_the_two_colours_and_stripes_leave_it_alone(shapes):
    _, _, facts = shapes
    away = facts["colour"] - facts["background"]
    assert_close(away.norm(dim=1), facts["contrast"])
    assert_close((away * facts["stripe"]).sum(1), torch.zeros(2000), atol=1e-5, rtol=0)
    assert_close(facts["stripe"].norm(dim=1), facts["contrast"] / 2)
    assert facts["contrast"].min() >= 0.3 and facts["contrast"].max() <= 0.5
    assert facts["clutter"].min() >= 0.05 and facts["clutter"].max() <= 0.2


def test_clutter_spreads_the_background():
    images, _, facts = generate(400, seeded(), image_size=64, sizes=(4,))
    spread = images.double().std((2, 3)).mean(1)
    assert np.corrcoef(spread, facts["clutter"])[0, 1] > 0.9


def nuisance_table(facts):
    columns = [facts[key].reshape(len(facts["angle"]), -1) for key in NUISANCES]
    return torch.cat(columns, 1).numpy()


CLASSIFIERS = {
    "linear": make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)),
    "trees": ExtraTreesClassifier(60, min_samples_leaf=5, random_state=0),
}


def accuracy_above_chance(table, target, classifier):
    """Cross-validated accuracy less chance, in standard deviations of guessing."""
    target = np.asarray(target)
    chance = np.bincount(np.unique(target, return_inverse=True)[1]).max() / len(target)
    right = (cross_val_predict(CLASSIFIERS[classifier], table, target, cv=4) == target).mean()
    return (right - chance) / math.sqrt(chance * (1 - chance) / len(target))


@pytest.mark.parametrize("classifier", CLASSIFIERS)
@pytest.mark.parametrize("target", ["class", "shape", "texture", "size"])
def test_nuisances_tell_neither_class_nor_size(shapes, target, classifier):
    _, labels, facts = shapes
    targets = {
        "class": labels,
        "shape": labels % len(SHAPES),
        "texture": labels // len(SHAPES),
        "size": facts["size"],
    }
    # Cross-validation scatters a little more than guessing does; a leak gives far more than this.
    assert accuracy_above_chance(nuisance_table(facts), targets[target], classifier) < 4


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_that_check_notices_a_weak_leak(shapes, classifier):
    _, labels, facts = shapes
    leaky = dict(facts, angle=facts["angle"] + 0.3 * (labels // len(SHAPES)) * 2 * math.pi)
    table = nuisance_table(leaky)
    assert accuracy_above_chance(table, labels // len(SHAPES), classifier) > 6


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_the_mean_colour_of_the_image_does_not_tell_the_class(shapes, classifier):
    images, labels, _ = shapes
    means = images.double().mean((2, 3)).numpy()
    assert accuracy_above_chance(means, labels, classifier) < 4


def test_the_same_state_gives_the_same_images_and_another_seed_others():
    first, again, other = (generate(40, seeded(seed), image_size=32) for seed in (5, 5, 6))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    for key, values in first[2].items():
        assert torch.equal(values, again[2][key])
    assert not set(map(bytes, first[0].numpy())) & set(map(bytes, other[0].numpy()))


def test_how_many_are_drawn_at_once_plays_no_part(monkeypatch):
    before = generate(100, seeded(), image_size=32)
    monkeypatch.setattr(scaled_shapes, "CHUNK", 3)
    after = generate(100, seeded(), image_size=32)
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[2]["mask"], after[2]["mask"])


def test_default_sizes_grow_with_the_image_and_fit():
    assert scaled_shapes.default_sizes(64) == (8, 12, 16, 24)
    for side in (8, 9, 16, 32, 33, 224):
        images, _, facts = generate(10, seeded(), image_size=side)
        assert images.shape[-1] == side
        assert set(facts["size"].tolist()) <= set(scaled_shapes.default_sizes(side))


def test_a_size_that_does_not_fit_says_what_would():
    with pytest.raises(UserError, match="size 40 px needs image_size of at least 71, got 64"):
        generate(10, seeded(), image_size=64, sizes=(8, 40))
    generate(10, seeded(), image_size=71, sizes=(8, 40))


@pytest.mark.parametrize("sizes", [(), (3,), (8, 8), 3, (0,), (-5, 8)])
def test_other_impossible_sizes_are_refused(sizes):
    with pytest.raises(UserError, match="different numbers of 4 px or more"):
        generate(10, seeded(), sizes=sizes)


def test_one_size_may_be_a_plain_number():
    assert generate(10, seeded(), sizes=9)[2]["size"].tolist() == [9] * 10


def test_two_thousand_images_a_second_at_64_pixels():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = []
        # Processor time, and the best of several: other work on the machine hardly counts.
        for _ in range(5):
            start = time.process_time()
            generate(1000, seeded(), image_size=64)
            seconds.append(time.process_time() - start)
    finally:
        torch.set_num_threads(threads)
    assert 1000 / min(seconds) >= 2000
