import numpy as np
import pytest
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from scipy import stats
from torch import nn

from resnet_lib import UserError, data, explain, models, pyramid
from resnet_lib.augment import normalize

LAYERS = {"C2": "layer1", "C3": "layer2", "C4": "layer3", "C5": "layer4"}
FACTS = {
    *("images", "right", "zero", "inside", "inside_right", "inside_wrong"),
    *("chance", "other", "best", "points", "can_point"),
}


def network(name="resnet18", seed=0, **options):
    """Not zero-initialised, and with running statistics that fit, so that no map is trivial."""
    torch.manual_seed(seed)
    model = models.build(name, 5, **{"width": 8, "stem": "small", **options})
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            nn.init.normal_(module.bias, std=0.2)
    model.train()(torch.randn(16, options.get("in_channels", 3), 64, 64))
    return model.eval()


def some_images(count=6, channels=3, side=64):
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(1))


# Grad-CAM


def theirs(model, layer, images, classes, raw=False):
    """pytorch-grad-cam's map at the image's size; ``raw`` at the layer's, before scaling."""
    targets = [ClassifierOutputTarget(label) for label in classes.tolist()]
    with GradCAM(model, [explain.find(model, layer)]) as cam:
        final = torch.from_numpy(cam(images, targets))
        if not raw:
            return final
        seen = cam.activations_and_grads
        parts = seen.activations[0].numpy(), seen.gradients[0].numpy()
        found = cam.get_cam_image(images, None, targets, *parts)
        return torch.from_numpy(np.maximum(found, 0))


@pytest.mark.parametrize("layer", ["C2", "C3", "C4", "C5", "layer3.1", "layer4.0.conv1"])
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_equal_to_pytorch_grad_cam(name, layer):
    model, images, classes = network(name), some_images(), torch.tensor([0, 1, 2, 3, 4, 0])
    maps = explain.grad_cam(model, images, classes, [layer])[layer]
    want = theirs(model, layer, images, classes, raw=True)
    assert want.amax((1, 2)).min() > 0 and want.flatten(1).std(1).min() > 0
    torch.testing.assert_close(maps, want, rtol=1e-4, atol=1e-6 * want.max().item())
    # They scale before and after enlarging, with 1e-7 added to each divisor.
    final = explain.to_unit(explain.enlarge(explain.to_unit(maps), 64))
    want = theirs(model, layer, images, classes)
    torch.testing.assert_close(final, want, rtol=0, atol=1e-4)


def test_all_layers_in_one_pass_are_the_same_as_one_by_one():
    model, images, classes = network(), some_images(), torch.tensor([0, 1, 2, 3, 4, 0])
    together = explain.grad_cam(model, images, classes, explain.STAGES)
    assert list(together) == list(explain.STAGES)
    assert [x.shape for x in together.values()] == [(6, s, s) for s in (64, 32, 16, 8)]
    for layer, maps in together.items():
        torch.testing.assert_close(maps, explain.grad_cam(model, images, classes, [layer])[layer])


def test_images_of_a_batch_do_not_mix():
    model, images, classes = network(), some_images(), torch.tensor([0, 1, 2, 3, 4, 0])
    together = explain.grad_cam(model, images, classes)["C5"]
    for index in range(6):
        one = slice(index, index + 1)
        alone = explain.grad_cam(model, images[one], classes[one])["C5"]
        torch.testing.assert_close(together[one], alone, rtol=1e-4, atol=1e-6)


def test_c5_of_a_network_with_mean_pooling_is_the_class_activation_map():
    """There the gradient of a logit is the row of ``fc``, everywhere: Zhou et al. 2016."""
    model, images = network(), some_images()
    maps = explain.grad_cam(model, images, torch.full((6,), 3))["C5"]
    with torch.no_grad():
        c5 = model.features(images)["C5"]
        want = torch.relu(torch.einsum("k,nkhw->nhw", model.fc.weight[3], c5)) / c5[0, 0].numel()
    torch.testing.assert_close(maps, want, rtol=1e-4, atol=1e-6)


def test_without_classes_those_predicted():
    model, images = network(), some_images()
    with torch.no_grad():
        model.fc.bias -= model(images).mean(0)  # so that not all images get the same answer
        answers = model(images).argmax(1)
    assert len(answers.unique()) > 1
    found, want = explain.grad_cam(model, images), explain.grad_cam(model, images, answers)
    assert torch.equal(found["C5"], want["C5"])
    other = explain.grad_cam(model, images, (answers + 1) % 5)["C5"]
    assert not torch.allclose(found["C5"], other, rtol=0.1)


