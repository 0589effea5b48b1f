import json

import pytest
import torch
from commands import fails
from PIL import Image

from resnet_lib import checkpoint, cli, data, deployed, export, models


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A tiny network that knows the classes of the embedded images."""
    torch.manual_seed(0)
    model = models.resnet18(10, width=4, in_channels=1)
    part = data.load("fashion", "test", limit=10)
    about = {
        "name": "fashion", "classes": list(part.classes), "mean": list(part.mean),
        "std": list(part.std), "channels": 1, "image_size": 32,
    }  # fmt: skip
    path = tmp_path_factory.mktemp("run") / "best.safetensors"
    checkpoint.save_weights(path, model, {"data": about})
    return path


@pytest.fixture(scope="module")
def of_a_folder(weights, tmp_path_factory):
    """The same network, said to have learned a folder that is not at hand."""
    model, about = checkpoint.restore_model(weights)
    path = tmp_path_factory.mktemp("elsewhere") / "best.safetensors"
    checkpoint.save_weights(path, model, {"data": about["data"] | {"name": "garments"}})
    return path


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "item.png"
    Image.fromarray(data.load("fashion", "test", limit=10).images[3, 0].numpy()).save(path)
    return path


def says(capsys, *line):
    capsys.readouterr()
    assert cli.main([str(word) for word in line]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    return printed.out


def test_every_format_is_written_compared_and_predicts_like_the_checkpoint(
    weights, picture, capsys
):
    expected = json.loads(says(capsys, "predict", "--checkpoint", weights, picture, "--json"))
    for form, precisions in export.FORMATS.items():
        for precision in precisions:
            line = ["export", "--checkpoint", weights, "--format", form, "--precision", precision]
            report = json.loads(says(capsys, *line, "--json", "--limit", 50))
            assert report["images"] == 50 and report["compared_on"] == "test part"
            assert report["max_error"] < {"fp32": 1e-4, "fp16": 0.01, "int8": 0.5}[precision]
            assert abs(report["accuracy"] - report["exported_accuracy"]) < 0.1
            suffix = {"onnx": ".onnx", "torch-export": ".pt2"}[form]
            assert report["file"] == str(weights.parent / f"best-{precision}{suffix}")
            found = says(capsys, "predict", "--checkpoint", report["file"], picture, "--json")
            top = json.loads(found)["top"]
            assert len(top) == 3
            for (name, value), (other, theirs) in zip(top, expected["top"], strict=True):
                assert abs(value - theirs) < 0.1
                assert name == other or precision == "int8"


def test_the_words_tell_what_the_numbers_do(weights, tmp_path, capsys):
    out = tmp_path / "a.pt2"
    line = ["export", "--checkpoint", weights, "--format", "torch-export", "--out", out]
    words = says(capsys, *line, "--limit", 20).splitlines()
    assert words[0] == f"{out}: {out.stat().st_size / 1e6:.2f} MB, fp32"
    assert words[1].startswith("on 20 images of the test part: logits differ by up to ")
    assert words[1].endswith("the same class for 100.00 %")
    assert words[2].startswith("accuracy 0.")


def test_data_that_is_not_at_hand(of_a_folder, tmp_path, capsys):
    line = ["export", "--checkpoint", of_a_folder, "--out"]
    words = says(capsys, *line, tmp_path / "a.pt2", "--format", "torch-export")
    assert "32 images of noise" in words and "accuracy" not in words
    error = fails(capsys, *line, tmp_path / "a.onnx", "--precision", "int8")
    assert "name the data with --data" in error
    report = says(
        capsys, *line, tmp_path / "a.onnx", "--precision", "int8", "--data", "fashion",
        "--limit", 20, "--calibration", 20, "--json",
    )  # fmt: skip
    assert json.loads(report)["compared_on"] == "test part"


def test_calibration_never_sees_the_test_part(weights, tmp_path, monkeypatch):
    asked, given = [], {}

    def load(name, split, **options):
        asked.append(split)
        return data_load(name, split, **options)

    def write(model, path, about, precision, calibration, check):
        given.update(calibration=calibration, check=check)
        path.touch()
        return export.Agreement(torch.zeros(len(check), 10), torch.zeros(len(check), 10))

    data_load = data.load
    monkeypatch.setattr(data, "load", load)
    monkeypatch.setitem(export.WRITERS, "onnx", write)
    line = ["export", "--checkpoint", str(weights), "--precision", "int8", "--limit", "30"]
    assert cli.main([*line, "--out", str(tmp_path / "a.onnx"), "--calibration", "40"]) == 0
    assert asked == ["test", "train"]
    expected = [data_load("fashion", *part).images for part in (("train",), ("test",))]
    for images, part in zip((given["calibration"], given["check"]), expected, strict=True):
        rows = {image.numpy().tobytes() for image in part}
        assert all(image.numpy().tobytes() in rows for image in images)
    assert (len(given["calibration"]), len(given["check"])) == (40, 30)


@pytest.mark.parametrize(
    "line, words",
    [
        (["--format", "tflite"], "format must be one of onnx, torch-export"),
        (["--precision", "int4"], "precision must be one of fp32, fp16, int8"),
        (["--format", "torch-export", "--precision", "int8"], "use onnx for int8"),
        (["--out", "a.pt2"], "a file for onnx must end in .onnx"),
        (["--out", "no/a.onnx"], "there is no folder no"),
        (["--data", "scaled-shapes"], "name the data it learned"),
        (["--data", "nowhere"], "data must be one of"),
        (["--calibration", "0"], "invalid whole number above 0"),
    ],
)
def test_a_mistake_gets_one_line(weights, capsys, line, words, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert words in fails(capsys, "export", "--checkpoint", weights, *line)
    assert not list(tmp_path.iterdir())


def test_more_mistakes(weights, tmp_path, picture, capsys, monkeypatch):
    missing = tmp_path / "no.safetensors"
    assert "no checkpoint at" in fails(capsys, "export", "--checkpoint", missing)
    (tmp_path / "a.onnx").mkdir()
    line = ["export", "--checkpoint", weights, "--out", tmp_path / "a.onnx"]
    assert "is a folder" in fails(capsys, *line)
    file = tmp_path / "b.onnx"
    assert "no exported file at" in fails(capsys, "predict", "--checkpoint", file, picture)
    file.write_bytes(b"x")
    assert "is damaged" in fails(capsys, "predict", "--checkpoint", file, picture)
    line = ["predict", "--checkpoint", file, picture, "--device", "cuda"]
    assert "exported files run on the CPU" in fails(capsys, *line)
    monkeypatch.setattr(deployed, "find_spec", lambda name: None)
    assert "pip install onnx" in fails(capsys, "export", "--checkpoint", weights)


def test_the_network_of_the_package_is_exported_by_default(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    says(capsys, "export", "--format", "torch-export", "--limit", 10)
    assert [path.name for path in tmp_path.iterdir()] == [f"{checkpoint.SHIPPED}-fp32.pt2"]
