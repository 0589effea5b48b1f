"""Image folders: which files count, what is done about bad ones, how images are decoded."""

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from resnet_lib import UserError, data, folders
from resnet_lib.folders import decode
from resnet_lib.splits import SPLITS


def save(path, colour, size=(12, 10), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path):
    """Classes "blue" and "red", ten images each, told apart by colour; images differ by green."""
    for index in range(10):
        save(tmp_path / "set" / "red" / f"{index}.png", (200, 10 * index, 0))
        save(tmp_path / "set" / "blue" / f"{index}.png", (0, 10 * index, 200))
    return tmp_path / "set"


@pytest.fixture
def parts(tmp_path):
    """train, val and test of 6, 2 and 3 images a class."""
    for part, count in (("train", 6), ("val", 2), ("test", 3)):
        for name in ("cat", "dog"):
            for index in range(count):
                save(tmp_path / "parts" / part / name / f"{index}.png", (index, 0, 0))
    return tmp_path / "parts"


# ---------------------------------------------------------------- finding the files


def test_a_flat_folder_is_divided(folder):
    train, val, both = (
        data.load(folder, split, image_size=8, val_fraction=0.2)
        for split in ("train", "val", "train+val")
    )
    assert (len(train), len(val), len(both)) == (16, 4, 20)
    assert not set(train.paths) & set(val.paths)
    assert set(train.paths) | set(val.paths) == set(both.paths)
    assert torch.bincount(val.labels).tolist() == [2, 2]
    assert train.classes == ("blue", "red") and train.name == "set"


def test_labels_belong_to_the_images(folder):
    found = data.load(folder, "train+val", image_size=4)
    images = found.read(torch.arange(20))
    assert (images.shape, images.dtype) == ((20, 3, 4, 4), torch.uint8)
    assert torch.equal(images[:, 0, 0, 0] > 100, found.labels == 1)
    assert sorted(images[found.labels == 1, 1, 0, 0].tolist()) == list(range(0, 100, 10))


def test_parts_of_its_own_are_used(parts):
    loaded = {split: data.load(parts, split, image_size=8) for split in SPLITS}
    counts = {split: len(found) for split, found in loaded.items()}
    assert counts == {"train": 12, "val": 4, "train+val": 16, "test": 6}
    for split, found in loaded.items():
        assert {Path(path).relative_to(parts).parts[0] for path in found.paths} == set(
            split.split("+")
        )
    assert len({found.mean for found in loaded.values()}) == 1


def test_without_val_it_comes_out_of_train(parts):
    (parts / "val").rename(parts.parent / "elsewhere")
    train, val = (data.load(parts, split, val_fraction=0.34) for split in ("train", "val"))
    assert (len(train), len(val)) == (8, 4)
    assert all(Path(path).is_relative_to(parts / "train") for path in val.paths)
    assert len(data.load(parts, "test")) == 6


@pytest.mark.parametrize("missing, split", [("test", "test"), ("train", "train")])
def test_a_part_that_is_missing_is_named(parts, missing, split):
    (parts / missing).rename(parts.parent / "elsewhere")
    with pytest.raises(UserError, match=f"parts has no sub-folder '{missing}'.*'{split}' needs"):
        data.load(parts, split)


def test_a_flat_folder_has_no_test(folder):
    with pytest.raises(UserError, match="set has no sub-folder 'test'"):
        data.load(folder, "test")


def test_a_class_may_be_called_train(tmp_path):
    for name in ("train", "tram"):
        for index in range(4):
            save(tmp_path / name / f"{index}.png", (index, 0, 0))
    assert data.load(tmp_path, "train+val").classes == ("train", "tram")


def test_files_in_deeper_folders_count(folder):
    save(folder / "red" / "more" / "extra.png", (200, 0, 0))
    assert len(data.load(folder, "train+val")) == 21


