"""Data sets in shards: written here, read by one process and several, in flat memory."""

import json
import shutil
import subprocess
import sys
import tarfile
from collections import Counter
from dataclasses import replace

import pytest
import torch
from PIL import Image
from shardmaking import SMALL, add, flat, foreign, levels
from toys import make_images, make_model, numbered

from resnet_lib import data, shards, train


@pytest.fixture
def folder(tmp_path):
    """Shards of 10, 10, 10 and 7 images; image i is of the level i and of the class i % 3."""
    shards.write(numbered(37), tmp_path / "set", per_shard=10)
    return tmp_path / "set"


# ---------------------------------------------------------------- loading


def test_what_was_written_is_read(folder):
    part = data.load(folder, "train+val", **SMALL)
    assert (len(part), part.counts) == (37, (10, 10, 10, 7))
    assert (part.classes, part.name, part.split) == (("a", "b", "c"), "set", "train+val")
    assert (part.channels, part.image_size) == (1, 2)
    assert sorted(flat(levels(part, 8))) == list(range(37))


def test_written_shards_are_mixed_and_the_same_each_time(folder, tmp_path):
    read = levels(data.load(folder, "train+val", **SMALL), 10)
    assert all(batch != sorted(batch) for batch in read)
    again = shards.write(numbered(37), tmp_path / "again", per_shard=10)
    for path in again:
        assert path.read_bytes() == (folder / path.name).read_bytes()


def test_parts_lie_side_by_side_or_in_folders(folder, tmp_path):
    shards.write(replace(numbered(9), split="test"), folder, per_shard=5)
    assert sorted(flat(levels(data.load(folder, "test", **SMALL), 4))) == list(range(9))
    assert len(data.load(folder, "train+val", **SMALL)) == 37
    for part in ("train", "test"):
        (tmp_path / "nested" / part).mkdir(parents=True)
        for path in folder.glob(f"{part}-*.tar"):
            shutil.copy(path, tmp_path / "nested" / part / path.name[-10:])
    assert len(data.load(tmp_path / "nested", "train+val", **SMALL)) == 37
    assert len(data.load(tmp_path / "nested", "test", **SMALL)) == 9


def test_validation_is_made_of_whole_shards(folder):
    train_part, val = (data.load(folder, split, **SMALL) for split in ("train", "val"))
    assert not set(train_part.paths) & set(val.paths)
    assert len(val.paths) == 1 and len(train_part) + len(val) == 37
    held = {data.load(folder, "val", seed=seed, **SMALL).paths for seed in range(20)}
    assert len(held) > 1
    assert len(data.load(folder, "val", val_fraction=0.5, **SMALL).paths) == 2
    shards.write(replace(numbered(6), split="val"), folder)
    assert len(data.load(folder, "train", **SMALL)) == 37
    assert len(data.load(folder, "val", **SMALL)) == 6


def test_statistics_are_those_of_the_training_part(folder):
    shards.write(replace(numbered(200), split="test"), folder)
    for split in ("train", "test"):
        found = data.load(folder, split, **SMALL)
        values = torch.arange(37) / 255
        assert found.mean == pytest.approx((values.mean().item(),), rel=1e-5)
        assert found.std == pytest.approx((values.std(correction=0).item(),), rel=1e-5)


def test_shards_of_another_program(tmp_path):
    add(tmp_path / "a.tar", foreign(range(6)))
    add(tmp_path / "b.tar", foreign(range(6, 9)))
    part = data.load(tmp_path, "train+val", **SMALL)
    assert flat(levels(part, 4)) == list(range(9))
    assert part.classes == ("0", "1", "2")
    (tmp_path / "classes.txt").write_text("ant\nbee\ncat\n")
    assert data.load(tmp_path, "train", **SMALL).classes == ("ant", "bee", "cat")


def test_files_of_a_folder_are_copied_as_they_are(tmp_path):
    for name in "ab":
        (tmp_path / "images" / name).mkdir(parents=True)
        colour = {"a": "red", "b": "blue"}[name]
        Image.new("RGB", (30, 20), colour).save(tmp_path / "images" / name / "one.JPG")
    lazy = data.load(tmp_path / "images", "train+val", image_size=8)
    (path,) = shards.write(lazy, tmp_path / "set")
    with tarfile.open(path) as archive:
        content = archive.extractfile("000000001.jpg").read()
    assert content == (tmp_path / "images" / "b" / "one.JPG").read_bytes()
    images, labels = next(data.batches(data.load(tmp_path / "set", "train+val", image_size=8), 2))
    assert torch.equal(images, lazy.read(labels))


