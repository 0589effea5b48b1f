"""The trainer under stress: killed, no disk or memory left, a loss that is no number, two runs."""

import copy
import errno
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from killed import POINTS
from test_train import TINY, same_state, silent
from toys import make_images, make_model

from resnet_lib import UserError, checkpoint, cli, recipes, runs, train

FOLDER = Path(__file__).parent
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="uses what Linux has")


# Killed


@pytest.fixture(scope="module")
def killings(tmp_path_factory):
    """{point: (how it ended, epochs kept, names left, how the second ended)}, and the folder."""
    folder = tmp_path_factory.mktemp("killed")
    done = subprocess.run(
        [sys.executable, FOLDER / "killed.py", folder],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = (line.split("|") for line in done.stdout.splitlines())
    found = {
        point: (int(ended), int(epoch), left.split(), int(again))
        for point, ended, epoch, left, again in lines
    }
    return found, folder


@pytest.mark.slow
@LINUX
@pytest.mark.parametrize("point", POINTS)
def test_killed_anywhere_a_run_resumes_to_the_same_bits(killings, point):
    found, folder = killings
    ended, _, _, again = found[point]
    assert ended == (0 if point == "after the last state" else -signal.SIGKILL)
    assert again == 0
    resumed, whole = (checkpoint.load(folder / name / "last.pt") for name in (point, "whole"))
    same_state(resumed, whole)
    best, expected = (
        checkpoint.load_weights(folder / name / "best.safetensors") for name in (point, "whole")
    )
    same_state(best[0], expected[0])
    assert best[1] == expected[1]


@pytest.mark.slow
@LINUX
def test_the_points_lie_where_their_names_say(killings):
    found, folder = killings
    kept = {point: epochs for point, (_, epochs, _, _) in found.items()}
    assert [kept[point] for point in POINTS] == [0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 3]
    half = found["middle of writing the second state"][2]
    assert [name for name in half if name.startswith(".last.pt.")], "nothing was half written"
    for point in POINTS:  # and what was half written is gone after the second run
        names = sorted(path.name for path in (folder / point).iterdir())
        assert names == [".lock", "best.safetensors", "last.pt"]


# Disk


@pytest.mark.parametrize("file", ["last.pt", "best.safetensors"])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="writes to /dev/full")
def test_on_a_full_disk_the_old_checkpoint_survives(toy, toy_val, tmp_path, file):
    """/dev/full answers every write as a full disk does."""
    config, epochs = replace(TINY, lr=1e-4, average=0.5), []

    def fill_the_disk(line):
        epochs.append(line)
        if len(epochs) == 2:
            part = tmp_path / f".{file}.{os.getpid()}.part"
            part.symlink_to("/dev/full")
            if file == "best.safetensors":  # which is written if the epoch is the best
                run.history.epochs[-1]["val_accuracy"] = 1.1

    real = train.Run.__init__

    def remember(self, *args):
        nonlocal run
        run = self
        real(self, *args)

    run = None
    train.Run.__init__ = remember
    try:
        with pytest.raises(UserError, match=rf"{file}: the disk is full: make room, .*is kept"):
            train.fit(make_model(), toy, toy_val, config, tmp_path, log=fill_the_disk)
    finally:
        train.Run.__init__ = real
    assert checkpoint.load(tmp_path / "last.pt")["epoch"] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "best.safetensors", "last.pt"]
    train.fit(make_model(), toy, toy_val, config, tmp_path, resume=True, log=silent)
    assert checkpoint.load(tmp_path / "last.pt")["epoch"] == 3


LIMITED = """
import resource, sys, torch
sys.path.insert(0, sys.argv[2])
from toys import make_model
from resnet_lib import UserError, checkpoint
path = sys.argv[1]
checkpoint.save(path, {"model": make_model().state_dict(), "epoch": 1})
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    checkpoint.save(path, {"model": make_model(width=8).state_dict(), "epoch": 2})
except UserError as error:
    print(error)
print(checkpoint.load(path)["epoch"])
"""


@LINUX
def test_a_write_that_the_system_cuts_off_keeps_the_old_checkpoint(tmp_path):
    path = tmp_path / "last.pt"
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, path, FOLDER], env=ENVIRONMENT, capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip
    message, epoch = done.stdout.splitlines()
    assert "the disk is full: make room" in message and "is kept" in message
    assert epoch == "1" and [p.name for p in tmp_path.iterdir()] == ["last.pt"]


