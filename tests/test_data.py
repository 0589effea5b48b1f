"""Loading: the embedded images, generated shapes, downloads from a local server, batches."""

import hashlib
import http.server
import io
import pickle
import socket
import subprocess
import sys
import tarfile
import threading
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision import datasets
from toys import numbered

from resnet_lib import UserError, data, scaled_shapes
from resnet_lib.splits import SPLITS


def rows(images):
    """A set to compare images by."""
    return {image.numpy().tobytes() for image in images}


# ---------------------------------------------------------------- fashion


@pytest.fixture(scope="module")
def fashion():
    return {split: data.load("fashion", split) for split in SPLITS}


def test_fashion_has_the_counts_it_is_said_to_have(fashion):
    counts = {split: len(found) for split, found in fashion.items()}
    assert counts == {"train": 9000, "val": 1000, "train+val": 10_000, "test": 2000}
    for split, found in fashion.items():
        assert torch.bincount(found.labels).tolist() == [len(found) // 10] * 10
        assert (found.images.dtype, found.labels.dtype) == (torch.uint8, torch.int64)
        assert (found.channels, found.image_size) == found.images.shape[1:3] == (1, 32)
        assert (found.name, found.split) == ("fashion", split)
    assert fashion["test"].classes[9] == "Ankle boot"


def test_no_image_of_fashion_crosses_a_border(fashion):
    sets = {split: rows(found.images) for split, found in fashion.items()}
    assert not sets["train"] & sets["val"]
    assert not sets["train+val"] & sets["test"]
    assert sets["train"] | sets["val"] == sets["train+val"]


def test_fashion_labels_belong_to_the_images(fashion):
    """A nearest class mean knows four in five; with shuffled labels it would know one in ten."""
    train, test = fashion["train"], fashion["test"]
    means = torch.stack([train.images[train.labels == k].float().mean(0) for k in range(10)])
    distances = torch.cdist(test.images.float().flatten(1), means.flatten(1))
    assert (distances.argmin(1) == test.labels).float().mean() > 0.6


def test_fashion_is_padded_with_two_pixels_of_zeros(fashion):
    native = data.load("fashion", "test", image_size=28)
    assert torch.equal(F.pad(native.images, (2, 2, 2, 2)), fashion["test"].images)
    assert native.images[..., 0, :].any() or native.images[..., :, 0].any()


def test_fashion_statistics_are_those_of_the_training_images(fashion):
    pixels = fashion["train+val"].images.numpy() / 255
    for found in fashion.values():
        assert found.mean == pytest.approx((pixels.mean(),), rel=1e-12)
        assert found.std == pytest.approx((pixels.std(),), rel=1e-9)
    native = data.load("fashion", "train+val", image_size=28).images.numpy() / 255
    for size in (28, 64):
        found = data.load("fashion", "test", image_size=size, limit=10)
        assert found.mean == pytest.approx((native.mean(),), rel=1e-12)


def test_fashion_resized_and_in_colour(fashion):
    found = data.load("fashion", "test", image_size=56, channels=3, limit=30)
    assert (found.images.shape, found.images.dtype) == ((30, 3, 56, 56), torch.uint8)
    assert torch.equal(found.images[:, 0], found.images[:, 2])
    assert len(found.mean) == len(found.std) == 3
    native = data.load("fashion", "test", image_size=28, limit=30)
    assert torch.equal(found.labels, native.labels)
    halved = F.avg_pool2d(found.images[:, :1].float(), 2)
    assert (halved - native.images).abs().mean() < 8


@pytest.mark.parametrize("damage", ["flip", "cut", "missing"])
def test_a_damaged_file_is_noticed(tmp_path, monkeypatch, damage):
    content = bytearray(data.FASHION_FILE.read_bytes())
    content[-1] ^= 1
    path = tmp_path / "fashion.bin"
    if damage != "missing":
        path.write_bytes(content if damage == "flip" else content[:-1])
    monkeypatch.setattr(data, "FASHION_FILE", path)
    data._read_fashion.cache_clear()
    try:
        with pytest.raises(UserError, match=r"fashion.bin is damaged or missing: install"):
            data.load("fashion")
    finally:
        data._read_fashion.cache_clear()


def test_what_a_user_does_to_the_images_stays_with_the_user():
    data.load("fashion", "test", image_size=28).images.zero_()
    data.load("fashion", "test").images.zero_()
    assert data.load("fashion", "test", image_size=28).images.any()


def test_limit_seed_and_val_fraction_reach_the_selection():
    found = data.load("fashion", "train", limit=105)
    assert sorted(torch.bincount(found.labels).tolist()) == [10] * 5 + [11] * 5
    assert rows(found.images) < rows(data.load("fashion", "train").images)
    assert not torch.equal(found.images, data.load("fashion", "train", limit=105, seed=1).images)
    assert len(data.load("fashion", "val", val_fraction=0.25)) == 2500


def test_loading_is_quick():
    data._read_fashion.cache_clear()
    start = time.process_time()
    data.load("fashion")
    assert time.process_time() - start < 2


# ---------------------------------------------------------------- scaled shapes


@pytest.fixture(scope="module")
def shapes():
    return {
        split: data.load("scaled-shapes", split, image_size=24, sizes=(6, 9)) for split in SPLITS
    }


def test_shapes_have_counts_and_attributes(shapes):
    counts = {split: len(found) for split, found in shapes.items()}
    assert counts == {"train": 4500, "val": 500, "train+val": 5000, "test": 1000}
    for found in shapes.values():
        assert torch.bincount(found.labels).tolist() == [len(found) // 10] * 10
        assert found.classes == scaled_shapes.CLASSES
        assert found.images.shape == (len(found), 3, 24, 24)
        assert set(found.attributes["size"].tolist()) == {6, 9}
        assert found.attributes["mask"].shape == (len(found), 24, 24)


def test_no_generated_image_crosses_a_border(shapes):
    sets = {split: rows(found.images) for split, found in shapes.items()}
    assert not sets["train"] & sets["val"]
    assert not sets["train+val"] & sets["test"]
    both = shapes["train+val"]
    for key, values in both.attributes.items():
        parts = [shapes[split].attributes[key] for split in ("train", "val")]
        assert torch.equal(torch.cat(parts), values)
    assert torch.equal(torch.cat([shapes["train"].images, shapes["val"].images]), both.images)


def test_shapes_statistics_are_the_same_for_every_split_and_about_right(shapes):
    assert len({(found.mean, found.std) for found in shapes.values()}) == 1
    pixels = shapes["train"].images.double() / 255
    assert shapes["test"].mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=0.03)
    assert shapes["test"].std == pytest.approx(pixels.std((0, 2, 3)).tolist(), abs=0.03)


@pytest.mark.parametrize("split", SPLITS)
def test_shapes_with_a_limit_are_balanced(split):
    found = data.load("scaled-shapes", split, limit=30, image_size=24)
    assert torch.bincount(found.labels).tolist() == [3] * 10


def test_splits_of_equal_numbers_are_drawn_apart_too():
    sets = [
        rows(data.load("scaled-shapes", split, limit=30, image_size=24).images)
        for split in ("train", "val", "test")
    ]
    assert len(set.union(*sets)) == 90


def test_shapes_by_seed_and_in_grey():
    first, again, other = (
        data.load("scaled-shapes", limit=20, image_size=24, seed=seed) for seed in (0, 0, 1)
    )
    assert torch.equal(first.images, again.images)
    assert not rows(first.images) & rows(other.images)
    grey = data.load("scaled-shapes", limit=20, image_size=24, channels=1)
    weighted = [
        np.asarray(Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L"), int)
        for image in first.images
    ]
    assert np.abs(grey.images[:, 0].numpy() - np.stack(weighted)).max() <= 1
    assert len(grey.mean) == 1


# ---------------------------------------------------------------- the user's mistakes


@pytest.mark.parametrize(
    "arguments, options, message",
    [
        (("mnist",), {}, "one of fashion, scaled-shapes, cifar10, imagenette or a folder"),
        (("fashion", "valid"), {}, r"one of train, val, train\+val, test, got 'valid'"),
        (("fashion",), {"limit": 9}, "limit must be at least 10"),
        (("fashion",), {"limit": 0}, "limit must be at least 10"),
        (("scaled-shapes",), {"limit": 9}, "limit must be at least 10"),
        (("fashion",), {"image_size": 0}, "image_size must be 1 or more, got 0"),
        (("fashion",), {"channels": 2}, "channels must be 1 .* or 3"),
        (("fashion",), {"val_fraction": 1.0}, "val_fraction must lie between 0 and 1"),
        (("fashion",), {"sizes": (8,)}, "fashion has no option 'sizes': it has no options"),
        (("scaled-shapes",), {"size": 8}, "no option 'size': its options are sizes"),
        (("scaled-shapes",), {"sizes": (60,)}, "needs image_size of at least 106, got 64"),
        (("imagenette",), {"size": "64px"}, "one of full, 320px, 160px, got '64px'"),
    ],
)
def test_each_mistake_gets_one_clear_line(arguments, options, message):
    with pytest.raises(UserError, match=message) as caught:
        data.load(*arguments, **options)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- downloads


@pytest.fixture
def server(tmp_path):
    """A local server of tmp_path/served; yields its address and the requests it got."""
    served, requests = tmp_path / "served", []
    served.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(served))

        def log_message(self, *_):
            if self.command == "GET":
                requests.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", served, requests
        running.shutdown()
        thread.join()


def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def md5(content):
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def tar(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def mini_cifar(monkeypatch, address):
    """An archive as CIFAR-10's, of 40 training and 20 test images, expected at the address."""
    names = [f"class {index}" for index in range(10)]
    source, random = datasets.CIFAR10, np.random.default_rng(0)
    files = {}
    for name, _ in source.train_list[:2] + source.test_list:
        content = {
            "data": random.integers(0, 256, (20, 3072), np.uint8),
            "labels": (np.arange(20) % 10).tolist(),
        }
        files[f"{source.base_folder}/{name}"] = pickle.dumps(content)
    files[f"{source.base_folder}/batches.meta"] = pickle.dumps({"label_names": names})
    archive = tar(files)

    def listed(names):
        return [[name, md5(files[f"{source.base_folder}/{name}"])] for name, _ in names]

    meta = {**source.meta, "md5": md5(files[f"{source.base_folder}/batches.meta"])}
    monkeypatch.setattr(source, "train_list", listed(source.train_list[:2]))
    monkeypatch.setattr(source, "test_list", listed(source.test_list))
    monkeypatch.setattr(source, "meta", meta)
    monkeypatch.setattr(source, "tgz_md5", md5(archive))
    monkeypatch.setattr(source, "url", f"{address}/{source.filename}")
    stacked = {
        part: np.concatenate([pickle.loads(files[f"{source.base_folder}/{n}"])["data"] for n in ns])
        for part, ns in (("train", ["data_batch_1", "data_batch_2"]), ("test", ["test_batch"]))
    }
    return archive, {part: a.reshape(-1, 3, 32, 32) for part, a in stacked.items()}


def mini_imagenette(monkeypatch, address):
    """An archive as Imagenette's at 160 px: 5 training and 2 benchmark images a class."""
    files = {}
    for part, count in (("train", 5), ("val", 2)):
        for label, wnid in enumerate(datasets.Imagenette._WNID_TO_CLASS):
            for index in range(count):
                buffer = io.BytesIO()
                Image.new("RGB", (20, 16), (20 * label, index, 0)).save(buffer, "PNG")
                files[f"imagenette2-160/{part}/{wnid}/{index}.JPEG"] = buffer.getvalue()
    archive = tar(files)
    entry = (f"{address}/imagenette2-160.tgz", md5(archive))
    archives = {**datasets.Imagenette._ARCHIVES, "160px": entry}
    monkeypatch.setattr(datasets.Imagenette, "_ARCHIVES", archives)
    return archive


def test_cifar10_by_download(server, tmp_path, monkeypatch):
    address, served, requests = server
    archive, arrays = mini_cifar(monkeypatch, address)
    (served / "cifar-10-python.tar.gz").write_bytes(archive)
    root = tmp_path / "root"
    train = data.load("cifar10", "train", root=root, download=True, val_fraction=0.25)
    fetched = len(requests)
    others = {split: data.load("cifar10", split, root=root) for split in ("train+val", "test")}
    assert len(requests) == fetched > 0  # once is enough
    assert len(train) == 30 and torch.bincount(train.labels).tolist() == [3] * 10
    assert np.array_equal(others["train+val"].images, arrays["train"])
    assert np.array_equal(others["test"].images, arrays["test"])
    assert train.classes == tuple(f"class {index}" for index in range(10))
    for found in (train, *others.values()):
        assert found.mean == pytest.approx((arrays["train"] / 255).mean((0, 2, 3)))
        assert found.std == pytest.approx((arrays["train"] / 255).std((0, 2, 3)))
    part = data.load("cifar10", "test", root=root, limit=10, image_size=16, channels=1)
    assert part.images.shape == (10, 1, 16, 16)


def test_imagenette_by_download(server, tmp_path, monkeypatch):
    address, served, requests = server
    (served / "imagenette2-160.tgz").write_bytes(mini_imagenette(monkeypatch, address))
    root = tmp_path / "root"
    train = data.load("imagenette", root=root, download=True, image_size=16, val_fraction=0.2)
    fetched = len(requests)
    test = data.load("imagenette", "test", root=root, image_size=16)
    val = data.load("imagenette", "val", root=root, image_size=16, val_fraction=0.2)
    assert len(requests) == fetched > 0  # once is enough
    assert (len(train), len(val), len(test)) == (40, 10, 20)
    assert (train.classes[0], train.name) == ("tench", "imagenette")
    assert (test.read(torch.arange(20))[:, 0, 0, 0] == 20 * test.labels).all()
    assert not set(val.paths) & set(train.paths)


def test_the_environment_tells_where_downloads_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("RESNET_LIB_DATA", str(tmp_path / "there"))
    with pytest.raises(UserError, match=r"there.cifar-10-python.tar.gz is missing"):
        data.load("cifar10")
    monkeypatch.delenv("RESNET_LIB_DATA")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    with pytest.raises(UserError, match=r"\.cache.resnet_lib.cifar-10-python.tar.gz is missing"):
        data.load("cifar10")


@pytest.mark.parametrize(
    "name, filename", [("cifar10", "cifar-10-python.tar.gz"), ("imagenette", "imagenette2-160.tgz")]
)
class TestNoDownload:
    @staticmethod
    def prepare(name, monkeypatch, address):
        mini = {"cifar10": mini_cifar, "imagenette": mini_imagenette}[name](monkeypatch, address)
        return mini[0] if name == "cifar10" else mini

    def test_nothing_is_fetched_unasked(self, server, tmp_path, monkeypatch, name, filename):
        address, served, requests = server
        (served / filename).write_bytes(self.prepare(name, monkeypatch, address))
        with pytest.raises(UserError, match="is missing: pass download=True") as caught:
            data.load(name, root=tmp_path / "root")
        assert not requests
        for part in (filename, f"{address}/{filename}", str(tmp_path / "root")):
            assert part in str(caught.value)

    def test_an_archive_put_there_by_hand_is_used(
        self, server, tmp_path, monkeypatch, name, filename
    ):
        address, _, requests = server
        archive = self.prepare(name, monkeypatch, address)
        (tmp_path / filename).write_bytes(archive)
        assert len(data.load(name, "test", root=tmp_path)) == 20
        assert not requests

    def test_a_damaged_archive_is_not_used(self, server, tmp_path, monkeypatch, name, filename):
        address, _, requests = server
        archive = self.prepare(name, monkeypatch, address)
        (tmp_path / filename).write_bytes(archive[:-1])
        with pytest.raises(UserError, match="is damaged: pass download=True, or fetch"):
            data.load(name, root=tmp_path)
        assert not requests

    def test_without_a_network(self, tmp_path, monkeypatch, name, filename):
        address = f"http://127.0.0.1:{closed_port()}"
        self.prepare(name, monkeypatch, address)
        with pytest.raises(UserError, match="could not be fetched") as caught:
            data.load(name, root=tmp_path / "root", download=True)
        message = str(caught.value)
        assert "\n" not in message
        assert f"fetch {address}/{filename} by hand and put it into {tmp_path / 'root'}" in message

    @pytest.mark.parametrize("answer", ["not found", "other content"])
    def test_a_server_that_has_not_got_it(
        self, server, tmp_path, monkeypatch, name, filename, answer
    ):
        address, served, _ = server
        self.prepare(name, monkeypatch, address)
        if answer == "other content":
            (served / filename).write_bytes(b"please log in")
        with pytest.raises(UserError, match="could not be fetched"):
            data.load(name, root=tmp_path / "root", download=True)


# ---------------------------------------------------------------- subsets


@pytest.mark.parametrize("indices", [[4, 2, 2], torch.tensor([4, 2, 2]), (4, 2, 2)])
def test_subset(indices):
    part = data.subset(numbered(), indices)
    assert part.images[:, 0, 0, 0].tolist() == [4, 2, 2]
    assert part.labels.tolist() == [1, 2, 2]
    assert part.attributes["size"].tolist() == [40, 20, 20]
    assert (part.classes, part.name) == (("a", "b", "c"), "small")


def test_subset_by_a_mask_or_of_nothing():
    assert data.subset(numbered(), numbered().labels == 1).labels.tolist() == [1] * 8
    assert len(data.subset(numbered(), [])) == 0


def test_an_image_set_is_a_data_set_for_a_data_loader():
    images, labels = next(iter(torch.utils.data.DataLoader(numbered(), batch_size=4)))
    assert torch.equal(images, numbered().read([0, 1, 2, 3]))
    assert labels.tolist() == [0, 1, 2, 0]


def test_the_classes_of_fashion_have_torchvisions_names():
    assert data.load("fashion", "test").classes == tuple(datasets.FashionMNIST.classes)
    assert data.load("fashion", "val", limit=50).classes == data.FASHION_CLASSES


def test_data_is_read_and_checked_without_importing_torchvision():
    lines = (
        "import sys",
        "from resnet_lib import checks, data, records, train",
        "data.load('fashion', 'test'), data.load('scaled-shapes', 'test', limit=50)",
        "sys.exit('torchvision' in sys.modules)",
    )
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)
