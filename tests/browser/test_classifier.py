"""The classifier in the page in a real browser: it answers as Python does, wherever it lies.

Needs Chromium, the Python package playwright, and npm or an earlier download of the runtime;
skipped without them.
"""

import base64
import functools
import io
import re
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from browsing import CHROMIUM, OWN, book_of_one_page, opened
from classifying import SIDE, SIZE, load, pixels, taken, texts, told
from PIL import Image

from resnet_lib import checkpoint, data, explain
from resnet_lib.augment import normalize

pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

COUNT = 200  # images on which the page must answer as Python does
LIMIT = 100  # milliseconds an image
VERMILION, DARKEST = (213, 94, 0), 0.85


@pytest.fixture(scope="module")
def console(chromium, classifier_address):
    """A page that is used through its functions only."""
    with opened(chromium, classifier_address) as page:
        load(page)
        yield page


@pytest.fixture(scope="module")
def model():
    return checkpoint.restore_model(checkpoint.SHIPPED_SMALL_STEM)[0]


@pytest.fixture(scope="module")
def test_images():
    return data.load("fashion", "test", limit=COUNT)


def answers(model, images):
    """Logits (N, K) and class activation maps (N, K, h, w), uint8 (N, 1, 32, 32)."""
    known = data.load("fashion", "test", limit=10)
    with torch.no_grad():
        features = model.features(normalize(images, known.mean, known.std))["C5"]
        maps = F.conv2d(features, model.fc.weight[:, :, None, None])
    return maps.mean((2, 3)) + model.fc.bias, maps


# The numbers


def run(page, images):
    """The page's answers to uint8 (N, 28, 28): (logits, maps, what it took, milliseconds)."""
    program = """async (pictures) => {
      const found = [];
      for (const text of pictures) {
        const picture = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
        const { logits, maps, taken, milliseconds } = await classifier.run(picture);
        found.push([[...logits], [...maps], [...taken], milliseconds]);
      }
      return found;
    }"""
    pictures = [base64.b64encode(image.numpy().tobytes()).decode() for image in images]
    return [torch.tensor(part) for part in zip(*page.evaluate(program, pictures), strict=True)]


