"""Fine-tuning: a trained network, a new last layer, and how much of the rest may learn.

``recipes.TrainConfig`` says how much: ``frozen`` parts and the ``head_factor``.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_lib import UserError, data, models
from resnet_lib.augment import normalize
from resnet_lib.device import choose_device

DECAY = 0.01  # of the probe's weights, for features of variance one
LEAST = 10  # a feature's deviation counts as a tenth of the mean one at least


def replace_head(model: models.ResNet, num_classes: int) -> models.ResNet:
    """The same network with a new last layer, drawn at random, for so many classes."""
    old = model.fc.weight
    model.fc = nn.Linear(old.shape[1], num_classes).to(old.device)
    model.spec = model.spec | {"num_classes": num_classes}
    return model


@torch.no_grad()
def embed(
    model: models.ResNet,
    dataset: data.ImageSet | data.FolderSet,
    device: str | torch.device = "auto",
    batch_size: int = 256,
) -> tuple[Tensor, Tensor]:
    """What the last layer gets to see: features float32 (N, K), and labels (N,), on the CPU."""
    device = choose_device(str(device))
    model.to(device).eval()
    features, labels = [], []
    for images, targets in data.batches(dataset, batch_size):
        images = normalize(images.to(device), dataset.mean, dataset.std)
        features.append(model.avgpool(model.features(images)["C5"]).flatten(1).cpu())
        labels.append(targets)
    return torch.cat(features), torch.cat(labels)


def fit_probe(
    features: Tensor, labels: Tensor, num_classes: int, decay: float = DECAY
) -> nn.Linear:
    """The linear layer with the least mean cross-entropy on features (N, K) and labels (N,).

    Plus ``decay`` / 2 times the sum of its squared weights, for features brought to mean 0 and
    variance 1, so that the least is reached at one place only. The scaling is put into the layer.
    Features that hardly vary get less than variance 1.
    """
    x = features.double()
    mean, std = x.mean(0), x.std(0, correction=0)
    # A feature that hardly varies in a few images may vary a lot in others: don't blow it up.
    std = std.clamp(min=max(std.mean().item() / LEAST, 1e-12))
    x = (x - mean) / std
    weight = torch.zeros(num_classes, x.shape[1], dtype=torch.double, requires_grad=True)
    bias = torch.zeros(num_classes, dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=500, tolerance_grad=1e-7, line_search_fn="strong_wolfe"
    )

    def objective() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(x, weight, bias), labels)
        loss = loss + decay / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(objective)
    layer = nn.Linear(x.shape[1], num_classes)
    with torch.no_grad():
        layer.weight.copy_(weight / std)
        layer.bias.copy_(bias - (weight / std) @ mean)
    return layer


def probe(
    model: models.ResNet, train: data.ImageSet | data.FolderSet, decay: float = DECAY
) -> models.ResNet:
    """The network with a last layer fitted to the training part, and nothing else changed."""
    place = model.fc.weight.device
    features, labels = embed(model, train, place)
    replace_head(model, len(train.classes))
    model.fc = fit_probe(features, labels, len(train.classes), decay).to(place)
    return model


def as_learned(
    dataset: data.ImageSet | data.FolderSet, mean: tuple[float, ...], std: tuple[float, ...]
) -> data.ImageSet | data.FolderSet:
    """The images with the mean and deviation of those that the network learned from.

    Raises UserError if the channels differ: then load the images with the network's.
    """
    if len(mean) != dataset.channels:
        raise UserError(
            f"the network takes images of {len(mean)} channels, these have {dataset.channels}: "
            f"load them with channels={len(mean)}"
        )
    return replace(dataset, mean=tuple(mean), std=tuple(std))