def test_nothing_is_left_behind():
    model, images = network().requires_grad_(False), some_images()
    with torch.no_grad():
        before = model(images)
        explain.grad_cam(model, images, layers=explain.STAGES)  # also where gradients are off
    assert not images.requires_grad and all(p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(model(images), before)


def test_hooks_end_after_an_error():
    model = network()
    with pytest.raises(RuntimeError), explain.outputs(model, ["C2"]):
        model(torch.randn(1, 7, 64, 64))
    assert not any(module._forward_hooks for module in model.modules())


def test_a_relu_in_place_does_not_change_what_is_kept():
    model, images = network(), some_images()
    with torch.no_grad(), explain.outputs(model, ["layer1.0.bn1"]) as kept:
        logits = model(images)
    assert kept["layer1.0.bn1"].min() < 0
    with torch.no_grad():
        assert torch.equal(logits, model(images))


def test_unknown_layers_are_named():
    for layer in ("C6", "layer9", ""):
        with pytest.raises(UserError, match="no layer"):
            explain.find(network(), layer)


# Maps and masks


@pytest.mark.parametrize(("cells", "size"), [(2, 64), (4, 64), (16, 64), (3, 32), (5, 5)])
def test_enlarging_by_cells_is_torch_s_bilinear_interpolation(cells, size):
    maps = torch.randn(3, cells, cells, generator=torch.Generator().manual_seed(0))
    want = nn.functional.interpolate(maps[:, None], (size, size), mode="bilinear")[:, 0]
    torch.testing.assert_close(explain.enlarge(maps, size), want, rtol=1e-5, atol=1e-5)


def test_enlarging_by_fields_puts_each_value_at_the_centre_of_its_field():
    row = explain.enlarge(torch.tensor([[[0.0, 1.0], [0.0, 1.0]]]), 8, "fields")[0, 5]
    torch.testing.assert_close(row, torch.tensor([0, 0.25, 0.5, 0.75, 1, 1, 1, 1]))
    maps = torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(0))
    large = explain.enlarge(maps, 64, "fields")
    field = pyramid.receptive_field(models.resnet50(width=1))["C4"]
    assert (field.jump, field.offset) == (16, 0)
    where = [int(field.offset + field.jump * index) for index in range(4)]
    torch.testing.assert_close(large[:, where][:, :, where], maps)


def test_an_unknown_place_is_named():
    with pytest.raises(UserError, match="place must be one of cells, fields"):
        explain.enlarge(torch.rand(1, 2, 2), 4, "middle")


def test_to_unit():
    maps = torch.stack([torch.tensor([[1.0, 3.0], [2.0, 5.0]]), torch.full((2, 2), 7.0)])
    want = torch.tensor([[[0, 0.5], [0.25, 1]], [[0, 0], [0, 0]]])
    torch.testing.assert_close(explain.to_unit(maps), want)


def test_share_inside_by_hand():
    mask = torch.zeros(4, 4, 4, dtype=torch.bool)
    mask[:, 1, 1:3] = True
    maps = torch.zeros(4, 4, 4)
    maps[0, 1, 1], maps[0, 3, 3] = 3, 1  # three quarters inside
    maps[1, 1, 2] = 0.25  # all of it
    maps[2] = 5  # no preference
    shares = explain.share_inside(maps, mask)
    assert shares.dtype == torch.float64 and shares[:3].tolist() == [0.75, 1, 2 / 16]
    assert shares[3].isnan()  # the map is zero


def test_share_inside_enlarges_coarse_maps():
    maps = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    masks = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(1)) < 0.3
    fine = explain.enlarge(maps, 32)
    want = [(fine[i][masks[i]].sum() / fine[i].sum()).item() for i in range(3)]
    assert explain.share_inside(maps, masks).tolist() == pytest.approx(want)


def shapes(**options):
    return data.load("scaled-shapes", "test", **{"limit": 60, "sizes": (8, 20), **options})


@pytest.mark.parametrize("place", explain.PLACES)
@pytest.mark.parametrize("cells", [2, 4, 8])
def test_no_map_does_better_than_the_best(cells, place):
    masks, generator = shapes().attributes["mask"], torch.Generator().manual_seed(0)
    best = explain.best_share(masks, cells, place)
    assert best.shape == (60,)
    for power in (1, 20):  # the larger, the fewer cells have all of the sum
        maps = torch.rand(60, cells, cells, generator=generator) ** power
        assert (explain.share_inside(maps, masks, place) <= best + 1e-9).all()
    each = []
    for cell in range(cells**2):
        one = torch.zeros(cells**2)
        one[cell] = 2
        one = one.view(1, cells, cells).expand(60, -1, -1)
        each.append(explain.share_inside(one, masks, place))
    torch.testing.assert_close(torch.stack(each).amax(0), best)


