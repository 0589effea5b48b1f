"""What the classifier in the page consists of, and what the page says where a part is missing."""

import base64
import gzip
import hashlib
import io
import json
import os
import re
import stat
from types import SimpleNamespace

import classifier
import classifier_data
import classifier_runtime
import pytest
import torch
from classifier_runtime import Missing
from PIL import Image

from resnet_lib import checkpoint, data, deployed, models

LARGEST = 100_000  # bytes that the classifier may add to its page
POSIX = pytest.mark.skipif(os.name != "posix", reason="the stand-in for npm is a shell script")


@pytest.fixture(scope="module")
def collected():
    try:
        return classifier_data.collect()
    except Missing as missing:
        pytest.skip(str(missing))


def unpacked(script, name):
    """The bytes that a script leaves to the page under a name."""
    text = re.search(rf'classifierFiles \?\?= {{}}\)\.{name} = "([^"]*)";\n', script)[1]
    return gzip.decompress(base64.b64decode(text))


@pytest.fixture
def no_downloads(monkeypatch, tmp_path):
    monkeypatch.setenv("RESNET_LIB_DATA", str(tmp_path / "downloads"))
    return tmp_path / "downloads"


def put_npm(monkeypatch, folder, does):
    """The only program there is: a shell script in npm's place."""
    folder.mkdir(exist_ok=True)
    npm = folder / "npm"
    npm.write_text(f"#!/bin/sh\n{does}\n")
    npm.chmod(npm.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder))


# The runtime


def test_without_npm_the_remedy_is_named(monkeypatch, tmp_path, no_downloads):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Missing, match=r"1\.30\.0.* neither was npm.*Install Node\.js"):
        classifier_runtime.archive()


@POSIX
def test_without_a_network_the_remedy_is_named(monkeypatch, tmp_path, no_downloads):
    put_npm(monkeypatch, tmp_path / "bin", "exit 1")
    with pytest.raises(Missing, match=r"could not fetch onnxruntime-web .*Connect the machine"):
        classifier_runtime.archive()
    assert list(no_downloads.iterdir()) == []


@POSIX
def test_another_file_than_the_published_one_is_refused(monkeypatch, tmp_path, no_downloads):
    name = f"{classifier_runtime.PACKAGE}-{classifier_runtime.VERSION}.tgz"
    put_npm(monkeypatch, tmp_path / "bin", f"echo changed > {name}")
    with pytest.raises(Missing, match="SHA-512"):
        classifier_runtime.archive()
    assert list(no_downloads.iterdir()) == []


@POSIX
def test_npm_is_asked_for_the_pinned_version_once(monkeypatch, tmp_path, no_downloads):
    name, content = f"{classifier_runtime.PACKAGE}-{classifier_runtime.VERSION}.tgz", "right\n"
    wanted = base64.b64encode(hashlib.sha512(content.encode()).digest()).decode()
    monkeypatch.setattr(classifier_runtime, "SHA512", wanted)
    calls = tmp_path / "calls"
    put_npm(monkeypatch, tmp_path / "bin", f'echo "$@" >> {calls}\necho right > {name}')
    assert classifier_runtime.archive() == no_downloads / name
    assert classifier_runtime.archive().read_text() == content
    (call,) = calls.read_text().splitlines()
    assert call.startswith("pack onnxruntime-web@1.30.0 ")
    (no_downloads / name).write_text("damaged")  # fetched again
    assert classifier_runtime.archive().read_text() == content
    assert len(calls.read_text().splitlines()) == 2


def test_script_holds_the_runtime_and_what_it_would_load(collected):
    script = collected[0]["runtime"]
    assert script.startswith("/*!\n * ONNX Runtime Web v1.30.0") and "var ort=" in script
    assert "sourceMappingURL" not in script
    assert unpacked(script, "wasm").startswith(b"\0asm")
    assert b"import.meta.url" in unpacked(script, "glue")


# The network


