"""Chapter 17: few images of a new kind, from scratch and with a network that was trained."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resnet_lib import UserError, checkpoint, data, device, finetune, metrics, models, train
from resnet_lib.experiments.variant import Variant

COUNTS = (5, 10, 50, 200)  # training images a class
# Shapes as large as 32 pixels allow, in the one channel that the trained network takes.
SHAPES = {
    "name_or_folder": "scaled-shapes",
    "image_size": 32,
    "channels": 1,
    "sizes": (12, 14, 16, 17),
}
UPDATES, BATCH = 300, 32
# Of 0.02, 0.05 and 0.1 (and 0.2, from scratch) the best on validation images: seed 100, 50 a class.
LR = {"scratch": 0.1, "fine-tune": 0.05}
STARTS = ("scratch", "probe", "fine-tune")


@dataclass(frozen=True)
class Transfer(Variant):
    """One way to start, on so many images a class; the test part is of its own and balanced."""

    start: str = "fine-tune"

    def execute(
        self, log: Callable[[str], None], weights: Path | None = None
    ) -> tuple[list[dict[str, float]], dict[str, Any]]:
        """Train for the updates of the recipe, or fit the probe; then measure the test part once.

        The seed draws the training images, too. All ways see images of the same statistics.
        """
        if weights:
            raise UserError("this experiment keeps no weights: leave --weights out")
        seed, place = self.config.seed, device.choose_device(self.config.device)
        model, about = checkpoint.restore_model()
        parts = {}
        for split in ("train", "val", "test"):
            limit = self.limits.get(split, self.data["limit"])
            part = data.load(split=split, **self.data | {"limit": limit, "seed": seed})
            parts[split] = finetune.as_learned(part, about["data"]["mean"], about["data"]["std"])
        device.seed_everything(seed)
        history = []
        if self.start == "probe":
            finetune.probe(model.to(place), parts["train"])
        else:
            if self.start == "scratch":
                model = models.build(**self.spec)
            finetune.replace_head(model, self.spec["num_classes"])
            fitted = train.fit(model, parts["train"], parts["val"], self.config, log=log)
            history = fitted.epochs[-1:]
        evaluation = train.evaluate(model, parts["test"], place)
        matrix = metrics.confusion_matrix(
            evaluation.labels, evaluation.predictions, self.spec["num_classes"]
        )
        return history, {
            "start": self.start,
            "train_images": len(parts["train"]),
            "test_images": len(parts["test"]),
            "train_accuracy": train.evaluate(model, parts["train"], place).accuracy,
            "test_accuracy": evaluation.accuracy,
            "test_loss": evaluation.loss,
            "test_confusion_matrix": matrix.tolist(),
        }


def transfer(start: str, count: int, updates: int = UPDATES, **config: Any) -> Transfer:
    """``count`` training images a class, passed over about as often as gives the updates."""
    images = 10 * count
    batch = min(BATCH, images)
    epochs = round(updates * batch / images)
    recipe = replace(
        train.TrainConfig.quick(),
        epochs=epochs,
        batch_size=batch,
        warmup_epochs=epochs / 10,
        **{"lr": LR.get(start, 0.05)} | config,
    )
    spec = {"name": "resnet50", "num_classes": 10, "width": 16, "in_channels": 1, "zero_init": True}
    # The validation part decides nothing, and a look at it after each of many passes costs time.
    limits = {"val": 20, "test": 2_000}
    return Transfer(spec, SHAPES | {"limit": images}, recipe, limits=limits, start=start)


def variants() -> dict[str, Transfer]:
    """Each start with each number of images; at 50 a class, what may learn, and how fast.

    And five times the updates from scratch: is it the images that are missing, or the time?
    """
    curves = {f"{start}-n{count}": transfer(start, count) for count in COUNTS for start in STARTS}
    layers = {f"frozen-{parts}": transfer("fine-tune", 50, frozen=parts) for parts in range(1, 6)}
    rates = {f"lr-{lr:g}": transfer("fine-tune", 50, lr=lr) for lr in (0.002, 0.01, 0.25)}
    others = {
        "head-10": transfer("fine-tune", 50, head_factor=10.0),
        "scratch-n200-long": transfer("scratch", 200, updates=5 * UPDATES),
    }
    return curves | layers | rates | others
