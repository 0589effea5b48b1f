"""Other commands know how ``finetune`` divided a folder that has no parts of its own."""

import json

import pytest
from commands import fails
from toys import draw_noise

from resnet_lib import cli, export

SHOTS = 3


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A folder of noise, some shots of each thing, and a probe that keeps things together."""
    folder = tmp_path_factory.mktemp("data")
    names = [f"thing{number // SHOTS}_{number % SHOTS}" for number in range(10 * SHOTS)]
    draw_noise(folder / "noise", ("one", "two"), names)
    line = ["finetune", "--data", str(folder / "noise"), "--image-size", "16", "--probe"]
    line += ["--group", "^thing[0-9]+", "--test-fraction", "0.4", "--device", "cpu"]
    assert cli.main([*line, "--out", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture
def held(tuned):
    found = json.loads((tuned / "report.json").read_text())
    assert found["images"] == 8 * SHOTS and 0 < found["accuracy"] < 1, "the test needs mistakes"
    return found


def asked(capsys, *line):
    capsys.readouterr()
    assert cli.main([*map(str, line)]) == 0
    return json.loads(capsys.readouterr().out)


def test_evaluate_measures_the_part_held_out_with_its_groups(tuned, held, capsys):
    line = ["evaluate", "--checkpoint", tuned / "best.safetensors", "--json", "--device", "cpu"]
    found = asked(capsys, *line, "--data", tuned.parent / "noise")
    for key in ("images", "accuracy", "accuracy_interval", "confusion_matrix"):
        assert found[key] == held[key], key


def test_the_folder_of_a_run_stands_for_its_best_weights(tuned, held, tmp_path, capsys):
    found = asked(capsys, "evaluate", "--checkpoint", tuned, "--json", "--data",
                  tuned.parent / "noise")  # fmt: skip
    assert found["accuracy_interval"] == held["accuracy_interval"]
    picture = next((tuned.parent / "noise" / "one").iterdir())
    asked(capsys, "predict", "--checkpoint", tuned, "--json", picture)
    one = fails(capsys, "predict", "--checkpoint", str(tmp_path), str(picture))
    assert f"no checkpoint at {tmp_path / 'best.safetensors'}" in one


def test_a_report_has_the_runs_own_interval(tuned, held):
    assert cli.main(["report", str(tuned), "--device", "cpu"]) == 0
    low, high = held["accuracy_interval"]
    assert f"95 % interval {low:.4f} to {high:.4f}" in (tuned / "report.html").read_text("utf-8")


@pytest.mark.parametrize("named", [True, False])
def test_int8_is_calibrated_on_what_was_learned_and_compared_on_the_rest(
    tuned, held, named, tmp_path, monkeypatch, capsys
):
    given = {}

    def write(model, path, about, precision, calibration, check):
        given.update(calibration=calibration, check=check)
        path.write_bytes(b"")
        return export.Agreement(model(check.float()), model(check.float()))

    monkeypatch.setitem(export.WRITERS, "onnx", write)
    line = ["export", "--checkpoint", tuned / "best.safetensors", "--precision", "int8", "--json"]
    where = ["--data", tuned.parent / "noise"] if named else []
    found = asked(capsys, *line, *where, "--out", tmp_path / "a.onnx")
    assert found["compared_on"] == "test part" and found["images"] == held["images"]
    test = {image.numpy().tobytes() for image in given["check"]}
    assert len(given["calibration"]) > 10
    assert not test & {image.numpy().tobytes() for image in given["calibration"]}


def test_a_folder_that_has_gone_leaves_noise_to_compare_on(tuned, tmp_path, capsys):
    noise = tuned.parent / "noise"
    moved = noise.rename(tuned.parent / "moved")
    try:
        line = ["export", "--checkpoint", tuned / "best.safetensors", "--out", tmp_path / "a.onnx"]
        assert asked(capsys, *line, "--json")["compared_on"] == "noise"
    finally:
        moved.rename(noise)


def test_a_pattern_that_finds_nothing_is_refused_and_a_few_are_told(tuned, tmp_path, capsys):
    line = ["finetune", "--data", tuned.parent / "noise", "--image-size", "16", "--probe"]
    line += ["--device", "cpu", "--group"]
    said = fails(capsys, *line, "^zzz", "--out", tmp_path / "a")
    assert "--group '^zzz' is found in none of 60 names, such as thing0_" in said
    assert cli.main([*map(str, line), "^thing[1-9]", "--out", str(tmp_path / "b")]) == 0
    printed = "".join(capsys.readouterr())
    assert "groups of pictures" in printed
    assert "warning: --group is not found in 6 of 60 names" in printed
