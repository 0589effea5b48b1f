"""What a network costs: time of a step and of an inference, and memory by part."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resnet_lib import UserError, device, models, train
from resnet_lib.experiments.variant import Variant
from resnet_lib.memory import saved_bytes

WARM_UP = 2  # steps that are not timed: the first ones allocate and choose kernels


@dataclass(frozen=True)
class Cost(Variant):
    """An arm that trains nothing to the end: it times single batches. A seed is a repetition."""

    steps: int = 8

    def execute(
        self, log: Callable[[str], None], weights: Path | None = None
    ) -> tuple[list[dict[str, float]], dict[str, Any]]:
        """Median and quartiles of the images a second, and bytes by part."""
        if weights:
            raise UserError("this experiment keeps no weights: leave --weights out")
        images = self.part("train")
        device.seed_everything(self.config.seed)
        run = train.Run(self.make(**self.spec), images, self.config)
        batches = list(train.training_batches(images, self.config, 0, run.device))
        batches = [batch for batch in batches if len(batch[1]) == self.config.batch_size]
        speeds: dict[str, list[float]] = {"training": [], "inference": []}
        for step in range(WARM_UP + self.steps):
            batch = batches[step % len(batches)]
            for name, work in (("training", train_step), ("inference", infer)):
                device.synchronize(run.device)
                started = time.perf_counter()
                work(run, batch)
                device.synchronize(run.device)
                speeds[name].append(len(batch[1]) / (time.perf_counter() - started))
        parameters = sum(p.numel() * p.element_size() for p in run.model.parameters())
        run.model.train()
        return [], {
            "batch_size": self.config.batch_size,
            "precision": str(run.dtype),
            "images_per_second": {name: spread(found[WARM_UP:]) for name, found in speeds.items()},
            "bytes": {
                "parameters": parameters,
                "gradients": parameters,
                "optimizer": sum(
                    value.numel() * value.element_size()
                    for state in run.optimizer.state.values()
                    for value in state.values()
                    if isinstance(value, Tensor)
                ),
                "activations": saved_bytes(run.model, batches[0][0], run.dtype),
            },
            "multiply_adds": models.multiply_adds(
                run.model, images.image_size, in_channels=images.channels
            ),
            "parameters": models.parameter_count(run.model),
        }


def train_step(run: train.Run, batch: tuple[Tensor, Tensor]) -> None:
    """A step of the training loop itself, on one batch."""
    train.train_one_epoch(
        run.model, [batch], run.optimizer, run.device, run.scheduler, run.dtype, run.scaler
    )


@torch.inference_mode()
def infer(run: train.Run, batch: tuple[Tensor, Tensor]) -> None:
    """Classify one batch in the run's number format."""
    run.model.eval()
    with torch.autocast(run.device.type, run.dtype, enabled=run.dtype != torch.float32):
        run.model(batch[0])


def spread(values: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return {"median": median, "low": low, "high": high}
