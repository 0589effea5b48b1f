"""Augmentation: what comes out is a crop of the padded image, flipped half the time."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close
from torchvision.transforms import v2

from resnet_lib import UserError
from resnet_lib.augment import Augment, normalize


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images():
    """Random pixels above zero: no two crops of one image are equal."""
    return torch.randint(1, 256, (200, 3, 9, 7), dtype=torch.uint8, generator=seeded(1))


def test_every_output_is_a_crop_of_the_padded_image(images):
    out = Augment(flip=False, crop_padding=2)(images, seeded())
    padded = F.pad(images, (2, 2, 2, 2))
    found = torch.zeros(5, 5, dtype=torch.long)
    for image, whole in zip(out, padded, strict=True):
        places = [
            (top, left)
            for top in range(5)
            for left in range(5)
            if torch.equal(image, whole[:, top : top + 9, left : left + 7])
        ]
        assert len(places) == 1
        found[places[0]] += 1
    # 8 images a place are expected; an offset that is never drawn would show as 0.
    assert found.min() > 0


def test_about_half_of_the_images_are_flipped_and_nothing_else(images):
    many = images.repeat(10, 1, 1, 1)
    out = Augment(flip=True, crop_padding=0)(many, seeded())
    same = (out == many).flatten(1).all(1)
    flipped = (out == many.flip(-1)).flatten(1).all(1)
    assert bool((same ^ flipped).all())
    # 2,000 fair coins: five standard deviations are 112.
    assert abs(int(flipped.sum()) - 1000) < 112


def test_images_of_a_batch_are_treated_apart(images):
    same = images[:1].expand(64, -1, -1, -1)
    assert len(torch.unique(Augment()(same, seeded()).flatten(1), dim=0)) > 40


def test_off_means_unchanged(images):
    assert torch.equal(Augment(flip=False, crop_padding=0)(images, seeded()), images)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("augment", [Augment(), Augment(flip=False), Augment(crop_padding=0)])
def test_shape_dtype_and_input_are_kept(images, dtype, augment):
    images = images.to(dtype)
    before = images.clone()
    out = augment(images, seeded())
    assert (out.shape, out.dtype, out.device) == (images.shape, dtype, images.device)
    assert torch.equal(images, before)


def test_the_seed_decides(images):
    augment = Augment()
    assert torch.equal(augment(images, seeded(3)), augment(images, seeded(3)))
    assert not torch.equal(augment(images, seeded(3)), augment(images, seeded(4)))


def test_switching_the_flip_off_leaves_the_crops_as_they_were(images):
    crops = Augment(flip=False)(images, seeded())
    both = Augment(flip=True)(images, seeded())
    kept = (both == crops).flatten(1).all(1)
    assert bool((kept | (both == crops.flip(-1)).flatten(1).all(1)).all())


def test_padding_below_zero_is_the_users_mistake():
    with pytest.raises(UserError, match="crop_padding must be 0 or more pixels, got -1"):
        Augment(crop_padding=-1)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_does_the_same(images):
    generators = seeded(), seeded()
    for _ in range(2):
        expected = Augment()(images, generators[0])
        on_cuda = Augment()(images.cuda(), generators[1])
        assert on_cuda.is_cuda
        assert torch.equal(on_cuda.cpu(), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_normalize_equals_torchvisions(images, channels):
    mean, std = (0.485, 0.456, 0.406)[:channels], (0.229, 0.224, 0.225)[:channels]
    images = images[:, :channels]
    reference = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])
    out = normalize(images, mean, std)
    assert out.dtype == torch.float32
    assert_close(out, reference(images))


def test_normalize_leaves_its_input_alone(images):
    before = images.clone()
    normalize(images, (0.5,) * 3, (0.25,) * 3)
    assert torch.equal(images, before)


def test_normalized_with_its_own_statistics_an_image_set_has_mean_0_and_deviation_1():
    images = torch.randint(0, 256, (50, 1, 8, 8), dtype=torch.uint8, generator=seeded())
    values = images.double() / 255
    out = normalize(images, (values.mean().item(),), (values.std(correction=0).item(),))
    assert_close(out.mean().item(), 0.0, atol=1e-5, rtol=0)
    assert_close(out.std(correction=0).item(), 1.0, atol=1e-5, rtol=0)