# Loss


def poison(model, after):
    """Make the logits infinite in the training step of this number, and later."""
    steps = []

    def hook(module, inputs, output):
        if module.training:
            steps.append(1)
            if len(steps) >= after:
                return output * float("inf")
        return output

    model.fc.register_forward_hook(hook)
    return model


def test_a_loss_that_is_no_number_stops_at_once_and_names_step_rate_and_state(
    toy, toy_val, tmp_path
):
    model = poison(make_model(), 5)  # the second step of the second epoch, which has three
    with pytest.raises(UserError) as stop:
        train.fit(model, toy, toy_val, TINY, tmp_path, log=silent)
    rate = 0.05 * train.warmup_cosine(4, 9, 2)
    assert f"the loss is nan in epoch 2, step 2 of 3 (lr {rate:.3g})" in str(stop.value)
    assert f"the last good state is {tmp_path / 'last.pt'}, after epoch 1" in str(stop.value)
    assert checkpoint.load(tmp_path / "last.pt")["epoch"] == 1


def test_elsewhere_the_losses_are_looked_at_once_an_epoch(toy, toy_val, monkeypatch):
    """As on CUDA, where a look at each step would be a wait."""
    looks, real = [], runs.Run.stop_unless_finite
    monkeypatch.setattr(runs.Run, "after_step", lambda run, loss: run.losses.append(loss))

    def look(run, losses, step):
        looks.append(len(losses))
        real(run, losses, step)

    monkeypatch.setattr(runs.Run, "stop_unless_finite", look)
    with pytest.raises(UserError, match=r"in epoch 2, step 2 of 3 \(lr .*lower lr$"):
        train.fit(poison(make_model(), 5), toy, toy_val, TINY, log=silent)
    assert looks == [3, 3]


# Memory


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
        MemoryError(),
    ],
)
def test_out_of_memory_says_what_to_change_and_by_how_much(toy, toy_val, error):
    model = make_model()

    def fail(module, inputs):
        raise error

    model.layer2.register_forward_pre_hook(fail)
    with pytest.raises(UserError) as stop:
        train.fit(model, toy, toy_val, replace(TINY, accumulate=2), log=silent)
    said = str(stop.value)
    assert "out of memory in a step of 8 images of 8 px" in said
    for way in (
        "--accumulate 4 (4 images at once",
        "--batch-size 8 --lr 0.025 (half the images",
        "--image-size 6 (half the pixels",
        "--width 2 (half the channels",
    ):
        assert way in said, way


def test_out_of_memory_in_the_evaluation_asks_for_no_smaller_steps(toy, toy_val):
    model = make_model()

    def fail(module, inputs):
        if not module.training:
            raise MemoryError

    model.layer2.register_forward_pre_hook(fail)
    with pytest.raises(UserError, match="in the evaluation, on images of 8 px: try --image-size"):
        train.fit(model, toy, toy_val, TINY, log=silent)


def test_other_errors_keep_their_traceback(toy, toy_val):
    model = make_model()

    def fail(module, inputs):
        raise RuntimeError("shapes do not match")

    model.layer2.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="shapes do not match") as stop:
        train.fit(model, toy, toy_val, TINY, log=silent)
    assert not isinstance(stop.value, UserError)


SMALL_MEMORY = """
import resource, sys
sys.path.insert(0, sys.argv[1])
import torch
from dataclasses import replace
from toys import make_images, make_model
from resnet_lib import UserError, train
torch.set_num_threads(1)
images, val = make_images(2048, size=32), make_images(8, seed=1, size=32)
config = train.TrainConfig(
    epochs=1, warmup_epochs=0, batch_size=2048, augment=None, precision="float32", device="cpu"
)
train.fit(make_model(), val, val, config, log=lambda line: None)  # what torch loads by itself
pages = int(open("/proc/self/statm").read().split()[0])
# Less than the first convolution's output, of 2048 x 16 x 32 x 32 numbers, and enough for the rest.
limit = pages * resource.getpagesize() + 120 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    train.fit(make_model(width=16), images, val, config, log=lambda line: None)
except UserError as error:
    print(error)
train.fit(make_model(width=16), images, val, replace(config, accumulate=128), log=print)
"""


