import io
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close
from toys import make_images, make_model

from resnet_lib import UserError, checkpoint, device, train
from resnet_lib.augment import normalize
from resnet_lib.train import TrainConfig

CPU = torch.device("cpu")
TINY = TrainConfig(
    epochs=3, batch_size=16, lr=0.05, warmup_epochs=0.5, augment=None, precision="float32",
    device="cpu",
)  # fmt: skip


def silent(line):
    pass


def constant(optimizer):
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)


def test_schedule_warms_up_linearly_then_follows_torchs_cosine():
    total, warmup = 50, 10
    factors = [train.warmup_cosine(step, total, warmup) for step in range(total)]
    assert_close(factors[:warmup], [(i + 1) / warmup for i in range(warmup)])
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total - warmup)
    for step in range(warmup, total):
        assert math.isclose(factors[step], reference.get_last_lr()[0], abs_tol=1e-9)
        optimizer.step()
        reference.step()


def test_an_epoch_does_what_a_hand_written_loop_does(toy):
    config = replace(TINY, label_smoothing=0.1)
    model, twin = make_model(), make_model()
    optimizer = train.make_optimizer(model, config)
    train.train_one_epoch(
        model, train.training_batches(toy, config, 1, CPU), optimizer, CPU, constant(optimizer),
        label_smoothing=0.1,
    )  # fmt: skip
    reference = torch.optim.SGD(
        twin.parameters(), lr=0.05, momentum=config.momentum, weight_decay=config.weight_decay
    )
    twin.train()
    for images, labels in train.training_batches(toy, config, 1, CPU):
        loss = F.cross_entropy(twin(images), labels, label_smoothing=0.1)
        reference.zero_grad()
        loss.backward()
        reference.step()
    for (name, ours), theirs in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert_close(ours, theirs, msg=name)


def test_the_epochs_loss_weights_by_examples_not_by_batches():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    images, labels = torch.randn(19, 1, 8, 8), torch.randint(0, 2, (19,))
    batches = list(zip(images.split(8), labels.split(8), strict=True))  # 8, 8 and 3 examples
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    loss, accuracy = train.train_one_epoch(model, batches, optimizer, CPU, constant(optimizer))
    with torch.no_grad():
        logits = model(images)
    assert_close(loss, F.cross_entropy(logits, labels).item())
    assert accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())


def test_training_batches_hold_every_example_once_in_an_order_fixed_by_seed_and_epoch(toy):
    def pixels(config, epoch):
        batches = train.training_batches(toy, config, epoch, CPU)
        return torch.cat([images for images, _ in batches]).flatten(1)

    first = pixels(TINY, 1)
    everything = normalize(toy.images, toy.mean, toy.std).flatten(1)
    assert torch.equal(first.sort(0).values, everything.sort(0).values)
    assert torch.equal(first, pixels(TINY, 1))
    assert not torch.equal(first, pixels(TINY, 2))
    assert not torch.equal(first, pixels(replace(TINY, seed=1), 1))


@pytest.mark.parametrize("examples, steps", [(48, 3), (49, 3), (50, 4), (1, 1)])
def test_a_last_batch_of_one_example_is_left_out(examples, steps):
    sizes = [
        len(labels) for _, labels in train.training_batches(make_images(examples), TINY, 1, CPU)
    ]
    assert len(sizes) == steps
    assert examples == 1 or max(1, train.steps_per_epoch(examples, 16)) == steps
    assert examples == 1 or 1 not in sizes