def test_what_file_managers_leave_is_ignored_without_a_word(folder):
    for name in (".DS_Store", "red/.DS_Store", "red/Thumbs.db", "blue/desktop.ini"):
        (folder / name).write_bytes(b"no image")
    for name in (".git", "__MACOSX", "red/.cache", "red/__MACOSX"):
        (folder / name).mkdir()
        (folder / name / "x.png").write_bytes(b"no image")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = data.load(folder, "train+val", image_size=8)
    assert (len(found), found.skipped, found.classes) == (20, (), ("blue", "red"))


def test_a_folder_without_classes(tmp_path):
    save(tmp_path / "a.png", 0)
    with pytest.raises(UserError, match="two or more classes, it holds 0"):
        data.load(tmp_path)


def test_a_folder_of_one_class(tmp_path):
    save(tmp_path / "only" / "a.png", 0)
    with pytest.raises(UserError, match="two or more classes, it holds 1"):
        data.load(tmp_path)


def test_an_empty_class(folder):
    (folder / "green").mkdir()
    (folder / "green" / ".DS_Store").write_bytes(b"")
    with pytest.raises(UserError, match=r"class folder .*green is empty"):
        data.load(folder)


def test_a_folder_that_does_not_exist(tmp_path):
    with pytest.raises(UserError, match=r"one of fashion, .* or a folder; there is no folder"):
        data.load(tmp_path / "nowhere")
    with pytest.raises(UserError, match="there is no folder"):
        folders.find_parts(tmp_path / "nowhere")


def test_a_file_instead_of_a_folder(tmp_path):
    with pytest.raises(UserError, match=r"a.png is a file: name the folder"):
        data.load(save(tmp_path / "a.png", 0))


def test_parts_must_have_the_same_classes(parts):
    save(parts / "val" / "horse" / "0.png", 0)
    with pytest.raises(UserError, match="must hold the same classes, 'horse'"):
        data.load(parts)


def test_too_few_images_for_a_validation_part(tmp_path):
    for name in "ab":
        save(tmp_path / name / "0.png", 0)
    assert len(data.load(tmp_path, "train")) == 2
    with pytest.raises(UserError, match="too few images to make a split 'val'"):
        data.load(tmp_path, "val")


# ---------------------------------------------------------------- bad files