def test_page_answers_as_python_does_and_soon_enough(console, model, test_images):
    small = test_images.images[:, 0, 2:-2, 2:-2].contiguous()
    logits, maps, inputs, milliseconds = run(console, small)
    assert torch.equal(inputs.view(COUNT, SIZE, SIZE), test_images.images[:, 0].long())
    wanted, wanted_maps = answers(model, test_images.images)
    assert len(wanted.argmax(1).unique()) == 10  # not always the same
    assert torch.equal(logits.argmax(1), wanted.argmax(1))
    torch.testing.assert_close(logits, wanted, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(maps.view_as(wanted_maps), wanted_maps, atol=1e-3, rtol=1e-3)
    assert milliseconds.median() <= LIMIT


@pytest.mark.parametrize("side", [20, 28, 37, 100, 448])
def test_pictures_are_scaled_as_torch_does(console, side):
    values = 255 * torch.rand(side, side, generator=torch.Generator().manual_seed(side))
    program = "([values, side]) => [...classifierPicture.resized(values, side, 28)]"
    found = torch.tensor(console.evaluate(program, [values.flatten().tolist(), side]))
    options = {"size": (SIDE, SIDE), "mode": "bilinear", "antialias": True}
    wanted = F.interpolate(values[None, None], **options)[0, 0]
    torch.testing.assert_close(found.view(SIDE, SIDE), wanted, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("cells", [1, 4, 7])
def test_heat_is_enlarged_as_the_package_does(console, cells):
    values = torch.rand(1, cells, cells, generator=torch.Generator().manual_seed(cells))
    program = "([values, cells]) => [...classifierPicture.enlarged(values, cells, 32)]"
    found = torch.tensor(console.evaluate(program, [values.flatten().tolist(), cells]))
    torch.testing.assert_close(found.view(1, SIZE, SIZE), explain.enlarge(values, SIZE))


def test_result_gives_prediction_label_probabilities_and_time(page, model):
    shown = page.locator(".cl-gallery img").evaluate_all("all => all.map((one) => one.src)")
    pictures = [Image.open(io.BytesIO(base64.b64decode(src.partition(",")[2]))) for src in shown]
    images = F.pad(torch.from_numpy(np.stack(pictures)), (2, 2, 2, 2))[:, None]
    probabilities = answers(model, images)[0].softmax(1)
    assert len(images) >= 20
    classes = data.FASHION_CLASSES
    for index, found in enumerate(probabilities):
        page.locator("[name=cl-image]").nth(index).check(force=True)
        text = told(page, f"Test image {index + 1}")
        option = page.locator("[name=cl-image]").nth(index)
        winner, label = classes[found.argmax()], option.get_attribute("data-label")
        assert f"the network says {winner}, {100 * found.max():.1f} %" in text
        assert f"its label is {label}: {'right' if label == winner else 'wrong'}." in text
        assert torch.equal(taken(page), images[index, 0].long())
        rows = page.locator(".cl-classes label").all_inner_texts()
        for row, name, share in zip(rows, classes, found, strict=True):
            assert row.split() == [*name.split(), f"{100 * share:.1f}", "%"]
        assert page.locator("[name=cl-class]:checked").get_attribute("value") == str(
            found.argmax().item()
        )
        assert re.search(r"in \d+\sms", page.text_content("[data-cl=time]"))


def test_heat_of_the_chosen_class_lies_over_the_picture(page, model, test_images):
    address = page.locator(".cl-gallery img").first.get_attribute("src")
    picture = np.array(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))
    image = F.pad(torch.from_numpy(picture), (2, 2, 2, 2))[None, None]
    maps = answers(model, image)[1][0]
    heats = explain.enlarge(maps.clamp(min=0) / maps.max(), SIZE)
    page.locator("[name=cl-image]").first.check(force=True)
    told(page, "Test image 1")
    drawn = []
    for index, heat in enumerate(heats):
        page.locator("[name=cl-class]").nth(index).check()
        part, ink = DARKEST * heat[..., None], torch.tensor(VERMILION)
        wanted = image[0, 0, ..., None] * (1 - part) + ink * part
        found = pixels(page, ".cl-heat")
        assert (found - wanted).abs().max() <= 1.01
        what = "What speaks for" if maps[index].max() > 0 else "Nothing here speaks for"
        assert page.text_content("[data-cl=heat]") == f"{what} {data.FASHION_CLASSES[index]}"
        drawn.append(found)
    assert not torch.equal(drawn[0], drawn[1])


# Where the page lies, and what may be missing


def folder_of(address):
    """The folder of a book's pages, from the address of one of them."""
    return Path(unquote(urlsplit(address).path)).parents[1]


class Host(SimpleHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/favicon.ico":  # a browser asks every host for it
            self.send_response(204)
            self.end_headers()
        else:
            super().do_GET()

    def log_message(self, *_):
        pass


def test_works_below_a_sub_path_of_a_plain_host(chromium, classifier_address, tmp_path):
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "book").symlink_to(folder_of(classifier_address), target_is_directory=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Host, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = f"http://127.0.0.1:{server.server_port}/some/book/"
    try:
        with opened(chromium, f"{host}book/classifier.html", own=(*OWN, host)) as page:
            assert not page.evaluate("crossOriginIsolated")
            load(page)
            page.locator("[name=cl-image]").first.check(force=True)
            told(page, "Test image 1")
    finally:
        server.shutdown()
        server.server_close()


def test_missing_script_is_named_and_can_be_tried_again(chromium, classifier_address):
    context = chromium.new_context()
    page = context.new_page()
    page.route("**/classifier/model.js", lambda route: route.abort())
    page.goto(classifier_address)
    page.get_by_role("button", name="Load the network").click()
    page.get_by_text("could not be loaded: the file model.js is missing").wait_for()
    page.unroute("**/classifier/model.js")
    load(page)
    context.close()


def test_without_npm_the_page_says_what_is_missing(chromium, tmp_path_factory, monkeypatch):
    empty = tmp_path_factory.mktemp("empty")
    monkeypatch.setenv("PATH", str(empty))
    monkeypatch.setenv("RESNET_LIB_DATA", str(empty))
    address = book_of_one_page(tmp_path_factory, "classifier", texts())
    with opened(chromium, address) as page:
        note = page.locator(".admonition").inner_text()
        assert "onnxruntime-web" in note and "Install Node.js" in note
        assert page.locator(".clothes-classifier").count() == 0
        assert not (folder_of(address) / "_static" / "classifier").exists()