def test_model_is_the_shipped_network_with_its_facts(collected, tmp_path):
    scripts, page = collected
    path = tmp_path / "page.onnx"
    path.write_bytes(unpacked(scripts["model"], "model"))
    run, about = deployed.load(path)
    assert about["precision"] == "fp32"
    model, known = checkpoint.restore_model(checkpoint.SHIPPED_SMALL_STEM)
    assert page["facts"] == {key: known["data"][key] for key in page["facts"]}
    assert page["facts"]["classes"] == list(data.FASHION_CLASSES)
    images = torch.randn(3, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    logits, maps = run(images)
    with torch.no_grad():
        torch.testing.assert_close(logits, model(images), atol=1e-4, rtol=1e-4)
    assert maps.shape == (3, 10, 4, 4)


def test_export_is_kept_until_something_changes(monkeypatch, tmp_path, no_downloads):
    made = []

    def to_onnx(model, path, about):
        made.append(path)
        path.write_bytes(b"network")

    weights = tmp_path / "weights.safetensors"
    model = models.build("resnet18", 10, width=1, in_channels=1)
    checkpoint.save_weights(weights, model, {"data": {}})
    monkeypatch.setattr(classifier_data, "WEIGHTS", weights)
    monkeypatch.setattr(classifier_data.export, "to_onnx", to_onnx)
    first = classifier_data.network()
    assert classifier_data.network() == first and len(made) == 1
    checkpoint.save_weights(weights, model, {"data": {"other": 1}})
    second = classifier_data.network()
    assert len(made) == 2 and second != first
    assert list(no_downloads.iterdir()) == [second]  # the old one is gone


def test_missing_weights_and_libraries_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(deployed, "PACKAGES", ("no_such_package",))
    if classifier_data.WEIGHTS.is_file():
        with pytest.raises(Missing, match=r"no_such_package.* and build the book again"):
            classifier_data.network()
    monkeypatch.setattr(classifier_data, "WEIGHTS", tmp_path / "lost.safetensors")
    with pytest.raises(Missing, match=r"lost\.safetensors"):
        classifier_data.network()


# The markup


def test_gallery_shows_every_class_alike_from_the_test_part():
    shown = classifier_data.gallery()
    assert len(shown) >= 20
    each = len(shown) // 10
    assert sorted(one["label"] for one in shown) == sorted(data.FASHION_CLASSES * each)
    test = data.load("fashion", "test", image_size=28)
    for one in shown:
        content = base64.b64decode(one["address"].partition("base64,")[2])
        found = torch.tensor(list(Image.open(io.BytesIO(content)).tobytes())).view(28, 28)
        (index,) = (test.images[:, 0] == found).flatten(1).all(1).nonzero().flatten().tolist()
        assert test.classes[test.labels[index]] == one["label"]


def test_markup_is_light_and_its_facts_can_be_read_back(collected):
    _, page = collected
    text = classifier.markup(page)
    assert classifier.MARK in text and len(text) < LARGEST
    facts = re.search(r'class="cl-data">(.*)</script>', text)[1]
    assert json.loads(facts) == page["facts"] | {"side": 28}
    ids = re.findall(r'\sid="([^"]*)"', text)
    assert len(set(ids)) == len(ids)


def test_facts_cannot_end_their_element(collected):
    _, page = collected
    spoilt = page | {"facts": page["facts"] | {"classes": ["</script><script>alert(1)"]}}
    facts = classifier.markup(spoilt).partition('class="cl-data">')[2]
    assert json.loads(facts.partition("</script>")[0])["classes"] == spoilt["facts"]["classes"]


def test_accuracy_is_the_records(monkeypatch, collected):
    _, page = collected
    result = {"test_accuracy": 0.905, "test_images": 2000}
    found = [SimpleNamespace(result=result)]
    monkeypatch.setattr(classifier_data.records, "load", lambda name: found)
    text = classifier.markup(page | {"measured": classifier_data.measured()})
    assert "right for 90.5 % of the 2,000 images" in text
    assert "of the test part." not in classifier.markup(page | {"measured": None})


@pytest.mark.parametrize(("body", "count"), [(f"<div {classifier.MARK}>", 1), ("<div>", 0)])
def test_only_the_page_with_the_classifier_loads_its_files(body, count):
    files = []
    app = SimpleNamespace(
        add_css_file=files.append, add_js_file=lambda name, loading_method: files.append(name)
    )
    classifier.add_files(app, "page", "page.html", {"body": body}, None)
    assert files == ["classifier.css", "classifier-picture.js", "classifier.js"] * count