def spoil(folder):
    """Three bad files among the ten of "red": cut short, text, and empty."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG")
    (folder / "red" / "0.png").unlink()
    (folder / "red" / "0.jpg").write_bytes(buffer.getvalue()[:-400])
    (folder / "red" / "1.png").write_text("not an image")
    (folder / "red" / "2.png").write_bytes(b"")
    return {str(folder / "red" / name) for name in ("0.jpg", "1.png", "2.png")}


def test_bad_files_are_skipped_with_one_warning(folder):
    bad = spoil(folder)
    with pytest.warns(UserWarning) as caught:
        found = data.load(folder, "train+val", image_size=8)
    assert len(caught) == 1
    message = str(caught[0].message)
    assert "3 of 20 files are no readable images" in message and "0.jpg" in message
    assert "\n" not in message
    assert caught[0].filename == __file__
    assert set(found.skipped) == bad and not bad & set(found.paths)
    assert len(found.read(torch.arange(len(found)))) == 17


def test_strict_refuses_bad_files(folder):
    spoil(folder)
    with pytest.raises(UserError, match=r"3 of 20 files are no readable images.*0.jpg: repair"):
        data.load(folder, "train+val", strict=True)


def test_good_files_pass_strict(folder):
    assert len(data.load(folder, "train+val", strict=True)) == 20


def test_truncated_png(folder):
    path = folder / "red" / "0.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.warns(UserWarning, match="1 of 20"):
        data.load(folder, "train+val")


def test_a_bad_file_within_the_limit_is_replaced(folder):
    spoil(folder)
    with pytest.warns(UserWarning, match="no readable images"):
        found = data.load(folder, "train+val", limit=14, image_size=8)
    assert torch.bincount(found.labels).tolist() == [7, 7]


def test_only_files_that_are_wanted_are_looked_at(folder, monkeypatch):
    looked = []
    real = folders.decode
    monkeypatch.setattr(
        folders, "decode", lambda path, *a, **k: looked.append(path) or real(path, *a, **k)
    )
    monkeypatch.setattr(data, "STATISTICS_SAMPLE", 2)
    data.load(folder, "train+val", limit=4)
    # Four of the split, two of the sample, which are decoded once more.
    assert len(set(looked)) <= 6 and len(looked) == 8


def test_a_class_of_bad_files_only(folder):
    for path in (folder / "blue").iterdir():
        path.write_text("not an image")
    with (
        pytest.warns(UserWarning, match="10 of 20"),
        pytest.raises(UserError, match="class 'blue' of set has no readable image"),
    ):
        data.load(folder, "train+val")


def test_bad_files_do_not_move_others_between_the_parts(folder):
    before = {
        split: set(data.load(folder, split, image_size=8).paths) for split in ("train", "val")
    }
    bad = str(folder / "red" / "1.png")
    (folder / "red" / "1.png").write_text("not an image")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        after = {split: set(data.load(folder, split, image_size=8).paths) for split in before}
    assert after == {split: paths - {bad} for split, paths in before.items()}


def test_a_file_that_breaks_later_is_named_when_it_is_read(folder):
    found = data.load(folder, "train+val", image_size=8)
    (folder / "blue" / "3.png").write_text("gone")
    with pytest.raises(UserError, match=r"blue.3.png is not a readable image"):
        found.read(torch.arange(20))


# ---------------------------------------------------------------- decoding


def pixel(path, channels=3):
    return decode(str(path), 4, channels)[1, 1].tolist()


@pytest.mark.parametrize(
    "mode, colour, name, expected",
    [
        ("RGB", (10, 20, 30), "a.png", [10, 20, 30]),
        ("L", 77, "a.png", [77, 77, 77]),
        ("1", 1, "a.png", [255, 255, 255]),
        ("RGBA", (10, 20, 30, 255), "a.png", [10, 20, 30]),
        ("RGBA", (10, 20, 30, 0), "a.png", [255, 255, 255]),
        ("RGBA", (0, 0, 0, 51), "a.png", [204, 204, 204]),
        ("LA", (100, 0), "a.png", [255, 255, 255]),
        ("LA", (100, 255), "a.png", [100, 100, 100]),
        ("CMYK", (0, 0, 0, 255), "a.tif", [0, 0, 0]),
        ("CMYK", (0, 0, 0, 0), "a.tif", [255, 255, 255]),
        ("CMYK", (0, 255, 255, 0), "a.tif", [255, 0, 0]),
        ("I;16", 0x7F12, "a.png", [0x7F, 0x7F, 0x7F]),
        ("I;16", 0xFFFF, "a.png", [255, 255, 255]),
        ("I;16", 0x0040, "a.png", [0, 0, 0]),
    ],
)
def test_every_mode_is_handled(tmp_path, mode, colour, name, expected):
    assert pixel(save(tmp_path / name, colour, mode=mode)) == expected


def test_cmyk_jpeg(tmp_path):
    path = save(tmp_path / "a.jpg", (0, 255, 255, 0), size=(64, 64), mode="CMYK", quality=95)
    assert np.abs(np.array(pixel(path)) - [255, 0, 0]).max() <= 3


def test_palettes_with_and_without_transparency(tmp_path):
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.save(tmp_path / "opaque.png")
    image.save(tmp_path / "clear.png", transparency=1)
    assert pixel(tmp_path / "opaque.png") == [10, 20, 30]
    assert pixel(tmp_path / "clear.png") == [255, 255, 255]


def test_grey_is_weighted_as_pillow_does(tmp_path):
    path = save(tmp_path / "a.png", (200, 50, 10))
    assert decode(str(path), 4, 1).shape == (4, 4, 1)
    assert pixel(path, 1) == [Image.new("RGB", (1, 1), (200, 50, 10)).convert("L").getpixel((0, 0))]


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 7)])
def test_tiny_and_thin_images(tmp_path, size):
    found = decode(str(save(tmp_path / "a.png", (9, 8, 7), size=size)), 32, 3)
    assert found.shape == (32, 32, 3)
    assert (found == [9, 8, 7]).all()


def test_the_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert pixel(tmp_path / "a.gif") == [255, 0, 0]


def test_exif_orientation_is_respected(tmp_path):
    image = Image.new("RGB", (8, 8))
    image.paste((255, 255, 255), (0, 0, 8, 4))  # the upper half is white
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter to the right
    image.save(tmp_path / "a.png", exif=exif)
    found = decode(str(tmp_path / "a.png"), 8, 1)[..., 0]
    assert (found[:, 4:] == 255).all() and (found[:, :4] == 0).all()


@pytest.mark.parametrize("size", [(30, 20), (20, 30)])
def test_the_centre_is_cropped_and_the_shorter_side_kept(tmp_path, size):
    image = Image.new("L", size, 0)
    left, top = (size[0] - 20) // 2, (size[1] - 20) // 2
    image.paste(200, (left, top, left + 20, top + 20))
    image.save(tmp_path / "a.png")
    assert (decode(str(tmp_path / "a.png"), 10, 1)[1:-1, 1:-1] == 200).all()
    assert (decode(str(tmp_path / "a.png"), 20, 1) == 200).all()


def test_resizing_equals_torchvisions(tmp_path):
    from torchvision.transforms import v2

    noise = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    image = Image.fromarray(noise).resize((160, 120), Image.Resampling.BICUBIC)
    image.save(tmp_path / "a.png")
    wanted = np.asarray(v2.CenterCrop(32)(v2.Resize(32)(image)), int)
    # The two differ by rounding the width of the resized image, 42.67 pixels.
    assert np.abs(decode(str(tmp_path / "a.png"), 32, 3) - wanted).mean() < 2


def test_fast_jpeg_decoding_changes_little(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    Image.fromarray(noise).resize((256, 256), Image.Resampling.BICUBIC).save(tmp_path / "a.jpg")
    fast = decode(str(tmp_path / "a.jpg"), 64, 3).astype(int)
    monkeypatch.setattr("PIL.JpegImagePlugin.JpegImageFile.draft", lambda *_: None)
    whole = decode(str(tmp_path / "a.jpg"), 64, 3).astype(int)
    assert 0 < np.abs(fast - whole).mean() < 3


# ---------------------------------------------------------------- the protocol


def test_read_keeps_the_order_and_takes_repeats_and_nothing(folder):
    found = data.load(folder, "train+val", image_size=4)
    images = found.read(torch.tensor([15, 0, 0]))
    assert torch.equal(images[1], images[2])
    assert torch.equal(images[0], found[15][0]) and torch.equal(images[1], found[0][0])
    assert found.read(torch.tensor([], dtype=torch.long)).shape == (0, 3, 4, 4)


def test_a_data_loader_takes_it(folder):
    found = data.load(folder, "train+val", image_size=4)
    images, labels = next(iter(torch.utils.data.DataLoader(found, batch_size=5)))
    assert images.shape == (5, 3, 4, 4)
    assert torch.equal(labels, found.labels[:5])


def test_images_are_not_kept(folder):
    found = data.load(folder, "train+val", image_size=224)
    found.read(torch.arange(20))
    held = sum(value.nbytes for value in vars(found).values() if isinstance(value, torch.Tensor))
    assert held == 20 * 8  # the labels


def test_subset_of_a_folder(folder):
    found = data.load(folder, "train+val", image_size=4)
    part = data.subset(found, [3, 1])
    assert part.paths == [found.paths[3], found.paths[1]]
    assert torch.equal(part.read([0]), found.read([3]))
    assert torch.equal(part.labels, found.labels[[3, 1]])
    assert part.mean == found.mean


def test_statistics_are_those_of_the_training_part(parts):
    # Red is 0 to 5 in the training part, other channels 0: their deviation is one grey level.
    found = data.load(parts, "test", image_size=8)
    assert found.mean == pytest.approx((2.5 / 255, 0, 0))
    assert found.std == pytest.approx((np.std(range(6)) / 255, 1 / 255, 1 / 255))
