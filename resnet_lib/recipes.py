"""Recipes: all that a training run may choose, the optimizer it asks for, averaged weights."""

import copy
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from resnet_lib import UserError
from resnet_lib.augment import Augment, Mix

OPTIMIZERS = ("sgd", "adamw")
# A ResNet's parts from the input on; after them only the last linear layer follows.
PARTS = (("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",))


@dataclass(frozen=True)
class TrainConfig:
    """How to train. ``lr`` is the peak, reached after the warm-up; "auto" asks the machine.

    ``decay_norms`` says whether the weight decay also pulls at biases and batch norms. ``average``
    is the decay of an average of the weights, 0 for none (see ``Average``). ``accumulate`` cuts a
    batch into so many parts that run one after another, to fit a smaller memory. ``freeze_norms``
    keeps the batch norms' statistics as they are at the start. ``frozen`` keeps so many parts of
    the network as they are (see ``freeze``), and the last layer learns at ``head_factor`` times the
    rate. ``batch_size`` is that of all processes together.
    """

    epochs: int = 10
    batch_size: int = 128
    optimizer: str = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    decay_norms: bool = True
    freeze_norms: bool = False
    frozen: int = 0
    head_factor: float = 1.0
    warmup_epochs: float = 1.0
    label_smoothing: float = 0.0
    average: float = 0.0
    accumulate: int = 1
    precision: str = "auto"
    channels_last: bool = True
    augment: Augment | None = field(default_factory=Augment)
    mix: Mix | None = None
    seed: int = 0
    device: str = "auto"

    def __post_init__(self):
        if self.optimizer not in OPTIMIZERS:
            raise UserError(
                f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {self.optimizer!r}"
            )
        if min(self.epochs, self.batch_size, self.accumulate) < 1:
            raise UserError("epochs, batch_size and accumulate must be at least 1")
        if not (self.lr > 0 and 0 <= self.warmup_epochs < self.epochs):
            raise UserError("lr must be above 0, and warmup_epochs from 0 to below epochs")
        if not (0 <= self.label_smoothing < 1 and self.weight_decay >= 0 and self.momentum >= 0):
            raise UserError(
                "label_smoothing must be in [0, 1), weight_decay and momentum at least 0"
            )
        if not (0 <= self.frozen <= len(PARTS) and self.head_factor > 0):
            raise UserError(f"frozen must be 0 to {len(PARTS)}, and head_factor above 0")
        if not 0 <= self.average < 1:
            raise UserError(f"average must be in [0, 1), got {self.average}")

    @classmethod
    def quick(cls) -> "TrainConfig":
        """A short recipe for a narrow network on a CPU, about a minute."""
        return cls(epochs=6, batch_size=64, lr=0.05, warmup_epochs=0.5)

    @classmethod
    def full(cls) -> "TrainConfig":
        """A longer recipe for the full-width networks on a CUDA device."""
        return cls(epochs=30, batch_size=256, lr=0.2, warmup_epochs=3.0, label_smoothing=0.1)


def warmup_cosine(step: int, total: int, warmup: int) -> float:
    """Factor on the learning rate: linear from near 0 to 1, then a half cosine to 0.

    Goyal et al. 2017, section 2.2; Loshchilov and Hutter 2016, equation 5, without restarts.
    """
    if step < warmup:
        return (step + 1) / warmup
    return (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup))) / 2


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The weights of convolutions and linear layers with decay; biases and norms without.

    He et al. 2018, section 3.1. Biases and the weights of norms are those of one dimension.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW, over all parameters."""
    options = {"lr": config.lr, "weight_decay": config.weight_decay, "fused": True}
    parameters = model.parameters()
    if not config.decay_norms:
        parameters = parameter_groups(model, config.weight_decay)
    if config.head_factor != 1:
        groups = [{"params": list(parameters)}] if config.decay_norms else parameters
        parameters = with_head_apart(groups, model.fc, config.head_factor * config.lr)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, **options)
    return torch.optim.SGD(parameters, momentum=config.momentum, **options)


def with_head_apart(
    groups: list[dict[str, Any]], head: nn.Module, lr: float
) -> list[dict[str, Any]]:
    """The groups, with the parameters of ``head`` in groups of their own that learn at ``lr``."""
    own = {id(parameter) for parameter in head.parameters()}
    body, apart = (
        [group | {"params": [p for p in group["params"] if (id(p) in own) is inside]} | rate
         for group in groups]
        for inside, rate in ((False, {}), (True, {"lr": lr}))
    )  # fmt: skip
    return body + apart


class FrozenNorm(nn.BatchNorm2d):
    """A batch norm that normalises by its running statistics in training too, and keeps these."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return (x * scale[:, None, None] + shift[:, None, None]).to(x.dtype)


def freeze_norms(model: nn.Module) -> None:
    """Keep the statistics of all batch norms; their weights and biases go on learning."""
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = FrozenNorm


def freeze(model: nn.Module, parts: int) -> None:
    """Keep the first ``parts`` of a ResNet as they are: weights, biases and statistics.

    1 is the stem, 2 the stem and the first stage, and so on; 5 is all but the last layer.
    """
    for names in PARTS[:parts]:
        for name in names:
            freeze_norms(getattr(model, name).requires_grad_(False))


class Average:
    """An exponential moving average of a model's weights and buffers, in a model of its own.

    After step t the average moves by 1 - min(decay, (1 + t) / (10 + t)) of the way to the weights,
    so that the first steps, far from the end, are soon forgotten. Polyak and Juditsky 1992; the
    ramp is that of TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.decay, self.steps = decay, 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move towards the weights that the model has after a step."""
        self.steps += 1
        share = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        ours, theirs = self.model.state_dict(), model.state_dict()
        names = [name for name, value in ours.items() if value.is_floating_point()]
        torch._foreach_lerp_([ours[n] for n in names], [theirs[n] for n in names], share)
        for name in set(ours) - set(names):  # counters of batches
            ours[name].copy_(theirs[name])

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs to go on."""
        return {"steps": self.steps, "model": self.model.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""
        self.steps = state["steps"]
        self.model.load_state_dict(state["model"])


def hard(labels: Tensor) -> Tensor:
    """Class numbers as they are; shares of the classes (N, K) -> the largest one's number (N,)."""
    return labels.argmax(1) if labels.is_floating_point() else labels
