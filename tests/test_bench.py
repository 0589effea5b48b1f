"""The bench: what it compares is what it says, ratios pair rounds, and the file has the keys."""

import json
import statistics
from functools import partial

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from resnet_lib import UserError, bench, cli, models, train, tutorial
from resnet_lib.cli.bench import summary
from resnet_lib.pointwise import Pointwise, pointwise_products

IMAGE_SIZE, ROUNDS = 32, 2
TINY = ["bench", "--model", "resnet18", "--image-size", str(IMAGE_SIZE), "--batch-size", "2"]
TINY += ["--rounds", str(ROUNDS), "--steps", "1", "--device", "cpu", "--try", "nchw"]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """The file of a short run, as a user would start it."""
    path = tmp_path_factory.mktemp("bench") / "speed.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(bench.PEAK_SIZES, "cpu", (32, 64))
        patch.setattr(bench, "PEAK_SECONDS", 0.001)
        assert cli.main([*TINY, "--json", str(path)]) == 0
    return json.loads(path.read_text())


def is_spread(values):
    return set(values) == {"median", "low", "high"} and (
        0 < values["low"] <= values["median"] <= values["high"]
    )


# The result


def test_ratios_are_formed_in_each_round_and_reported_with_their_spread(result):
    speeds, peaks = result["rounds"]["images_per_second"], result["rounds"]["peak_flops"]
    assert {len(values) for values in (*speeds.values(), peaks)} == {ROUNDS}
    for key, over, under in (
        ("ratio_vs_tutorial", "ours", "tutorial"),
        ("ratio_vs_bare_step", "ours", "bare_step"),
        ("ratio_step_vs_torchvision", "bare_step", "torchvision_step"),
    ):
        paired = [a / b for a, b in zip(speeds[over], speeds[under], strict=True)]
        assert is_spread(result[key])
        assert result[key]["median"] == pytest.approx(statistics.median(paired))
    work = models.multiply_adds(models.resnet18(10), IMAGE_SIZE)
    assert result["multiply_adds"] == work
    shares = [
        6 * result["multiply_adds"] * speed / peak
        for speed, peak in zip(speeds["ours"], peaks, strict=True)
    ]
    assert result["utilisation"]["median"] == pytest.approx(statistics.median(shares))
    assert is_spread(result["utilisation"]) and is_spread(result["peak_flops"])
    assert all(map(is_spread, result["images_per_second"].values()))


def test_the_result_says_where_and_how_it_was_measured_and_what_was_tried(result):
    assert result["settings"]["workers"] == 0 and result["settings"]["tried"] == ["nchw"]
    assert result["settings"]["precision"] in ("bfloat16", "float32")
    assert result["environment"]["device"] == "cpu" and result["environment"]["torch"]
    assert result["command"].startswith("python -m resnet_lib bench --model resnet18")
    tried = result["tried"]["nchw"]
    assert is_spread(tried["ratio_vs_bare_step"]) and tried["seconds_until_ready"] > 0
    text = "\n".join(summary(result))
    assert f"{result['ratio_vs_tutorial']['median']:.2f} (" in text
    assert "nchw" in text and "NCHW in place of channels last" in text and "px" in text
    assert "Published" not in text  # published figures belong beside those of a GPU


def test_beside_a_gpu_stand_the_published_figures_with_what_differs(result):
    other = {
        **result,
        "settings": result["settings"] | {"model": "resnet50"},
        "environment": result["environment"] | {"device": "cuda", "name": "A card"},
    }
    text = "\n".join(summary(other))
    for figure in bench.PUBLISHED:
        assert f"{figure['images_per_second']:,}" in text and figure["card"] in text
    assert "A card, this run, at 32 px" in text and "--image-size 224" in text
    equal = {**other, "settings": other["settings"] | {"image_size": 224}}
    assert "Sizes differ" not in "\n".join(summary(equal))


# What is compared


def make_run(**options):
    images = bench.some_images(8, 32, seed=0)
    config = train.TrainConfig(batch_size=4, device="cpu", **options)
    return images, config, train.Run(bench.ours("resnet18", images), images, config)


