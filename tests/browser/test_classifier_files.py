"""Files in the classifier in the page: what arrives at the network, and what is no image.

Needs Chromium, the Python package playwright, and npm or an earlier download of the runtime;
skipped without them.
"""

import base64

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from browsing import CHROMIUM
from classifying import a_file, expected, give, scene, status, taken, told
from PIL import Image

from resnet_lib import data

pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


def dark_border():
    """The first test image (28, 28) whose border is black, so that it is left as it is."""
    small = data.load("fashion", "test", image_size=28).images[:, 0]
    return next(one for one in small if F.pad(one[1:-1, 1:-1], (1, 1, 1, 1)).equal(one))


def test_test_image_from_a_file_arrives_unchanged(page):
    image = dark_border()
    give(page, a_file(image))
    assert torch.equal(taken(page), F.pad(image, (2, 2, 2, 2)).long())


@pytest.mark.parametrize("shape", [(90, 120), (448, 300), (28, 300)])
def test_file_is_cropped_made_grey_and_scaled(page, shape):
    image = scene(*shape)
    give(page, a_file(image))
    found = taken(page)
    assert not found[:2].any() and not found[-2:].any() and not found[:, [0, 1, -2, -1]].any()
    assert (found[2:-2, 2:-2] - expected(image)).abs().max() <= 1


def test_large_picture_that_the_browser_scales_first_is_nearly_the_same(page):
    image = scene(1300, 1700)
    give(page, a_file(image))
    assert (taken(page)[2:-2, 2:-2] - expected(image)).abs().max() <= 6


def test_light_border_is_inverted_unless_the_reader_undoes_it(page):
    image = 255 - scene(100, 100)
    give(page, a_file(image))
    assert page.is_checked("[name=cl-invert]")
    assert "so it was inverted" in page.text_content("[data-cl=inverted]")
    assert (255 - taken(page)[2:-2, 2:-2] - expected(image)).abs().max() <= 1
    page.uncheck("[name=cl-invert]")
    page.wait_for_function("!document.querySelector('.cl-result').hidden")
    page.wait_for_timeout(1000)
    assert (taken(page)[2:-2, 2:-2] - expected(image)).abs().max() <= 1
    give(page, a_file(scene(100, 100)) | {"name": "dark.png"})
    assert not page.is_checked("[name=cl-invert]")
    assert "left as it is" in page.text_content("[data-cl=inverted]")


def test_camera_held_sideways_is_heeded(page):
    image = scene(120, 200, seed=1)
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned clockwise by a quarter
    give(page, a_file(image, "JPEG", quality=100, subsampling=0, exif=turned))
    upright = np.rot90(image, -1).copy()
    assert (taken(page)[2:-2, 2:-2] - expected(upright)).abs().max() <= 4
    assert (taken(page)[2:-2, 2:-2] - expected(image)).abs().max() > 20


def test_what_is_transparent_counts_as_white(page):
    image = np.zeros((60, 60, 4), np.uint8)
    image[20:40, 20:40] = (50, 50, 50, 255)
    give(page, a_file(image))
    assert page.is_checked("[name=cl-invert]")
    assert taken(page)[2, 2] == 0 and taken(page)[16, 16] == 205


def test_photo_of_forty_megabytes_neither_freezes_nor_breaks_the_page(page, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (5200, 6000, 3), np.uint8)
    path = tmp_path / "photo.jpeg"
    Image.fromarray(noise).save(path, quality=97)
    assert path.stat().st_size > 40e6
    page.check("[name=cl-way][value=file]")
    page.evaluate("""() => {
      let before = performance.now();
      globalThis.longest = 0;
      setInterval(() => {
        const now = performance.now();
        longest = Math.max(longest, now - before);
        before = now;
      }, 10);
    }""")
    page.set_input_files("#cl-file", path)
    told(page, "photo.jpeg")
    assert page.evaluate("longest") < 2000
    assert (taken(page)[2:-2, 2:-2] - 127).abs().max() < 20  # noise is grey from afar


@pytest.mark.parametrize(
    "content", [b"no image at all\n" * 10, b"", b"\x89PNG\r\n\x1a\n" + bytes(100)]
)
def test_what_is_no_image_gets_a_kind_message_and_the_page_goes_on(page, content):
    page.check("[name=cl-way][value=file]")
    file = {"name": "notes.png", "mimeType": "image/png", "buffer": content}
    page.set_input_files("#cl-file", file)
    page.get_by_text("notes.png is not an image that the browser can read").wait_for()
    assert "Try a JPEG, PNG or WebP file." in status(page)
    give(page, a_file(scene(50, 50)))


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_file_is_dropped_or_pasted(page, event):
    file = a_file(scene(64, 64))
    page.evaluate(
        """([event, text, name]) => {
          const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
          const carried = new DataTransfer();
          carried.items.add(new File([bytes], name, { type: "image/png" }));
          const options = { bubbles: true, cancelable: true };
          const target = document.querySelector(".clothes-classifier");
          target.dispatchEvent(event === "drop"
            ? new DragEvent("drop", { ...options, dataTransfer: carried })
            : new ClipboardEvent("paste", { ...options, clipboardData: carried }));
        }""",
        [event, base64.b64encode(file["buffer"]).decode(), file["name"]],
    )
    told(page, file["name"])
    assert page.is_checked("[name=cl-way][value=file]")
    assert (taken(page)[2:-2, 2:-2] - expected(scene(64, 64))).abs().max() <= 1
