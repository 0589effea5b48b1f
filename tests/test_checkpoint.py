import pickle
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import resnet50
from toys import make_model

from resnet_lib import UserError, checkpoint, data, records, train


def a_state():
    model = make_model()
    return {"model": model.state_dict(), "spec": model.spec, "data": {}, "epoch": 2}


def test_save_and_load_return_the_same(tmp_path):
    state = a_state()
    checkpoint.save(tmp_path / "last.pt", state)
    loaded = checkpoint.load(tmp_path / "last.pt")
    assert loaded["spec"] == state["spec"] and loaded["epoch"] == 2
    for name, tensor in state["model"].items():
        assert torch.equal(loaded["model"][name], tensor), name
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), RuntimeError("disk")])
def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_else(tmp_path, monkeypatch, failure):
    path = tmp_path / "last.pt"
    checkpoint.save(path, a_state())
    before = path.read_bytes()

    def fail(state, file):
        file.write(b"half")
        raise failure

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(UserError, match=r"cannot write .*last\.pt: .*is kept"):
        checkpoint.save(path, a_state())
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["last.pt"]


def test_the_file_is_never_half_written(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    checkpoint.save(path, a_state())
    real = torch.save

    def look(state, file):
        real(state, file)
        assert checkpoint.load(path)["epoch"] == 2  # the old one is whole while the new is written

    monkeypatch.setattr(torch, "save", look)
    checkpoint.save(path, a_state() | {"epoch": 3})
    assert checkpoint.load(path)["epoch"] == 3


def truncated(path):
    checkpoint.save(path, a_state())
    path.write_bytes(path.read_bytes()[:-200])


def damaged(path):
    checkpoint.save(path, a_state())
    content = bytearray(path.read_bytes())
    at = content.index(b"data.pkl")
    content[at + 40 : at + 200] = bytes(160)
    path.write_bytes(bytes(content))


class Trap:
    fired = False

    def __reduce__(self):
        return (setattr, (Trap, "fired", True))


def bare_pickle(path):
    path.write_bytes(pickle.dumps(Trap()))


def zipped_code(path):
    torch.save({"version": 1, "model": Trap()}, path)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda path: None, "no checkpoint at"),
        (lambda path: path.mkdir(), "no checkpoint at"),
        (lambda path: path.write_text("hello"), "truncated or not a checkpoint"),
        (lambda path: path.write_bytes(b""), "truncated or not a checkpoint"),
        (truncated, "truncated or not a checkpoint"),
        (damaged, "damaged"),
        (bare_pickle, "can run code: refused"),
        (zipped_code, "holds code beside tensors: refused"),
        (lambda path: torch.save({"model": {}, "version": 99}, path), "format 99"),
        (lambda path: torch.save([1, 2], path), "no checkpoint of a training run"),
    ],
)
def test_a_bad_checkpoint_gets_one_line_and_runs_nothing(tmp_path, make, words):
    path = tmp_path / "last.pt"
    make(path)
    with pytest.raises(UserError, match=words) as caught:
        checkpoint.load(path)
    assert "\n" not in str(caught.value)
    assert not Trap.fired


def test_weights_travel_with_what_is_needed_to_use_them(tmp_path):
    model = make_model()
    path = tmp_path / "best.safetensors"
    checkpoint.save_weights(path, model, {"data": {"classes": ["a", "b"]}, "epoch": 5})
    twin, metadata = checkpoint.restore_model(path)
    assert metadata["epoch"] == 5 and metadata["data"]["classes"] == ["a", "b"]
    assert twin.spec == model.spec and not twin.training
    for (name, ours), theirs in zip(
        twin.state_dict().items(), model.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name


def test_the_whole_state_serves_as_weights_too(tmp_path):
    checkpoint.save(tmp_path / "last.pt", a_state())
    model, metadata = checkpoint.restore_model(tmp_path / "last.pt")
    assert model.spec == a_state()["spec"] and metadata["epoch"] == 2


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda path: None, "no checkpoint at"),
        (lambda path: path.write_bytes(b"\x10" * 50), "no safetensors file"),
        (lambda path: path.write_bytes(b""), "no safetensors file"),
    ],
)
def test_bad_weights_get_one_line(tmp_path, make, words):
    path = tmp_path / "best.safetensors"
    make(path)
    with pytest.raises(UserError, match=words):
        checkpoint.load_weights(path)


def test_truncated_weights(tmp_path):
    path = tmp_path / "best.safetensors"
    checkpoint.save_weights(path, make_model(), {})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="truncated"):
        checkpoint.load_weights(path)


def test_weights_without_our_header_are_refused_with_the_way_out(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="does not say which model"):
        checkpoint.restore_model(path)