def test_an_archive_beside_class_folders_is_no_shard(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.new("L", (2, 2)).save(tmp_path / name / "one.png")
    add(tmp_path / "original.tar", foreign(range(3)))
    assert isinstance(data.load(tmp_path, "train+val"), data.FolderSet)


def test_the_index_is_kept_and_follows_the_shards(folder, monkeypatch):
    data.load(folder, "train", **SMALL)
    counted = []
    real = shards.shard_file.count_examples
    monkeypatch.setattr(
        shards.shard_file, "count_examples", lambda path: counted.append(path.name) or real(path)
    )
    data.load(folder, "train", **SMALL)
    assert counted == []
    add(folder / "train-000003.tar", foreign(range(40)))
    assert len(data.load(folder, "train+val", **SMALL)) == 70
    assert counted == ["train-000003.tar"]
    (folder / "train-000003.tar").unlink()
    assert len(data.load(folder, "train+val", **SMALL)) == 30
    assert len(json.loads((folder / shards.INDEX).read_text())["shards"]) == 3
    (folder / shards.INDEX).write_text("[]")
    assert len(data.load(folder, "train+val", **SMALL)) == 30
    assert len(counted) == 4


# ---------------------------------------------------------------- order and processes


def test_the_order_depends_on_seed_and_epoch_alone(folder):
    part = data.load(folder, "train+val", buffer=5, **SMALL)
    orders = {
        key: flat(levels(part, 8, shuffle=True, seed=key[0], epoch=key[1]))
        for key in [(0, 0), (0, 1), (1, 0), (1, 1)]
    }
    assert all(sorted(order) == list(range(37)) for order in orders.values())
    assert len(set(map(tuple, orders.values()))) == 4
    torch.manual_seed(99)
    assert flat(levels(part, 5, shuffle=True, seed=0, epoch=1)) == orders[0, 1]


def test_shards_change_their_order_and_the_buffer_mixes_them(folder):
    part = data.load(folder, "train+val", buffer=0, **SMALL)
    home = {level: number for number, batch in enumerate(levels(part, 10)) for level in batch}

    def shards_met(buffer, epoch):
        mixed = replace(part, buffer=buffer)
        return [home[level] for level in flat(levels(mixed, 8, shuffle=True, epoch=epoch))]

    firsts = {shards_met(0, epoch)[0] for epoch in range(20)}
    assert len(firsts) == 4
    blocks = [len(set(shards_met(0, epoch)[:7])) for epoch in range(20)]
    assert set(blocks) == {1}
    assert all(len(set(shards_met(30, epoch)[:12])) >= 3 for epoch in range(20))


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("batch_size", [5, 6, 10, 36, 100])
@pytest.mark.parametrize("shuffle", [False, True])
def test_the_processes_read_each_image_once_in_equally_many_batches(
    folder, world, batch_size, shuffle
):
    part = data.load(folder, "train+val", buffer=4, **SMALL)
    options = {"shuffle": shuffle, "epoch": 3, "at_least": 2 * world}
    alone = levels(part, batch_size, **options)
    ranks = [levels(part, batch_size, rank=r, world=world, **options) for r in range(world)]
    assert {len(batches) for batches in ranks} == {len(alone)}
    assert Counter(level for batches in ranks for level in flat(batches)) == Counter(range(37))
    for whole, *parts in zip(alone, *ranks, strict=True):
        counts = [len(batch) for batch in parts]
        assert sum(counts) == len(whole) and max(counts) - min(counts) <= 1 and min(counts) > 0


def test_a_process_opens_the_shards_of_its_span_alone(folder, monkeypatch):
    part = data.load(folder, "train+val", **SMALL)
    opened = []
    real = shards.shard_file.read
    monkeypatch.setattr(
        shards.shard_file, "read", lambda path: opened.append(path[-6:-4]) or real(path)
    )
    assert len(flat(levels(part, 8, rank=1, world=2))) == 18
    assert opened == ["01", "02", "03"]


def test_training_from_shards(tmp_path):
    shards.write(make_images(200), tmp_path, per_shard=40)
    shards.write(make_images(40, seed=1, split="val"), tmp_path)
    config = train.TrainConfig(
        epochs=3, batch_size=20, lr=0.05, warmup_epochs=0.5, augment=None, device="cpu"
    )
    parts = [data.load(tmp_path, split, image_size=8, channels=1) for split in ("train", "val")]
    history = train.fit(make_model(), *parts, config, log=lambda line: None)
    again = train.fit(make_model(), *parts, config, log=lambda line: None)
    assert history.epochs[-1]["val_accuracy"] > 0.9
    assert [e["train_loss"] for e in history.epochs] == [e["train_loss"] for e in again.epochs]


def test_shards_are_read_one_batch_ahead_and_closed(folder, monkeypatch):
    part = data.load(folder, "train+val", **SMALL)
    files = []
    real = shards.shard_file._opened
    monkeypatch.setattr(
        shards.shard_file, "_opened", lambda path: files.append(real(path)) or files[-1]
    )
    iterator = data.batches(part, 10)
    next(iterator)
    iterator.close()
    del iterator
    assert 1 <= len(files) <= 3 and all(file.closed for file in files)


MEASURE = """
import sys, tracemalloc
from resnet_lib import data
part = data.load(sys.argv[1], "train+val", image_size=64, buffer=20)
list(data.batches(data.load(sys.argv[2], "train+val", image_size=64), 16))  # imports, first use
tracemalloc.start()
seen = sum(len(labels) for _, labels in data.batches(part, 16, shuffle=True))
print(seen, tracemalloc.get_traced_memory()[1])
"""


def test_memory_does_not_grow_with_the_number_of_shards(tmp_path):
    """Of noise, which PNG cannot make smaller: ten times the shards are ten times the bytes."""
    noise = torch.randint(256, (400, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    shards.write(
        replace(make_images(400), images=noise.to(torch.uint8)), tmp_path / "many", per_shard=20
    )
    (tmp_path / "few").mkdir()
    for path in sorted((tmp_path / "many").glob("*.tar"))[:2]:
        shutil.copy(path, tmp_path / "few")
    peaks = {}
    for name in ("few", "many"):
        command = [sys.executable, "-c", MEASURE, tmp_path / name, tmp_path / "few"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[name] = [int(number) for number in done.stdout.split()]
    assert (peaks["few"][0], peaks["many"][0]) == (40, 400)
    assert peaks["many"][1] < 1.25 * peaks["few"][1]
