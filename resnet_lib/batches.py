"""Batches of a data set: in an order fixed by seed and epoch, shared out over processes.

Sets with ``read`` are asked for images by their indices; sets that can only be read in a row have
``stream`` instead.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor

from resnet_lib import UserError
from resnet_lib.splits import derived_generator

Item = TypeVar("Item")
Batch = tuple[Tensor, Tensor]


def count_batches(examples: int, batch_size: int, at_least: int = 1) -> int:
    """Batches in one pass: a rest of fewer than ``at_least`` examples joins the batch before it."""
    full, rest = divmod(examples, batch_size)
    return full + (rest >= max(1, at_least) or full == 0 < rest)


def batches(
    data,
    batch_size: int,
    *,
    shuffle: bool = False,
    seed: int = 0,
    epoch: int = 0,
    at_least: int = 1,
    rank: int = 0,
    world: int = 1,
) -> Iterator[Batch]:
    """uint8 images (n, C, H, W) and labels (n,), on the CPU; every image once.

    The order depends on (seed, epoch) alone. The last batch may be short.
    at_least: if fewer examples than this are left for the last batch, they join the one before.
    rank, world: process ``rank`` of ``world`` gets its share of each batch, so ``batch_size`` is
    that of all processes together. They all get the same number of batches, and together the
    batches that one process would get; of shards, other images in batches of the same sizes.
    Files are read one batch ahead, in a thread that ends with the iterator.
    Raises UserError where a process would get an empty batch.
    """
    if batch_size < 1:
        raise UserError(f"batch_size must be 1 or more, got {batch_size}")
    if not 0 <= rank < world:
        raise UserError(f"rank must be one of the {world} from 0 to {world - 1}, got {rank}")
    if len(data) and min(batch_size, len(data)) < world:
        few = "batch_size" if batch_size < world else "the number of images"
        raise UserError(
            f"{few} must be at least {world}, one image for each process, "
            f"got {min(batch_size, len(data))}"
        )
    count = count_batches(len(data), batch_size, max(at_least, world))
    bounds = [*range(0, batch_size * count, batch_size), len(data)]
    if hasattr(data, "stream"):
        sizes = [stop - start for start, stop in pairwise(bounds)]
        return read_ahead(data.stream(sizes, shuffle, seed, epoch, rank, world))
    generator = derived_generator(seed, "epoch", epoch)
    order = torch.randperm(len(data), generator=generator) if shuffle else torch.arange(len(data))
    shares = (order[start:stop][rank::world] for start, stop in pairwise(bounds))
    read = ((data.read(share), data.labels[share]) for share in shares)
    return read if hasattr(data, "images") else read_ahead(read)


def read_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, each fetched in a thread while the one before is in use."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item
