"""What is it, and where? A task on *scaled shapes* that needs a map, not one answer an image.

Each cell of 4 by 4 pixels gets a label: background, or the class of the object that covers it. The
network reads one level: a stage of the body by itself, or the finest level of the pyramid.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_lib import UserError, data, models, train
from resnet_lib.augment import normalize
from resnet_lib.device import choose_device, choose_precision, seed_everything
from resnet_lib.pyramid import FeaturePyramid

CELL = 4  # pixels: the stride of C2 and P2
LEVELS = ("C2", "C3", "C4", "C5", "P2")


class Locator(nn.Module):
    """(N, 3, H, W) -> (N, 1 + num_classes, H / 4, W / 4): scores, of the background first.

    ``level`` names what the head reads; a coarse map is enlarged bilinearly. Whatever the level,
    a 1x1 and a 3x3 convolution to ``channels`` stand between stage and head, as in the pyramid.
    """

    def __init__(
        self, level: str, num_classes: int = 10, width: int = 16, channels: int = 32, **options
    ):
        super().__init__()
        if level not in LEVELS:
            raise UserError(f"level must be one of {', '.join(LEVELS)}, got {level!r}")
        self.level = level
        self.body = models.build("resnet18", width=width, zero_init=True, **options)
        self.body.fc = nn.Identity()  # the scores of whole images are not asked for
        stages = {f"C{i + 2}": width * 2**i for i in range(4)}
        self.stages = stages if level == "P2" else {level: stages[level]}
        self.neck = FeaturePyramid(self.stages.values(), channels)
        self.head = nn.Conv2d(channels, 1 + num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = self.body.features(x)
        levels = self.neck({name: features[name] for name in self.stages})
        scores = self.head(F.relu(next(iter(levels.values()))))
        size = [-(-side // CELL) for side in x.shape[-2:]]
        return F.interpolate(scores, size=size, mode="bilinear", align_corners=False)


def build(level: str, **options) -> Locator:
    """The network; ``model.spec`` holds the arguments."""
    model = Locator(level, **options)
    model.spec = {"level": level, **options}
    return model


def cell_labels(masks: Tensor, labels: Tensor) -> Tensor:
    """Masks bool (N, H, W), classes (N,) -> int64 (N, H / 4, W / 4), 0 for the background.

    A cell belongs to the object where the object covers at least half of it.
    """
    covered = F.avg_pool2d(masks[:, None].float(), CELL)[:, 0] >= 0.5
    return covered * (1 + labels)[:, None, None]


def batches(
    shapes: data.ImageSet, config: train.TrainConfig, epoch: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled, normalised images (n, C, H, W) and their cells' labels, flipped and transposed."""
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + epoch)
    order = torch.randperm(len(shapes), generator=generator)
    for indices in order.split(config.batch_size):
        images = shapes.read(indices)
        cells = cell_labels(shapes.attributes["mask"][indices], shapes.labels[indices])
        # One of the square's eight symmetries for the whole batch: shapes have no upright.
        turns, mirror = divmod(torch.randint(8, (1,), generator=generator).item(), 2)
        images, cells = (torch.rot90(x, turns, (-2, -1)) for x in (images, cells))
        if mirror:
            images, cells = images.flip(-1), cells.flip(-1)
        images = normalize(images.to(device), shapes.mean, shapes.std)
        yield images.contiguous(memory_format=torch.channels_last), cells.to(device)


@torch.inference_mode()
def answers(model: nn.Module, shapes: data.ImageSet, device: torch.device) -> dict[str, Tensor]:
    """The surest answer for each image, bool (N,): "place", "kind" and "both" right.

    The answer is the cell and class with the largest probability, background left out. Its place is
    right where the object covers any of the cell.
    """
    model.to(device).eval()
    found: dict[str, list[Tensor]] = {"place": [], "kind": [], "both": []}
    for indices in torch.arange(len(shapes)).split(256):
        images = normalize(shapes.read(indices).to(device), shapes.mean, shapes.std)
        sure = model(images).log_softmax(1)[:, 1:].cpu()
        cells = sure[0, 0].numel()
        best = sure.flatten(1).argmax(1)
        touched = F.max_pool2d(shapes.attributes["mask"][indices][:, None].float(), CELL) > 0
        place = touched.flatten(1).gather(1, (best % cells)[:, None])[:, 0]
        kind = best // cells == shapes.labels[indices]
        for name, right in (("place", place), ("kind", kind), ("both", place & kind)):
            found[name].append(right)
    return {name: torch.cat(parts) for name, parts in found.items()}


def by_size(right: Tensor, sizes: Tensor) -> dict[str, float]:
    """Object size in pixels -> share of right answers."""
    return {f"{size:g}": right[sizes == size].double().mean().item() for size in sizes.unique()}


def fit(model: nn.Module, parts: dict[str, data.ImageSet], config: train.TrainConfig, log):
    """Train on parts["train"], one line an epoch to ``log``: the history, (epochs) dictionaries."""
    seed_everything(config.seed)
    run = train.Run(model, parts["train"], config)
    history = []
    for epoch in range(1, config.epochs + 1):
        loss, _ = train.train_one_epoch(
            model,
            batches(parts["train"], config, epoch, run.device),
            run.optimizer,
            run.device,
            run.scheduler,
            run.dtype,
            run.scaler,
        )
        right = answers(model, parts["val"], run.device)["both"].double().mean().item()
        history.append({"epoch": epoch, "train_loss": loss, "val_accuracy": right})
        log(f"epoch {epoch:3d}/{config.epochs}  train loss {loss:.3f}  place and kind {right:.3f}")
    return history


def measure(
    spec: dict[str, Any], parts: dict[str, data.ImageSet], config: train.TrainConfig, log
) -> tuple[list[dict[str, float]], dict[str, Any]]:
    """Train a locator and count its right answers on parts["test"] by size: history and result."""
    device = choose_device(config.device)
    seed_everything(config.seed)
    model = build(**spec)
    history = fit(model, parts, config, log)
    right, sizes = answers(model, parts["test"], device), parts["test"].attributes["size"]
    result: dict[str, Any] = {name: by_size(values, sizes) for name, values in right.items()}
    result |= {f"{name}_images": len(part) for name, part in parts.items()}
    result["images_by_size"] = {f"{s:g}": int((sizes == s).sum()) for s in sizes.unique()}
    result["parameters"] = models.parameter_count(model)
    result["precision"] = str(choose_precision(config.precision, device))
    return history, result
