"""Leakage: planted copies are found, different images are not, and memory stays bounded."""

import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch.overrides import TorchFunctionMode

from resnet_lib import UserError, data, leakage


@pytest.fixture(scope="module")
def parts():
    return data.load("fashion", "train", limit=1500), data.load("fashion", "test", limit=400)


def as_jpeg(images, quality=75):
    copies = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).squeeze(-1).numpy()).save(
            buffer, "JPEG", quality=quality
        )
        pixels = torch.from_numpy(np.array(Image.open(buffer)))
        copies.append(pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1))
    return torch.stack(copies)


def moved(images, down, right):
    height, width = images.shape[-2:]
    padded = F.pad(images, (1, 1, 1, 1))
    return padded[..., 1 - down : 1 - down + height, 1 - right : 1 - right + width]


CHANGES = {
    "none": lambda images: images,
    "down": lambda images: moved(images, 1, 0),
    "up and right": lambda images: moved(images, -1, 1),
    "left": lambda images: moved(images, 0, -1),
    "darker": lambda images: (images * 0.6).to(torch.uint8),
    "brighter": lambda images: (images.float() + 30).clamp(max=255).to(torch.uint8),
    "JPEG": as_jpeg,
    "moved, then darker": lambda images: (moved(images, 1, 1) * 0.7).to(torch.uint8),
}


def with_images(part, images):
    return data.ImageSet(
        images, torch.zeros(len(images), dtype=torch.long), ("a", "b"), (0.5,), (0.2,), "made", part
    )


@pytest.mark.parametrize("change", CHANGES)
def test_planted_copies_are_found(parts, change):
    """One test image in four lies in the training part, changed; the others must not be paired."""
    train, test = parts
    planted = CHANGES[change](test.images[::4])
    pairs = leakage.search(test, with_images("train", torch.cat([train.images, planted]))).near
    mine = {(4 * place, len(train) + place) for place in range(len(planted))}
    found = set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    assert len(mine & found) >= 0.98 * len(mine)
    assert len(found - mine) <= 3


def scenes(count, size):
    """Smooth pictures: 6 x 6 random levels with a tinge of colour, enlarged."""
    generator = torch.Generator().manual_seed(1)
    grey, tinge = (torch.rand(count, n, 6, 6, generator=generator) for n in (1, 3))
    coarse = 190 * grey + 60 * tinge
    return F.interpolate(coarse, size=(size, size), mode="bilinear").to(torch.uint8)


