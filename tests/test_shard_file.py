"""Damaged shards, incomplete examples, requests that cannot be met: one clear line each."""

import io
import sys
import tarfile
from dataclasses import replace

import pytest
from shardmaking import SMALL, add, foreign, levels
from toys import numbered

from resnet_lib import UserError, data, shards


@pytest.fixture
def folder(tmp_path):
    """Shards of 10, 10, 10 and 7 images; image i is of the level i and of the class i % 3."""
    shards.write(numbered(37), tmp_path / "set", per_shard=10)
    return tmp_path / "set"


@pytest.mark.parametrize(
    "split, options, message",
    [
        ("test", {}, r"has no shards test-\*.tar, which the split 'test' needs"),
        ("train", {"limit": 30}, "limit is not possible with shards"),
        ("train", {"size": "160px"}, "no option 'size': its options are buffer"),
    ],
)
def test_requests_that_cannot_be_met(folder, split, options, message):
    with pytest.raises(UserError, match=message) as caught:
        data.load(folder, split, **options)
    assert "\n" not in str(caught.value)


def test_one_shard_cannot_be_divided(tmp_path):
    shards.write(numbered(9), tmp_path)
    with pytest.raises(UserError, match="has one shard, which cannot be divided"):
        data.load(tmp_path, "val", **SMALL)
    assert len(data.load(tmp_path, "train+val", **SMALL)) == 9


def test_shards_have_no_subset(folder):
    with pytest.raises(UserError, match="so they have no subset"):
        data.subset(data.load(folder, **SMALL), [1])


def test_shards_are_not_written_twice_or_empty(folder):
    with pytest.raises(UserError, match="has shards of train already: choose another folder"):
        shards.write(numbered(), folder)
    with pytest.raises(UserError, match="per_shard must be 1 or more, got 0"):
        shards.write(numbered(), folder, per_shard=0)
    other = replace(numbered(), split="test", classes=("x", "y", "z"))
    with pytest.raises(UserError, match="holds the classes a, b, c, not x, y, z"):
        shards.write(other, folder)


def test_without_the_library(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(UserError, match=r"need the library webdataset .* pip install webdataset$"):
        data.load(folder, **SMALL)
    with pytest.raises(UserError, match=r"pip install webdataset$"):
        shards.write(numbered(), folder / "other")


@pytest.mark.parametrize("cut", [0, 1, 512, 700, 5000])
def test_a_shard_that_is_cut_short(folder, cut):
    """By the two blocks of zeros that end it, and by some bytes more."""
    path = folder / "train-000002.tar"
    with tarfile.open(path) as archive:
        last = archive.getmembers()[-1]
    end = last.offset_data + 512  # a class file fills one block
    path.write_bytes(path.read_bytes()[: end - cut])
    with pytest.raises(UserError, match=r"000002.tar is damaged: .* write or fetch it again"):
        data.load(folder, "train+val", **SMALL)


@pytest.mark.parametrize("place", [0, 1024, 4096])
def test_a_shard_that_is_damaged_and_of_the_old_size(folder, place):
    path = folder / "train-000002.tar"
    content = bytearray(path.read_bytes())
    content[place : place + 512] = b"\xff" * 512
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"train-000002\.tar") as caught:
        levels(data.load(folder, "train+val", **SMALL), 8)
    assert "\n" not in str(caught.value)


def test_a_shard_with_fewer_examples_than_counted(folder):
    part = data.load(folder, "train+val", **SMALL)
    add(part.paths[1], foreign(range(4)))
    with pytest.raises(UserError, match=r"000001.tar holds fewer examples than the 10 .* counted"):
        levels(part, 8)


def without(files, name):
    return {key: content for key, content in files.items() if key != name}


@pytest.mark.parametrize(
    "files, message",
    [
        (without(foreign(range(9)), "sub/0004.cls"), r"example sub/0004 has no cls file \(.cls\)"),
        (without(foreign(range(9)), "sub/0004.PNG"), r"example sub/0004 has no image file \(.jpg"),
        (foreign(range(9)) | {"sub/0004.cls": b"cat"}, r"4.cls must hold .* it holds 'cat'"),
        (foreign(range(9)) | {"sub/0004.cls": b"-1"}, r"4.cls must hold .* it holds '-1'"),
        (foreign(range(9)) | {"sub/0004.cls": b"7"}, r"example of class 7, but names 3 classes"),
        ({}, "holds no example: remove it"),
        (foreign([3, 6, 9]), "must hold examples of two or more classes, it holds 1"),
    ],
)
def test_examples_that_are_not_whole(tmp_path, files, message):
    add(tmp_path / "train-0.tar", files)
    if "7" in message:
        (tmp_path / "classes.txt").write_text("a\nb\nc")
    with pytest.raises(UserError, match=message) as caught:
        data.load(tmp_path, "train+val", **SMALL)
    assert "\n" not in str(caught.value)


def test_faults_met_while_reading_name_the_example(folder):
    part = data.load(folder, "train+val", **SMALL)
    files = foreign(range(10))
    for broken, message in (
        (files | {"sub/0004.PNG": b"no image"}, "000001.tar: sub/0004.png is not a readable image"),
        (without(files, "sub/0004.cls"), "000001.tar: the example sub/0004 has no cls file"),
        (without(files, "sub/0004.PNG"), "000001.tar: the example sub/0004 has no image file"),
        (files | {"sub/0004.cls": b"3"}, "hold the number of a class from 0 to 2, it holds '3'"),
    ):
        add(part.paths[1], broken)
        with pytest.raises(UserError, match=message):
            levels(part, 8)


def test_a_name_that_comes_twice(folder):
    part = data.load(folder, "train+val", **SMALL)
    with tarfile.open(part.paths[1], "w") as archive:
        for _ in range(2):
            info = tarfile.TarInfo("0001.png")
            archive.addfile(info, io.BytesIO())
    with pytest.raises(UserError, match=r"0001.png: duplicate file name"):
        levels(part, 8)


def test_a_folder_that_cannot_be_written_to_is_read(folder, monkeypatch):
    (folder / shards.INDEX).unlink()

    def refuse(*arguments, **options):
        raise PermissionError("read-only")

    monkeypatch.setattr(shards.Path, "write_text", refuse)
    assert len(data.load(folder, "train+val", **SMALL)) == 37
    assert not list(folder.glob("*.json*")) and not list(folder.glob(".*"))
