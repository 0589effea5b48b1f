from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.optim import swa_utils
from torch.testing import assert_close
from toys import make_model

from resnet_lib import UserError, recipes, train
from resnet_lib.augment import Mix
from resnet_lib.recipes import Average, TrainConfig

CPU = torch.device("cpu")
TINY = TrainConfig(
    epochs=2, batch_size=16, lr=0.05, warmup_epochs=0.5, augment=None, precision="float32",
    device="cpu",
)  # fmt: skip


@pytest.mark.parametrize(
    "wrong", [{"accumulate": 0}, {"average": 1.0}, {"average": -0.1}, {"optimizer": "adam"}]
)
def test_impossible_values_are_refused_by_name(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        replace(TINY, **wrong)


def test_every_parameter_is_in_one_group_and_only_weights_of_layers_decay():
    model = make_model()
    decayed, free = recipes.parameter_groups(model, 0.01)
    assert decayed["weight_decay"] == 0.01 and free["weight_decay"] == 0
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert {id(p) for p in decayed["params"]} == {id(m.weight) for m in layers}
    both = [id(p) for group in (decayed, free) for p in group["params"]]
    assert sorted(both) == sorted(id(p) for p in model.parameters())


@pytest.mark.parametrize("optimizer", recipes.OPTIMIZERS)
def test_without_decay_on_norms_a_step_without_gradient_leaves_them(optimizer):
    def after_a_step(decay_norms):
        model = make_model()
        nn.init.constant_(model.bn1.weight, 1.0)
        config = replace(TINY, optimizer=optimizer, weight_decay=0.1, decay_norms=decay_norms)
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        before = model.conv1.weight.detach().clone()
        recipes.make_optimizer(model, config).step()
        assert model.conv1.weight.abs().sum() < before.abs().sum()
        return model.bn1.weight

    assert torch.equal(after_a_step(False), torch.ones_like(after_a_step(False)))
    assert (after_a_step(True) < 1).all()


def test_the_average_is_torchs_with_the_same_decays():
    model = make_model()
    steps = []

    def reference(averaged, current, count):
        if not averaged.is_floating_point():
            return current
        return averaged.lerp(current, 1 - min(0.9, (1 + steps[-1]) / (10 + steps[-1])))

    average = Average(model, 0.9)
    theirs = swa_utils.AveragedModel(model, avg_fn=reference, use_buffers=True)
    theirs.update_parameters(model)  # torch's first update only copies
    for step in range(1, 30):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape))
            model.bn1.running_mean.add_(1)
        model.bn1.num_batches_tracked.add_(1)
        steps.append(step)
        average.update(model)
        theirs.update_parameters(model)
    for (name, ours), other in zip(
        average.model.named_parameters(), theirs.module.parameters(), strict=True
    ):
        assert_close(ours, other, msg=name)
    assert_close(average.model.bn1.running_mean, theirs.module.bn1.running_mean)
    assert average.model.bn1.num_batches_tracked == model.bn1.num_batches_tracked
    assert not average.model.training


def test_the_average_is_what_is_evaluated_and_what_fit_leaves(toy, toy_val):
    config = replace(TINY, average=0.95)
    plain, averaged = make_model(), make_model()
    train.fit(plain, toy, toy_val, TINY, log=lambda line: None)
    history = train.fit(averaged, toy, toy_val, config, log=lambda line: None)
    assert not torch.equal(plain.conv1.weight, averaged.conv1.weight)
    assert history.epochs[-1]["val_loss"] == train.evaluate(averaged, toy_val, "cpu").loss


def test_an_averaged_run_resumes_to_the_same_bits(toy, toy_val, tmp_path):
    config = replace(TINY, average=0.95, epochs=3)
    whole, first, resumed = make_model(), make_model(), make_model()
    train.fit(whole, toy, toy_val, config, log=lambda line: None)

    def stop(line):
        if line.startswith("epoch   2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.fit(first, toy, toy_val, config, out=tmp_path, log=stop)
    train.fit(resumed, toy, toy_val, config, out=tmp_path, resume=True, log=lambda line: None)
    for (name, ours), other in zip(
        whole.state_dict().items(), resumed.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, other), name


def freeze_norms(model):
    """Batch norms in evaluation mode for good: with them a batch in parts is another function."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
            module.train = lambda mode=True, module=module: module
    return model


@pytest.mark.parametrize("parts", [2, 3, 16])
def test_a_batch_in_parts_gives_the_step_of_the_whole_batch(toy, parts):
    def after(accumulate):
        model = freeze_norms(make_model())
        config = replace(TINY, accumulate=accumulate)
        run = train.Run(model, toy, config)
        batches = train.training_batches(toy, config, 1, CPU)
        losses = []
        result = train.train_one_epoch(
            model, batches, run.optimizer, CPU, run.scheduler, parts=accumulate,
            after_step=losses.append,
        )  # fmt: skip
        return model.state_dict(), result, torch.stack(losses)

    whole, parted = after(1), after(parts)
    assert_close(parted, whole)


def test_fit_accumulates(toy, toy_val, monkeypatch):
    sizes = []
    model = make_model()
    model.register_forward_pre_hook(lambda m, x: sizes.append(len(x[0])) if m.training else None)
    train.fit(model, toy, toy_val, replace(TINY, epochs=1, accumulate=4), log=lambda line: None)
    assert max(sizes) == 4


def test_the_gradient_is_the_mean_over_size_examples(toy):
    def gradient(**options):
        model = freeze_norms(make_model())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        constant = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
        batches = [next(iter(train.training_batches(toy, TINY, 1, CPU)))]
        train.train_one_epoch(model, batches, optimizer, CPU, constant, **options)
        return model.fc.weight.grad

    assert_close(gradient(size=lambda labels: 2 * len(labels)) * 2, gradient())


def test_of_mixed_labels_the_larger_share_counts(toy):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    constant = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    batches = list(train.training_batches(toy, replace(TINY, mix=Mix(mixup=0.5)), 1, CPU))
    assert all(shares.shape == (len(images), 2) for images, shares in batches)
    loss, accuracy = train.train_one_epoch(model, batches, optimizer, CPU, constant)
    images, shares = (torch.cat(parts) for parts in zip(*batches, strict=True))
    chances = model(images).detach().log_softmax(1)
    assert loss == pytest.approx(-(shares * chances).sum(1).mean().item(), rel=1e-5)
    right = chances.argmax(1) == (shares[:, 1] > shares[:, 0])
    assert accuracy == pytest.approx(right.double().mean().item())
