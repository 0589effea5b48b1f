"""The experiments of chapters 10 to 12 ask one thing at a time."""

from dataclasses import asdict, replace

import pytest
import torch
from torch import nn

from resnet_lib import experiments, models, recipes
from resnet_lib.experiments import ablation

ARMS = experiments.find("ablation")
BASE = ARMS["base"]


@pytest.mark.parametrize("name", [name for name in ARMS if name != "base"])
def test_an_arm_differs_from_the_base_in_what_it_says(name):
    arm = ARMS[name]
    assert (arm.data, arm.make, arm.limits, arm.details, arm.half) == (
        BASE.data, BASE.make, BASE.limits, BASE.details, BASE.half,
    )  # fmt: skip
    ours, base = asdict(arm.config) | arm.spec, asdict(BASE.config) | BASE.spec
    changed = {key for key in ours | base if ours.get(key) != base.get(key)}
    expected = ablation.RECIPES.get(name) or ablation.NETWORKS[name]
    assert changed == set(expected)
    # One switch each; a batch and its learning rate belong together.
    assert len(changed) == (2 if "batch" in name else 1)


def test_the_base_is_chapter_elevens_recipe():
    quick = experiments.find("quick")["resnet50-w16"]
    assert BASE.config == quick.config == recipes.TrainConfig.quick()
    assert (BASE.spec, BASE.data) == (quick.spec, quick.data)


def test_the_learning_rate_goes_with_the_batch():
    ratios = {
        arm.config.lr / arm.config.batch_size
        for name, arm in ARMS.items()
        if "batch" in name or name == "base"
    }
    assert len(ratios) == 1 and len({ARMS[n].config.lr for n in ("half-batch", "base")}) == 2


def build(name):
    torch.manual_seed(0)
    return ARMS[name].make(**ARMS[name].spec)


def test_dropout_changes_the_training_and_nothing_else():
    x = torch.randn(4, 1, 32, 32)
    plain = build("base").eval()
    assert sum(isinstance(m, nn.Dropout) for m in plain.modules()) == 0
    for name, count, p in (("dropout-head", 1, 0.2), ("dropout-branch", 16, 0.1)):
        model = build(name).eval()
        layers = [m for m in model.modules() if isinstance(m, nn.Dropout)]
        assert [layer.p for layer in layers] == [p] * count
        # The same weights from the same seed, under other names.
        for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
            assert torch.equal(ours, theirs)
        assert torch.equal(model(x), plain(x))
    head = build("dropout-head").train()
    nn.init.normal_(head.fc[1].bias)
    assert not torch.equal(head(x), head(x))


def test_the_network_of_the_other_arms_is_what_models_builds():
    for name in ("small-stem", "stride-in-1x1", "no-zero-init"):
        spec = ARMS[name].spec
        torch.manual_seed(0)
        expected = models.build(**spec)
        for ours, theirs in zip(build(name).parameters(), expected.parameters(), strict=True):
            assert torch.equal(ours, theirs)


def test_fewer_images_get_about_as_many_updates():
    arms = experiments.find("data-size")
    full = arms["n9000"]
    assert full.config == experiments.find("quick")["resnet50-w16"].config
    for name, arm in arms.items():
        images = int(name[1:])
        assert arm.data["limit"] == images
        updates = arm.config.epochs * -(-images // arm.config.batch_size)
        assert updates == pytest.approx(6 * -(-9000 // 64), rel=0.05)
        warmup = arm.config.warmup_epochs / arm.config.epochs
        assert warmup == pytest.approx(0.5 / 6, rel=0.05)
        assert replace(arm.config, epochs=6, warmup_epochs=0.5) == full.config


def test_the_full_networks_are_chapter_elevens_but_for_their_width_and_half_of_the_passes():
    for name, arm in experiments.find("full").items():
        quick = experiments.find("quick")[name.replace("w64", "w16")]
        assert arm.spec == quick.spec | {"width": 64}
        assert arm.config == replace(quick.config, epochs=quick.config.epochs // 2)
