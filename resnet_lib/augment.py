"""Augmentation of whole batches, on the device that holds them.

No sibling but the error class is imported, and no image is visited by Python: a batch costs a few
kernels, so a GPU doesn't wait for worker processes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """(N, C, H, W) -> the same shape, dtype and device. ``generator`` is on the CPU.

        The random numbers are drawn on the CPU, always in the same number, so that every device
        augments alike and switching one of the two off leaves the other as it was.
        """
        count, height, width = len(images), images.shape[-2], images.shape[-1]
        shifts = torch.randint(2 * self.crop_padding + 1, (2, count), generator=generator)
        flips = torch.rand(count, generator=generator) < 0.5
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


def normalize(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(N, C, H, W) uint8 -> float32: scaled to 0..1, then (x - mean) / std for each channel."""
    mean, std = (
        torch.tensor(values, device=images.device).view(-1, 1, 1) for values in (mean, std)
    )
    return (images / 255).sub_(mean).div_(std)
