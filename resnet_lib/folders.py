"""Folders of images: finding the classes, checking the files, decoding them when they are read."""

import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from resnet_lib import UserError
from resnet_lib.splits import Selection

PARTS = ("train", "val", "test")
# What file managers and archives leave in folders: no images, and no reason for a warning.
LITTER = {"thumbs.db", "desktop.ini", "__macosx"}
WORKERS = min(8, os.cpu_count() or 1)  # threads: Pillow decodes without Python's global lock


@dataclass(frozen=True, eq=False)
class FolderSet:
    """Images in files, decoded when they are read: only paths and labels stay in memory.

    The same protocol as data.ImageSet. mean, std: for each channel, on the 0..1 scale, estimated
    from a sample of the training part. skipped: the files left out, since no image could be read.
    """

    paths: Sequence[str]
    labels: Tensor
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    name: str
    split: str
    image_size: int
    channels: int
    skipped: tuple[str, ...] = ()
    attributes: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.read([index])[0], self.labels[index]

    def read(self, indices: Tensor | Sequence[int]) -> Tensor:
        """uint8 (n, C, H, W), in the order of the indices. Raises UserError where a file broke."""
        return decode_all(
            [self.paths[int(index)] for index in indices], self.image_size, self.channels
        )


def find_parts(folder: Path) -> dict[str, Path]:
    """{"train": …, "val": …, "test": …}, those there are; {"train": folder} if none is.

    Raises UserError where the folder is missing or is a file.
    """
    if not folder.exists():
        raise UserError(f"there is no folder {folder}")
    if not folder.is_dir():
        raise UserError(f"{folder} is a file: name the folder that holds a sub-folder a class")
    # A class may be called "train" too, but then it holds images and no folders.
    parts = {name: folder / name for name in PARTS if _sub_folders(folder / name)}
    return parts or {"train": folder}


def find_classes(parts: dict[str, Path]) -> tuple[str, ...]:
    """Names of the sub-folders, sorted. Raises UserError on fewer than two, or if parts differ."""
    found = {part: _sub_folders(folder) for part, folder in parts.items()}
    first, *others = found
    for part in others:
        if odd := sorted(set(found[first]) ^ set(found[part])):
            raise UserError(
                f"{parts[first]} and {parts[part]} must hold the same classes, "
                f"{odd[0]!r} is in one of them only"
            )
    if len(found[first]) < 2:
        raise UserError(
            f"{parts[first]} must hold a sub-folder for each of two or more classes, "
            f"it holds {len(found[first])}"
        )
    return tuple(found[first])


def _sub_folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and _counts(entry))


def _counts(path: Path) -> bool:
    return not path.name.startswith(".") and path.name.lower() not in LITTER


