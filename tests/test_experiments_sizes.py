"""The experiments of chapter 15: what is planned is what is run; costs and measures are right."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from resnet_lib import UserError, cli, data, experiments, metrics, models, records, train
from resnet_lib.experiments import costs, measures

PLANS = records.FOLDERS[0] / "PLANS.md"
SIZES = [name for name in experiments.EXPERIMENTS if name.startswith("object-size")]


def test_the_plan_says_what_is_run():
    text = " ".join(PLANS.read_text(encoding="utf-8").split())
    for name in SIZES:
        assert name in text
    main, small = (
        experiments.EXPERIMENTS[name]["resnet50-w16"]
        for name in ("object-size", "object-size-pixels")
    )
    assert f"{main.data['limit']:,} *scaled shapes* of {main.data['image_size']} pixels" in text
    for variant in (main, small):
        *first, last = variant.data["sizes"]
        assert f"{', '.join(map(str, first))} and {last}" in text
    assert f"images of {small.data['image_size']} pixels" in text
    assert main.config.epochs == 1 and "one pass" in text
    assert f"{main.limits['test']:,} test images" in text


@pytest.mark.parametrize("name", SIZES)
def test_the_arms_differ_in_the_network_alone(name):
    arms = list(experiments.EXPERIMENTS[name].values())
    for arm in arms[1:]:
        assert (arm.data, arm.config, arm.limits) == (
            arms[0].data, arms[0].config, arms[0].limits,
        )  # fmt: skip
        assert arm.spec | {"name": ""} == arms[0].spec | {"name": ""}
    assert len({arm.spec["name"] for arm in arms}) == len(arms)
    base = experiments.EXPERIMENTS["object-size"]["resnet50-w16"]
    assert all(arm.config == base.config for arm in arms)


def test_equal_compute_is_equal():
    longer = experiments.EXPERIMENTS["object-size-compute"]["resnet50-w16"]
    deep = experiments.EXPERIMENTS["object-size"]["resnet101-w16"]
    work = [
        arm.data["limit"] * models.multiply_adds(models.build(**arm.spec), 64, 3)
        for arm in (longer, deep)
    ]
    assert work[0] == pytest.approx(work[1], rel=1e-3)
    assert isinstance(longer.data["limit"], int)


def test_objects_grow_with_the_image():
    large, small = (
        experiments.EXPERIMENTS[name]["resnet50-w16"].data
        for name in ("object-size", "object-size-pixels")
    )
    for one, two in zip(large["sizes"], small["sizes"], strict=True):
        assert two == round(one * small["image_size"] / large["image_size"])


@pytest.mark.parametrize("count", [1, 8, 13])
def test_bits_are_read_as_they_were_written(count):
    labels = torch.arange(count) % 2
    right = torch.rand(count, generator=torch.Generator().manual_seed(count)) < 0.5
    logits = nn.functional.one_hot(torch.where(right, labels, 1 - labels), 2).float()
    written = measures.right_by_image(None, train.Evaluation(logits, labels), None)["right"]
    assert len(written) == 2 * -(-count // 8)
    assert measures.bits(written, count).tolist() == right.tolist()


def test_quality_is_of_the_probabilities():
    generator = torch.Generator().manual_seed(0)
    evaluation = train.Evaluation(
        torch.randn(50, 3, generator=generator), torch.randint(3, (50,), generator=generator)
    )
    found = measures.quality(None, evaluation, None)
    scores = evaluation.logits, evaluation.labels
    assert found == {
        "calibration_error": metrics.expected_calibration_error(*scores),
        "brier_score": metrics.brier_score(*scores),
    }


def test_a_reduced_rerun_writes_all_that_the_chapters_read(tmp_path):
    out = tmp_path / "out"
    line = ["experiment", "object-size", "--seeds", "1", "--limit", "60", "--epochs", "1"]
    assert cli.main([*line, "--device", "cpu", "--only", "resnet50-w16", "--out", str(out)]) == 0
    result = records.read(out / "resnet50-w16-seed0.json").result
    sizes = [str(size) for size in experiments.object_size("resnet50").data["sizes"]]
    assert list(result["accuracy_by_size"]) == list(result["images_by_size"]) == sizes
    right = measures.bits(result["right"], result["test_images"])
    assert right.double().mean().item() == pytest.approx(result["test_accuracy"])
    for key in ("energy_by_size", "energy_roaming"):
        assert all(list(rows) == sizes for rows in result[key].values())


def test_an_epoch_is_measured_on_as_many_images_as_the_limits_say():
    variant = experiments.object_size("resnet50")
    small = replace(variant, data=variant.data | {"limit": 200}, limits={"val": 20, "test": 50})
    assert [len(small.part(split)) for split in ("train", "val", "test")] == [200, 20, 50]


def test_what_is_kept_for_the_backward_pass_is_counted():
    linear = nn.Linear(6, 4, bias=False)
    model = nn.Sequential(linear, nn.ReLU(), nn.Linear(4, 2, bias=False))
    images = torch.randn(5, 6, requires_grad=True)
    # The input is known; the ReLU keeps its output, which the last layer keeps as well: once.
    assert costs.saved_bytes(model, images, torch.float32) == 5 * 4 * 4
    wider = nn.Sequential(linear, nn.Tanh(), nn.Sigmoid(), nn.Linear(4, 2, bias=False))
    assert costs.saved_bytes(wider, images, torch.float32) == 2 * 5 * 4 * 4


def test_the_cost_of_a_step_is_put_on_record(tmp_path):
    out = tmp_path / "cost"
    line = ["experiment", "cost", "--seeds", "1", "--limit", "128", "--device", "cpu"]
    assert cli.main([*line, "--only", "resnet50-w16", "--out", str(out)]) == 0
    record = records.read(out / "resnet50-w16-seed0.json")
    model = models.build(**record.config["spec"])
    weights = 4 * models.parameter_count(model)
    taken = record.result["bytes"]
    assert taken["gradients"] == taken["optimizer"] == taken["parameters"] == weights
    assert taken["activations"] > 10 * weights / 2
    assert record.result["multiply_adds"] == models.multiply_adds(model, 64, 3)
    for speed in record.result["images_per_second"].values():
        assert 0 < speed["low"] <= speed["median"] <= speed["high"]


def test_the_spread_is_median_and_quartiles():
    assert costs.spread([5.0, 1.0, 4.0, 2.0, 3.0]) == {"median": 3.0, "low": 2.0, "high": 4.0}


def test_a_cost_keeps_no_weights(tmp_path):
    with pytest.raises(UserError, match="leave --weights out"):
        experiments.cost("resnet50", 16).execute(print, tmp_path / "w.safetensors")


def test_the_images_of_a_set_are_those_of_its_seed():
    one, two = (data.load("scaled-shapes", "test", limit=20) for _ in range(2))
    assert one.images.equal(two.images)