def test_another_architecture_is_named_by_its_first_difference():
    model = make_model()
    weights = model.state_dict()
    with pytest.raises(UserError, match=r"f\.pt is of another architecture: it lacks conv1"):
        checkpoint.fill(model, {}, "f.pt")
    with pytest.raises(UserError, match="the model has no extra"):
        checkpoint.fill(model, weights | {"extra": torch.zeros(1)}, "f.pt")
    with pytest.raises(UserError, match=r"conv1.weight is \(8, 1, 3, 3\), the model's is \(4, 1"):
        checkpoint.fill(model, make_model(width=8).state_dict(), "f.pt")


def test_fill_takes_torchvisions_weights():
    from resnet_lib import models

    theirs = resnet50(num_classes=3)
    ours = models.resnet50(3)
    checkpoint.fill(ours, theirs.state_dict(), "torchvision")
    assert torch.equal(ours.layer3[4].conv2.weight, theirs.layer3[4].conv2.weight)


def test_random_states_continue_every_generator():
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002

    random.gauss(0, 1)  # leaves a second number in the generator's pocket
    state = checkpoint.random_states()
    first = (*draw(), random.gauss(0, 1))
    checkpoint.restore_random_states(state)
    assert (*draw(), random.gauss(0, 1)) == first


def test_random_states_survive_the_file(tmp_path):
    checkpoint.save(tmp_path / "last.pt", a_state() | {"random": checkpoint.random_states()})
    expected = (random.random(), np.random.rand(), torch.rand(1).item())  # noqa: NPY002
    checkpoint.restore_random_states(checkpoint.load(tmp_path / "last.pt")["random"])
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected  # noqa: NPY002


@pytest.mark.parametrize("name", ["last.pt", "best.safetensors", "record.json"])
def test_a_folder_with_a_run_is_never_overwritten_silently(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(UserError, match=f"holds a run \\({name}\\)"):
        checkpoint.open_run(tmp_path)
    assert checkpoint.open_run(tmp_path, resume=True) == tmp_path


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write to .*: Not a directory"):
        checkpoint.open_run(tmp_path / "file" / "run")
    with pytest.raises(UserError, match="cannot write to"):
        checkpoint.open_run(tmp_path / "file")


def test_a_read_only_folder_is_refused(tmp_path, monkeypatch):
    def refuse(dir):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(checkpoint.tempfile, "TemporaryFile", refuse)
    with pytest.raises(UserError, match=r"cannot write to .*: Permission denied"):
        checkpoint.open_run(tmp_path)


def test_half_precision_loses_nothing_after_rounding(tmp_path):
    model = make_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    checkpoint.round_to_half(model)
    moved = [
        name for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    ]
    assert "conv1.weight" in moved
    for value in model.state_dict().values():
        assert value.dtype in (torch.float32, torch.int64)
    paths = {half: tmp_path / f"{half}.safetensors" for half in (True, False)}
    for half, path in paths.items():
        checkpoint.save_weights(path, model, {"data": {}}, half=half)
        loaded, _ = checkpoint.restore_model(path)
        for name, value in loaded.state_dict().items():
            assert value.dtype == model.state_dict()[name].dtype
            assert torch.equal(value, model.state_dict()[name]), name
    assert paths[True].stat().st_size < 0.6 * paths[False].stat().st_size


def test_values_beyond_half_precision_are_refused():
    model = make_model()
    model.bn1.running_var.fill_(1e6)
    with pytest.raises(UserError, match=r"bn1\.running_var has values beyond float16"):
        checkpoint.round_to_half(model)


@pytest.mark.parametrize(
    "name, experiment",
    [(checkpoint.SHIPPED, "shipped"), (checkpoint.SHIPPED_SMALL_STEM, "shipped-small-stem")],
)
def test_the_shipped_network_repeats_its_record(name, experiment):
    path = checkpoint.WEIGHTS / f"{name}.safetensors"
    assert path.stat().st_size < 4e6
    model, metadata = checkpoint.restore_model(name)
    (record,) = records.load(experiment)
    assert record.variant == name
    assert metadata["spec"] == record.config["spec"]
    test = data.load("fashion", "test")
    assert metadata["data"]["mean"] == list(test.mean)
    assert metadata["data"]["classes"] == list(test.classes)
    evaluation = train.evaluate(model, test, "cpu")
    # Another processor rounds otherwise, which may tip an image that lies between two classes.
    assert evaluation.accuracy == pytest.approx(record.result["test_accuracy"], abs=1e-3)
    assert evaluation.loss == pytest.approx(record.result["test_loss"], rel=1e-3)


def test_a_run_goes_to_the_drive_where_one_is_mounted(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "DRIVE", tmp_path / "MyDrive")
    assert checkpoint.folder_on_drive("runs/1") == Path("runs/1")
    with monkeypatch.context() as colab:
        colab.setitem(sys.modules, "google.colab", object())
        with pytest.raises(UserError, match="Drive is not mounted"):
            checkpoint.folder_on_drive("runs/1")
    (tmp_path / "MyDrive").mkdir()
    assert checkpoint.folder_on_drive("runs/1") == tmp_path / "MyDrive" / "runs" / "1"
