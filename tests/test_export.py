import json
import os

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.testing import assert_close
from toys import make_images, make_model

from resnet_lib import UserError, __version__, checkpoint, data, deployed, export, models
from resnet_lib.augment import normalize

TOY = {"name": "toy", "classes": ["dark", "bright"], "mean": [0.5], "std": [0.25],
       "channels": 1, "image_size": 8}  # fmt: skip


def unsettle(model, seed=0):
    """Statistics and affine parameters as training leaves them: none is 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in (("weight", 0.5), ("bias", -0.5), ("running_mean", -0.5)):
                values = torch.rand(module.num_features, generator=generator)
                getattr(module, tensor).data.copy_(low + values)
            module.running_var.copy_(0.5 + torch.rand(module.num_features, generator=generator))
    return model.eval()


def toy():
    model = unsettle(make_model())
    return model, {"spec": model.spec, "data": TOY}


def inputs(count, channels=1, size=8, seed=1):
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The toy network in every format and precision."""
    folder, (model, about) = tmp_path_factory.mktemp("exported"), toy()
    calibration = make_images(64).images
    for precision in export.PRECISIONS:
        path = folder / f"{precision}.onnx"
        export.to_onnx(model, path, about, precision, calibration=calibration)
    for precision in export.FORMATS["torch-export"]:
        export.to_torch_export(model, folder / f"{precision}.pt2", about, precision)
    return folder


EXACT = ("fp32.onnx", "fp32.pt2")
ALL = (*EXACT, "fp16.onnx", "fp16.pt2", "int8.onnx")


@pytest.mark.parametrize("bias", [False, True])
def test_folding_a_layer_is_torchs_own(bias):
    torch.manual_seed(0)
    pair = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2, padding=1, bias=bias), nn.BatchNorm2d(5))
    unsettle(pair)
    ours, theirs = export.fold_batch_norm(*pair), fuse_conv_bn_eval(*pair)
    assert_close(ours.state_dict(), theirs.state_dict())
    x = inputs(2, 3, 9)
    assert_close(ours(x), pair(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "name, options",
    [
        ("resnet18", {"stem": "small", "in_channels": 1}),
        ("resnet34", {"option": "C"}),
        ("resnet50", {"stride_in": "1x1"}),
        ("resnet101", {"stem": "small", "zero_init": True}),
    ],
)
def test_a_folded_network_computes_the_same_without_batch_norms(name, options):
    torch.manual_seed(0)
    model = unsettle(models.build(name, 7, width=4, **options)).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    folded = export.fold_batch_norms(model)
    assert not [m for m in folded.modules() if isinstance(m, nn.BatchNorm2d)]
    assert not folded.training and model.training
    x = inputs(2, model.conv1.in_channels, 32)
    assert_close(folded.double()(x.double()), model.double().eval()(x.double()), rtol=1e-4, atol=0)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key].to(value.dtype)), key


def test_a_batch_norm_without_a_convolution_before_it_is_refused():
    model = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3))
    with pytest.raises(UserError, match="follows no convolution"):
        export.fold_batch_norms(model)


def test_the_maps_are_class_activation_maps_and_their_means_the_logits():
    model, _ = toy()
    x = inputs(3, size=32)
    with torch.no_grad():
        logits, maps = export.Served(model)(x)
        c5 = model.features(x)["C5"]
        assert_close(maps, torch.einsum("kc,nchw->nkhw", model.fc.weight, c5), rtol=1e-4, atol=1e-5)
        assert_close(logits, model(x), rtol=1e-4, atol=1e-5)
    assert maps.shape == (3, 2, 4, 4)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_file_computes_the_networks_logits_for_any_number_of_images(files, name, count):
    model, about = toy()
    run, found = deployed.load(files / name)
    x = inputs(count)
    with torch.no_grad():
        logits, maps = export.Served(model)(x)
    assert_close(run(x)[0], logits, rtol=1e-4, atol=1e-4)
    assert_close(run(x)[1], maps, rtol=1e-4, atol=1e-4)
    assert found["spec"] == about["spec"]


@pytest.mark.parametrize("name", ALL)
def test_a_file_says_what_it_needs(files, name):
    _, about = deployed.load(files / name)
    model, _ = toy()
    assert about == {
        "spec": model.spec, "precision": name.split(".")[0], "resnet_lib": __version__, "data": TOY,
    }  # fmt: skip


