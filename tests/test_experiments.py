from dataclasses import replace

import pytest
import torch

from resnet_lib import (
    UserError,
    checkpoint,
    cli,
    data,
    experiments,
    models,
    pyramid,
    records,
    train,
)

LINE = ["experiment", "quick", "--seeds", "2", "--limit", "40", "--epochs", "1", "--device", "cpu"]


def test_a_reduced_rerun_writes_one_record_a_run_and_never_runs_twice(tmp_path, capsys):
    out = tmp_path / "quick"
    assert cli.main([*LINE, "--out", str(out)]) == 0
    variants = experiments.EXPERIMENTS["quick"]
    files = sorted(path.name for path in out.iterdir())
    assert files == sorted(f"{name}-seed{seed}.json" for name in variants for seed in (0, 1))
    before = {name: (out / name).stat().st_mtime_ns for name in files}
    (out / files[0]).unlink()
    capsys.readouterr()
    assert cli.main([*LINE, "--out", str(out)]) == 0
    assert f"{len(files) - 1} of {len(files)} runs are done" in capsys.readouterr().out
    after = {name: (out / name).stat().st_mtime_ns for name in files}
    assert {name for name in files if after[name] != before[name]} == {files[0]}

    record = records.read(out / files[1])
    assert record.experiment == "quick" and record.variant in variants
    assert record.result["train_images"] == 40 and len(record.history) == 1
    matrix = record.result["test_confusion_matrix"]
    correct = sum(row[i] for i, row in enumerate(matrix))
    assert correct / sum(map(sum, matrix)) == pytest.approx(record.result["test_accuracy"])
    assert "experiment quick --seeds 2" in record.command


def test_seeds_change_the_run_and_nothing_else(tmp_path):
    variant = experiments.trial(experiments.EXPERIMENTS["quick"]["resnet50-w16"], 40, 1)
    variant = replace(variant, config=replace(variant.config, device="cpu"))

    def loss(seed):
        record = experiments.run("quick", "v", variant, seed, "command", log=lambda line: None)
        return record.history[0]["train_loss"]

    first = loss(0)
    assert loss(0) == first
    assert loss(1) != first


def test_an_unknown_experiment_names_the_known_ones():
    with pytest.raises(UserError, match="experiment must be one of degradation, quick, "):
        experiments.find("slow")


def test_a_reduced_rerun_of_degradation(tmp_path):
    out = tmp_path / "degradation"
    line = ["experiment", "degradation", "--seeds", "1", "--limit", "64", "--epochs", "1"]
    assert cli.main([*line, "--device", "cpu", "--out", str(out)]) == 0
    found = {path.stem: records.read(path) for path in out.iterdir()}
    assert set(found) == {f"{name}-seed0" for name in experiments.EXPERIMENTS["degradation"]}
    for name, record in found.items():
        depth = int(name.split("-")[1])
        blocks = (depth - 2) // 2
        assert record.config["spec"]["residual"] == name.startswith("residual")
        assert record.config["data"]["image_size"] == 16
        for moment in ("before", "after"):
            lengths = {key: len(values) for key, values in record.result[moment].items()}
            assert lengths == dict.fromkeys(("activation", "gradient", "step"), blocks)
        assert record.result["before"] != record.result["after"]
        assert 0 < record.result["train_accuracy"] <= 1
    pairs = [(found[f"plain-{d}-seed0"], found[f"residual-{d}-seed0"]) for d in (20, 56)]
    for plain, residual in pairs:
        assert plain.result["parameters"] == residual.result["parameters"]
        same = {k: v for k, v in plain.config.items() if k != "spec"}
        assert same == {k: v for k, v in residual.config.items() if k != "spec"}


def test_a_reduced_rerun_of_the_receptive_fields(tmp_path):
    out = tmp_path / "fields"
    line = ["experiment", "receptive-fields", "--seeds", "1", "--limit", "64", "--epochs", "1"]
    assert cli.main([*line, "--device", "cpu", "--out", str(out)]) == 0
    for path in out.iterdir():
        record = records.read(path)
        theory = pyramid.receptive_field(models.build(**record.config["spec"]))
        for moment in ("before", "after"):
            for stage, found in record.result[moment].items():
                covered = min(theory[stage].size, 480)
                assert covered <= found["side"] * found["cell"] <= covered + 2 * found["cell"]
                assert 0 < found["width"] < found["square"] <= covered
                heat = torch.tensor(list(bytes.fromhex(found["heat"])))
                heat = heat.view(found["side"], found["side"])
                assert heat.max() == 255
                # Most of it lies in the middle: the map is centred on its unit.
                third = found["side"] // 3
                middle = heat.double().square()[third:-third, third:-third].sum()
                assert middle > 0.4 * heat.double().square().sum()
        assert record.result["before"] != record.result["after"]


def test_a_reduced_rerun_of_the_shipped_network_keeps_what_it_measured(tmp_path):
    line = ["experiment", "shipped", "--seeds", "1", "--limit", "80", "--epochs", "2"]
    folders = ["--out", str(tmp_path / "out"), "--weights", str(tmp_path / "weights")]
    assert cli.main([*line, "--device", "cpu", *folders]) == 0
    (path,) = (tmp_path / "out").iterdir()
    record = records.read(path)
    model, metadata = checkpoint.restore_model(tmp_path / "weights" / f"{path.stem}.safetensors")
    assert metadata["data"]["examples"] == 80
    test = data.load("fashion", "test", limit=80)
    again = train.evaluate(model, test, "cpu")
    assert again.loss == record.result["test_loss"]  # to the bit: rounded before it was measured
    halves = [value.half().float() for value in model.state_dict().values()]
    assert all(map(torch.equal, halves, (v.float() for v in model.state_dict().values())))


