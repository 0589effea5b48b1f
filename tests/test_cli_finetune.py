"""``finetune``: a folder of pictures becomes a classifier, and mistakes get one line."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import fails
from PIL import Image

from resnet_lib import checkpoint, cli, finetune, metrics, models, pretrained, records, train

START = ["--device", "cpu", "--epochs", "2", "--batch-size", "16", "--image-size", "32"]


def draw(path, bright, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 120, (32, 32))
    Image.fromarray((noise + 120 * bright).astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Bright and dark pictures, three of each thing, which differ in a single pixel."""
    folder = tmp_path_factory.mktemp("data") / "lamps"
    for label, name in enumerate(("dark", "bright")):
        for thing in range(12 if label else 6):
            for shot in range(3):
                path = folder / name / f"thing{thing}_{shot}.png"
                draw(path, label, seed=100 * label + thing)
                image = np.array(Image.open(path))
                image[0, shot] += 5
                Image.fromarray(image).save(path)
    return folder


def command(folder, out, *more):
    return ["finetune", "--data", str(folder), "--out", str(out), *START, *map(str, more)]


def test_a_folder_becomes_a_classifier_with_a_report(pictures, tmp_path, capsys):
    line = command(pictures, tmp_path / "run", "--group", "^[^_]+", "--lr", "0.05")
    assert cli.main(line) == 0
    printed = capsys.readouterr().out
    assert "bright 27, dark 12" in printed and "nearly copies" not in printed
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["classes"] == ["bright", "dark"] and report["images"] == 9  # 2 and 1 things of 3
    assert f"accuracy        {report['accuracy']:.4f}" in printed
    model, metadata = checkpoint.restore_model(tmp_path / "run" / "best.safetensors")
    assert model.fc.out_features == 2 and metadata["data"]["classes"] == ["bright", "dark"]
    record = records.read(tmp_path / "run" / "record.json")
    assert record.experiment == "finetune" and len(record.history) == 2
    predict = ["predict", "--checkpoint", str(tmp_path / "run" / "best.safetensors"), "--json",
               str(pictures / "bright" / "thing0_0.png")]  # fmt: skip
    assert cli.main(predict) == 0
    assert {name for name, _ in json.loads(capsys.readouterr().out)["top"]} == {"bright", "dark"}


def test_without_groups_copies_in_both_parts_are_told(pictures, tmp_path, capsys):
    assert cli.main(command(pictures, tmp_path / "run", "--probe")) == 0
    printed = capsys.readouterr().out
    assert "in one go: without effect are --epochs, --batch-size\n" in printed
    told = re.search(r"nearly copies of training pictures, such as (.+), near to (.+): ", printed)
    asked, known = (Path(name) for name in told.groups())
    assert asked != known and asked.name[:-6] == known.name[:-6] and asked.parent == known.parent
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["accuracy"] == 1.0 and report["mistakes"] == []


def test_a_probe_changes_the_last_layer_only(pictures, tmp_path):
    assert cli.main(command(pictures, tmp_path / "run", "--probe")) == 0
    model, _ = checkpoint.restore_model(tmp_path / "run" / "best.safetensors")
    before, _ = checkpoint.restore_model()
    for name, value in before.state_dict().items():
        assert name.startswith("fc.") or torch.equal(value, model.state_dict()[name]), name


def test_the_weights_of_the_best_epoch_are_measured(pictures, tmp_path, monkeypatch):
    whole, evaluate, seen = train.one_epoch, train.evaluate, []

    def worse_and_worse(run, learn, val, epoch):
        return whole(run, learn, val, epoch) | {"val_accuracy": 1 / epoch}

    def watched(model, *rest, **options):
        seen.append(model.fc.weight.detach().clone())
        return evaluate(model, *rest, **options)

    monkeypatch.setattr(train, "one_epoch", worse_and_worse)
    monkeypatch.setattr(train, "evaluate", watched)
    assert cli.main(command(pictures, tmp_path / "run", "--group", "^[^_]+")) == 0
    best, _ = checkpoint.load_weights(tmp_path / "run" / "best.safetensors")
    last = checkpoint.load(tmp_path / "run" / "last.pt")["model"]
    assert torch.equal(seen[-1], best["fc.weight"])
    assert not torch.equal(seen[-1], last["fc.weight"])


def test_the_interval_takes_what_belongs_together_as_one(pictures, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        metrics, "grouped_interval", lambda hits, groups: asked.append(groups) or (0.25, 0.75)
    )
    assert cli.main(command(pictures, tmp_path / "run", "--group", "^[^_]+", "--probe")) == 0
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["accuracy_interval"] == [0.25, 0.75]
    (groups,) = asked
    assert len(groups) == 9 and sorted(map(groups.count, set(groups))) == [3, 3, 3]
    assert cli.main(command(pictures, tmp_path / "other", "--probe")) == 0
    assert len(asked) == 1  # every picture for itself