def test_evaluate_is_the_model_in_evaluation_mode_in_the_datas_order(toy):
    model = make_model()
    model(torch.randn(8, 1, 8, 8))  # moves the running statistics away from their start
    before = {key: value.clone() for key, value in model.state_dict().items()}
    result = train.evaluate(model, toy, "cpu", batch_size=7)
    model.eval()
    with torch.no_grad():
        logits = model(normalize(toy.images, toy.mean, toy.std))
    assert_close(result.logits, logits)
    assert torch.equal(result.labels, toy.labels)
    assert_close(result.loss, F.cross_entropy(logits, toy.labels).item())
    assert result.accuracy == (logits.argmax(1) == toy.labels).double().mean().item()
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_fit_learns_and_keeps_the_history(toy, toy_val):
    lines = []
    history = train.fit(make_model(), toy, toy_val, replace(TINY, epochs=6), log=lines.append)
    assert [epoch["epoch"] for epoch in history.epochs] == [1, 2, 3, 4, 5, 6]
    assert history.best["val_accuracy"] >= 0.95
    assert history.epochs[-1]["train_loss"] < history.epochs[0]["train_loss"]
    assert len(lines) == 6
    assert lines[0].startswith("epoch   1/6  train loss ")


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_gets_a_bar_and_a_log_does_not(toy, toy_val, monkeypatch, terminal):
    class Screen(io.StringIO):
        def isatty(self):
            return terminal

    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    train.fit(make_model(), toy, toy_val, replace(TINY, epochs=1), log=silent)
    assert ("epoch 1:" in screen.getvalue()) is terminal


@pytest.mark.parametrize("optimizer, lr", [("sgd", 0.05), ("adamw", 0.003)])
def test_a_seed_fixes_the_run_and_another_changes_it(toy, toy_val, optimizer, lr):
    def weights(seed):
        model = make_model(seed=7)
        config = replace(TINY, epochs=1, optimizer=optimizer, lr=lr, seed=seed)
        train.fit(model, toy, toy_val, config, log=silent)
        return model.conv1.weight

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_precision_reaches_the_convolutions(toy, toy_val):
    seen = set()
    model = make_model()
    model.conv1.register_forward_hook(
        lambda module, args, output: seen.add((module.training, output.dtype))
    )
    train.fit(model, toy, toy_val, replace(TINY, epochs=1, precision="bfloat16"), log=silent)
    assert seen == {(True, torch.bfloat16), (False, torch.float32)}
    assert model.conv1.weight.dtype is torch.float32


def test_a_loss_that_is_not_finite_at_once_promises_no_saved_state(toy, toy_val, tmp_path):
    model = make_model()
    with torch.no_grad():
        model.fc.weight.fill_(float("nan"))
    with pytest.raises(UserError, match=r"loss is nan in epoch 1, step 1 of 3 .*lower lr$"):
        train.fit(model, toy, toy_val, TINY, out=tmp_path / "run", log=silent)


def test_best_is_the_first_of_the_highest():
    accuracies = [0.5, 0.8, 0.7, 0.8]
    epochs = [{"epoch": i, "val_accuracy": a} for i, a in enumerate(accuracies)]
    assert train.History(epochs).best["epoch"] == 1


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_state(toy, toy_val, tmp_path):
    config = replace(TINY, epochs=4)
    model = make_model()

    def break_it(line):
        with torch.no_grad():
            model.fc.weight.fill_(float("nan"))

    with pytest.raises(UserError, match=r"loss is nan in epoch 2, step 1 of 3 .*last\.pt"):
        train.fit(model, toy, toy_val, config, out=tmp_path / "run", log=break_it)
    assert checkpoint.load(tmp_path / "run" / "last.pt")["epoch"] == 1


