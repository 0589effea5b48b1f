"""One arm of an experiment: what is trained, on what, and what is measured."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from resnet_lib import UserError, checkpoint, data, device, locate, metrics, models, train

Measure = Callable[[nn.Module, data.ImageSet], dict[str, Any]]
Details = Callable[[nn.Module, train.Evaluation, data.ImageSet], dict[str, Any]]


@dataclass(frozen=True)
class Variant:
    """One arm of an experiment: arguments of ``make`` and of ``data.load``, and the recipe.

    ``measure`` (model, validation part) -> plain data is taken before and after the training,
    each of ``details`` (model, evaluation, test part) -> more results at the end. ``limits`` are
    the images of "val" and "test" where they differ from what ``data`` says, and of "fitted", the
    part of the training images on which the trained network is measured; all where there is none.
    """

    spec: dict[str, Any]
    data: dict[str, Any]
    config: train.TrainConfig
    make: Callable[..., nn.Module] = models.build
    measure: Measure | None = None
    details: tuple[Details, ...] = ()
    limits: dict[str, int] = field(default_factory=dict)
    half: bool = False  # round the trained weights to float16, in which they are kept

    def execute(
        self, log: Callable[[str], None], weights: Path | None = None
    ) -> tuple[list[dict[str, float]], dict[str, Any]]:
        """Train, and measure the last epoch once on the test part: history and result.

        No epoch is chosen, so the validation part has no influence on the test figures. The
        network that was measured is written to ``weights``.
        """
        place = device.choose_device(self.config.device)
        train_part, val_part, test_part = (self.part(split) for split in ("train", "val", "test"))
        device.seed_everything(self.config.seed)  # the initial weights
        model = self.make(**self.spec)
        before = {"before": self.measure(model, val_part)} if self.measure else {}
        history = train.fit(model, train_part, val_part, self.config, log=log)
        after = {"after": self.measure(model, val_part)} if self.measure else {}
        if self.half:
            checkpoint.round_to_half(model)
        if weights:
            about = train.describe(train_part) | {"examples": len(train_part)}
            checkpoint.save_weights(weights, model, {"data": about}, half=self.half)
        # Weights at rest, no augmentation; the training images come in random order.
        fitted_part = data.subset(train_part, range(len(train_part))[: self.limits.get("fitted")])
        fitted = train.evaluate(model, fitted_part, place)
        evaluation = train.evaluate(model, test_part, place)
        matrix = metrics.confusion_matrix(
            evaluation.labels, evaluation.predictions, len(test_part.classes)
        )
        result = {
            "train_images": len(train_part),
            "val_images": len(val_part),
            "test_images": len(test_part),
            "train_accuracy": fitted.accuracy,
            "train_loss": fitted.loss,
            "val_accuracy": history.epochs[-1]["val_accuracy"],
            "test_accuracy": evaluation.accuracy,
            "test_loss": evaluation.loss,
            "test_confusion_matrix": matrix.tolist(),
            "parameters": models.parameter_count(model),
            "precision": str(device.choose_precision(self.config.precision, place)),
            **before,
            **after,
        }
        for details in self.details:
            result |= details(model, evaluation, test_part)
        return history.epochs, result

    def part(self, split: str) -> data.ImageSet:
        """A part of the images, as many as ``limits`` or ``data`` say."""
        limits = {"limit": self.limits[split]} if split in self.limits else {}
        return data.load(split=split, **self.data | limits)


@dataclass(frozen=True)
class Location(Variant):
    """An arm of chapter 9's small task: what is it, and where?"""

    def execute(
        self, log: Callable[[str], None], weights: Path | None = None
    ) -> tuple[list[dict[str, float]], dict[str, Any]]:
        """Train, and count the right answers on the test part by object size."""
        if weights:
            raise UserError("this experiment keeps no weights: leave --weights out")
        parts = {split: self.part(split) for split in ("train", "val", "test")}
        return locate.measure(self.spec, parts, self.config, log)
