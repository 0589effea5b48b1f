"""Data sets in shards: tar files of the WebDataset format, read in a row.

A shard holds for each example a file with the image and one with the number of its class, next to
each other and of one name: ``0007.jpg`` and ``0007.cls``. Large files read from beginning to end
are what disks, network storage and buckets are good at; a million small files are what they are
bad at. In memory are one number for each shard and a buffer of undecoded images.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from resnet_lib import UserError, shard_file
from resnet_lib.folders import PARTS, decode_all
from resnet_lib.splits import Selection, derived_generator

INDEX, CLASSES = "shards.json", "classes.txt"
BUFFER = 1000  # examples to draw from at random
SAMPLED = 32  # shards that the statistics are taken from


@dataclass(frozen=True, eq=False)
class ShardSet:
    """Images in shards, which data.batches reads in a row; no image can be asked for by its index.

    paths, counts: the shards, and the examples in each. mean, std: for each channel, on the 0..1
    scale, estimated from a sample of the training part. buffer: examples that a shuffled epoch
    holds, undecoded, to draw the next one from.
    """

    paths: tuple[str, ...]
    counts: tuple[int, ...]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    name: str
    split: str
    image_size: int
    channels: int
    buffer: int = BUFFER
    attributes: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(self.counts)

    def stream(
        self, sizes: Sequence[int], shuffle: bool, seed: int, epoch: int, rank: int, world: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The process's share of batches of these ``sizes``: images and labels.

        Each process reads a span of the examples, in the order of the epoch's shards. It is as long
        as its shares, so a shard on a border is read by two processes, each example by one.
        """
        count = len(self.paths)
        generator = derived_generator(seed, "shards", epoch)
        order = torch.randperm(count, generator=generator) if shuffle else torch.arange(count)
        shares = [len(range(rank, size, world)) for size in sizes]
        start = sum(size // world * rank + min(size % world, rank) for size in sizes)
        examples = self._span(order.tolist(), start, start + sum(shares))
        if shuffle:
            generator = derived_generator(seed, "buffer", epoch, rank)
            examples = _shuffled(examples, self.buffer, generator)
        for share in shares:
            files, labels = zip(*islice(examples, share), strict=True)
            yield decode_all(files, self.image_size, self.channels), torch.tensor(labels)

    def _span(
        self, order: Sequence[int], start: int, stop: int
    ) -> Iterator[tuple[shard_file.File, int]]:
        """The examples from ``start`` to below ``stop`` of the shards in this order, undecoded."""
        before = 0
        for path, count in ((self.paths[index], self.counts[index]) for index in order):
            first, last = max(start - before, 0), min(stop - before, count)
            before += count
            found = 0
            for sample in islice(shard_file.read(path), first, last) if first < last else ():
                label = shard_file.label_of(sample, path, len(self.classes))
                yield shard_file.image_of(sample, path), label
                found += 1
            if found < last - first:
                raise UserError(
                    f"{path} holds fewer examples than the {count} that were counted: "
                    f"write or fetch it again, and remove {INDEX}"
                )


def _shuffled(items: Iterable, size: int, generator: torch.Generator) -> Iterator:
    """The same items; each is drawn from the ``size`` that came last and were not drawn yet."""
    buffer = []
    for item in items:
        buffer.append(item)
        if len(buffer) > size:
            yield _draw(buffer, generator)
    while buffer:
        yield _draw(buffer, generator)


def _draw(buffer: list, generator: torch.Generator):
    index = int(torch.randint(len(buffer), (), generator=generator))
    buffer[index], buffer[-1] = buffer[-1], buffer[index]
    return buffer.pop()


def find_parts(folder: Path) -> dict[str, list[Path]]:
    """{"train": paths, ...} of ``train-*.tar`` or ``train/*.tar``, and so on; else all are "train".

    Empty where the folder holds no shards. Archives that lie beside class folders are no shards.
    """
    tars = _tars(folder)
    named = {part: [path for path in tars if path.name.startswith(f"{part}-")] for part in PARTS}
    parts = {part: named[part] + _tars(folder / part) for part in PARTS}
    if any(parts.values()):
        return {part: paths for part, paths in parts.items() if paths}
    return {"train": tars} if tars else {}


def _tars(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    entries = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]
    if any(entry.is_dir() and entry.name not in PARTS for entry in entries):
        return []
    return [entry for entry in entries if entry.suffix == ".tar"]


class Chosen(NamedTuple):
    paths: tuple[str, ...]
    counts: tuple[int, ...]
    classes: tuple[str, ...]
    sample: list[shard_file.File]


def choose_shards(folder: Path, selection: Selection, sample: int) -> Chosen:
    """The shards of a split, and about ``sample`` images of the training part, undecoded.

    Validation is made of whole shards out of "train" unless it has its own. The counts are kept in
    an index, ``shards.json``, beside the shards; a shard is counted again when its size changes.
    The classes' names are from there, from the lines of ``classes.txt``, or else are numbers.
    Raises UserError where the split cannot be made.
    """
    if selection.limit is not None:
        raise UserError(
            "limit is not possible with shards, which are read in a row: "
            "name a folder with fewer of them"
        )
    parts = find_parts(folder)
    divide = "val" not in parts and selection.split != "test"
    wanted = ["train"] if divide else selection.split.split("+")
    if missing := [part for part in wanted if part not in parts]:
        raise UserError(
            f"{folder} has no shards {missing[0]}-*.tar, which the split {selection.split!r} needs"
        )
    index = update_index(folder, [path for paths in parts.values() for path in paths])
    counts = {
        path: index["shards"][_key(path, folder)]["examples"]
        for paths in parts.values()
        for path in paths
    }
    paths = [path for part in wanted for path in parts[part]]
    if divide and selection.split in ("train", "val"):
        paths = _divided(folder, paths, selection)
    training = {path: counts[path] for path in next(iter(parts.values()))}
    return Chosen(
        tuple(map(str, paths)),
        tuple(counts[path] for path in paths),
        _classes(folder, index),
        _sample(training, sample),
    )


def _divided(folder: Path, paths: list[Path], selection: Selection) -> list[Path]:
    """The training or the validation shards, one at the least in each."""
    if len(paths) < 2:
        raise UserError(
            f"{folder} has one shard, which cannot be divided into training and validation: "
            "write more and smaller ones, or add val-*.tar"
        )
    held = min(max(round(len(paths) * selection.val_fraction), 1), len(paths) - 1)
    generator = derived_generator(selection.seed, "validation")
    in_val = set(torch.randperm(len(paths), generator=generator)[:held].tolist())
    is_val = selection.split == "val"
    return [path for number, path in enumerate(paths) if (number in in_val) == is_val]


def _classes(folder: Path, index: dict) -> tuple[str, ...]:
    largest = max(shard["largest_label"] for shard in index["shards"].values())
    names = index["classes"]
    if not names and (folder / CLASSES).is_file():
        names = [line for line in (folder / CLASSES).read_text("utf-8").splitlines() if line]
    names = names or [str(label) for label in range(largest + 1)]
    if largest >= len(names):
        raise UserError(
            f"{folder} has an example of class {largest}, but names {len(names)} classes only"
        )
    if len(names) < 2:
        raise UserError(f"{folder} must hold examples of two or more classes, it holds 1")
    return tuple(names)


def _key(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _read_index(folder: Path) -> dict:
    try:
        index = json.loads((folder / INDEX).read_text("utf-8"))
        return {"classes": list(index["classes"]), "shards": dict(index["shards"])}
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or none of ours
        return {"classes": [], "shards": {}}


def update_index(folder: Path, paths: Sequence[Path], classes: Sequence[str] = ()) -> dict:
    """{"classes": names, "shards": {name: {"bytes", "examples", "largest_label"}}} of a folder.

    Shards that are new or of another size than before are counted. Where the folder cannot be
    written to, the index is not kept.
    """
    index = _read_index(folder)
    known = index["shards"]
    shards = {}
    for path in paths:
        name, size = _key(path, folder), path.stat().st_size
        entry = known.get(name, {})
        shards[name] = entry if entry.get("bytes") == size else shard_file.count_examples(path)
    updated = {"classes": list(classes) or index["classes"], "shards": shards}
    if updated != index:
        draft = folder / f".{INDEX}.{os.getpid()}"
        try:
            draft.write_text(json.dumps(updated, indent=1), "utf-8")
            draft.replace(folder / INDEX)
        except OSError:
            draft.unlink(missing_ok=True)
    return updated


def _sample(counts: dict[Path, int], wanted: int) -> list[shard_file.File]:
    """About ``wanted`` images of these shards, the same each time, spread over 32 of them."""
    paths = list(counts)
    chosen = np.unique(np.linspace(0, len(paths) - 1, SAMPLED).round().astype(int))
    found = []
    for path in (paths[index] for index in chosen):
        positions = np.linspace(0, counts[path] - 1, -(-wanted // len(chosen))).round()
        images = (entry for entry in shard_file.members(path) if entry[1] in shard_file.IMAGES)
        for position, (name, suffix, archive, member) in enumerate(images):
            if position in positions:
                content = archive.extractfile(member).read()
                found.append(shard_file.File(content, f"{path}: {name}.{suffix}"))
    return found


def write(dataset, folder: str | Path, per_shard: int = 1000, seed: int = 0) -> list[Path]:
    """Write a set as shards ``train-000000.tar`` (by its split) of ``per_shard`` examples, mixed.

    Files of a folder are copied as they are, images in memory become PNG. Returns the paths.
    Raises UserError where the folder has shards of this split, or per_shard is below 1.
    """
    if per_shard < 1:
        raise UserError(f"per_shard must be 1 or more, got {per_shard}")
    folder, part = Path(folder), dataset.split.split("+")[0]
    folder.mkdir(parents=True, exist_ok=True)
    if part in find_parts(folder):
        raise UserError(f"{folder} has shards of {part} already: choose another folder")
    names = _read_index(folder)["classes"]
    if names and names != list(dataset.classes):
        raise UserError(
            f"{folder} holds the classes {', '.join(names)}, not {', '.join(dataset.classes)}: "
            "choose another folder"
        )
    # Mixed, since a buffer of examples cannot mix shards that hold one class each.
    order = torch.randperm(len(dataset), generator=derived_generator(seed, "write"))
    written = []
    for number, indices in enumerate(order.split(per_shard)):
        written.append(folder / f"{part}-{number:06}.tar")
        with shard_file.webdataset_library().TarWriter(str(written[-1]), mtime=0) as writer:
            for index in indices.tolist():
                suffix, content = shard_file.encoded(dataset, index)
                label = str(int(dataset.labels[index])).encode()
                writer.write({"__key__": f"{index:09}", suffix: content, shard_file.LABEL: label})
    paths = [path for each in find_parts(folder).values() for path in each]
    update_index(folder, paths, dataset.classes)
    return written