@pytest.mark.slow
@LINUX
def test_a_machine_that_is_too_small_is_told_a_way_that_works():
    done = subprocess.run(
        [sys.executable, "-c", SMALL_MEMORY, FOLDER], env=ENVIRONMENT, capture_output=True,
        text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told, trained = done.stdout.splitlines()
    assert told.startswith("out of memory in a step of 2048 images of 32 px: try --accumulate 2 (")
    assert trained.startswith("epoch   1/1")


NARROW = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from toys import make_images, make_model
from resnet_lib import train
torch.set_num_threads(2)
config = train.TrainConfig(
    epochs=2, batch_size=43, lr=0.01, augment=None, precision="float32", device="cpu"
)
images = make_images(172, size=32)
for _ in range(3):
    train.fit(make_model(), images, images, config, log=lambda line: None)
"""


@pytest.mark.slow
def test_a_narrow_network_trains_in_several_threads():
    done = subprocess.run(
        [sys.executable, "-c", NARROW, FOLDER], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_channels_last_is_left_where_strides_are_not_narrow(toy):
    config = replace(TINY, channels_last=True)
    assert not train.Run(make_model(), toy, config).config.channels_last
    wide = train.Run(make_model(width=16), toy, config)
    assert wide.config.channels_last
    assert wide.model.layer1[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)


# Ctrl-C

RUN = [
    sys.executable, "-m", "resnet_lib", "train", "--model", "resnet18", "--width", "4", "--data",
    "fashion", "--limit", "400", "--val-limit", "40", "--epochs", "3", "--batch-size", "20",
    "--stem", "imagenet", "--device", "cpu",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_keeps_the_last_epoch_and_says_how_to_go_on(tmp_path):
    out = tmp_path / "run"
    process = subprocess.Popen(
        [*RUN, "--out", out], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (out / "last.pt").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    epoch = checkpoint.load(out / "last.pt")["epoch"]
    kept, command = said.strip().split("; to go on from there: ")
    assert kept == f"resnet_lib: interrupted; {out / 'last.pt'} holds the state after epoch {epoch}"
    again = [sys.executable, *command.split()[1:]]
    done = subprocess.run(again, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert f"resumed after epoch {epoch} of 3" in done.stdout
    assert checkpoint.load(out / "last.pt")["epoch"] == 3


def test_ctrl_c_before_the_first_state_says_that_nothing_is_saved(tmp_path, capsys, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "fit", interrupt)
    line = ["train", "--data", "fashion", "--limit", "20", "--device", "cpu", "--out"]
    assert cli.main([*line, str(tmp_path / "run")]) == 130
    said = capsys.readouterr().err
    assert "nothing is saved before the first epoch's end; to start again: python -m" in said


# Two at once


def test_a_folder_takes_one_run_at_a_time(toy, toy_val, tmp_path):
    refused = []

    def begin_another(line):
        for resume in (True, False):
            with pytest.raises(UserError, match=r"another run is writing to|holds a run") as stop:
                train.fit(make_model(), toy, toy_val, TINY, tmp_path, resume, log=silent)
            refused.append(str(stop.value))

    train.fit(make_model(), toy, toy_val, TINY, tmp_path, log=begin_another)
    assert len(refused) == 6 and "another run is writing to" in refused[0]
    assert checkpoint.load(tmp_path / "last.pt")["epoch"] == 3
    train.fit(make_model(), toy, toy_val, TINY, tmp_path, resume=True, log=silent)


RACE = """
import os, sys, time
from pathlib import Path
from resnet_lib import UserError, checkpoint
folder, go = Path(sys.argv[1]), Path(sys.argv[2])
print("ready", flush=True)
while not go.exists():
    time.sleep(0.001)
try:
    with checkpoint.hold(folder):
        print("holds", flush=True)
        time.sleep(60)
except UserError as error:
    print(error, flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(checkpoint.fcntl is None, reason="no locks on this system")
def test_of_runs_that_start_together_one_gets_the_folder_and_a_killed_one_frees_it(tmp_path):
    folder, go = tmp_path / "run", tmp_path / "go"
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, folder, go], env=ENVIRONMENT, stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]  # fmt: skip
    try:
        assert all(racer.stdout.readline() == "ready\n" for racer in racers)
        go.touch()
        said = [racer.stdout.readline() for racer in racers]
        assert sum(line == "holds\n" for line in said) == 1, said
        assert sum("another run is writing to" in line for line in said) == 2, said
        racers[said.index("holds\n")].kill()
        racers[said.index("holds\n")].wait()
        with checkpoint.hold(folder) as held:
            assert held == folder
    finally:
        for racer in racers:
            racer.kill()
            racer.wait()


