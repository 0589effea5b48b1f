"""Several processes: the same run as one, each example once, one writer."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import together
import torch
from test_train import same_state
from torch.testing import assert_close
from toys import make_images

from resnet_lib import UserError, checkpoint, data, distributed, records, train

FOLDER = Path(__file__).parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
QUIET = {"env": ENVIRONMENT, "capture_output": True, "text": True, "timeout": 300, "check": False}


def start(folder, device):
    done = subprocess.run([*TORCHRUN, FOLDER / "together.py", folder, device], **QUIET)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What each of two processes found, {case: {…}}, and the folder."""
    folder = tmp_path_factory.mktemp("two")
    return start(folder, "cpu"), folder


@pytest.fixture(scope="module")
def one():
    """The same runs in this process."""
    return {name: together.run("cpu", options) for name, options in together.CASES.items()}


FOLLOWS = [name for name, options in together.CASES.items() if options.get("freeze_norms")]


@pytest.mark.slow
@pytest.mark.parametrize("case", FOLLOWS)
def test_two_processes_follow_one_step_by_step(two, one, case):
    found, expected = two[0][0][case], one[case]
    assert len(found["steps"]) == len(expected["steps"]) == 12
    assert_close(found["steps"], expected["steps"], rtol=0, atol=1e-5)
    assert max(found["steps"]) - min(found["steps"]) > 0.1, "a run that stands still proves nothing"
    for ours, theirs in zip(found["epochs"], expected["epochs"], strict=True):
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert ours[key] == pytest.approx(theirs[key], abs=1e-5), key
    assert_close(found["weights"], expected["weights"], rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("case", together.CASES)
def test_the_processes_agree_at_the_end(two, case):
    first, second = (found[case] for found in two[0])
    for key in ("steps", "epochs", "weights", "statistics"):
        assert first[key] == second[key], key


@pytest.mark.slow
def test_each_process_has_batch_norms_of_its_own_on_a_cpu(two, one):
    found, expected = two[0][0]["norms"], one["norms"]
    assert found["norm"] == "BatchNorm2d"
    assert 1e-4 < abs(found["steps"][0] - expected["steps"][0]) < 0.5


@pytest.mark.slow
def test_every_example_is_seen_once_an_epoch_by_one_of_them(two):
    steps = 4
    first, second = (found["uneven"]["read"] for found in two[0])
    # Each epoch reads the steps' batches; the validation images come from another set.
    assert len(first) == len(second) == 3 * steps
    for epoch in range(3):
        part = slice(epoch * steps, (epoch + 1) * steps)
        seen = Counter(index for batch in first[part] + second[part] for index in batch)
        assert seen == Counter(range(53))
        assert [len(batch) for batch in first[part]] == [8, 8, 8, 3]
        assert [len(batch) for batch in second[part]] == [8, 8, 8, 2]


@pytest.mark.slow
def test_only_the_first_process_writes_and_logs(two):
    (first, second), folder = two
    for case in together.CASES:
        assert len(first[case]["lines"]) == 3 and second[case]["lines"] == []
        names = sorted(path.name for path in (folder / case).iterdir())
        assert names == [".lock", "best.safetensors", "last.pt"]
        state = checkpoint.load(folder / case / "last.pt")
        if "average" not in together.CASES[case]:
            assert state["model"]["fc.weight"].flatten().tolist() == first[case]["weights"]


COMMAND = [
    "-m", "resnet_lib", "train", "--model", "resnet18", "--width", "4", "--stem", "imagenet",
    "--data", "fashion", "--limit", "400", "--val-limit", "40", "--epochs", "5",
    "--batch-size", "20", "--device", "cpu", "--resume",
]  # fmt: skip


def rank_of(process):
    variables = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    return next((int(v.split(b"=")[1]) for v in variables if v.startswith(b"RANK=")), None)


def workers(parent):
    """{rank: process} of torchrun's processes."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return {rank_of(child): int(child) for child in children}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the processes in /proc")
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_is_started_again_and_the_run_ends_as_if_nothing_had_been(tmp_path, rank):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    launch = [*TORCHRUN, "--max-restarts", "3", *COMMAND, "--out"]
    with open(tmp_path / "said", "w") as said:
        process = subprocess.Popen([*launch, killed], env=ENVIRONMENT, stdout=said, stderr=said)
        try:
            deadline = time.monotonic() + 120
            while not (killed / "last.pt").exists():
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.01)
            victim = workers(process.pid)[rank]
            os.kill(victim, signal.SIGKILL)
            assert process.wait(180) == 0, (tmp_path / "said").read_text()
        finally:
            process.terminate()  # and with it what it started
            process.wait(60)
    said = (tmp_path / "said").read_text()
    assert f"exitcode: -9) local_rank: {rank}" in said and "resumed after epoch" in said
    done = subprocess.run([*launch, whole], **QUIET)
    assert done.returncode == 0, done.stderr
    same_state(checkpoint.load(killed / "last.pt"), checkpoint.load(whole / "last.pt"))
    # One line for the network, one an epoch, one for the result: the second process is silent.
    assert len(done.stdout.splitlines()) == 7, done.stdout
    record = records.read(whole / "record.json")
    assert record.config["processes"] == 2
    assert record.command.startswith("torchrun --standalone --nproc-per-node 2 -m resnet_lib train")


@pytest.mark.slow
def test_a_mistake_ends_all_processes_with_one_line_each(tmp_path):
    (tmp_path / "best.safetensors").touch()
    line = [*TORCHRUN, *(word for word in COMMAND if word != "--resume"), "--out", tmp_path]
    done = subprocess.run(line, **QUIET)
    assert done.returncode != 0
    assert "holds a run (best.safetensors): resume it" in done.stderr
    assert "UserError" not in done.stderr


# In one process


def as_process(monkeypatch, rank, world):
    monkeypatch.setattr(distributed, "rank", lambda: rank)
    monkeypatch.setattr(distributed, "world", lambda: world)


@pytest.mark.parametrize("world", [2, 3, 5])
@pytest.mark.parametrize("count", [48, 49, 50, 53, 61])
def test_the_processes_batches_are_the_rows_of_one_processs(monkeypatch, count, world):
    images, config = make_images(count), together.CONFIG
    config = train.TrainConfig(**{**vars(config), "freeze_norms": True})
    at_least = max(2, world)
    expected = list(data.batches(images, 16, shuffle=True, epoch=1, at_least=at_least))
    whole = list(train.training_batches(images, config, 1, torch.device("cpu")))
    shares = []
    for rank in range(world):
        with monkeypatch.context() as patch:
            as_process(patch, rank, world)
            shares.append(list(train.training_batches(images, config, 1, torch.device("cpu"))))
    assert all(len(share) == len(expected) for share in shares)
    for step, (_, labels) in enumerate(expected):
        joined = torch.empty_like(labels)
        for rank, share in enumerate(shares):
            joined[rank::world] = share[step][1]
        assert torch.equal(joined, labels)
    if len(whole) == len(expected):  # the pixels too, where one process has the same batches
        for rank, share in enumerate(shares):
            for ours, theirs in zip(share, whole, strict=True):
                assert torch.equal(ours[0], theirs[0][rank::world])


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("count", [48, 50, 53])
def test_the_shares_of_a_steps_loss_add_up_to_its_mean(monkeypatch, count, world):
    """Sum over processes of (own sum / size) / world is the mean over the whole batch."""
    images = make_images(count)
    config = train.TrainConfig(**{**vars(together.CONFIG), "freeze_norms": True, "device": "cpu"})
    found = []
    for rank in range(world):
        with monkeypatch.context() as patch:
            as_process(patch, rank, world)
            patch.setattr(distributed, "parallel", lambda model: model)
            run = train.Run(together.make_model(), images, config)
            sizes = []
            for _, labels in train.training_batches(images, config, 1, run.device):
                sizes.append((labels.double().sum().item(), len(labels), run.size(labels)))
            found.append(sizes)
    for step in zip(*found, strict=True):
        total, number = sum(s[0] for s in step), sum(s[1] for s in step)
        assert sum(s[0] / s[2] for s in step) / world == pytest.approx(total / number)


def test_alone_nothing_is_done():
    with distributed.joined("cpu") as device:
        assert device == "cpu"
    assert (distributed.rank(), distributed.world()) == (0, 1)
    assert distributed.total([1.5, 2]) == [1.5, 2]
    assert distributed.mean([0.1], 3) == [0.1]
    model = torch.nn.Linear(1, 1)
    assert distributed.parallel(model) is model and distributed.prepare(model) is model
    distributed.wait()
    with distributed.first_alone():
        pass
    assert distributed.launcher() == "python -m resnet_lib"


@pytest.mark.parametrize(
    "device, local, words",
    [("cuda:0", 0, "a card of its own"), ("cuda", 1, "torch sees 1 cards: lower --nproc-per-node")],
)
def test_every_process_needs_a_card(monkeypatch, device, local, words):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", str(local))
    with pytest.raises(UserError, match=words), distributed.joined(device):
        pass


def test_too_few_images_for_all_processes_are_refused(monkeypatch):
    as_process(monkeypatch, 0, 4)
    monkeypatch.setattr(distributed, "parallel", lambda model: model)
    config = train.TrainConfig(**{**vars(together.CONFIG), "accumulate": 5, "device": "cpu"})
    with pytest.raises(UserError, match="16 images in a batch are too few for 4 processes and 5"):
        train.Run(together.make_model(), make_images(48), config)


@pytest.mark.cuda
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_on_cuda_batch_norm_sees_the_whole_batch(tmp_path):
    found = start(tmp_path, "cuda")[0]["norms"]
    expected = together.run("cuda", {})
    assert found["norm"] == "SyncBatchNorm"
    assert_close(found["steps"], expected["steps"], rtol=0, atol=1e-3)
    assert_close(found["steps"][:2], expected["steps"][:2], rtol=0, atol=1e-5)
    assert_close(found["statistics"], expected["statistics"], rtol=1e-3, atol=1e-4)
