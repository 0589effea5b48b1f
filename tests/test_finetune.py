"""Fine-tuning: a new last layer, a probe like scikit-learn's, and parts that stay as they are."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.testing import assert_close
from toys import make_images, make_model

from resnet_lib import UserError, finetune, models, recipes, train

TINY = train.TrainConfig(
    epochs=2, batch_size=16, lr=0.05, warmup_epochs=0.5, augment=None, precision="float32",
    device="cpu",
)  # fmt: skip


def silent(line):
    pass


def some_features(count=90, channels=6, classes=3):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % classes
    centres = 2 * torch.randn(classes, channels, generator=generator)
    scale = torch.tensor([0.3, 1, 1, 2, 3, 1])
    return (centres[labels] + torch.randn(count, channels, generator=generator)) * scale, labels


def test_a_new_head_changes_nothing_else_and_the_network_can_be_built_again():
    model = make_model().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    finetune.replace_head(model, 5)
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 5)
    for name, value in model.state_dict().items():
        if not name.startswith("fc."):
            assert torch.equal(value, before[name])
    again = models.build(**model.spec)
    again.load_state_dict(model.state_dict())


def test_features_are_what_the_last_layer_gets():
    model, images = make_model(), make_images()
    features, labels = finetune.embed(model, images, "cpu", batch_size=10)
    evaluation = train.evaluate(model, images, "cpu")
    assert_close(model.fc(features), evaluation.logits)
    assert torch.equal(labels, images.labels)


@pytest.mark.parametrize("decay", [0.001, 0.1])
def test_the_probe_is_scikit_learns_logistic_regression(decay):
    features, labels = some_features()
    layer = finetune.fit_probe(features, labels, 3, decay)
    x = features.double().numpy()
    x = (x - x.mean(0)) / x.std(0)
    # Its objective is C times the sum of the losses plus half the sum of the squares.
    reference = LogisticRegression(C=1 / (decay * len(x)), tol=1e-8, max_iter=5000)
    reference.fit(x, labels.numpy())
    ours = layer(features).softmax(1).detach().double().numpy()
    np.testing.assert_allclose(ours, reference.predict_proba(x), atol=1e-4)


def test_a_feature_that_never_changes_is_harmless():
    features, labels = some_features()
    features = torch.cat([features, torch.full((len(features), 1), 7.0)], 1)
    layer = finetune.fit_probe(features, labels, 3)
    assert layer.weight.isfinite().all()
    assert (layer(features).argmax(1) == labels).double().mean() > 0.9


def test_a_feature_that_hardly_varies_is_not_blown_up():
    features, labels = some_features()
    quiet = 1e-4 * torch.randn(len(features), 1, generator=torch.Generator().manual_seed(1))
    layer = finetune.fit_probe(torch.cat([features, quiet], 1), labels, 3)
    loud = torch.cat([features, torch.ones(len(features), 1)], 1)
    assert (layer(loud).argmax(1) == labels).double().mean() > 0.9


def test_a_probe_learns_and_leaves_the_rest_alone():
    model, images = make_model(), make_images()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    finetune.probe(model, images)
    assert train.evaluate(model, images, "cpu").accuracy > 0.9
    for name, value in model.state_dict().items():
        assert name.startswith("fc.") or torch.equal(value, before[name]), name


@pytest.mark.parametrize("frozen", range(6))
def test_frozen_parts_stay_as_they_are_and_the_others_learn(frozen):
    model = make_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    config = replace(TINY, frozen=frozen)
    train.fit(model, make_images(), make_images(16, seed=1), config, log=silent)
    kept = {name for names in recipes.PARTS[:frozen] for name in names}
    for name, value in model.state_dict().items():
        same = torch.equal(value, before[name])
        assert same == (name.partition(".")[0] in kept), name


def test_a_frozen_part_costs_no_gradient():
    model = make_model()
    recipes.freeze(model, 3)
    loss = model(torch.randn(4, 1, 8, 8)).sum()
    loss.backward()
    named = dict(model.named_parameters())
    assert named["layer2.0.conv1.weight"].grad is None
    assert named["layer3.0.conv1.weight"].grad is not None


@pytest.mark.parametrize("decay_norms", [True, False])
def test_the_head_learns_at_its_own_rate(decay_norms):
    model = make_model()
    config = replace(TINY, head_factor=10, decay_norms=decay_norms)
    optimizer = recipes.make_optimizer(model, config)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert len(rates) == len(list(model.parameters()))
    head = {id(p) for p in model.fc.parameters()}
    for parameter in model.parameters():
        expected = 0.5 if id(parameter) in head else 0.05
        assert rates[id(parameter)] == pytest.approx(expected)
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups
              for p in group["params"]}  # fmt: skip
    assert decays[id(model.bn1.weight)] == (TINY.weight_decay if decay_norms else 0)
    assert decays[id(model.fc.weight)] == TINY.weight_decay


def test_the_heads_rate_follows_the_schedule_and_a_run_goes_on(tmp_path):
    config = replace(TINY, head_factor=3, frozen=2)
    model, images, val = make_model(), make_images(), make_images(16, seed=1)
    run = train.Run(model, images, config)
    first, second = (group["lr"] for group in run.optimizer.param_groups)
    assert second == pytest.approx(3 * first) and first < config.lr
    whole = make_model()
    train.fit(whole, images, val, config, log=silent)

    class Stop(Exception):
        pass

    def stop(line):
        raise Stop

    with pytest.raises(Stop):
        train.fit(make_model(), images, val, config, tmp_path, log=stop)
    model = make_model()
    train.fit(model, images, val, config, tmp_path, resume=True, log=silent)
    for one, other in zip(whole.parameters(), model.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("wrong", [{"frozen": 6}, {"frozen": -1}, {"head_factor": 0.0}])
def test_impossible_values_are_refused(wrong):
    with pytest.raises(UserError, match="frozen must be 0 to 5, and head_factor above 0"):
        replace(TINY, **wrong)


def test_images_take_the_networks_statistics():
    images = finetune.as_learned(make_images(), (0.1,), (0.2,))
    assert images.mean == (0.1,) and images.std == (0.2,)
    with pytest.raises(UserError, match="load them with channels=3"):
        finetune.as_learned(make_images(), (0.1,) * 3, (0.2,) * 3)


def test_frozen_norms_are_norms_still():
    model = make_model()
    recipes.freeze(model, 1)
    assert isinstance(model.bn1, nn.BatchNorm2d) and not model.bn1.weight.requires_grad