@pytest.mark.parametrize("name", ALL)
def test_lower_precision_costs_little(files, name):
    model, _ = toy()
    x = normalize(make_images(64, seed=3).images, TOY["mean"], TOY["std"])
    with torch.no_grad():
        logits = model(x)
    error = (deployed.load(files / name)[0](x)[0] - logits).abs().max() / logits.std()
    allowed = {"fp32": 1e-4, "fp16": 0.01, "int8": 0.5}[name.split(".")[0]]
    assert error < allowed
    assert name in EXACT or error > 1e-4  # else the precision was not lowered


def test_an_onnx_file_is_valid_and_whole(files):
    proto = onnx.load(files / "fp32.onnx", load_external_data=False)
    onnx.checker.check_model(proto, full_check=True)
    assert not [t for t in proto.graph.initializer if t.data_location == t.EXTERNAL]
    kinds = {node.op_type for node in proto.graph.node}
    assert "BatchNormalization" not in kinds and "Conv" in kinds
    batch = proto.graph.input[0].type.tensor_type.shape.dim[0]
    assert batch.dim_param and not batch.dim_value
    facts = {entry.key: json.loads(entry.value) for entry in proto.metadata_props}
    assert facts["classes"] == TOY["classes"] and facts["image_size"] == 8
    assert sorted(path.name for path in files.iterdir()) == sorted(ALL)


def test_fp16_keeps_half_the_bytes_and_int8_a_quarter(tmp_path):
    torch.manual_seed(0)
    model = unsettle(models.resnet18(2, width=32, stem="small", in_channels=1))
    about = {"spec": model.spec, "data": TOY}
    sizes = {}
    for precision in export.PRECISIONS:
        path = tmp_path / f"{precision}.onnx"
        export.to_onnx(model, path, about, precision, calibration=make_images(16).images)
        sizes[precision] = os.path.getsize(path)
    assert sizes["fp16"] / sizes["fp32"] == pytest.approx(1 / 2, abs=0.02)
    assert sizes["int8"] / sizes["fp32"] == pytest.approx(1 / 4, abs=0.05)


def test_int8_has_a_scale_a_channel_and_leaves_the_last_layer(files):
    proto = onnx.load(files / "int8.onnx")
    stored = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    eight = {name: values for name, values in stored.items() if values.dtype == np.int8}
    weights = [values for values in eight.values() if values.ndim == 4]
    model, _ = toy()
    assert len(weights) == sum(isinstance(m, nn.Conv2d) for m in model.modules())
    assert max(abs(int(values.min())) for values in weights) <= 64  # seven bits
    scales = [
        stored[node.input[1]].shape
        for node in proto.graph.node
        if node.op_type == "DequantizeLinear" and stored.get(node.input[0], np.zeros(1)).ndim == 4
    ]
    assert scales and all(len(shape) == 1 and shape[0] >= 4 for shape in scales)
    last = next(node for node in proto.graph.node if "maps" in node.output)
    assert last.op_type == "Conv" and stored[last.input[1]].dtype == np.float32


def test_int8_is_as_accurate_on_the_test_part_as_the_network(tmp_path):
    model, about = checkpoint.restore_model()
    train, test = (data.load("fashion", part, limit=400) for part in ("train", "test"))
    found = export.to_onnx(
        model, tmp_path / "a.onnx", about, "int8", calibration=train.images, check=test.images
    )
    eager, exported = found.accuracies(test.labels)
    assert eager > 0.85 and abs(eager - exported) < 0.02
    assert 0.97 < found.equal < 1 or found.max_error > 0.05
    assert found.exported.shape == (400, 10)


def test_int8_takes_its_ranges_from_the_calibration_images(tmp_path):
    model, about = toy()
    answers = []
    for images in (make_images(32).images, torch.full((32, 1, 8, 8), 127, dtype=torch.uint8)):
        export.to_onnx(model, tmp_path / "a.onnx", about, "int8", calibration=images)
        answers.append(deployed.load(tmp_path / "a.onnx")[0](inputs(8))[0])
    assert (answers[0] - answers[1]).abs().max() > 0.1


