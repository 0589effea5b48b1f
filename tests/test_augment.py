"""Augmentation: what comes out is a crop of the padded image, flipped half the time."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close
from torchvision.transforms import v2

from resnet_lib import UserError
from resnet_lib.augment import Augment, Mix, normalize


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


@pytest.mark.parametrize("mix", [Mix(mixup=0.4), Mix(cutmix=1.0), Mix(mixup=0.4, cutmix=1.0)])
def test_labels_are_mixed_in_the_shares_of_the_pixels(mix):
    # Image i is i everywhere, so the mean of a mixture tells the share of the partner before it.
    images = torch.arange(8.0).view(-1, 1, 1, 1).expand(-1, 3, 16, 16).contiguous()
    labels, shares = torch.arange(8), []
    for seed in range(100):
        mixed, targets = mix(images, labels, 8, seeded(seed))
        share = targets[torch.arange(8), labels]
        assert_close(share, share[:1].expand(8))
        expected = share * images[:, 0, 0, 0] + (1 - share) * images.roll(1, 0)[:, 0, 0, 0]
        assert_close(mixed.mean((1, 2, 3)), expected)
        assert_close(targets.sum(1), torch.ones(8))
        assert_close(targets[torch.arange(8), labels.roll(1)], 1 - share)
        shares.append(share[0].item())
    assert min(shares) < 0.2 and max(shares) > 0.8 and len(set(shares)) > 30


def test_cutmix_pastes_one_rectangle_and_mixup_none():
    images = torch.arange(4.0).view(-1, 1, 1, 1).expand(-1, 1, 12, 12).contiguous()
    for seed in range(50):
        mixed, _ = Mix(cutmix=1.0)(images, torch.arange(4), 4, seeded(seed))
        pasted = mixed[2, 0] == 1
        assert bool((pasted | (mixed[2, 0] == 2)).all())
        rows, columns = pasted.any(1).sum(), pasted.any(0).sum()
        assert pasted.sum() == rows * columns
        mixed, _ = Mix(mixup=1.0)(images, torch.arange(4), 4, seeded(seed))
        assert len(mixed[2].unique()) == 1


def test_with_both_each_is_used_about_half_of_the_time():
    images = torch.arange(2.0).view(-1, 1, 1, 1).expand(-1, 1, 12, 12).contiguous()
    both = Mix(mixup=1.0, cutmix=1.0)
    drawn = [both(images, torch.arange(2), 2, seeded(seed))[0] for seed in range(400)]
    blended = sum(bool(((mixed > 0) & (mixed < 1)).all()) for mixed in drawn)
    assert 150 < blended < 250


@pytest.mark.parametrize("kind, theirs", [("mixup", v2.MixUp), ("cutmix", v2.CutMix)])
def test_the_shares_are_distributed_as_torchvisions(kind, theirs):
    images, labels = torch.zeros(2, 1, 32, 32), torch.tensor([0, 1])
    ours = [Mix(**{kind: 1.0})(images, labels, 2, seeded(s))[1][0, 0].item() for s in range(2000)]
    torch.manual_seed(0)
    reference = theirs(alpha=1.0, num_classes=2)
    others = [reference(images, labels)[1][0, 0].item() for _ in range(2000)]
    # Kolmogorov and Smirnov: the largest distance of the two distributions, at the level of 0.1 %.
    grid = torch.linspace(0, 1, 101)
    one, two = ((torch.tensor(v)[:, None] <= grid + 1e-6).double().mean(0) for v in (ours, others))
    assert (one - two).abs().max() < 1.95 * (2 / 2000) ** 0.5


@pytest.mark.parametrize("wrong", [{}, {"mixup": -1.0}, {"cutmix": -0.1, "mixup": 1.0}])
def test_mixing_nothing_is_refused(wrong):
    with pytest.raises(UserError, match="mixup and cutmix"):
        Mix(**wrong)
