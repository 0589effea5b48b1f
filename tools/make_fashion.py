"""Make resnet_lib/fashion/fashion.bin again from the full Fashion-MNIST, byte for byte.

    python tools/make_fashion.py /usr/share/datasets/fashion-mnist
    python tools/make_fashion.py DIR        (DIR: the `root` given to torchvision's FashionMNIST)

The rule. Of images that are equal in every pixel the first stays, the training part before the
test part. In each class the images are ordered by the SHA-256 of a seed and their pixels, and the
first 1,000 of the training part and the first 200 of the test part are taken. The hash also orders
the file, so neither the order of the full set nor a random generator's version plays a part.

The file, all bytes: the labels; one bit a pixel (is it above zero?), most significant bit first;
the values of the pixels above zero. About half the pixels are zero. A general compressor would save
another fifth, but its bytes differ between versions of its library.
"""

import argparse
import gzip
import hashlib
import sys
from pathlib import Path

import numpy as np

SEED = b"resnet_lib fashion 0"
PER_CLASS = {"train": 1000, "t10k": 200}
# Of the unpacked files: how well they were compressed differs between the sources.
SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
OUTPUT = Path(__file__).resolve().parent.parent / "resnet_lib" / "fashion" / "fashion.bin"


def read_idx(source: Path, name: str, sha256: str) -> np.ndarray:
    """The array in an idx file, plain or gzipped, in the folder or in torchvision's below it.

    Raises SystemExit where the file is missing or its unpacked bytes are not those expected.
    """
    folders = (source, source / "FashionMNIST" / "raw", source / "raw")
    paths = [folder / (name + end) for folder in folders for end in ("", ".gz")]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise SystemExit(
            f"{name} or {name}.gz is neither in {source} nor in FashionMNIST/raw there"
        )
    content = path.read_bytes()
    try:
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError) as error:
        raise SystemExit(f"{path} is damaged: {error}") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise SystemExit(f"{path} is not the file expected: its SHA-256 differs")
    shape = np.frombuffer(content, ">u4", count=content[3], offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)


def choose(
    images: np.ndarray, labels: np.ndarray, per_class: int, seen: set[bytes]
) -> tuple[np.ndarray, np.ndarray]:
    """The chosen images and labels of one part; ``seen`` gathers the pixels met so far.

    Raises SystemExit where a class has too few distinct images.
    """
    first: list[tuple[bytes, int]] = []
    for index, image in enumerate(images):
        pixels = image.tobytes()
        if pixels not in seen:
            seen.add(pixels)
            first.append((hashlib.sha256(SEED + pixels).digest(), index))
    ordered = np.array([index for _, index in sorted(first)], np.int64)
    chosen = np.zeros(len(images), bool)
    for label in np.unique(labels):
        candidates = ordered[labels[ordered] == label]
        if len(candidates) < per_class:
            raise SystemExit(f"class {label} has {len(candidates)} images, {per_class} are needed")
        chosen[candidates[:per_class]] = True
    kept = ordered[chosen[ordered]]
    return images[kept], labels[kept]


def pack(images: np.ndarray, labels: np.ndarray) -> bytes:
    """(N, H, W) and (N,) bytes -> the file's bytes. resnet_lib.data unpacks them."""
    return labels.tobytes() + np.packbits(images > 0).tobytes() + images[images > 0].tobytes()


def make(source: Path, per_class: dict[str, int] = PER_CLASS, sha256: dict = SHA256) -> bytes:
    """The file's bytes: the training part, then the test part."""
    seen: set[bytes] = set()
    parts = []
    for part, count in per_class.items():
        names = (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte")
        images, labels = (read_idx(source, name, sha256[name]) for name in names)
        parts.append(choose(images, labels, count, seen))
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return pack(images, labels)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path, help="folder with the four files of Fashion-MNIST")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="default: %(default)s")
    options = parser.parse_args(arguments)
    content = make(options.source)
    options.output.write_bytes(content)
    print(
        f"{options.output}: {len(content):,} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
