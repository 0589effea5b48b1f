"""Small data and networks that several test files share."""

import numpy as np
import torch
from PIL import Image

from resnet_lib import data, models


def make_images(count=48, seed=0, split="train", size=8):
    """Two classes, told apart by brightness: anything that trains at all learns it."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    noise = torch.randint(0, 120, (count, 1, size, size), generator=generator)
    images = (noise + 120 * labels[:, None, None, None]).to(torch.uint8)
    return data.ImageSet(
        images=images,
        labels=labels,
        classes=("dark", "bright"),
        mean=(0.5,),
        std=(0.25,),
        name="toy",
        split=split,
        attributes={},
    )


def draw_noise(folder, classes, names):
    """A folder of grey noise of 16 px, a picture of each name a class: some answers are wrong."""
    random = np.random.default_rng(0)
    for label in classes:
        (folder / label).mkdir(parents=True)
        for name in names:
            pixels = random.integers(0, 256, (16, 16), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{name}.png")


def make_model(seed=0, width=4, name="resnet18"):
    """A narrow network for the toy images."""
    torch.manual_seed(seed)
    return models.build(name, 2, width=width, stem="small", in_channels=1)


def numbered(count=23):
    """Images of 2 x 2 pixels: image i is of the level i and of the class i % 3."""
    return data.ImageSet(
        images=torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).repeat(1, 1, 2, 2),
        labels=torch.arange(count) % 3,
        classes=("a", "b", "c"),
        mean=(0.5,),
        std=(0.5,),
        name="small",
        split="train",
        attributes={"size": torch.arange(count) * 10},
    )