def test_ours_is_the_training_path_with_data_and_augmentation(monkeypatch):
    images, config, run = make_run()
    asked, trained = [], []
    batches, epoch = train.training_batches, train.train_one_epoch

    def note_batches(dataset, config, number, device):
        asked.append((dataset, config.augment, number))
        return batches(dataset, config, number, device)

    def note_epoch(model, batches, *rest):
        batches = list(batches)
        trained.append([len(labels) for _, labels in batches])
        return epoch(model, batches, *rest)

    monkeypatch.setattr(train, "training_batches", note_batches)
    monkeypatch.setattr(train, "train_one_epoch", note_epoch)
    loop = bench.training_path(run, images, config)
    assert not asked  # nothing is prepared outside the measured time
    loop(3)
    assert asked == [(images, config.augment, 3)] and trained == [[4, 4]]
    assert config.augment is not None


def test_the_bare_step_has_its_data_ready_and_unaugmented(monkeypatch):
    images, config, run = make_run()
    seen = []
    loop = bench.bare_step(run, images, config)
    monkeypatch.setattr(train, "training_batches", None)  # whoever asks for more data fails
    monkeypatch.setattr(
        train, "train_one_epoch", lambda model, batches, *rest: seen.extend(batches)
    )
    loop(1)
    assert sum(len(labels) for _, labels in seen) == len(images)
    assert seen[0][0].is_contiguous(memory_format=torch.channels_last)
    mean = torch.cat([x for x, _ in seen]).mean((0, 2, 3))
    expected = (images.images / 255).mean((0, 2, 3)) - torch.tensor(images.mean)
    assert_close(mean, expected / torch.tensor(images.std), atol=1e-4, rtol=1e-4)


def test_both_steps_train_networks_of_equal_shapes_in_one_format():
    images, config, run = make_run()
    reference = train.Run(tutorial.network("resnet18", images), images, config)
    shapes = [
        {key: value.shape for key, value in r.model.state_dict().items()} for r in (run, reference)
    ]
    assert shapes[0] == shapes[1] and run.dtype == reference.dtype


def test_the_tutorials_loop_learns_from_pil_images_in_float32(monkeypatch):
    images, config, _ = make_run()
    seen = []
    forward = nn.Conv2d.forward

    def note(layer, x):
        if layer.in_channels == 3:
            seen.append((x.dtype, tuple(x.shape), x.is_contiguous()))
        return forward(layer, x)

    networks = []
    network = tutorial.network
    monkeypatch.setattr(
        tutorial, "network", lambda *args: networks.append(network(*args)) or networks[-1]
    )
    monkeypatch.setattr(nn.Conv2d, "forward", note)
    loop = tutorial.loop(images, "resnet18", 0, config)
    before = networks[0].fc.weight.detach().clone()
    loop(1)
    assert seen == [(torch.float32, (4, 3, 32, 32), True)] * 2
    assert not torch.equal(networks[0].fc.weight, before)


def test_the_tutorials_images_are_those_of_ours():
    images = make_run()[0]
    pictures = tutorial.Pictures(images, lambda picture: picture)
    picture, label = pictures[5]
    assert picture.size == (32, 32) and picture.mode == "RGB" and label == images.labels[5]
    pixel = torch.tensor(picture.getpixel((3, 7)))
    assert torch.equal(pixel, images.images[5, :, 7, 3].long())


def test_trials_change_what_they_say(monkeypatch):
    images, config, _ = make_run()
    runs = []
    monkeypatch.setattr(bench, "bare_step", lambda run, *rest: runs.append(run) or (lambda n: None))
    for name in ("float32", "nchw", "unfused", "products"):
        bench.changed_step(name, images, "resnet18", config)
    assert runs[0].dtype == torch.float32

    def layouts(run):
        weight = run.model.layer1[0].conv2.weight
        return weight.is_contiguous(memory_format=torch.channels_last)

    assert [layouts(run) for run in runs] == [True, False, True, True]
    assert [run.optimizer.param_groups[0]["fused"] for run in runs] == [True, True, False, True]
    kinds = [type(run.model.layer2[0].downsample[0]) for run in runs]
    assert kinds == [nn.Conv2d] * 3 + [Pointwise]


# Measuring


def test_rounds_are_interleaved_and_turn_round():
    order = []
    loops = {name: partial(lambda name, n: order.append((name, n)) or n, name) for name in "abc"}
    found = list(bench.interleave(loops, 2))
    assert order == [("a", 1), ("b", 1), ("c", 1), ("c", 2), ("b", 2), ("a", 2)]
    assert found == [(1, {"a": 1, "b": 1, "c": 1}), (2, {"a": 2, "b": 2, "c": 2})]


