"""Chapter 12: one base recipe, and each of its parts switched alone."""

from dataclasses import replace

from torch import nn

from resnet_lib import models, train
from resnet_lib.augment import Mix
from resnet_lib.blocks import Bottleneck
from resnet_lib.experiments.variant import Variant

BASE = train.TrainConfig.quick()
SPEC = {"name": "resnet50", "num_classes": 10, "width": 16, "in_channels": 1, "zero_init": True}
# What differs from the base recipe: of the recipe, or of the network.
RECIPES = {
    "label-smoothing": {"label_smoothing": 0.1},
    "mixup": {"mix": Mix(mixup=0.2)},
    "cutmix": {"mix": Mix(cutmix=1.0)},
    "average": {"average": 0.99},
    "no-decay-on-norms": {"decay_norms": False},
    "no-decay": {"weight_decay": 0.0},
    "no-augmentation": {"augment": None},
    "half-lr": {"lr": BASE.lr / 2},
    "double-lr": {"lr": 2 * BASE.lr},
    "half-batch": {"batch_size": 32, "lr": BASE.lr / 2},
    "double-batch": {"batch_size": 128, "lr": 2 * BASE.lr},
    "double-epochs": {"epochs": 2 * BASE.epochs},
}
NETWORKS = {
    "no-zero-init": {"zero_init": False},
    "stride-in-1x1": {"stride_in": "1x1"},
    "dropout-head": {"head_dropout": 0.2},
    "dropout-branch": {"branch_dropout": 0.1},
    "small-stem": {"stem": "small"},
}


def with_dropout(head_dropout: float = 0.0, branch_dropout: float = 0.0, **spec) -> models.ResNet:
    """The network with dropout before its last layer, or before the last convolution of a branch.

    The second is the place of Zagoruyko and Komodakis 2016, section 2.4, in a bottleneck.
    """
    model = models.build(**spec)
    if head_dropout:
        model.fc = nn.Sequential(nn.Dropout(head_dropout), model.fc)
    for block in model.modules():
        if branch_dropout and isinstance(block, Bottleneck):
            block.conv3 = nn.Sequential(nn.Dropout(branch_dropout), block.conv3)
    model.spec = {**spec, "head_dropout": head_dropout, "branch_dropout": branch_dropout}
    return model


def variants() -> dict[str, Variant]:
    """The base, and a variant for each switch."""
    fashion, limits = {"name_or_folder": "fashion"}, {"fitted": 2_000}
    base = Variant(SPEC, fashion, BASE, with_dropout, limits=limits)
    recipes = {name: replace(base, config=replace(BASE, **c)) for name, c in RECIPES.items()}
    networks = {name: replace(base, spec=SPEC | change) for name, change in NETWORKS.items()}
    return {"base": base, **recipes, **networks}
