import os
import time

import numpy as np
import pytest
import torch
from toys import make_images, make_model

from resnet_lib import UserError, cli, experiments, latency, records
from resnet_lib.experiments import serving

SPEED = latency.Speed([[0.1, 0.2, 0.3], [0.2, 0.4, 0.6]], [0.5, 2.0, 1.0], 8)


def test_percentiles_are_numpys_over_all_requests():
    everything = [0.1, 0.2, 0.3, 0.2, 0.4, 0.6]
    for share in (0.5, 0.95):
        assert SPEED.latency(share) == np.quantile(everything, share)
    assert SPEED.mean == pytest.approx(0.3)
    assert SPEED.images_per_second == 8 / 1.0


def test_ratios_are_formed_round_by_round():
    slower = latency.Speed([[1.0, 1.0, 1.0], [2.0, 2.0, 4.0]], [1, 1], 8)
    assert SPEED.times_faster(slower) == pytest.approx([1.0 / 0.2, 2.0 / 0.4])


def test_every_way_answers_the_same_requests_in_turns():
    asked = []

    def way(name):
        return lambda images: asked.append((name, len(images)))

    found = latency.measure({"a": way("a"), "b": way("b")}, torch.zeros(3, 1, 2, 2), 2, 5)
    warm = [(name, count) for name in "ab" for _ in range(latency.WARM_UP) for count in (1, 3)]
    rounds = [call for name in "abba" for call in [(name, 1)] * 6 + [(name, 3)]]
    assert asked == warm + rounds
    assert [len(one) for one in found["a"].requests] == [5, 5]
    assert len(found["b"].batches) == 2 and found["b"].batch_size == 3


def test_what_takes_longer_is_measured_as_longer():
    ways = {"short": lambda x: time.sleep(0.001), "long": lambda x: time.sleep(0.01 * len(x))}
    found = latency.measure(ways, torch.zeros(2, 1, 2, 2), rounds=2, requests=3)
    assert found["short"].latency(0.5) < found["long"].latency(0.5)
    assert found["long"].mean >= 0.01 and found["long"].batches[0] >= 0.02
    assert min(found["short"].times_faster(found["long"])) > 2


def tiny(**options):
    base = experiments.find("serving")["shipped"]
    return {"rounds": 2, "requests": 3, "batch": 4, "compiles": False, **options}, base


def test_the_experiment_puts_every_way_on_record(tmp_path, monkeypatch):
    options, base = tiny(threads=1)
    variant = experiments.replace(base, data=base.data | {"limit": 20}, **options)
    monkeypatch.setitem(experiments.EXPERIMENTS, "serving", {"shipped": variant})
    line = ["experiment", "serving", "--seeds", "1", "--device", "cpu", "--out", str(tmp_path)]
    before = torch.get_num_threads()
    assert cli.main(line) == 0
    assert torch.get_num_threads() == before
    result = records.read(tmp_path / "shipped-seed0.json").result
    assert list(result["ways"]) == ["eager", "torch-export", "onnx-fp32", "onnx-int8"]
    assert (result["threads"], result["image_size"], result["requests"]) == (1, 32, 6)
    eager = result["ways"]["eager"]
    assert eager["max_error"] == 0 and eager["times_faster"]["median"] == 1
    for way, found in result["ways"].items():
        assert 0 < found["p50_ms"] <= found["p95_ms"] and found["images_per_second"] > 0
        assert len(found["right"]) == 20
        assert found["max_error"] < (2 if way == "onnx-int8" else 1e-3)
    assert result["ways"]["onnx-int8"]["bytes"] < eager["bytes"] / 2
    assert set(result["libraries"]) == {"onnx", "onnxscript", "onnxruntime"}


def test_random_weights_have_no_accuracy():
    options, _ = tiny()
    base = experiments.served_whole()
    variant = experiments.replace(
        base,
        spec=base.spec | {"width": 4, "name": "resnet18"},
        data=base.data | {"image_size": 32},
        limits={"train": 12, "test": 12},
        **options,
    )
    _, result = variant.execute(lambda line: None)
    assert not any("right" in found for found in result["ways"].values())
    assert result["image_size"] == 32 and result["multiply_adds"] > 0


def test_logits_are_asked_for_in_batches_of_two_sizes_only():
    sizes = []

    def run(images):
        sizes.append(len(images))
        return images.sum((2, 3)), None

    images = torch.arange(11.0).view(11, 1, 1, 1)
    assert serving.logits_of(run, images, 4)[:, 0].tolist() == list(range(11))
    assert sizes == [4, 4, 1, 1, 1]


def test_what_the_experiment_refuses(monkeypatch, tmp_path):
    variant = experiments.find("serving")["shipped"]
    with pytest.raises(UserError, match="keeps no weights"):
        variant.execute(print, tmp_path / "w.safetensors")
    monkeypatch.setattr(serving.device, "choose_device", lambda name: torch.device("cuda"))
    with pytest.raises(UserError, match="add --device cpu"):
        variant.execute(print)


@pytest.mark.parametrize("before", [None, "elsewhere"])
def test_compiling_begins_with_an_empty_cache_and_leaves_the_users(monkeypatch, before):
    monkeypatch.delenv(serving.CACHE, raising=False)
    if before:
        monkeypatch.setenv(serving.CACHE, before)
    with serving.compiling_in("here"):
        assert os.environ[serving.CACHE] == "here"
    assert os.environ.get(serving.CACHE) == before


def test_an_equal_network_is_compiled_anew():
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    for expected in (1, 2):
        with serving.compiling_in("here"), torch.no_grad():
            torch.compile(torch.nn.Linear(2, 3), backend=backend)(torch.zeros(1, 2))
        assert len(graphs) == expected


@pytest.mark.slow
def test_a_compiled_network_is_made_and_agrees(tmp_path):
    model = make_model().eval()
    about = {"spec": model.spec, "data": {}}
    try:
        run, size = serving.make("compiled", model, about, tmp_path, make_images(4).images)
        found = serving.logits_of(run, torch.ones(3, 1, 8, 8), 2)
    except RuntimeError as error:  # a machine without a compiler
        pytest.skip(str(error).splitlines()[0])
    torch.testing.assert_close(found, model(torch.ones(3, 1, 8, 8)).detach(), rtol=1e-4, atol=1e-4)
    assert size > 4 * sum(p.numel() for p in model.parameters())