def test_a_loop_made_twice_takes_turns_that_meet_both_directions():
    seen = []
    loop = bench.in_turn(lambda n: seen.append(("a", n % 2)), lambda n: seen.append(("b", n % 2)))
    for number in range(1, 9):
        loop(number)
    assert [name for name, _ in seen] == list("abbaabba")
    assert set(seen) == {("a", 0), ("a", 1), ("b", 0), ("b", 1)}


def test_images_a_second_are_images_over_the_loops_time(monkeypatch):
    clock = iter([10.0, 14.0])
    monkeypatch.setattr(bench.time, "perf_counter", lambda: next(clock))
    seen = []
    assert bench.measure(12, CPU, seen.append, 7).images_per_second == 3.0
    assert seen == [7]


def test_the_peak_is_the_fastest_size_and_counts_two_operations(monkeypatch):
    monkeypatch.setitem(bench.PEAK_SIZES, "cpu", (10, 20))
    monkeypatch.setattr(bench, "PEAK_SECONDS", 0.5)
    # Start and two products of each size, a second each.
    clock = iter([0.0, 1.0, 2.0, 0.0, 1.0, 2.0])
    monkeypatch.setattr(bench.time, "perf_counter", lambda: next(clock))
    assert bench.matrix_peak(torch.float32, CPU) == 2 * 20**3


def test_utilisation_counts_three_passes_of_two_operations():
    work = models.multiply_adds(models.resnet50(10), 64)
    assert bench.utilisation(1.0, 6.0 * work, work) == pytest.approx(1.0)


def test_a_trial_that_fails_is_told():
    def broken():
        raise RuntimeError("no compiler here\nand a long trace")

    found = bench.try_out("compile", lambda n: None, broken, 2, lambda loop, n: None)
    assert found == {"change": "torch.compile", "failed": "no compiler here"}


# Mistakes


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["--batch-size", "1"], "batch_size must be at least 2"),
        (["--try", "magic"], "a trial must be one of float32, nchw"),
        (["--try", "compile-graph", "--device", "cpu"], "compile-graph can be tried on a CUDA"),
        (["--model", "resnet51"], "model must be one of resnet18"),
        (["--json", "nowhere/at/all.json"], "there is no folder nowhere/at"),
        (["--workers", "-1"], "workers must be at least 0, got -1"),
    ],
)
def test_mistakes_end_with_a_line(line, message, capsys):
    assert cli.main(["bench", "--steps", "1", "--batch-size", "2", *line]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_settings_leave_to_the_device_what_is_not_given():
    cpu = bench.Settings(workers=3).complete(CPU)
    cuda = bench.Settings().complete(torch.device("cuda"))
    assert (cpu.steps, cpu.workers) == (4, 3) and "compile" not in cpu.tried
    assert cuda.steps > cpu.steps and set(cuda.tried) == set(bench.TRIALS)
    with pytest.raises(UserError, match="cudnn-benchmark"):
        bench.Settings(tried=("cudnn-benchmark",)).complete(CPU)


# 1x1 convolutions as products


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_products_give_the_networks_logits_and_gradients(layout):
    torch.manual_seed(0)
    plain = models.resnet50(4, width=4, in_channels=3).double()
    products = models.resnet50(4, width=4, in_channels=3).double()
    products.load_state_dict(plain.state_dict())
    pointwise_products(products)
    assert sum(isinstance(m, Pointwise) for m in products.modules()) == 2 * 16 + 4
    x = torch.randn(4, 3, 40, 40, dtype=torch.float64).contiguous(memory_format=layout)
    outputs = [model(x) for model in (plain, products)]
    assert_close(outputs[1], outputs[0])
    for output in outputs:
        output.square().sum().backward()
    for a, b in zip(plain.parameters(), products.parameters(), strict=True):
        assert_close(b.grad, a.grad)
    assert list(products.state_dict()) == list(plain.state_dict())


def test_convolutions_that_are_no_product_stay():
    layers = nn.Sequential(
        nn.Conv2d(4, 4, 1, padding=1), nn.Conv2d(4, 4, 1, groups=2), nn.Conv2d(4, 4, 3)
    )
    x = torch.randn(1, 4, 5, 5)
    before = layers(x)
    assert not any(isinstance(m, Pointwise) for m in pointwise_products(layers))
    assert_close(layers(x), before)
