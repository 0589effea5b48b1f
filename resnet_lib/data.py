"""Images with labels: the embedded Fashion-MNIST subset, generated shapes, downloads, any folder.

``load`` returns an ``ImageSet`` (in memory) or a ``FolderSet`` (decoded when read), which have the
same protocol, or a ``ShardSet`` (read in a row). Images are uint8 everywhere;
``augment.normalize`` makes them floats on the device.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from resnet_lib import UserError, folders, scaled_shapes, shards
from resnet_lib.batches import batches, count_batches
from resnet_lib.folders import FolderSet
from resnet_lib.shards import ShardSet
from resnet_lib.splits import Selection, derived_generator

__all__ = ["FolderSet", "ImageSet", "ShardSet", "batches", "count_batches", "load", "subset"]

FASHION_FILE = Path(__file__).parent / "fashion" / "fashion.bin"
FASHION_SHA256 = "85c825f86ec8b74d94104bd82e501a926eb1349b0aff194dc0773925e6c6c6b0"
FASHION_CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
                   "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")  # fmt: skip
FASHION_TRAIN, FASHION_TEST = 10_000, 2_000
SHAPES_TRAIN, SHAPES_TEST = 5_000, 1_000
STATISTICS_SAMPLE = 256  # images that mean and std are taken from where there is no whole set
GREY = (0.299, 0.587, 0.114)  # weights of R, G, B as Pillow has them, ITU-R BT.601


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images in memory.

    images: uint8 (N, C, H, W). labels: int64 (N,). mean, std: for each channel, on the 0..1 scale,
    of the training part, the same for every split. attributes: more facts, tensors of N rows.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    name: str
    split: str
    attributes: dict[str, Tensor] = field(default_factory=dict)

    @property
    def channels(self) -> int:
        return self.images.shape[1]

    @property
    def image_size(self) -> int:
        return self.images.shape[-1]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]

    def read(self, indices: Tensor | Sequence[int]) -> Tensor:
        """uint8 (n, C, H, W), in the order of the indices."""
        return self.images[torch.as_tensor(indices)]


@dataclass(frozen=True)
class _Request:
    """What ``load`` was asked for."""

    selection: Selection
    image_size: int | None
    channels: int | None
    root: Path
    download: bool
    strict: bool


def load(
    name_or_folder: str | Path,
    split: str = "train",
    *,
    limit: int | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    seed: int = 0,
    root: str | Path | None = None,
    download: bool = False,
    strict: bool = False,
    val_fraction: float = 0.1,
    **options,
) -> ImageSet | FolderSet | ShardSet:
    """One split of "fashion", "scaled-shapes", "cifar10", "imagenette" or a folder.

    A folder holds images, in a sub-folder for each class, or shards: tar files, see shards.py.

    split: "train" (without the validation part), "val", "train+val" or "test". Validation is a
    part ``val_fraction`` of the training part, stratified and fixed by ``seed``, unless a folder
    has its own. Imagenette's "val" folder is the test here.
    limit: number of images, balanced over the classes and fixed by ``seed``. Default: all; for
    scaled-shapes 5,000 in training and validation together and 1,000 in the test.
    image_size: pixels. Default: 32 for fashion (28, and 2 of zeros around) and cifar10, 64 for
    scaled-shapes, 224 for imagenette and folders. From files, the shorter side is brought to it and
    the centre cropped.
    channels: 1 or 3. Default: 1 for fashion, else 3.
    root: where downloads are kept. Default: $RESNET_LIB_DATA, or ~/.cache/resnet_lib. Nothing is
    fetched without ``download=True``.
    strict: refuse unreadable files instead of skipping them with a warning.
    options: ``sizes`` of scaled-shapes in pixels; ``size`` of imagenette, "full", "320px" or
    "160px" (the default); ``buffer`` of shards, the examples that a shuffled epoch draws from.
    Raises UserError on whatever the user can put right.
    """
    if channels not in (None, 1, 3):
        raise UserError(f"channels must be 1 (grey) or 3 (colour), got {channels}")
    if image_size is not None and image_size < 1:
        raise UserError(f"image_size must be 1 or more, got {image_size}")
    selection = Selection(split, limit, seed, val_fraction)
    root = Path(root or os.environ.get("RESNET_LIB_DATA") or "~/.cache/resnet_lib").expanduser()
    request = _Request(selection, image_size, channels, root, download, strict)
    loader, known = LOADERS.get(str(name_or_folder)) or _folder_loader(Path(name_or_folder))
    if unknown := sorted(set(options) - set(known)):
        has = f"its options are {', '.join(known)}" if known else "it has no options of its own"
        raise UserError(f"{name_or_folder} has no option {unknown[0]!r}: {has}")
    return loader(request, **options)


def _folder_loader(folder: Path) -> tuple[Callable, tuple[str, ...]]:
    """What loads from it, and the names of that loader's own options."""
    place = folder.expanduser()
    if not place.exists():
        raise UserError(
            f"data must be one of {', '.join(LOADERS)} or a folder; "
            f"there is no folder {str(folder)!r}"
        )
    name = place.resolve().name
    if shards.find_parts(place):
        return partial(_shards, name, place), ("buffer",)
    return partial(_folder, name, folders.find_parts(place)), ()