def test_mistakes_are_told_with_file_and_certainty():
    logits = torch.tensor([[3.0, 0.0], [0.0, 1.0], [2.0, 0.0], [0.0, 5.0]])
    evaluation = train.Evaluation(logits, torch.tensor([0, 0, 1, 0]))

    class Part:
        classes = ("cat", "dog")

        def __len__(self):
            return 4

    from resnet_lib.cli.finetune import mistakes

    found = mistakes(evaluation, Part())
    assert [(m["image"], m["label"], m["answer"]) for m in found] == [
        ("3", "cat", "dog"), ("2", "dog", "cat"), ("1", "cat", "dog"),
    ]  # fmt: skip
    assert found[0]["probability"] == pytest.approx(logits[3].softmax(0)[1].item())


def test_balance_shows_rare_classes_as_often(pictures, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(finetune, "probe", lambda model, part: seen.append(part) or model)
    for more in ([], ["--balance"]):
        cli.main(command(pictures, tmp_path / f"run{len(more)}", "--probe", *more))
    counts = [torch.bincount(part.labels).tolist() for part in seen]
    assert counts[0][0] > counts[0][1] and counts[1] == [counts[0][0]] * 2


def test_a_folder_with_a_test_part_is_taken_as_it_is(tmp_path, capsys):
    for split, count in (("train", 10), ("test", 4)):
        for label, name in enumerate(("dark", "bright")):
            for number in range(count):
                seed = 1000 * (split == "test") + 100 * label + number
                draw(tmp_path / "set" / split / name / f"{number}.png", label, seed)
    assert cli.main(command(tmp_path / "set", tmp_path / "run", "--frozen", "5")) == 0
    assert "8 held out" in capsys.readouterr().out
    line = command(tmp_path / "set", tmp_path / "other", "--group", "x")
    assert "has a test part already" in fails(capsys, *line)


def test_torchvisions_weights_bring_their_statistics(pictures, tmp_path, monkeypatch):
    asked = []

    def unchanged(model, weights, root):
        asked.append((model.spec["name"], weights))
        return {"mean": list(pretrained.MEAN), "std": list(pretrained.STD), "image_size": 224}

    monkeypatch.setattr(models, "load_pretrained", unchanged)
    line = command(pictures, tmp_path / "run", "--from", "IMAGENET1K_V1", "--probe")
    assert cli.main([*line, "--model", "resnet18"]) == 0
    assert asked == [("resnet18", "IMAGENET1K_V1")]
    data = checkpoint.load_weights(tmp_path / "run" / "best.safetensors")[1]["data"]
    assert data["mean"] == list(pretrained.MEAN) and data["channels"] == 3
    assert data["image_size"] == 32  # asked for


def test_an_interrupted_run_goes_on(pictures, tmp_path, monkeypatch, capsys):
    line = command(pictures, tmp_path / "run", "--group", "^[^_]+")
    whole = train.one_epoch

    def interrupted(run, *rest):
        if run.history.epochs:
            raise KeyboardInterrupt
        return whole(run, *rest)

    monkeypatch.setattr(train, "one_epoch", interrupted)
    assert cli.main(line) == 130
    assert "to go on from there: python -m resnet_lib finetune" in capsys.readouterr().err
    monkeypatch.setattr(train, "one_epoch", whole)
    assert cli.main([*line, "--resume"]) == 0
    assert "resumed after epoch 1 of 2" in capsys.readouterr().out


def test_mistakes_get_a_line(pictures, tmp_path, capsys):
    out = tmp_path / "run"
    assert "there is no folder" in fails(capsys, *command(tmp_path / "no", out))
    assert "no checkpoint at" in fails(capsys, *command(pictures, out, "--from", "no.pt"))
    assert "is no regular expression" in fails(capsys, *command(pictures, out, "--group", "["))
    assert "--frozen: invalid choice: 7" in fails(capsys, *command(pictures, out, "--frozen", "7"))
    one = fails(capsys, *command(pictures, out, "--test-fraction", "2"))
    assert "--test-fraction: invalid number between 0 and 1 value: '2'" in one
    one = fails(capsys, *command(pictures, out, "--group", "^thing"))
    assert "has 1 group of images" in one and "'bright'" in one
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    assert "two or more classes" in fails(capsys, *command(tmp_path / "empty", out))
    Path(out / "last.pt").write_bytes(b"")
    assert "holds a run" in fails(capsys, *command(pictures, out))