def test_without_locks_a_run_goes_on(tmp_path, monkeypatch):
    def unsupported(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    if checkpoint.fcntl is not None:
        monkeypatch.setattr(checkpoint.fcntl, "flock", unsupported)
    with checkpoint.hold(tmp_path) as folder:
        assert folder == tmp_path
    monkeypatch.setattr(checkpoint, "fcntl", None)
    with checkpoint.hold(tmp_path) as folder:
        assert folder == tmp_path


# Another version


def as_version(number, state):
    """What that version wrote: no choice of what came later, in version 1 no averaged weights."""
    later = {key for version in range(number + 1, 4) for key in checkpoint.ADDED[version]}
    config = {key: value for key, value in state["config"].items() if key not in later}
    assert len(config) < len(state["config"])
    known = {k: v for k, v in state.items() if k != "average" or number > 1}
    return {**known, "version": number, "config": config}


@pytest.mark.parametrize("version", [1, 2])
def test_a_checkpoint_of_an_older_version_is_continued(version, toy, toy_val, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"

    class Stop(Exception):
        pass

    def stop(line):
        if "2/3" in line:
            raise Stop

    with pytest.raises(Stop):
        train.fit(make_model(), toy, toy_val, TINY, old, log=stop)
    state = torch.load(old / "last.pt", weights_only=True)
    assert state["version"] == checkpoint.VERSION == 3
    torch.save(as_version(version, state), old / "last.pt")
    with pytest.raises(UserError, match=r"config average was 0\.0, now 0\.9"):
        config = replace(TINY, average=0.9)
        train.fit(make_model(), toy, toy_val, config, old, resume=True, log=silent)
    train.fit(make_model(), toy, toy_val, TINY, old, resume=True, log=silent)
    train.fit(make_model(), toy, toy_val, TINY, new, log=silent)
    same_state(checkpoint.load(old / "last.pt"), checkpoint.load(new / "last.pt"))


@pytest.mark.parametrize(
    "version, words", [(99, "update resnet_lib"), (0, "train it again"), (None, "train it again")]
)
def test_a_checkpoint_of_an_unknown_version_is_refused_with_the_reason(tmp_path, version, words):
    torch.save({"model": {}, "version": version}, tmp_path / "last.pt")
    with pytest.raises(
        UserError, match=rf"has format {version}, this version reads 1 to 3: {words}"
    ):
        checkpoint.load(tmp_path / "last.pt")


# Frozen batch norms


def test_frozen_norms_keep_their_statistics_and_learn_their_weights(toy, toy_val):
    model = make_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train.fit(model, toy, toy_val, replace(TINY, freeze_norms=True), log=silent)
    for name, value in model.state_dict().items():
        kept = "running" in name or "tracked" in name
        assert torch.equal(value, before[name]) == kept, name
    assert model.training is False and make_images(1).channels == 1


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_frozen_norms_normalise_by_their_running_statistics(layout):
    """As torch's batch norm in evaluation mode does, values and gradients alike."""
    torch.manual_seed(0)
    norm, x = torch.nn.BatchNorm2d(5), torch.randn(4, 5, 3, 3)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    torch.nn.init.normal_(norm.weight)
    results = []
    for frozen in (False, True):
        twin = copy.deepcopy(norm).eval()
        if frozen:
            recipes.freeze_norms(twin)
            twin = copy.deepcopy(twin).train()
        inputs = x.clone().requires_grad_()
        out = twin(inputs.contiguous(memory_format=layout if frozen else torch.contiguous_format))
        out.square().sum().backward()
        results.append([out, inputs.grad, twin.weight.grad, twin.bias.grad])
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
