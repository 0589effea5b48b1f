"""What tutorials give: torchvision's network and a loop over pictures, one by one, in float32.

Only the bench uses it, to have something to compare the package's own training path with.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from resnet_lib import data
from resnet_lib.device import choose_device
from resnet_lib.recipes import TrainConfig


class Pictures(torch.utils.data.Dataset):
    """The images as PIL images, each transformed alone when it is asked for."""

    def __init__(self, images: data.ImageSet, transform: Callable):
        from torchvision.transforms.functional import to_pil_image

        self.pictures = [to_pil_image(image) for image in images.images]
        self.labels = images.labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.pictures[index]), self.labels[index]


def network(name: str, images: data.ImageSet) -> nn.Module:
    """torchvision's network of that name, for these classes, with random weights."""
    import torchvision

    model = getattr(torchvision.models, name)(num_classes=len(images.classes))
    model.spec = {"name": f"torchvision's {name}"}  # a run notes how its model was built
    return model


def plain_sgd(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The recipe's SGD as torch makes it by default: not fused."""
    options = {"momentum": config.momentum, "weight_decay": config.weight_decay}
    return torch.optim.SGD(model.parameters(), config.lr, **options)


def loop(
    images: data.ImageSet, name: str, workers: int, config: TrainConfig
) -> Callable[[int], None]:
    """A function that trains for an epoch, whose number makes no difference to it.

    float32, NCHW, transforms image by image, which augment as the recipe does, and the recipe's
    batch size and SGD.
    """
    from torchvision import transforms

    device = choose_device(config.device)
    transform = transforms.Compose(
        [
            transforms.RandomCrop(images.image_size, padding=config.augment.crop_padding),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(images.mean, images.std),
        ]
    )
    loader = torch.utils.data.DataLoader(
        Pictures(images, transform),
        batch_size=config.batch_size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    model = network(name, images).to(device).train()
    criterion = nn.CrossEntropyLoss()
    optimizer = plain_sgd(model, config)

    def epoch(number: int) -> None:
        running_loss = 0.0
        for inputs, labels in loader:
            inputs, labels = inputs.to(device), labels.to(device)
            optimizer.zero_grad()
            loss = criterion(model(inputs), labels)
            loss.backward()
            optimizer.step()
            running_loss += loss.item()

    return epoch
