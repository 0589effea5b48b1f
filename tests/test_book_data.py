"""Chapter 10 runs on other data sets by changing its one line."""

import subprocess
import sys

import notebooks
import pytest
import torch
import torch.nn.functional as F
from notebooks import ROOT
from PIL import Image

CHAPTER = ROOT / "book" / "10_data.ipynb"
LINE = 'DATA = "fashion"'


def code():
    """The chapter's code cells in a row."""
    cells = notebooks.read(CHAPTER).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "code")


def make_folder(folder):
    """Three classes of colour photographs of different sizes, told apart by their tint."""
    generator = torch.Generator().manual_seed(0)
    for part, count in (("train", 40), ("test", 12)):
        for label, name in enumerate(("red", "green", "blue")):
            place = folder / part / name
            place.mkdir(parents=True)
            for index in range(count):
                coarse = 200 * torch.rand(1, 3, 5, 7, generator=generator)
                coarse[:, label] += 55
                size = (40 + 3 * index % 17, 60 + index % 11)
                pixels = F.interpolate(coarse, size=size, mode="bilinear")[0]
                picture = Image.fromarray(pixels.to(torch.uint8).permute(1, 2, 0).numpy())
                picture.save(place / f"{index}.{'jpg' if index % 2 else 'png'}")
    return folder


def test_the_data_set_is_named_once():
    assert code().count(LINE) == 1
    assert code().count('"fashion"') == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "scaled-shapes"])
def test_the_chapter_runs_on_other_images(tmp_path, kind):
    name = str(make_folder(tmp_path / "images")) if kind == "folder" else kind
    script = tmp_path / "chapter.py"
    script.write_text(code().replace(LINE, f"DATA = {name!r}"), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, script.name], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    expected = {"folder": "3 classes: blue, green, red", "scaled-shapes": "10 classes"}[kind]
    assert expected in done.stdout
