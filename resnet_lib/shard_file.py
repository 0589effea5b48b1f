"""One shard: a tar file of the WebDataset format, read, counted and written.

It holds for each example a file with the image and one with the number of its class, next to each
other and of one name: ``0007.jpg`` and ``0007.cls``. The library webdataset reads the tar files.
"""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from resnet_lib import UserError
from resnet_lib.folders import FolderSet

IMAGES = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "ppm", "tif", "tiff")
LABEL = "cls"
END = bytes(1024)  # of a whole tar file


class File(io.BytesIO):
    """A file of a shard, which says where it is from."""

    def __init__(self, content: bytes, name: str):
        super().__init__(content)
        self.name = name

    def __str__(self) -> str:
        return self.name


def webdataset_library():
    """The module webdataset, an extra of this package. Raises UserError where it is missing."""
    try:
        import webdataset
        import webdataset.tariterators
    except ImportError as error:
        raise UserError(
            f"shards need the library webdataset ({error}): pip install webdataset"
        ) from None
    return webdataset


def read(path: str) -> Iterator[dict]:
    """The examples of a tar file, each {"__key__": name, suffix: bytes, ...}, as they lie there.

    Raises UserError where the file is damaged.
    """
    tars = webdataset_library().tariterators
    with _opened(path) as file:
        samples = tars.group_by_keys(tars.tar_file_expander([{"url": path, "stream": file}]))
        while True:
            try:
                sample = next(samples, None)
            except (tarfile.TarError, OSError, EOFError) as error:
                raise UserError(f"{path} is damaged: write or fetch it again") from error
            except ValueError as error:  # the library's word for a name that comes twice
                raise UserError(f"{path}: {str(error.args[0]).splitlines()[0]}") from error
            if sample is None:
                return
            yield sample


def _opened(path: str) -> io.BufferedReader:
    try:
        return open(path, "rb")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def image_of(sample: dict, path: str) -> File:
    """The image file of an example that ``read`` gave. Raises UserError where there is none."""
    for suffix in IMAGES:
        if suffix in sample:
            return File(sample[suffix], f"{path}: {sample['__key__']}.{suffix}")
    raise _incomplete(path, sample["__key__"], "image")


def label_of(sample: dict, path: str, classes: int | None = None) -> int:
    """The class of an example. Raises UserError where there is none or it is not below classes."""
    if LABEL not in sample:
        raise _incomplete(path, sample["__key__"], LABEL)
    text = sample[LABEL].decode(errors="replace").strip()
    if not (text.isdecimal() and (classes is None or int(text) < classes)):
        known = "" if classes is None else f" from 0 to {classes - 1}"
        raise UserError(
            f"{path}: {sample['__key__']}.{LABEL} must hold the number of a class{known}, "
            f"it holds {text[:20]!r}"
        )
    return int(text)


def _incomplete(path: str, name: str, lacking: str) -> UserError:
    names = [f".{suffix}" for suffix in ((LABEL,) if lacking == LABEL else IMAGES)]
    return UserError(f"{path}: the example {name} has no {lacking} file ({', '.join(names)})")


def members(path: Path) -> Iterator[tuple[str, str, tarfile.TarFile, tarfile.TarInfo]]:
    """Name and suffix of each file, found by hopping from header to header, without the content."""
    split_name = webdataset_library().tariterators.base_plus_ext
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name, suffix = split_name(member.name)
                if member.isreg() and name is not None:
                    yield name, suffix.lower(), archive, member
                archive.members = []  # else it would remember every header
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UserError(f"{path} is damaged: write or fetch it again") from error


def count_examples(path: Path) -> dict[str, int]:
    """What the index says of a shard. Raises UserError where an example lacks one of its files."""
    with _opened(str(path)) as file:
        file.seek(max(path.stat().st_size - len(END), 0))
        if file.read() != END:
            raise UserError(f"{path} is damaged: it is cut short; write or fetch it again")
    labels, images = {}, set()
    for name, suffix, archive, member in members(path):
        if suffix == LABEL:
            sample = {"__key__": name, LABEL: archive.extractfile(member).read()}
            labels[name] = label_of(sample, str(path))
        elif suffix in IMAGES:
            images.add(name)
    if odd := sorted(images ^ labels.keys()):
        raise _incomplete(str(path), odd[0], LABEL if odd[0] in images else "image")
    if not labels:
        raise UserError(f"{path} holds no example: remove it or write it again")
    size = path.stat().st_size
    return {"bytes": size, "examples": len(labels), "largest_label": max(labels.values())}


def encoded(dataset, index: int) -> tuple[str, bytes]:
    """Suffix and content of an image's file: that of a folder as it is, pixels in memory as PNG."""
    if isinstance(dataset, FolderSet):
        path = Path(dataset.paths[index])
        if (suffix := path.suffix[1:].lower()) in IMAGES:
            return suffix, path.read_bytes()
    pixels = dataset.read([index])[0].permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG")
    return "png", buffer.getvalue()
