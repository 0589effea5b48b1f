"""Which images: a stratified validation part, a balanced limit, each fixed by a seed."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from resnet_lib import UserError

SPLITS = ("train", "val", "train+val", "test")


def derived_generator(seed: int, *purpose) -> torch.Generator:
    """A CPU generator for one purpose: different purposes draw independently from one seed."""
    digest = hashlib.sha256(repr((int(seed), *purpose)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


@dataclass(frozen=True)
class Selection:
    """One split of a data set, or ``limit`` images of it. Raises UserError on impossible values."""

    split: str
    limit: int | None = None
    seed: int = 0
    val_fraction: float = 0.1

    def __post_init__(self):
        if self.split not in SPLITS:
            raise UserError(f"split must be one of {', '.join(SPLITS)}, got {self.split!r}")
        if not 0 < self.val_fraction < 1:
            raise UserError(f"val_fraction must lie between 0 and 1, got {self.val_fraction}")

    def check_limit(self, classes: Sequence[str]) -> None:
        """Raises UserError if the limit leaves a class without an image."""
        if self.limit is not None and self.limit < len(classes):
            raise UserError(
                f"limit must be at least {len(classes)}, the number of classes, got {self.limit}"
            )

    def pick(
        self, labels: np.ndarray, divide: bool, usable: np.ndarray | None = None
    ) -> np.ndarray:
        """Indices of the images, ascending. ``labels`` (N,) are those of a whole part.

        divide: the part holds training and validation images, to be divided unless "train+val" is
        wanted; else all of it is the split. What divides it doesn't depend on which images are
        ``usable`` (a mask, (N,)). With the limit the class counts differ by one at the most,
        unless a class runs out; a larger limit contains a smaller one.
        """
        indices = np.arange(len(labels))
        if divide and self.split in ("train", "val"):
            rank = _rank_in_class(labels, self._keys(len(labels), "validation"))
            counts = np.bincount(labels)
            # One at the least and not all, where a class has two or more.
            val_counts = np.round(counts * self.val_fraction).clip(1, None).clip(None, counts - 1)
            in_val = rank < val_counts[labels]
            indices = indices[in_val == (self.split == "val")]
        if usable is not None:
            indices = indices[usable[indices]]
        if self.limit is None:
            return indices
        # Every class's first image comes before any class's second.
        keys = self._keys(len(labels), "limit")[indices]
        order = np.lexsort((keys, _rank_in_class(labels[indices], keys)))
        return np.sort(indices[order[: self.limit]])

    def _keys(self, count: int, purpose: str) -> np.ndarray:
        generator = derived_generator(self.seed, purpose)
        return torch.rand(count, dtype=torch.float64, generator=generator).numpy()


def _rank_in_class(labels: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Each image's place in its class, ordered by the keys: 0 for the first, 1 for the second."""
    order = np.lexsort((keys, labels))
    counts = np.bincount(labels)
    rank = np.empty(len(labels), np.int64)
    rank[order] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rank
