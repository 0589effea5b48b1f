"""The embedded file: made again byte for byte, and the rule that chooses its images."""

import gzip
import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from resnet_lib import data

TOOL = Path(__file__).parent.parent / "tools" / "make_fashion.py"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("make_fashion", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def write_set(folder, parts, compress=False):
    """Four idx files; returns their SHA-256 by name."""
    folder.mkdir(parents=True, exist_ok=True)
    sums = {}
    for part, (images, labels) in parts.items():
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            name, content = f"{part}-{kind}-ubyte", idx(array)
            sums[name] = hashlib.sha256(content).hexdigest()
            if compress:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name).write_bytes(content)
    return sums


@pytest.fixture
def parts():
    """Three classes; image 0 of the test part and image 7 of the training part repeat image 1."""
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 3, (60, 4, 4)) * 100, np.arange(60) % 3
    test_images, test_labels = random.integers(0, 3, (24, 4, 4)) * 100, (np.arange(24) + 1) % 3
    images[7] = images[1]
    test_images[0] = images[1]
    return {
        "train": (images.astype(np.uint8), labels.astype(np.uint8)),
        "t10k": (test_images.astype(np.uint8), test_labels.astype(np.uint8)),
    }


def unpack(content, count, pixels=16):
    labels, bits, values = np.split(
        np.frombuffer(content, np.uint8), [count, count + count * pixels // 8]
    )
    images = np.zeros(count * pixels, np.uint8)
    images[np.unpackbits(bits).astype(bool)] = values
    return images.reshape(count, pixels), labels


def test_the_file_is_made_again_byte_for_byte(tool, tmp_path, capsys):
    if not DEBIAN.is_dir():
        pytest.skip("the full Fashion-MNIST is not here: install Debian's dataset-fashion-mnist")
    output = tmp_path / "fashion.bin"
    assert tool.main([str(DEBIAN), "--output", str(output)]) == 0
    assert output.read_bytes() == data.FASHION_FILE.read_bytes()
    assert data.FASHION_SHA256 in capsys.readouterr().out


def test_the_full_set_has_the_counts_that_the_file_is_said_to_have(tool):
    classes = 10
    assert tool.PER_CLASS["train"] * classes == data.FASHION_TRAIN == 10_000
    assert tool.PER_CLASS["t10k"] * classes == data.FASHION_TEST == 2_000
    assert data.FASHION_FILE.stat().st_size <= 6_000_000


@pytest.mark.parametrize("place", ["", "FashionMNIST/raw", "raw"])
@pytest.mark.parametrize("compress", [False, True])
def test_every_layout_gives_the_same_bytes(tool, parts, tmp_path, place, compress):
    sums = write_set(tmp_path / place, parts, compress)
    write_set(tmp_path / "reference", parts)
    counts = {"train": 10, "t10k": 5}
    expected = tool.make(tmp_path / "reference", counts, sums)
    assert tool.make(tmp_path, counts, sums) == expected


def test_chosen_images_are_balanced_distinct_and_come_from_their_own_part(tool, parts, tmp_path):
    sums = write_set(tmp_path, parts)
    images, labels = unpack(tool.make(tmp_path, {"train": 10, "t10k": 5}, sums), 45)
    assert np.bincount(labels[:30]).tolist() == [10, 10, 10]
    assert np.bincount(labels[30:]).tolist() == [5, 5, 5]
    known = {
        part: {image.tobytes() + bytes([label]) for image, label in zip(*arrays, strict=True)}
        for part, arrays in parts.items()
    }
    pairs = [image.tobytes() + bytes([label]) for image, label in zip(images, labels, strict=True)]
    assert set(pairs[:30]) <= known["train"] and set(pairs[30:]) <= known["t10k"]
    assert len({image.tobytes() for image in images}) == 45


def test_of_equal_images_the_first_stays_in_the_training_part(tool, parts):
    repeated = parts["train"][0][1].tobytes()
    # Classes of 20 and of 8 images: without the repeated one, class 1 has one less in both parts.
    seen = set()
    images, _ = tool.choose(*parts["train"], 19, seen)
    assert sum(image.tobytes() == repeated for image in images) <= 1
    with pytest.raises(SystemExit, match="class 1 has 19 images, 20 are needed"):
        tool.choose(*parts["train"], 20, set())
    test_images, _ = tool.choose(*parts["t10k"], 7, set(seen))
    assert repeated not in {image.tobytes() for image in test_images}
    with pytest.raises(SystemExit, match="class 1 has 7 images, 8 are needed"):
        tool.choose(*parts["t10k"], 8, set(seen))


def test_the_order_of_the_full_set_plays_no_part(tool, parts, tmp_path):
    order = np.random.default_rng(1).permutation(60)
    shuffled = {**parts, "train": tuple(array[order] for array in parts["train"])}
    counts = {"train": 10, "t10k": 5}
    made = [
        tool.make(folder, counts, write_set(folder, contents))
        for folder, contents in ((tmp_path / "a", parts), (tmp_path / "b", shuffled))
    ]
    assert made[0] == made[1]


def test_a_changed_file_is_refused(tool, parts, tmp_path):
    sums = write_set(tmp_path, parts)
    path = tmp_path / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + b"\x09")
    with pytest.raises(SystemExit, match=r"t10k-labels.*SHA-256 differs"):
        tool.make(tmp_path, {"train": 10, "t10k": 5}, sums)


def test_a_damaged_archive_is_refused(tool, parts, tmp_path):
    sums = write_set(tmp_path, parts, compress=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SystemExit, match=r"train-images.*is damaged"):
        tool.make(tmp_path, {"train": 10, "t10k": 5}, sums)


def test_a_missing_file_is_named(tool, tmp_path):
    with pytest.raises(SystemExit, match="train-images-idx3-ubyte or"):
        tool.main([str(tmp_path), "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_no_image_of_the_file_is_there_twice():
    images, _ = data._read_fashion()
    assert len({image.numpy().tobytes() for image in images}) == len(images)


def test_the_licence_lies_beside_the_file():
    notice = (data.FASHION_FILE.parent / "LICENSE").read_text(encoding="utf-8")
    assert "Copyright © 2017 Zalando SE" in notice and "WITHOUT WARRANTY" in notice
