"""Augmentation of whole batches, on the device that holds them.

No sibling but the error class is imported, and no image is visited by Python: a batch costs a few
kernels, so a GPU doesn't wait for worker processes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from resnet_lib import UserError


@dataclass(frozen=True)
class Augment:
    """Random shift by up to ``crop_padding`` pixels and random left-right flip, image by image.

    The shift is a crop of the image's own size out of the image padded with zeros, as in
    He et al. 2015, section 4.2. Each image is flipped with probability one half.
    ``Augment(flip=False, crop_padding=0)`` changes nothing. Raises UserError on negative padding.
    """

    flip: bool = True
    crop_padding: int = 4

    def __post_init__(self):
        if self.crop_padding < 0:
            raise UserError(f"crop_padding must be 0 or more pixels, got {self.crop_padding}")

    def __call__(
        self,
        images: Tensor,
        generator: torch.Generator,
        rows: slice = slice(None),
        total: int | None = None,
    ) -> Tensor:
        """(N, C, H, W) -> the same shape, dtype and device. ``generator`` is on the CPU.

        The random numbers are drawn on the CPU, always in the same number, so that every device
        augments alike and switching one of the two off leaves the other as it was. Where the
        images are the ``rows`` of a batch of ``total`` that several processes share, each is
        augmented as one process would do it.
        """
        count, height, width = len(images), images.shape[-2], images.shape[-1]
        drawn = count if total is None else total
        shifts = torch.randint(2 * self.crop_padding + 1, (2, drawn), generator=generator)[:, rows]
        flips = (torch.rand(drawn, generator=generator) < 0.5)[rows]
        if self.crop_padding:
            down, right = shifts.to(images.device)
            padded = F.pad(images, [self.crop_padding] * 4)
            # A view of every crop there is; indexing copies one for each image.
            crops = padded.unfold(2, height, 1).unfold(3, width, 1)
            images = crops[torch.arange(count, device=images.device), :, down, right]
        if self.flip:
            flips = flips.to(images.device)[:, None, None, None]
            images = torch.where(flips, images.flip(-1), images)
        return images


@dataclass(frozen=True)
class Mix:
    """Images of a batch mixed in pairs, and their labels in the same shares.

    ``mixup`` adds the two pictures in the shares s and 1 - s (Zhang et al. 2017), ``cutmix`` pastes
    a rectangle of 1 - s of the area (Yun et al. 2019). s is drawn for the batch from a Beta
    distribution with both parameters equal to the value given, 0 for none. With both, a coin
    decides for each batch. Raises UserError where neither is above 0.
    """

    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self):
        if min(self.mixup, self.cutmix) < 0 or max(self.mixup, self.cutmix) == 0:
            raise UserError(
                f"mixup and cutmix must be at least 0, one of them above, "
                f"got {self.mixup} and {self.cutmix}"
            )

    def __call__(
        self, images: Tensor, labels: Tensor, num_classes: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) and class numbers (N,) -> images and shares of the classes (N, K).

        The partner of an image is the one before it in the batch. ``generator`` is on the CPU.
        """
        seed = torch.randint(2**62, (), generator=generator).item()
        numbers = np.random.default_rng(seed)  # torch's Beta takes no generator
        cut = self.cutmix > 0 and (self.mixup == 0 or numbers.random() < 0.5)
        share = numbers.beta(*[self.cutmix if cut else self.mixup] * 2)
        partners = images.roll(1, 0)
        if cut:
            height, width = images.shape[-2:]
            top, bottom = _span(height, share, numbers)
            left, right = _span(width, share, numbers)
            images = images.clone()
            images[..., top:bottom, left:right] = partners[..., top:bottom, left:right]
            share = 1 - (bottom - top) * (right - left) / (height * width)
        else:
            images = images * share + partners * (1 - share)
        shares = F.one_hot(labels, num_classes).to(images.dtype)
        return images, shares * share + shares.roll(1, 0) * (1 - share)


def _span(length: int, share: float, numbers: np.random.Generator) -> tuple[int, int]:
    """Start and end of a side of the rectangle, whose middle may lie anywhere in the picture."""
    half, middle = length * (1 - share) ** 0.5 / 2, numbers.integers(length)
    return max(0, int(middle - half)), min(length, int(middle + half))


def normalize(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(N, C, H, W) uint8 -> float32: scaled to 0..1, then (x - mean) / std for each channel."""
    mean, std = (
        torch.tensor(values, device=images.device).view(-1, 1, 1) for values in (mean, std)
    )
    return (images / 255).sub_(mean).div_(std)
