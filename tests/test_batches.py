"""Batches: complete, in an order fixed by seed and epoch, shared out over processes."""

import threading
import time
from collections import Counter

import pytest
import torch
from PIL import Image
from toys import numbered

from resnet_lib import UserError, data


@pytest.fixture
def lazy(tmp_path):
    """A FolderSet with the same 23 images as ``numbered``."""
    for index in range(23):
        path = tmp_path / "abc"[index % 3] / f"{index:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (2, 2), index).save(path)
    return data.load(tmp_path, "train+val", image_size=2, channels=1)


def seen(*arguments, **options):
    images = [images for images, _ in data.batches(*arguments, **options)]
    return [index for batch in images for index in batch[:, 0, 0, 0].tolist()]


def test_in_order_with_a_short_last_batch():
    found = list(data.batches(numbered(), 10))
    assert [len(labels) for _, labels in found] == [10, 10, 3]
    assert seen(numbered(), 10) == list(range(23))
    assert torch.equal(torch.cat([labels for _, labels in found]), numbered().labels)


def test_shuffled_every_image_comes_once_and_order_depends_on_seed_and_epoch_alone():
    orders = {
        key: seen(numbered(), 10, shuffle=True, seed=key[0], epoch=key[1])
        for key in [(0, 0), (0, 1), (1, 0), (1, 1)]
    }
    assert all(Counter(order) == Counter(range(23)) for order in orders.values())
    assert len(set(map(tuple, orders.values()))) == 4
    torch.manual_seed(99)
    assert seen(numbered(), 7, shuffle=True, seed=0, epoch=1) == orders[0, 1]


def test_labels_follow_the_images():
    for images, labels in data.batches(numbered(), 10, shuffle=True):
        assert torch.equal(images[:, 0, 0, 0] % 3, labels)


def test_an_empty_set_has_no_batches():
    assert list(data.batches(data.subset(numbered(), []), 10)) == []
    assert list(data.batches(data.subset(numbered(), []), 10, shuffle=True)) == []


@pytest.mark.parametrize("size", [0, -1])
def test_impossible_batch_sizes_are_refused_at_once(size):
    with pytest.raises(UserError, match=f"batch_size must be 1 or more, got {size}"):
        data.batches(numbered(), size)


def test_batches_from_files_are_complete(lazy):
    assert Counter(seen(lazy, 10, shuffle=True)) == Counter(range(23))
    for images, labels in data.batches(lazy, 10, shuffle=True):
        assert torch.equal(images[:, 0, 0, 0] % 3, labels)
    assert list(data.batches(data.subset(lazy, []), 10)) == []


def test_files_are_read_one_batch_ahead(lazy, monkeypatch):
    reads = []
    ready = threading.Event()
    real = data.FolderSet.read

    def read(self, indices):
        reads.append(indices.tolist())
        if len(reads) == 2:
            ready.set()
        return real(self, indices)

    monkeypatch.setattr(data.FolderSet, "read", read)
    iterator = data.batches(lazy, 10)
    next(iterator)
    assert ready.wait(10)
    time.sleep(0.05)
    assert reads == [list(range(10)), list(range(10, 20))]
    iterator.close()


def test_stopping_early_leaves_no_thread(lazy):
    before = threading.active_count()
    for _ in data.batches(lazy, 2):
        assert threading.active_count() > before
        break
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
    assert len(seen(lazy, 2)) == 23
    assert threading.active_count() == before


def test_an_error_while_reading_ahead_reaches_the_reader(lazy):
    with open(lazy.paths[12], "w") as file:
        file.write("not an image")
    iterator = data.batches(lazy, 10)
    next(iterator)
    with pytest.raises(UserError, match="is not a readable image"):
        next(iterator)


# ---------------------------------------------------------------- the last batch


def sizes(*arguments, **options):
    return [len(labels) for _, labels in data.batches(*arguments, **options)]


@pytest.mark.parametrize(
    "examples, at_least, expected",
    [
        (20, 4, [10, 10]),
        (21, 1, [10, 10, 1]),
        (21, 2, [10, 11]),
        (23, 3, [10, 10, 3]),
        (23, 4, [10, 13]),
        (3, 4, [3]),  # nothing to join
        (0, 4, []),
    ],
)
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_small_rest_joins_the_batch_before_it(examples, at_least, expected, shuffle):
    options = {"at_least": at_least, "shuffle": shuffle}
    assert sizes(numbered(examples), 10, **options) == expected
    assert data.count_batches(examples, 10, at_least) == len(expected)
    assert sorted(seen(numbered(examples), 10, **options)) == list(range(examples))


def test_full_batches_are_not_joined():
    assert sizes(numbered(5), 1, at_least=4) == [1, 1, 1, 1, 1]


# ---------------------------------------------------------------- several processes


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("examples, batch_size", [(23, 10), (21, 10), (20, 5), (11, 10), (5, 10)])
@pytest.mark.parametrize("kind", ["memory", "files"])
def test_the_processes_together_see_the_batches_of_one(lazy, kind, world, examples, batch_size):
    part = data.subset(numbered() if kind == "memory" else lazy, range(examples))
    options = {"shuffle": True, "seed": 3, "epoch": 2, "at_least": 2 * world}
    alone = list(data.batches(part, batch_size, **options))
    shares = [
        list(data.batches(part, batch_size, rank=rank, world=world, **options))
        for rank in range(world)
    ]
    for whole, *parts in zip(alone, *shares, strict=True):
        counts = [len(labels) for _, labels in parts]
        assert max(counts) - min(counts) <= 1 and min(counts) > 0
        for theirs, values in zip(zip(*parts, strict=True), whole, strict=True):
            assert Counter(torch.cat(theirs).flatten().tolist()) == Counter(
                values.flatten().tolist()
            )
        for rank, (images, labels) in enumerate(parts):
            assert torch.equal(images, whole[0][rank::world])
            assert torch.equal(labels, whole[1][rank::world])


def test_no_process_gets_an_empty_batch():
    """21 = 2 * 10 + 1, and a rest of one cannot be shared by two."""
    assert [sizes(numbered(21), 10, rank=rank, world=2) for rank in (0, 1)] == [[5, 6], [5, 5]]
    assert sizes(numbered(0), 10, rank=1, world=2) == []


@pytest.mark.parametrize(
    "examples, batch_size, rank, world, message",
    [
        (23, 2, 0, 3, "batch_size must be at least 3, one image for each process, got 2"),
        (2, 10, 0, 3, "the number of images must be at least 3, one image for each .* got 2"),
        (23, 10, 2, 2, "rank must be one of the 2 from 0 to 1, got 2"),
        (23, 10, -1, 2, "rank must be one of the 2 from 0 to 1, got -1"),
        (23, 10, 0, 0, "rank must be one of the 0"),
    ],
)
def test_impossible_shares_are_refused_at_once(examples, batch_size, rank, world, message):
    with pytest.raises(UserError, match=message):
        data.batches(numbered(examples), batch_size, rank=rank, world=world)
