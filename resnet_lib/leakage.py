"""Leakage: the same picture in two parts of a data set, found by its pixels or by its looks.

Two images are near when, scaled to 32 pixels and moved by at most one against each other, their
cells of 3 x 3 pixels are the same up to brightness and contrast. The distance of two images is one
minus the correlation of their cells, at the best of the nine positions: 0 for an image and its
brighter copy. Memory is bounded: images are compared block by block.
"""

import hashlib
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from resnet_lib import UserError

SIDE, SHIFT, CELL = 32, 1, 3  # pixels: of an image compared, of the moves, of a cell
THRESHOLD = 0.003  # chapter 10 shows what it finds and what it confuses
BLOCK = 512  # images of the first set that are compared at once with twice as many of the second
READ = 256  # images that are read at once


class Pairs(NamedTuple):
    """Indices in the first and in the second set, and distances; each (P,), nearest first."""

    first: Tensor
    second: Tensor
    distance: Tensor


class Found(NamedTuple):
    """What ``search`` finds. The identical pairs are among the near ones, too."""

    identical: Pairs
    near: Pairs


def search(first, second=None, threshold: float = THRESHOLD) -> Found:
    """Pairs of one image of each data set; without a second, two images of the first.

    The images of both are read once, in blocks. Raises UserError if the channels differ.
    """
    sets = [_summary(dataset) for dataset in (first, second) if dataset is not None]
    (digests, thumbs), (other_digests, other_thumbs) = sets[0], sets[1] if sets[1:] else (None,) * 2
    return Found(identical(digests, other_digests), near(thumbs, other_thumbs, threshold))


def _summary(dataset) -> tuple[list[bytes], Tensor]:
    digests, thumbs = [], [torch.empty(0, dataset.channels, SIDE, SIDE, dtype=torch.uint8)]
    for indices in torch.arange(len(dataset)).split(READ):
        images = dataset.read(indices)
        digests += image_digests(images)
        thumbs.append(thumbnails(images))
    return digests, torch.cat(thumbs)


def image_digests(images: Tensor) -> list[bytes]:
    """A hash of each image's pixels: uint8 (N, C, H, W) -> N digests."""
    return [hashlib.blake2b(image.numpy().tobytes(), digest_size=16).digest() for image in images]


def thumbnails(images: Tensor) -> Tensor:
    """uint8 (N, C, H, W) -> uint8 (N, C, 32, 32)."""
    if images.shape[-2:] == (SIDE, SIDE):
        return images
    return F.interpolate(images, size=(SIDE, SIDE), mode="bilinear", antialias=True)


def identical(first: Sequence[Hashable], second: Sequence[Hashable] | None = None) -> Pairs:
    """Pairs of equal digests, at distance 0; without a second list, of two places in the first."""
    places: dict[Hashable, list[int]] = {}
    for index, digest in enumerate(first if second is None else second):
        places.setdefault(digest, []).append(index)
    pairs = [
        (index, other)
        for index, digest in enumerate(first)
        for other in places.get(digest, ())
        if second is not None or index < other
    ]
    indices = torch.tensor(pairs, dtype=torch.long).view(-1, 2)
    return Pairs(indices[:, 0], indices[:, 1], torch.zeros(len(pairs)))


def near(first: Tensor, second: Tensor | None = None, threshold: float = THRESHOLD) -> Pairs:
    """Pairs of thumbnails at a distance of at most ``threshold``, each uint8 (N, C, 32, 32).

    Without a second, pairs of two images of the first. An image of one colour is near to nothing.
    """
    if not 0 <= threshold < 1:
        raise UserError(f"threshold must be from 0 to below 1, got {threshold}")
    others = first if second is None else second
    if first.shape[1:] != others.shape[1:]:
        raise UserError(
            f"images of shapes {tuple(first.shape[1:])} and {tuple(others.shape[1:])} cannot be "
            "compared: load both with the same channels, and make thumbnails of them"
        )
    found = [(torch.empty(0, 2, dtype=torch.long), torch.empty(0))]
    for start in range(0, len(first), BLOCK):
        moved = [_cells(first[start : start + BLOCK], *corner) for corner in CORNERS]
        # Within one set each pair comes once: only what follows the block's first image.
        for begin in range(start if second is None else 0, len(others), 2 * BLOCK):
            middle = _cells(others[begin : begin + 2 * BLOCK], SHIFT, SHIFT)
            best = moved[0] @ middle.T
            for cells in moved[1:]:
                torch.maximum(best, cells @ middle.T, out=best)
            pairs = (best >= 1 - threshold - EPSILON).nonzero()
            distance = (1 - best[pairs[:, 0], pairs[:, 1]]).clamp(min=0)
            found.append((pairs + torch.tensor([start, begin]), distance))
    pairs, distance = (torch.cat(values) for values in zip(*found, strict=True))
    if second is None:
        kept = pairs[:, 0] < pairs[:, 1]
        pairs, distance = pairs[kept], distance[kept]
    order = distance.argsort(stable=True)
    return Pairs(*pairs[order].T, distance[order])


CORNERS = [(down, right) for down in range(2 * SHIFT + 1) for right in range(2 * SHIFT + 1)]
EPSILON = 1e-6  # of float32, so that a copy is found at a threshold of 0


def _cells(images: Tensor, down: int, right: int) -> Tensor:
    """The cells of a crop that is two pixels smaller, (N, C * 100), as vectors of length one.

    Without their mean, so that the product of two is a correlation; zeros for an even image.
    """
    size = SIDE - 2 * SHIFT
    crop = images[..., down : down + size, right : right + size].float()
    cells = F.avg_pool2d(crop, CELL).flatten(1)
    cells = cells - cells.mean(1, keepdim=True)
    length = cells.norm(dim=1, keepdim=True)
    return torch.where(length > 1e-3, cells / length, 0)
