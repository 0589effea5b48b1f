import json
import shutil
import subprocess
import sys

import pytest
import torch
from commands import fails
from PIL import Image
from safetensors.torch import save_file

from resnet_lib import __version__, checkpoint, cli, data, models, records, train

TRAIN = [
    "train", "--model", "resnet50", "--data", "fashion", "--epochs", "2", "--limit", "64",
    "--val-limit", "20", "--image-size", "32", "--width", "4", "--stem", "imagenet",
    "--batch-size", "32", "--device", "cpu",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One short training run, as a user would start it."""
    out = tmp_path_factory.mktemp("runs") / "first"
    assert cli.main([*TRAIN, "--out", str(out)]) == 0
    return out


@pytest.fixture
def folder(tmp_path):
    """Two classes of colour images."""
    for index, name in enumerate(("cat", "dog")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(10):
            image = Image.new("RGB", (40, 30), (200 * index + number, 60, 60))
            image.save(tmp_path / "pets" / name / f"{number}.png")
    return tmp_path / "pets"


def test_train_leaves_the_state_the_weights_and_the_record(run):
    assert sorted(path.name for path in run.iterdir() if path.name[0] != ".") == [
        "best.safetensors", "last.pt", "record.json",
    ]  # fmt: skip
    record = records.read(run / "record.json")
    assert len(record.history) == 2
    assert record.command.startswith("python -m resnet_lib train --model resnet50 ")
    assert record.config["spec"]["zero_init"]
    assert record.config["spec"]["width"] == 4 and record.config["epochs"] == 2
    best = max(record.history, key=lambda epoch: epoch["val_accuracy"])
    assert record.result["val_accuracy"] == best["val_accuracy"]
    model, metadata = checkpoint.restore_model(run / "best.safetensors")
    assert models.layer_count(model) == 50 and metadata["epoch"] == record.result["best_epoch"]


def test_the_recorded_command_repeats_the_run(run, tmp_path):
    command = records.read(run / "record.json").command.split()
    assert command[:3] == ["python", "-m", "resnet_lib"]
    command[command.index("--out") + 1] = str(tmp_path / "again")
    assert cli.main(command[3:]) == 0
    again, first = (
        checkpoint.load_weights(path / "best.safetensors")[0] for path in (tmp_path / "again", run)
    )
    for name in first:
        assert torch.equal(again[name], first[name]), name


def test_evaluate_reports_what_train_recorded(run, capsys):
    line = ["evaluate", "--checkpoint", str(run / "best.safetensors"), "--data", "fashion"]
    assert cli.main([*line, "--split", "val", "--limit", "20", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["accuracy"] == records.read(run / "record.json").result["val_accuracy"]
    assert report["images"] == 20 and sum(map(sum, report["confusion_matrix"])) == 20
    low, high = report["accuracy_interval"]
    assert low <= report["accuracy"] <= high
    assert cli.main([*line, "--limit", "20"]) == 0
    text = capsys.readouterr().out
    assert "mean precision" in text and "Ankle boot" in text


def test_evaluate_takes_the_whole_state_too(run, capsys):
    line = ["evaluate", "--checkpoint", str(run / "last.pt"), "--data", "fashion"]
    assert cli.main([*line, "--limit", "20", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 20


def test_predict_agrees_with_the_network(run, tmp_path, capsys):
    part = data.load("fashion", "test", limit=10)
    path = tmp_path / "item.png"
    Image.fromarray(part.images[3, 0].numpy()).save(path)
    weights = str(run / "best.safetensors")
    assert cli.main(["predict", "--checkpoint", weights, str(path), "--json"]) == 0
    top = json.loads(capsys.readouterr().out)["top"]
    model, _ = checkpoint.restore_model(weights)
    expected = train.evaluate(model, part, "cpu").logits[3].softmax(0)
    assert top[0][0] == part.classes[expected.argmax()]
    assert top[0][1] == pytest.approx(expected.max().item(), abs=1e-5)
    assert len(top) == 3
    assert cli.main(["predict", "--checkpoint", weights, str(path), "--top", "1"]) == 0
    assert capsys.readouterr().out == f"{path}  {top[0][0]} {top[0][1]:.3f}\n"


def test_predict_classifies_the_rest_beside_a_bad_file(run, tmp_path, capsys):
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.new("L", (28, 28)).save(good)
    bad.write_text("no image")
    weights = str(run / "best.safetensors")
    assert cli.main(["predict", "--checkpoint", weights, str(bad), str(good)]) == 2
    captured = capsys.readouterr()
    assert captured.out.startswith(str(good)) and "bad.png" in captured.err
    assert captured.err.count("\n") == 1


def test_a_folder_of_images_trains(folder, tmp_path, capsys):
    line = ["train", "--model", "resnet18", "--width", "4", "--image-size", "16", "--epochs", "1"]
    out = tmp_path / "run"
    assert cli.main([*line, "--data", str(folder), "--out", str(out), "--device", "cpu"]) == 0
    _, metadata = checkpoint.restore_model(out / "best.safetensors")
    assert metadata["data"]["classes"] == ["cat", "dog"] and metadata["data"]["channels"] == 3


def test_a_finished_run_is_not_overwritten_and_resumes_to_nothing(run, capsys):
    before = (run / "last.pt").read_bytes()
    assert "holds a run" in fails(capsys, *TRAIN, "--out", run)
    assert cli.main([*TRAIN, "--out", str(run), "--resume"]) == 0
    assert "resumed after epoch 2 of 2" in capsys.readouterr().out
    assert (run / "last.pt").read_bytes() == before
    assert "config lr was" in fails(capsys, *TRAIN, "--out", run, "--resume", "--lr", "0.5")


@pytest.mark.parametrize(
    "change, words",
    [
        (["--model", "resnet99"], "model must be one of resnet18, "),
        (["--model", "resnet18", "--stride-in", "1x1"], "resnet18 has basic blocks"),
        (["--data", "nowhere"], "data must be one of"),
        (["--device", "gpu"], "device must be auto, cpu, cuda"),
        (["--precision", "int4"], "precision must be one of auto, float32"),
        (["--precision", "float16"], "float16 training needs CUDA"),
        (["--stem", "big"], "stem must be one of imagenet, small"),
        (["--stride-in", "5x5"], "stride_in must be one of 3x3, 1x1"),
        (["--optimizer", "adam"], "optimizer must be one of sgd, adamw"),
        (["--lr", "-1"], "lr must be above 0"),
        (["--lr", "fast"], "invalid float value: 'fast'"),
        (["--limit", "0"], "invalid whole number above 0 value: '0'"),
        (["--limit", "3"], "limit must be at least 10"),
        (["--epochs", "2", "--warmup-epochs", "5"], "warmup_epochs"),
        (["--no-such-option"], "unrecognized arguments: --no-such-option"),
    ],
)
def test_a_mistake_in_training_gets_one_line(change, words, tmp_path, capsys):
    assert words in fails(capsys, *TRAIN, "--out", tmp_path / "run", *change)


def test_cuda_asked_for_where_there_is_none(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    error = fails(capsys, *TRAIN, "--out", tmp_path / "run", "--device", "cuda")
    assert "torch sees 0 CUDA devices: use --device cpu" in error


def test_an_output_folder_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert "cannot write to" in fails(capsys, *TRAIN, "--out", tmp_path / "file" / "run")


def test_mistakes_with_checkpoints_get_one_line(run, folder, tmp_path, capsys):
    weights = run / "best.safetensors"
    evaluate = ["evaluate", "--data", "fashion", "--checkpoint"]
    assert "no checkpoint at" in fails(capsys, *evaluate, tmp_path / "no.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(weights.read_bytes()[:-50])
    assert "truncated" in fails(capsys, *evaluate, cut)
    whole = tmp_path / "last.pt"
    whole.write_bytes((run / "last.pt").read_bytes()[:-50])
    assert "truncated" in fails(capsys, *evaluate, whole)
    assert "split must be one of" in fails(capsys, *evaluate, weights, "--split", "all")
    other = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(1)}, other)
    assert "does not say which model" in fails(capsys, *evaluate, other)
    line = ["evaluate", "--checkpoint", weights, "--data", folder, "--split", "val"]
    assert "evaluate on the data it learned" in fails(capsys, *line)
    assert "missing.png" in fails(capsys, "predict", "--checkpoint", weights, "missing.png")


def test_resume_of_another_architecture_names_it(run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "run")
    line = [*TRAIN, "--out", tmp_path / "run", "--resume", "--model", "resnet101"]
    assert "spec name was 'resnet50', now 'resnet101'" in fails(capsys, *line)


def test_help_teaches_and_no_command_is_a_mistake(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    for words in ("train", "evaluate", "predict", "experiment", "--resume", "examples:"):
        assert words in text
    assert "COMMAND" in fails(capsys)


def test_the_examples_in_the_help_are_real(capsys):
    parser = cli.make_parser()
    commands = [line.split()[3:] for line in cli.EXAMPLES.splitlines() if "python -m" in line]
    assert len(commands) >= 3
    for command in commands:
        assert callable(parser.parse_args(command).run)


def test_python_m_resnet_lib_passes_the_exit_code_on():
    def call(*line):
        command = [sys.executable, "-m", "resnet_lib", *line]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    version = call("--version")
    assert (version.returncode, version.stdout.strip()) == (0, __version__)
    mistake = call("train", "--data", "fashion", "--out", "x", "--model", "y", "--device", "z")
    assert mistake.returncode == 2 and "Traceback" not in mistake.stderr


def test_a_file_that_is_no_picture_is_told_in_one_line(folder, tmp_path):
    (folder / "cat" / "notes.txt").write_text("no picture")
    line = ["train", "--data", str(folder), "--out", str(tmp_path / "run"), "--device", "cpu"]
    line += ["--model", "resnet18", "--width", "4", "--epochs", "1", "--image-size", "16"]
    command = [sys.executable, "-m", "resnet_lib", *line]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    told = [one for one in done.stderr.splitlines() if "notes.txt" in one]
    assert len(told) == 1 and told[0].startswith("warning: skipped: 1 of")
    assert "options.py" not in done.stderr and "UserWarning" not in done.stderr


def test_ctrl_c_says_what_is_kept(tmp_path, capsys, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "fit", interrupt)
    assert cli.main([*TRAIN, "--out", str(tmp_path / "run")]) == 130
    said = capsys.readouterr().err
    assert "nothing is saved before the first epoch's end; to start again: python -m" in said
    assert f"--out {tmp_path / 'run'}" in said