def list_files(folder: Path, classes: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Paths of all files, also in deeper folders, sorted within each class, and their labels.

    Raises UserError on a class without a file.
    """
    paths, counts = [], []
    for name in classes:
        before = len(paths)
        for place, folders, files in os.walk(folder / name, followlinks=True):
            folders[:] = sorted(name for name in folders if _counts(Path(name)))
            paths += [os.path.join(place, name) for name in sorted(files) if _counts(Path(name))]
        counts.append(len(paths) - before)
        if not counts[-1]:
            raise UserError(f"the class folder {folder / name} is empty: fill it or remove it")
    return paths, np.repeat(np.arange(len(classes)), counts)


class Chosen(NamedTuple):
    paths: list[str]
    labels: Tensor
    skipped: tuple[str, ...]


def choose_files(
    name: str, parts: dict[str, Path], classes: Sequence[str], selection: Selection, strict: bool
) -> Chosen:
    """The files of a split, each decoded once: validation comes out of "train" unless it is a part.

    Unreadable files are skipped with one warning, or refused with ``strict``. Raises UserError
    where the split's part is missing or nothing of a class can be read.
    """
    divide = "val" not in parts and selection.split != "test"
    wanted = ["train"] if divide else selection.split.split("+")
    if missing := [part for part in wanted if part not in parts]:
        raise UserError(
            f"{name} has no sub-folder {missing[0]!r}, which the split {selection.split!r} needs"
        )
    listed = [list_files(parts[part], classes) for part in wanted]
    paths = [path for part, _ in listed for path in part]
    labels = np.concatenate([part for _, part in listed])
    chosen, bad = _choose_readable(paths, partial(selection.pick, labels, divide))
    skipped = tuple(paths[index] for index in bad)
    if skipped:
        found = (
            f"{len(skipped)} of {len(chosen) + len(skipped)} files are no readable images, "
            f"the first is {skipped[0]}"
        )
        if strict:
            raise UserError(f"{found}: repair or remove them, or load without strict")
        warnings.warn(f"skipped: {found}", stacklevel=4)  # the line that calls data.load
    if lost := sorted(set(labels[bad]) - set(labels[chosen])):
        raise UserError(f"class {classes[lost[0]]!r} of {name} has no readable image")
    if not len(chosen):
        raise UserError(f"{name} has too few images to make a split {selection.split!r} of them")
    return Chosen([paths[index] for index in chosen], torch.from_numpy(labels[chosen]), skipped)


def sample_files(parts: dict[str, Path], classes: Sequence[str], count: int) -> list[str]:
    """Readable files of "train", or of what there is: always the same, balanced, ``count`` at most.

    At least one a class.
    """
    paths, labels = list_files(next(iter(parts.values())), classes)
    selection = Selection("train+val", limit=max(count, len(classes)))
    chosen, _ = _choose_readable(paths, partial(selection.pick, labels, True))
    return [paths[index] for index in chosen]


def _choose_readable(
    paths: Sequence[str], pick: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the chosen files, and of the unreadable ones met on the way.

    pick: (mask of usable files) -> indices. It is asked again until all that it picks is readable,
    so that an unreadable file is replaced, while only files that are wanted are looked at.
    """
    usable, checked = np.ones(len(paths), bool), np.zeros(len(paths), bool)
    with ThreadPoolExecutor(WORKERS) as pool:
        while True:
            chosen = pick(usable)
            fresh = chosen[~checked[chosen]]
            if not len(fresh):
                return chosen, np.flatnonzero(~usable)
            usable[fresh] = list(pool.map(_is_readable, [paths[index] for index in fresh]))
            checked[fresh] = True


def _is_readable(path: str) -> bool:
    try:
        decode(path, image_size=8, channels=3)
    except UserError:
        return False
    return True


def decode(path: str, image_size: int, channels: int) -> np.ndarray:
    """uint8 (S, S, C): the shorter side brought to S, the centre cropped, turned as EXIF says.

    Transparent pixels become white, 16-bit grey keeps its upper 8 bits, and the first frame stands
    for an animation. Raises UserError where the file is no image or is cut short.
    """
    try:
        with Image.open(path) as image:
            # A large JPEG decodes several times faster at a half, a quarter or an eighth.
            image.draft("RGB", (2 * image_size, 2 * image_size))
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I"):  # convert would clip at 255 instead of scaling
                values = (np.asarray(image) >> 8).clip(0, 255)
                image = Image.fromarray(values.astype(np.uint8))
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                image = image.convert("RGBA")
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image)
            image = image.convert("RGB" if channels == 3 else "L")
            image = ImageOps.fit(image, (image_size, image_size), Image.Resampling.BILINEAR)
            return np.asarray(image).reshape(image_size, image_size, channels)
    except Exception as error:  # Pillow's decoders raise whatever they trip over
        raise UserError(f"{path} is not a readable image: {error}") from error


def decode_all(paths: Sequence[str], image_size: int, channels: int) -> Tensor:
    """uint8 (N, C, S, S), decoded by several threads. Raises UserError as ``decode`` does."""
    images = np.empty((len(paths), image_size, image_size, channels), np.uint8)
    with ThreadPoolExecutor(WORKERS) as pool:
        decoded = pool.map(lambda path: decode(path, image_size, channels), paths)
        for index, image in enumerate(decoded):
            images[index] = image
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