@pytest.mark.parametrize(
    "change, words",
    [
        ({"optimizer": "adam"}, "sgd, adamw"),
        ({"epochs": 0}, "at least 1"),
        ({"batch_size": 0}, "at least 1"),
        ({"lr": 0.0}, "above 0"),
        ({"lr": float("nan")}, "above 0"),
        ({"warmup_epochs": 3.0}, "below epochs"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
    ],
)
def test_a_wrong_recipe_is_refused(change, words):
    with pytest.raises(UserError, match=words):
        replace(TINY, **change)


def same_state(a, b, path="state"):
    """Equal to the bit, seconds aside."""
    assert type(a) is type(b), path
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            if key != "seconds":
                same_state(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), path
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            same_state(x, y, f"{path}[{i}]")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    else:
        assert a == b, path


COMMAND = [
    sys.executable, "-m", "resnet_lib", "train", "--model", "resnet18", "--width", "8", "--data",
    "fashion", "--limit", "600", "--val-limit", "60", "--epochs", "3", "--batch-size", "20",
    "--device", "cpu",
]  # fmt: skip


def test_a_run_killed_in_mid_epoch_resumes_to_the_same_bits(tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    quiet = {"stdout": subprocess.DEVNULL, "env": environment}
    process = subprocess.Popen([*COMMAND, "--out", str(killed)], **quiet)
    deadline = time.monotonic() + 120
    while not (killed / "last.pt").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.15)  # into the next epoch
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    assert checkpoint.load(killed / "last.pt")["epoch"] < 3

    subprocess.run([*COMMAND, "--out", str(killed), "--resume"], check=True, **quiet)
    subprocess.run([*COMMAND, "--out", str(whole)], check=True, **quiet)
    same_state(checkpoint.load(killed / "last.pt"), checkpoint.load(whole / "last.pt"))
    best, expected = (checkpoint.load_weights(run / "best.safetensors") for run in (killed, whole))
    same_state(best[0], expected[0])
    assert best[1] == expected[1]


def test_resume_refuses_another_run_and_says_what_differs(toy, toy_val, tmp_path):
    train.fit(make_model(), toy, toy_val, TINY, out=tmp_path, log=silent)
    with pytest.raises(UserError, match="holds a run"):
        train.fit(make_model(), toy, toy_val, TINY, out=tmp_path, log=silent)
    other = replace(TINY, lr=0.2)
    with pytest.raises(UserError, match=r"config lr was 0\.05, now 0\.2"):
        train.fit(make_model(), toy, toy_val, other, out=tmp_path, resume=True, log=silent)
    with pytest.raises(UserError, match="spec width was 4, now 8"):
        train.fit(make_model(width=8), toy, toy_val, TINY, out=tmp_path, resume=True, log=silent)
    with pytest.raises(UserError, match="data examples was 48, now 40"):
        train.fit(make_model(), make_images(40), toy_val, TINY, tmp_path, resume=True, log=silent)


def test_resuming_a_finished_run_changes_nothing(toy, toy_val, tmp_path):
    first = train.fit(make_model(), toy, toy_val, TINY, out=tmp_path, log=silent)
    before = (tmp_path / "last.pt").read_bytes()
    again = train.fit(make_model(), toy, toy_val, TINY, out=tmp_path, resume=True, log=silent)
    assert again.epochs == first.epochs
    assert (tmp_path / "last.pt").read_bytes() == before


def test_resume_without_a_checkpoint_starts_at_the_beginning(toy, toy_val, tmp_path):
    history = train.fit(make_model(), toy, toy_val, TINY, tmp_path / "new", True, log=silent)
    assert len(history.epochs) == 3


def test_best_weights_are_those_of_the_best_epoch(toy, toy_val, tmp_path):
    config = replace(TINY, epochs=4, lr=0.3)
    history = train.fit(make_model(), toy, toy_val, config, out=tmp_path, log=silent)
    model, metadata = checkpoint.restore_model(tmp_path / "best.safetensors")
    assert metadata["epoch"] == history.best["epoch"]
    assert train.evaluate(model, toy_val, "cpu").accuracy == history.best["val_accuracy"]
    assert metadata["data"]["classes"] == ["dark", "bright"]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_cuda_learns_in_every_precision(toy, toy_val, precision):
    if precision == "bfloat16" and not device.has_bfloat16(torch.device("cuda")):
        pytest.skip("this card emulates bfloat16")
    config = replace(TINY, epochs=6, precision=precision, device="cuda")
    history = train.fit(make_model(), toy, toy_val, config, log=silent)
    assert history.best["val_accuracy"] >= 0.95


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_the_cpus_logits(toy):
    model = make_model()
    on_cpu = train.evaluate(model, toy, "cpu").logits
    on_cuda = train.evaluate(model, toy, "cuda").logits
    assert_close(on_cuda, on_cpu, rtol=1e-3, atol=1e-3)  # TF32 convolutions