def test_pointing_looks_at_the_centre_of_the_largest_cell():
    masks = torch.zeros(3, 8, 8, dtype=torch.bool)
    masks[0, 2, 6] = True  # the centre of row 0, column 1 of 2 x 2 cells
    masks[1, 2, 2] = True
    maps = torch.tensor([[[0.1, 0.9], [0.5, 0.2]]]).expand(3, -1, -1)
    assert explain.points_inside(maps, masks).tolist() == [True, False, False]
    assert explain.centres(masks, 2)[0].tolist() == [[False, True], [False, False]]


# On scaled shapes


def test_energy_inside_in_batches():
    model, test = network(stem="imagenet"), shapes()
    images, masks = normalize(test.images, test.mean, test.std), test.attributes["mask"]
    classes = test.labels % 5
    maps = explain.grad_cam(model, images, classes, ["C3"])["C3"]
    for place in explain.PLACES:
        shares = explain.energy_inside(model, images, classes, masks, "C3", place, batch_size=7)
        want = explain.share_inside(maps, masks, place)
        torch.testing.assert_close(shares, want, rtol=1e-4, atol=1e-6, equal_nan=True)
    blind = maps.flatten(1).sum(1) == 0
    assert 0 < blind.sum() < 30 and torch.equal(shares.isnan(), blind)
    assert shares.shape == (60,) and shares[~blind].min() >= 0 and shares[~blind].max() <= 1
    assert shares[~blind].std() > 0


def test_objects_met_by_known_maps():
    test = shapes(image_size=32, sizes=(6, 12))
    masks, sizes = test.attributes["mask"], test.attributes["size"]
    maps = masks.float()
    small, large = (sizes == 6).nonzero()[:, 0], (sizes == 12).nonzero()[:, 0]
    maps[small[:3]] = 0  # blind for three small ones
    maps[large] = 1  # and without a preference for the large ones
    predictions = torch.zeros(60, dtype=torch.int64)
    found = explain.meet_objects(predictions, {"C2": maps}, test)
    assert list(found) == ["C2"] and list(found["C2"]) == ["6", "12"]
    six, twelve = found["C2"].values()
    assert six.keys() == twelve.keys() == FACTS
    assert six["images"] == twelve["images"] == 30 and (six["zero"], twelve["zero"]) == (3, 0)
    assert six["right"] == (test.labels[small] == 0).sum() > 0
    area = masks.double().mean((1, 2))
    for facts, rows in ((six, small[3:]), (twelve, large)):
        assert facts["chance"] == pytest.approx(area[rows].mean().item())
    assert six["inside"] == six["best"] == six["points"] == six["can_point"] == 1
    assert six["inside_right"] == six["inside_wrong"] == 1
    mine, others = masks[small[3:]], masks[small[3:]].roll(1, 0)
    want = ((mine & others).sum((1, 2)) / others.sum((1, 2))).double().mean().item()
    assert six["other"] == pytest.approx(want)
    assert twelve["inside"] == twelve["other"] == pytest.approx(twelve["chance"])
    right = test.labels[large] == 0
    assert twelve["inside_right"] == pytest.approx(area[large][right].mean().item())
    assert twelve["inside_wrong"] == pytest.approx(area[large][~right].mean().item())


@pytest.mark.parametrize("place", explain.PLACES)
def test_objects_met_at_a_coarse_resolution(place):
    test = shapes(limit=40)
    masks, chosen = test.attributes["mask"], test.attributes["size"] == 20
    maps = nn.functional.avg_pool2d(masks[:, None].float(), 16)[:, 0]
    found = explain.meet_objects(test.labels, {"C4": maps}, test, place)["C4"]["20"]
    shares = explain.share_inside(maps[chosen], masks[chosen], place)
    assert found["inside"] == pytest.approx(shares.mean().item())
    best = explain.best_share(masks[chosen], 4, place).mean().item()
    assert found["best"] == pytest.approx(best) and found["inside"] < best
    points = explain.points_inside(maps[chosen], masks[chosen]).double().mean().item()
    can_point = explain.centres(masks[chosen], 4).flatten(1).any(1).double().mean().item()
    assert found["points"] == points and found["can_point"] == can_point
    if place == "cells":  # the masks were averaged over cells, so there the maps belong
        elsewhere = explain.meet_objects(test.labels, {"C4": maps}, test, "fields")["C4"]["20"]
        assert found["inside"] > elsewhere["inside"] + 0.05


def test_where_no_map_is_left_there_is_no_mean():
    test = shapes(limit=20)
    found = explain.meet_objects(test.labels, {"C2": torch.zeros(20, 4, 4)}, test)["C2"]["8"]
    assert found["zero"] == found["images"] == found["right"] == 10
    assert {found[key] for key in FACTS - {"images", "zero", "right"}} == {None}


def test_energy_by_size_is_of_the_predictions():
    model, test = network(stem="imagenet"), shapes()
    predictions, maps = explain.predict_and_explain(model, test, ["C3"])
    want = explain.meet_objects(predictions, maps, test)
    assert explain.energy_by_size(model, test, ["C3"]) == want