def test_a_reduced_rerun_of_object_size(tmp_path):
    out = tmp_path / "size"
    line = ["experiment", "object-size", "--seeds", "1", "--limit", "100", "--epochs", "1"]
    assert cli.main([*line, "--device", "cpu", "--out", str(out)]) == 0
    found = [records.read(path) for path in sorted(out.iterdir())]
    assert [record.variant for record in found] == ["resnet101-w16", "resnet50-w16"]
    for record in found:
        shares, images = (record.result[k] for k in ("accuracy_by_size", "images_by_size"))
        assert set(shares) == {"8", "11", "16", "23", "32"}
        assert images == dict.fromkeys(shares, 20)
        hits = sum(shares[size] * images[size] for size in shares)
        assert hits / 100 == pytest.approx(record.result["test_accuracy"])
    one, other = ({k: v for k, v in r.config.items() if k != "spec"} for r in found)
    assert one == other


def test_two_jobs_write_the_records_of_one(tmp_path, capfd):
    line = [*LINE, "--precision", "float32"]
    assert cli.main([*line, "--out", str(tmp_path / "one")]) == 0
    assert "2 to go: about" in capfd.readouterr().out
    assert cli.main([*line, "--jobs", "2", "--out", str(tmp_path / "two")]) == 0
    said = capfd.readouterr().out
    assert "resnet101-w16, seed 1: epoch   1/1" in said and "0 to go" in said
    one, two = (
        {path.name: records.read(path) for path in (tmp_path / name).iterdir()}
        for name in ("one", "two")
    )
    assert one.keys() == two.keys() and len(one) == 4
    for name, record in one.items():
        assert "--jobs 2" in two[name].command
        assert two[name].result["test_loss"] == pytest.approx(record.result["test_loss"], rel=1e-3)


def test_one_variant_alone(tmp_path, capsys):
    line = [*LINE, "--out", str(tmp_path), "--only"]
    assert cli.main([*line, "resnet50-w16"]) == 0
    assert {path.name.partition("-")[0] for path in tmp_path.iterdir()} == {"resnet50"}
    record = records.read(tmp_path / "resnet50-w16-seed1.json")
    assert f"--out {tmp_path.name} --only" in record.command
    assert cli.main([*line, "resnet18"]) != 0
    assert "variant must be one of resnet50-w16, resnet101-w16" in capsys.readouterr().err


def test_a_mistake_in_a_job_gets_one_line(tmp_path, capfd):
    line = ["experiment", "pyramid", "--seeds", "1", "--limit", "80", "--epochs", "1"]
    folders = ["--out", str(tmp_path / "out"), "--weights", str(tmp_path / "weights")]
    assert cli.main([*line, "--jobs", "2", *folders]) != 0
    error = capfd.readouterr().err
    assert "leave --weights out" in error and "Traceback" not in error


def test_the_test_part_has_its_own_limit():
    variant = experiments.EXPERIMENTS["object-size"]["resnet50-w16"]
    assert variant.limits["test"] == 5_000
    assert len(replace(variant, limits={"test": 50}).part("test")) == 50
    assert experiments.trial(variant, None, 1).limits == variant.limits
    assert len(experiments.trial(variant, 30, None).part("test")) == 30


def test_no_weights_are_promised_where_none_are_kept(tmp_path, capsys):
    line = ["experiment", "pyramid", "--seeds", "1", "--limit", "80", "--epochs", "1"]
    folders = ["--out", str(tmp_path / "out"), "--weights", str(tmp_path / "weights")]
    assert cli.main([*line, "--device", "cpu", *folders]) != 0
    assert "leave --weights out" in capsys.readouterr().err


def test_a_reduced_rerun_of_the_pyramid(tmp_path):
    out = tmp_path / "pyramid"
    line = ["experiment", "pyramid", "--seeds", "1", "--limit", "80", "--epochs", "1"]
    assert cli.main([*line, "--device", "cpu", "--out", str(out)]) == 0
    found = {path.stem: records.read(path) for path in out.iterdir()}
    assert set(found) == {"C2-seed0", "C5-seed0", "P2-seed0"}
    sizes = {"8", "12", "16", "24"}
    for record in found.values():
        result = record.result
        for kind in ("place", "kind", "both", "images_by_size"):
            assert set(result[kind]) == sizes
        for size in sizes:
            assert 0 <= result["both"][size] <= min(result["place"][size], result["kind"][size])
        assert sum(result["images_by_size"].values()) == result["test_images"] == 80
        assert len(record.history) == 1
    parameters = {name: record.result["parameters"] for name, record in found.items()}
    assert parameters["C2-seed0"] < parameters["C5-seed0"] < parameters["P2-seed0"]


def test_both_versions_are_measured_alike():
    one = experiments.EXPERIMENTS["receptive-fields"]
    other = experiments.EXPERIMENTS["receptive-fields-v1"]
    for name, variant in other.items():
        assert variant.spec == one[name].spec | {"stride_in": "1x1"}
        assert replace(variant, spec=one[name].spec) == one[name]
        assert models.build(**one[name].spec).layer2[0].conv2.stride == (2, 2)


def test_the_variants_are_what_their_names_say():
    for name, variant in experiments.EXPERIMENTS["quick"].items():
        depth, width = name.split("-w")
        assert variant.spec["name"] == depth and variant.spec["width"] == int(width)
        assert f"resnet{models.layer_count(models.build(**variant.spec))}" == depth
