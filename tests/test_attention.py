from dataclasses import replace

import pytest
import torch

from resnet_lib import UserError, checkpoint, data, experiments, explain, models
from resnet_lib.experiments import attention

NAME = "resnet18"


def arm(limit=50):
    """The arm for a small network, on few images."""
    base = experiments.object_size(NAME, width=4)
    images = base.data | {"limit": limit}
    config = replace(base.config, device="cpu")
    return attention.Attention(base.spec, images, config)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    model = models.build(**arm().spec | {"zero_init": False})
    model.spec = arm().spec
    path = tmp_path_factory.mktemp("weights") / f"{NAME}-w4-seed0.safetensors"
    checkpoint.save_weights(path, model, {})
    return path


@pytest.fixture(scope="module")
def result(weights):
    said = []
    history, result = arm().execute(said.append, weights)
    assert history == [] and said == ["centred: 50 images", "roaming: 50 images"]
    return result


def test_centred_is_what_the_experiment_itself_measures(weights, result):
    model, _ = checkpoint.restore_model(weights)
    test = arm().part("test")
    assert result["centred"]["cells"] == explain.energy_by_size(model, test)


def test_both_places_are_measured_on_both_sets(result):
    for name in ("centred", "roaming"):
        cells, fields = (result[name][place] for place in explain.PLACES)
        assert list(cells) == list(fields) == list(explain.STAGES)
        for stage in explain.STAGES:
            assert list(cells[stage]) == ["8", "11", "16", "23", "32"]
            for size, facts in cells[stage].items():
                assert facts["images"] == fields[stage][size]["images"] == 10
                assert facts["chance"] == fields[stage][size]["chance"]
                assert facts["inside"] != fields[stage][size]["inside"]
    assert result["centred"]["cells"] != result["roaming"]["cells"]


def test_examples_can_be_drawn_again(weights, result):
    found, test = result["examples"], arm().part("test")
    roaming = data.subset(explain.roaming(test, 10), found["indices"])
    assert roaming.attributes["size"].tolist() == [8, 8, 11, 11, 16, 16, 23, 23, 32, 32]
    model, _ = checkpoint.restore_model(weights)
    predictions, maps = explain.predict_and_explain(model, roaming)
    assert found["predictions"] == predictions.tolist()
    for stage, digits in found["maps"].items():
        for want, text in zip(maps[stage], digits, strict=True):
            want = want / want.max() if want.max() > 0 else want
            torch.testing.assert_close(attention.from_hex(text), want, rtol=0, atol=0.51 / 255)


def test_cascade_is_summed_up_over_images_and_draws(weights, result):
    model, _ = checkpoint.restore_model(weights)
    test = arm().part("test")
    images = (test.images / 255 - torch.tensor(test.mean).view(3, 1, 1)) / torch.tensor(
        test.std
    ).view(3, 1, 1)
    assert list(result["cascade"]) == ["another image", *explain.PARTS]
    draws = [explain.cascade(model, images, ["C3"], seed) for seed in range(attention.DRAWS)]
    for part in ("another image", "layer4"):
        values = torch.cat([draw[part]["C3"] for draw in draws])
        facts, defined = result["cascade"][part]["C3"], values[~values.isnan()]
        assert len(defined) > 20
        assert facts["mean"] == pytest.approx(defined.mean().item(), abs=0.02)
        assert facts["absolute"] == pytest.approx(defined.abs().mean().item(), abs=0.02)
        assert facts["undefined"] == pytest.approx(values.isnan().double().mean().item(), abs=0.02)
        low, high = defined.quantile(torch.tensor([0.1, 0.9]).double()).tolist()
        assert (facts["low"], facts["high"]) == pytest.approx((low, high), abs=0.05)


def test_a_map_of_zeros_is_kept_as_zeros():
    assert attention.from_hex(attention.to_hex(torch.zeros(3, 3))).tolist() == [[0] * 3] * 3


def test_networks_must_be_there_and_be_the_right_ones(weights, tmp_path):
    with pytest.raises(UserError, match="run object-size with --weights FOLDER first"):
        arm().execute(print)
    with pytest.raises(UserError, match=r"there is no resnet18-w4-seed7\.safetensors"):
        arm().execute(print, tmp_path / f"{NAME}-w4-seed7.safetensors")
    other = replace(arm(), spec=arm().spec | {"name": "resnet34"})
    with pytest.raises(UserError, match="is of another network"):
        other.execute(print, weights)