def _statistics(batches: Iterable[Tensor]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, on the 0..1 scale, from level counts."""
    counts = sum(
        torch.stack([torch.bincount(part.flatten(), minlength=256) for part in images.unbind(1)])
        for images in batches
    ).double()
    levels, total = torch.arange(256, dtype=torch.double), counts.sum(1)
    mean = counts @ levels / total
    # At least one grey level: a channel that is the same everywhere would divide by zero.
    std = (counts @ levels.square() / total - mean.square()).clamp(min=1).sqrt()
    return tuple((mean / 255).tolist()), tuple((std / 255).tolist())


@lru_cache(maxsize=1)
def _read_fashion() -> tuple[Tensor, Tensor]:
    """Images uint8 (12,000, 1, 28, 28) and labels. tools/make_fashion.py tells the layout."""
    count, pixels = FASHION_TRAIN + FASHION_TEST, 28 * 28
    content = FASHION_FILE.read_bytes() if FASHION_FILE.is_file() else b""
    if hashlib.sha256(content).hexdigest() != FASHION_SHA256:
        raise UserError(f"{FASHION_FILE} is damaged or missing: install resnet_lib again")
    content = np.frombuffer(content, np.uint8)
    labels, bits, values = np.split(content, [count, count + count * pixels // 8])
    images = np.zeros(count * pixels, np.uint8)
    images[np.unpackbits(bits).view(bool)] = values
    labels = torch.from_numpy(labels.astype(np.int64))
    return torch.from_numpy(images).view(-1, 1, 28, 28), labels


def _fashion(request: _Request) -> ImageSet:
    images, labels = _read_fashion()
    if request.image_size in (None, 32):
        images = F.pad(images, (2, 2, 2, 2))
    train, test = slice(FASHION_TRAIN), slice(FASHION_TRAIN, None)
    part = test if request.selection.split == "test" else train
    return _in_memory(
        "fashion", images[part], labels[part], FASHION_CLASSES, images[train], request
    )


def _cifar10(request: _Request) -> ImageSet:
    from torchvision import datasets  # here and below: it takes as long as torch itself

    source = datasets.CIFAR10
    make = partial(source, request.root)
    train = _obtain("cifar10", make, source.url, source.tgz_md5, request)
    part = make(train=False) if request.selection.split == "test" else train
    images, everything = (torch.from_numpy(s.data).permute(0, 3, 1, 2) for s in (part, train))
    labels, classes = torch.tensor(part.targets), tuple(train.classes)
    return _in_memory("cifar10", images, labels, classes, everything, request)


def _in_memory(
    name: str, images: Tensor, labels: Tensor, classes: tuple, training: Tensor, request: _Request
) -> ImageSet:
    """The chosen images of a part, resized, in the channels asked for.

    The statistics are those of all ``training`` images, before they are resized.
    """
    selection = request.selection
    selection.check_limit(classes)
    indices = torch.from_numpy(selection.pick(labels.numpy(), divide=selection.split != "test"))
    chosen, size = images[indices], request.image_size or images.shape[-1]
    if size != chosen.shape[-1]:
        chosen = F.interpolate(chosen, size=(size, size), mode="bilinear", antialias=True)
    channels = request.channels or images.shape[1]
    mean, std = _statistics(_in_channels(part, channels) for part in training.split(1000))
    chosen = _in_channels(chosen, channels)
    return ImageSet(chosen, labels[indices], classes, mean, std, name, selection.split)


def _in_channels(images: Tensor, channels: int) -> Tensor:
    """Grey repeated to colour, or colour weighted to grey; else as they are."""
    if images.shape[1] == channels:
        return images.contiguous()
    if channels == 3:
        return images.repeat(1, 3, 1, 1)
    weights = torch.tensor(GREY).view(3, 1, 1)
    return (images * weights).sum(1, keepdim=True).round().to(torch.uint8)


def _scaled_shapes(request: _Request, sizes: Sequence[float] | None = None) -> ImageSet:
    """Training, validation and test are drawn apart; "train+val" is the first two in a row."""
    selection, classes = request.selection, scaled_shapes.CLASSES
    selection.check_limit(classes)
    split = selection.split
    total = selection.limit or (SHAPES_TEST if split == "test" else SHAPES_TRAIN)
    spans = {split: (0, total)}
    if split == "train+val" or (selection.limit is None and split != "test"):
        train = total - round(total * selection.val_fraction)
        spans = {"train": (0, train), "val": (train, total)}

    def draw(part: str, start: int, stop: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        generator = derived_generator(selection.seed, "scaled-shapes", part)
        options = {"image_size": request.image_size or 64, "sizes": sizes, "start": start}
        images, *others = scaled_shapes.generate(stop - start, generator, **options)
        return _in_channels(images, request.channels or 3), *others

    drawn = [draw(part, *span) for part, span in spans.items() if part in split.split("+")]
    images, labels, facts = zip(*drawn, strict=True)
    facts = {key: torch.cat([part[key] for part in facts]) for key in facts[0]}
    images, labels = torch.cat(images), torch.cat(labels)
    mean, std = _statistics([draw("train", 0, STATISTICS_SAMPLE)[0]])
    return ImageSet(images, labels, classes, mean, std, "scaled-shapes", split, facts)


def _imagenette(request: _Request, size: str = "160px") -> FolderSet:
    from torchvision import datasets

    archives = datasets.Imagenette._ARCHIVES
    if size not in archives:
        raise UserError(f"size of imagenette must be one of {', '.join(archives)}, got {size!r}")
    make = partial(datasets.Imagenette, request.root, size=size)
    source = _obtain("imagenette", make, *archives[size], request)
    folder = request.root / Path(archives[size][0]).stem
    parts = {"train": folder / "train", "test": folder / "val"}  # "val" is the public benchmark
    return _folder("imagenette", parts, request, tuple(names[0] for names in source.classes))


def _obtain(name: str, make: Callable, url: str, md5: str, request: _Request):
    """torchvision's data set: from disk, from an archive put there by hand, or from the net."""
    from torchvision.datasets.utils import check_integrity

    archive = request.root / Path(url).name
    by_hand = f"fetch {url} by hand and put it into {archive.parent}"
    try:
        return make()
    except RuntimeError:  # torchvision's word for files that are missing or damaged
        if not request.download and not check_integrity(str(archive), md5):
            state = "is damaged" if archive.exists() else "is missing"
            remedy = f"pass download=True, or {by_hand}"
            raise UserError(f"{name}: {archive} {state}: {remedy}") from None
    try:
        return make(download=True)
    except (OSError, RuntimeError, EOFError) as error:
        raise UserError(f"{name}: {url} could not be fetched ({error}): {by_hand}") from error


def _shards(name: str, folder: Path, request: _Request, buffer: int = shards.BUFFER) -> ShardSet:
    chosen = shards.choose_shards(folder, request.selection, STATISTICS_SAMPLE)
    size, channels = request.image_size or 224, request.channels or 3
    mean, std = _statistics([folders.decode_all(chosen.sample, min(size, 224), channels)])
    return ShardSet(
        chosen.paths,
        chosen.counts,
        chosen.classes,
        mean,
        std,
        name,
        request.selection.split,
        size,
        channels,
        buffer,
    )


def _folder(
    name: str, parts: dict[str, Path], request: _Request, names: tuple[str, ...] = ()
) -> FolderSet:
    """A split of an image folder; ``names`` are the classes' names where the folders' are not."""
    classes = folders.find_classes(parts)
    request.selection.check_limit(classes)
    chosen = folders.choose_files(name, parts, classes, request.selection, request.strict)
    size, channels = request.image_size or 224, request.channels or 3
    sample = folders.sample_files(parts, classes, STATISTICS_SAMPLE)
    mean, std = _statistics([folders.decode_all(sample, min(size, 224), channels)])
    return FolderSet(
        chosen.paths,
        chosen.labels,
        names or classes,
        mean,
        std,
        name,
        request.selection.split,
        size,
        channels,
        chosen.skipped,
    )


LOADERS = {
    "fashion": (_fashion, ()),
    "scaled-shapes": (_scaled_shapes, ("sizes",)),
    "cifar10": (_cifar10, ()),
    "imagenette": (_imagenette, ("size",)),
}


def subset(data: ImageSet | FolderSet, indices: Tensor | Sequence[int]) -> ImageSet | FolderSet:
    """The same kind of set with these images, in this order. A mask of booleans serves as well."""
    if isinstance(data, ShardSet):
        raise UserError("shards are read in a row, so they have no subset: use fewer shards")
    indices = torch.as_tensor(indices)
    indices = indices.nonzero().flatten() if indices.dtype == torch.bool else indices.long()
    attributes = {key: values[indices] for key, values in data.attributes.items()}
    if isinstance(data, ImageSet):
        content = {"images": data.images[indices]}
    else:
        content = {"paths": [data.paths[index] for index in indices.tolist()]}
    return replace(data, labels=data.labels[indices], attributes=attributes, **content)