def test_predictions_are_those_of_the_network():
    model, test = network(stem="imagenet").train(), shapes()
    predictions, maps = explain.predict_and_explain(model, test, ["C4"], batch_size=32)
    assert not model.training
    images = normalize(test.images, test.mean, test.std)
    with torch.no_grad():
        assert torch.equal(predictions, model(images).argmax(1))
    assert len(predictions.unique()) > 1
    want = explain.grad_cam(model, images, predictions, ["C4"])["C4"]
    torch.testing.assert_close(maps["C4"], want, rtol=1e-3, atol=1e-6)


def test_roaming_objects_use_their_room():
    test = shapes(limit=40)
    roaming = explain.roaming(test, 30)
    assert len(roaming) == 60 and roaming.mean == test.mean and roaming.std == test.std
    sizes, position = roaming.attributes["size"], roaming.attributes["position"]
    assert (sizes == 8).sum() == (sizes == 20).sum() == 30
    spread = [position[sizes == size].std(0).min().item() for size in (8, 20)]
    assert spread[0] > 1.5 * spread[1]
    for key in ("colour", "background", "angle"):  # the same scenes
        assert torch.equal(*(roaming.attributes[key][sizes == size] for size in (8, 20)))
    area = roaming.attributes["mask"].flatten(1).sum(1).double().sqrt()
    torch.testing.assert_close(area, sizes.double(), rtol=0.1, atol=0)


# Random weights


def test_rank_correlation_is_scipy_s():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.rand(2, 5, 4, 4, generator=generator).unbind()
    first = first.clamp(min=0.4)  # equal values, as where a map is zero
    second[0] = first[0] ** 3
    second[1] = -first[1]
    found = explain.rank_correlation(first, second)
    want = [
        stats.spearmanr(a.flatten(), b.flatten()).statistic
        for a, b in zip(first, second, strict=True)
    ]
    torch.testing.assert_close(found, torch.tensor(want, dtype=torch.double))
    assert found[0] == pytest.approx(1) and found[1] == pytest.approx(-1)
    assert explain.rank_correlation(first, torch.ones(5, 4, 4)).isnan().all()


def batch():
    return torch.randn(32, 3, 64, 64, generator=torch.Generator().manual_seed(3))


def differing(model, other):
    """The parts in which a parameter differs."""
    return {
        name.split(".")[0]
        for (name, one), two in zip(model.named_parameters(), other.parameters(), strict=True)
        if not torch.equal(one, two)
    }


def test_randomised_parts_are_new_and_the_rest_is_the_same():
    model = network("resnet18", stem="imagenet")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    for count in range(1, len(explain.PARTS) + 1):
        parts = explain.PARTS[:count]
        changed = explain.randomised(model, batch(), parts, seed=0)
        assert differing(model, changed) == set(parts) and not changed.training
    assert torch.equal(torch.rand(1), expected)  # the global generator was left alone
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    again, other = (explain.randomised(model, batch(), ["fc"], seed) for seed in (0, 1))
    one = explain.randomised(model, batch(), ["fc"], seed=0)
    assert torch.equal(one.fc.weight, again.fc.weight)
    assert not torch.equal(one.fc.weight, other.fc.weight)


def test_only_random_parts_get_new_statistics_and_these_fit():
    model, images = network("resnet18", stem="imagenet"), batch()
    changed = explain.randomised(model, images, ["fc", "layer4"], seed=0)
    for name, module in changed.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            old = model.get_submodule(name).running_mean
            assert torch.equal(module.running_mean, old) != name.startswith("layer4")
    with torch.no_grad(), explain.outputs(changed, ["layer4.1.bn2"]) as kept:
        changed(images)
    normal = kept["layer4.1.bn2"]
    torch.testing.assert_close(normal.mean((0, 2, 3)), torch.zeros(64), rtol=0, atol=0.02)
    torch.testing.assert_close(normal.std((0, 2, 3)), torch.ones(64), rtol=0.05, atol=0)


def test_cascade():
    model, images = network("resnet18", stem="imagenet"), batch()
    found = explain.cascade(model, images, ["C2", "C3"], seed=1)
    assert list(found) == ["another image", *explain.PARTS]
    with torch.no_grad():
        classes = model(images).argmax(1)
    maps = explain.grad_cam(model, images, classes, ["C3"])["C3"]
    changed = explain.randomised(model, images, ("fc", "layer4"), 1)
    after = explain.grad_cam(changed, images, classes, ["C3"])["C3"]
    want = explain.rank_correlation(maps, after)
    torch.testing.assert_close(found["layer4"]["C3"], want, equal_nan=True)
    assert want.nanmean() < 0.9
    want = explain.rank_correlation(maps, maps.roll(1, 0))
    torch.testing.assert_close(found["another image"]["C3"], want, equal_nan=True)