@pytest.mark.parametrize("size", [48, 100, 200])
@pytest.mark.parametrize("change", ["none", "darker", "brighter", "JPEG"])
def test_planted_copies_in_colour_and_other_sizes(change, size):
    pictures = scenes(100, size)
    copies = with_images("train", CHANGES[change](pictures))
    pairs = leakage.search(with_images("test", pictures), copies).near
    found = sorted(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    assert found == [(index, index) for index in range(100)]


def test_different_images_are_not_flagged(parts):
    """The shapes are drawn apart. Of real clothes some are as alike as copies, but few."""
    shapes = [data.load("scaled-shapes", split, limit=500) for split in ("train", "test")]
    assert len(leakage.search(*shapes).near.first) == 0
    train, test = parts
    found = leakage.search(test, train)
    assert len(found.near.first) <= 4 and len(found.identical.first) == 0
    noise = torch.randint(256, (300, 1, 32, 32), generator=torch.Generator().manual_seed(0))
    assert len(leakage.near(noise.to(torch.uint8), threshold=0.5).first) == 0


def test_colour_tells_images_apart():
    square = torch.zeros(3, 3, 32, 32, dtype=torch.uint8)
    square[:, :, 8:20, 8:20] = 40
    square[0, 0, 8:20, 8:20] = square[1, 1, 8:20, 8:20] = square[2, 0, 8:20, 8:20] = 200
    pairs = leakage.near(square)
    assert list(zip(*(values.tolist() for values in pairs[:2]), strict=True)) == [(0, 2)]


def test_the_distance_is_one_minus_the_best_correlation(parts):
    train, test = parts
    first, second = test.images[:5], train.images[:7]
    pairs = leakage.near(first, second, threshold=0.9)
    middle = second[..., 1:31, 1:31].numpy().reshape(7, 10, 3, 10, 3).mean((2, 4))
    for i, j, distance in zip(*(values.tolist() for values in pairs), strict=True):
        correlations = [
            np.corrcoef(
                first[i, 0, y : y + 30, x : x + 30].numpy().reshape(10, 3, 10, 3).mean((1, 3)).flat,
                middle[j].flat,
            )[0, 1]
            for y in range(3)
            for x in range(3)
        ]
        assert distance == pytest.approx(1 - max(correlations), abs=1e-5)
    assert len(pairs.first) > 10
    assert pairs.distance.tolist() == sorted(pairs.distance.tolist())


def test_blocks_change_nothing(parts, monkeypatch):
    train, test = parts
    whole = leakage.near(test.images, train.images, 0.02)
    within = leakage.near(test.images, threshold=0.05)
    monkeypatch.setattr(leakage, "BLOCK", 37)
    for before, after in (
        (whole, leakage.near(test.images, train.images, 0.02)),
        (within, leakage.near(test.images, threshold=0.05)),
    ):
        assert len(before.first) > 10
        pairs = [
            dict(
                zip(
                    zip(each.first.tolist(), each.second.tolist(), strict=True),
                    each.distance,
                    strict=True,
                )
            )
            for each in (before, after)
        ]
        assert pairs[0].keys() == pairs[1].keys()
        assert all(abs(pairs[0][key] - pairs[1][key]) < 1e-6 for key in pairs[0])


def test_within_one_set_each_pair_comes_once(parts):
    _, test = parts
    doubled = with_images("test", torch.cat([test.images[:20], test.images[10:20]]))
    found = leakage.search(doubled)
    expected = [(index, index + 10) for index in range(10, 20)]
    for pairs in found:
        assert sorted(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == expected
    assert found.identical.distance.tolist() == [0] * 10
    three = leakage.identical(["x", "y", "x", "x"])
    assert sorted(zip(*(v.tolist() for v in three[:2]), strict=True)) == [(0, 2), (0, 3), (2, 3)]


def test_identical_means_every_pixel(parts):
    _, test = parts
    other = test.images[:6].clone()
    other[3, 0, 5, 5] ^= 1
    pairs = leakage.search(with_images("train", other), test).identical
    assert list(zip(*(v.tolist() for v in pairs[:2]), strict=True)) == [
        (i, i) for i in (0, 1, 2, 4, 5)
    ]


def test_images_of_one_colour_are_near_to_nothing():
    even = torch.full((3, 1, 32, 32), 7, dtype=torch.uint8)
    assert len(leakage.near(even).first) == 0
    assert len(leakage.identical(leakage.image_digests(even)).first) == 3


def test_empty_sets(parts):
    _, test = parts
    empty = data.subset(test, [])
    for sets in ((empty, test), (test, empty), (empty,)):
        found = leakage.search(*sets)
        assert [len(values) for pairs in found for values in pairs] == [0] * 6


def test_files_are_searched_as_images_in_memory(tmp_path):
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(256, (6, 8, 8, 3), generator=generator).to(torch.uint8).numpy()
    for index, picture in enumerate(pictures):
        for part, kept in (("train", index < 4), ("test", index > 2)):
            if kept:
                path = tmp_path / part / "ab"[index % 2] / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).resize((40, 40)).save(path)
    sets = [data.load(tmp_path, split, image_size=40) for split in ("train+val", "test")]
    for pairs in leakage.search(*sets):
        (pair,) = zip(*(values.tolist() for values in pairs[:2]), strict=True)
        assert [sets[place].paths[pair[place]][-5:] for place in (0, 1)] == ["3.png", "3.png"]


@pytest.mark.parametrize("threshold", [-0.1, 1.0])
def test_impossible_thresholds(threshold):
    with pytest.raises(UserError, match="threshold must be from 0 to below 1"):
        leakage.near(torch.zeros(1, 1, 32, 32, dtype=torch.uint8), threshold=threshold)


def test_sets_of_different_channels_are_refused(parts):
    colour = data.load("fashion", "test", limit=10, channels=3)
    with pytest.raises(UserError, match="load both with the same channels"):
        leakage.search(parts[1], colour)


class Largest(TorchFunctionMode):
    """Bytes of the largest tensor that a call made."""

    size = 0

    def __torch_function__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        if isinstance(result, torch.Tensor) and result.is_floating_point():
            self.size = max(self.size, result.nbytes)
        return result


def test_memory_stays_bounded():
    """All 1,000 x 20,000 correlations at once would be 80 MB."""
    images = torch.randint(256, (20_000, 1, 32, 32), dtype=torch.uint8)
    with Largest() as largest:
        leakage.near(images[:1000], images)
    assert 1e6 < largest.size < 5e6
