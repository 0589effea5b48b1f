"""Which images: a stratified validation part, a balanced limit, each fixed by a seed."""

import hashlib
from collections.abc import Hashable, Sequence
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


def hold_out(
    labels: np.ndarray,
    groups: Sequence[Hashable],
    fraction: float,
    seed: int = 0,
    classes: Sequence[str] | None = None,
) -> np.ndarray:
    """A mask (N,) of about ``fraction`` of each class, in which no group is divided.

    A group is what belongs together: pictures of one object, one person, one day. It counts for
    the class that most of its images have. Raises UserError where a class has fewer than two
    groups, with its name from ``classes``.
    """
    if not 0 < fraction < 1:
        raise UserError(f"fraction must lie between 0 and 1, got {fraction}")
    names, group = np.unique(np.array([str(g) for g in groups]), return_inverse=True)
    sizes = np.bincount(group)
    counts = np.zeros((len(names), labels.max() + 1), np.int64)
    np.add.at(counts, (group, labels), 1)
    own = counts.argmax(1)  # the class of each group
    keys = torch.rand(len(names), generator=derived_generator(seed, "hold out")).numpy()
    chosen = np.zeros(len(names), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(own == label)
        if len(members) < 2:
            name = classes[label] if classes else label
            raise UserError(
                f"class {name!r} has {len(members)} group of images, and two are needed to hold "
                "one out: add images of other things, or divide the folder yourself"
            )
        members = members[keys[members].argsort()]
        before = np.cumsum(sizes[members]) - sizes[members]  # images in the groups before
        wanted = before + sizes[members] / 2 < fraction * sizes[members].sum()
        wanted[0], wanted[-1] = True, False  # one at the least, and not all
        chosen[members[wanted]] = True
    return chosen[group]


def repeat_rare(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """Indices in which every class comes as often as the largest does: rare images repeat.

    Each image of a class comes equally often, but for one time more or less.
    """
    most = np.bincount(labels).max()
    keys = torch.rand(len(labels), generator=derived_generator(seed, "repeat")).numpy()
    found = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        found.append(np.resize(members[keys[members].argsort()], most))
    return np.concatenate(found)


def _rank_in_class(labels: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Each image's place in its class, ordered by the keys: 0 for the first, 1 for the second."""
    order = np.lexsort((keys, labels))
    counts = np.bincount(labels)
    rank = np.empty(len(labels), np.int64)
    rank[order] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rank