@pytest.mark.parametrize("write, name", [("to_onnx", "a.onnx"), ("to_torch_export", "a.pt2")])
def test_wrong_folding_is_noticed_and_nothing_is_written(tmp_path, monkeypatch, write, name):
    right = export.fold_batch_norm

    def without_shift(conv, norm):
        folded = right(conv, norm)
        nn.init.zeros_(folded.bias)
        return folded

    monkeypatch.setattr(export, "fold_batch_norm", without_shift)
    (tmp_path / name).write_text("older")
    with pytest.raises(UserError, match="more than rounding explains"):
        getattr(export, write)(*given(tmp_path / name))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "older"


def given(path):
    model, about = toy()
    return model, path, about


def test_a_network_that_diverged_is_not_exported(tmp_path):
    model, about = toy()
    model.fc.bias.data.fill_(float("nan"))
    with pytest.raises(UserError, match="differ by up to nan"):
        export.to_torch_export(model, tmp_path / "a.pt2", about)


def test_weights_beyond_float16_are_refused(tmp_path):
    model, about = toy()
    model.layer4[0].conv1.weight.data[0, 0, 0, 0] = 1e6
    for write, name in ((export.to_onnx, "a.onnx"), (export.to_torch_export, "a.pt2")):
        with pytest.raises(UserError, match="beyond float16: export this network in fp32"):
            write(model, tmp_path / name, about, "fp16")


@pytest.mark.parametrize("write, name", [("to_onnx", "a.onnx"), ("to_torch_export", "a.pt2")])
def test_exporting_replaces_a_file_and_says_nothing(tmp_path, capfd, recwarn, write, name):
    (tmp_path / name).write_text("older")
    getattr(export, write)(*given(tmp_path / name))
    deployed.load(tmp_path / name)
    assert capfd.readouterr() == ("", "") and not recwarn.list
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_cannot_be_exported_has_a_way_out(tmp_path):
    model, about = toy()
    for call, words in (
        (lambda: export.to_torch_export(model, tmp_path / "a.pt2", about, "int8"), "use onnx for"),
        (lambda: export.to_onnx(model, tmp_path / "a.onnx", about, "int8"), "training part"),
        (lambda: export.to_onnx(model, tmp_path / "a.onnx", about, "int4"), "precision must be"),
        (lambda: export.choose("tflite", "fp32"), "format must be one of onnx, torch-export"),
        (lambda: export.to_torch_export(model, tmp_path / "no" / "a.pt2", about), "cannot write"),
    ):
        with pytest.raises(UserError, match=words):
            call()


def test_files_that_cannot_be_used_get_one_line(files, tmp_path):
    missing, cut, other = tmp_path / "a.onnx", tmp_path / "cut.onnx", tmp_path / "other.onnx"
    cut.write_bytes((files / "fp32.onnx").read_bytes()[:-500])
    proto = onnx.load(files / "fp32.onnx")
    del proto.metadata_props[:]
    onnx.save(proto, other)
    no_zip, half = tmp_path / "no.pt2", tmp_path / "half.pt2"
    no_zip.write_bytes((files / "fp32.pt2").read_bytes()[:500])
    with half.open("wb") as file:
        torch.save({"model": 1}, file)
    for path, words in (
        (missing, "no exported file at"),
        (cut, "is damaged or of another kind"),
        (other, "does not say which classes"),
        (no_zip, "is damaged or of another kind"),
        (half, "is damaged or of another kind"),
        (tmp_path / "a.bin", "must end in .onnx or .pt2"),
    ):
        with pytest.raises(UserError, match=words) as error:
            deployed.load(path)
        assert "\n" not in str(error.value) and path.name in str(error.value)


def test_a_missing_package_is_named_with_the_way_to_get_it(files, tmp_path, monkeypatch):
    monkeypatch.setattr(deployed, "find_spec", lambda name: name != "onnxruntime" or None)
    for call in (
        lambda: deployed.load(files / "fp32.onnx"),
        lambda: export.to_onnx(*given(tmp_path / "a.onnx")),
    ):
        with pytest.raises(UserError, match="pip install onnx onnxscript onnxruntime"):
            call()
    deployed.load(files / "fp32.pt2")  # needs none of them


def test_threads_are_torchs_or_as_asked(files):
    for threads, expected in ((None, torch.get_num_threads()), (3, 3)):
        session = deployed.onnx_session(files / "fp32.onnx", threads)
        assert session.get_session_options().intra_op_num_threads == expected
