"""What the tests of the classifier in the page share."""

import io
import re

import numpy as np
import torch
import torch.nn.functional as F
from notebooks import ROOT
from PIL import Image

from resnet_lib import data

SIDE, SIZE = 28, 32
LINK = re.compile(r"\[([^]]*)\]\((?!http)[^)]*\)")  # to another page of the book


def texts():
    """The page, without its links to pages that a book of one page lacks."""
    return [LINK.sub(r"\1", (ROOT / "book" / "classifier.md").read_text(encoding="utf-8"))]


def load(page):
    page.get_by_role("button", name="Load the network").click()
    page.get_by_text("The network is ready").wait_for(timeout=60_000)


def status(page):
    return page.locator("[data-cl=status]").text_content().replace("\xa0", " ")


def told(page, name):
    """The announcement of a picture's result, waited for."""
    page.wait_for_function(
        "name => document.querySelector('[data-cl=status]').textContent.startsWith(name + ': the')",
        arg=name,
    )
    return status(page)


def pixels(page, place):
    """A canvas as a tensor (height, width, 3)."""
    program = """canvas => {
      const { width, height } = canvas;
      return [...canvas.getContext("2d").getImageData(0, 0, width, height).data];
    }"""
    values = page.locator(place).evaluate(program)
    side = round((len(values) / 4) ** 0.5)
    return torch.tensor(values).view(side, side, 4)[..., :3]


def taken(page):
    """What the network got, (32, 32)."""
    return pixels(page, ".cl-taken")[..., 0]


def a_file(image, kind="PNG", **options):
    """An image as set_input_files takes it."""
    file = io.BytesIO()
    Image.fromarray(np.asarray(image)).save(file, kind, **options)
    return {
        "name": f"own.{kind.lower()}",
        "mimeType": f"image/{kind.lower()}",
        "buffer": file.getvalue(),
    }


def give(page, file):
    """Choose a file and wait for the result."""
    page.check("[name=cl-way][value=file]")
    page.set_input_files("#cl-file", file)
    return told(page, file["name"])


def scene(height, width, seed=0):
    """A smooth picture in colour with a dark border, uint8 (height, width, 3)."""
    noise = torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(seed))
    smooth = F.interpolate(noise, size=(height, width), mode="bicubic").clamp(0, 1)
    falling = [(1 - torch.linspace(-1, 1, side).abs()).sqrt() for side in (height, width)]
    return (255 * smooth[0] * falling[0][:, None] * falling[1]).byte().permute(1, 2, 0).numpy()


def expected(image):
    """What the page must make of a picture (height, width, 3), before it is inverted: (28, 28)."""
    height, width, _ = image.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = torch.from_numpy(image[top : top + side, left : left + side].astype(np.float32))
    grey = (square @ torch.tensor(data.GREY))[None, None]
    return F.interpolate(grey, size=(SIDE, SIDE), mode="bilinear", antialias=True)[0, 0]
