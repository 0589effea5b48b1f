"""The book's recorded experiments: what each trains, and the record of one run."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from resnet_lib import (
    UserError,
    checkpoint,
    cifar,
    data,
    device,
    locate,
    metrics,
    models,
    pyramid,
    records,
    signals,
    train,
)
from resnet_lib.augment import Augment, normalize

Measure = Callable[[nn.Module, data.ImageSet], dict[str, Any]]
Details = Callable[[train.Evaluation, data.ImageSet], dict[str, Any]]


@dataclass(frozen=True)
class Variant:
    """One arm of an experiment: arguments of ``make`` and of ``data.load``, and the recipe.

    ``measure`` (model, validation part) -> plain data is taken before and after the training,
    ``details`` (evaluation, test part) -> more results at the end.
    """

    spec: dict[str, Any]
    data: dict[str, Any]
    config: train.TrainConfig
    make: Callable[..., nn.Module] = models.build
    measure: Measure | None = None
    details: Details | None = None
    test_limit: int | None = None  # images of the test part, where ``data`` does not say
    half: bool = False  # round the trained weights to float16, in which they are kept

    def execute(
        self, log: Callable[[str], None], weights: Path | None = None
    ) -> tuple[list[dict[str, float]], dict[str, Any]]:
        """Train, and measure the last epoch once on the test part: history and result.

        No epoch is chosen, so the validation part has no influence on the test figures. The
        network that was measured is written to ``weights``.
        """
        place = device.choose_device(self.config.device)
        train_part, val_part = (data.load(split=split, **self.data) for split in ("train", "val"))
        tests = {"limit": self.test_limit} if self.test_limit else {}
        test_part = data.load(split="test", **self.data | tests)
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
        fitted = train.evaluate(model, train_part, place)  # weights at rest, no augmentation
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
            **(self.details(evaluation, test_part) if self.details else {}),
        }
        return history.epochs, result


@dataclass(frozen=True)
class Location(Variant):
    """An arm of chapter 9's small task: what is it, and where?"""

    def execute(
        self, log: Callable[[str], None], weights: Path | None = None
    ) -> tuple[list[dict[str, float]], dict[str, Any]]:
        """Train, and count the right answers on the test part by object size."""
        if weights:
            raise UserError("this experiment keeps no weights: leave --weights out")
        parts = {split: data.load(split=split, **self.data) for split in ("train", "val", "test")}
        return locate.measure(self.spec, parts, self.config, log)


def quarter_width(name: str) -> Variant:
    """A network of 16 base channels on the embedded images, as in chapter 11."""
    spec = {"name": name, "num_classes": 10, "width": 16, "in_channels": 1, "zero_init": True}
    return Variant(spec, {"name_or_folder": "fashion"}, train.TrainConfig.quick())


def signals_of_a_batch(model: nn.Module, val: data.ImageSet) -> dict[str, Any]:
    """``signals.block_signals`` for the first 256 images of the validation part."""
    images, labels = next(iter(data.batches(val, 256)))
    place = next(model.parameters()).device
    images = normalize(images.to(place), val.mean, val.std)
    return signals.block_signals(model, images, labels.to(place))


def cifar_family(depth: int, residual: bool) -> Variant:
    """The paper's 6n + 2 layers and widths; images of half the side, since a CPU is slow."""
    config = train.TrainConfig(
        epochs=25, batch_size=64, lr=0.05, weight_decay=1e-4, augment=Augment(crop_padding=2)
    )
    return Variant(
        {"depth": depth, "residual": residual, "in_channels": 1},
        {"name_or_folder": "fashion", "image_size": 16},
        config,
        cifar.build,
        signals_of_a_batch,
    )


def fields_of_view(model: nn.Module, val: data.ImageSet) -> dict[str, Any]:
    """Stage -> the effective receptive field of its middle unit, on sheets of validation images.

    A sheet has five by five images of 96 pixels, large enough for the fields. "width" is the
    Gaussian width in pixels, "square" the side of the smallest centred square with 95 % of the
    heat. The map around the unit has "side" times "side" cells of "cell" pixels: "heat" holds the
    square roots of their sums, from 0 to 255, as two hexadecimal digits each, row by row.
    """
    place, rows, sheets = next(model.parameters()).device, 5, 8
    images, _ = next(iter(data.batches(val, sheets * rows**2)))
    images = images[: len(images) // rows**2 * rows**2]  # whole sheets
    pictures = normalize(images.to(place), val.mean, val.std)
    channels, side = pictures.shape[1:3]
    sheets = pictures.view(-1, rows, rows, channels, side, side).permute(0, 3, 1, 4, 2, 5)
    sheets = sheets.reshape(-1, channels, rows * side, rows * side)
    model = pyramid.with_statistics_of(model, pictures)
    measured = {}
    for stage, field in pyramid.receptive_field(model).items():
        heat = pyramid.effective_receptive_field(model, sheets, stage)
        middle = sum(field.span(heat.shape[0] // field.jump // 2)) // 2
        cell = math.ceil(min(field.size, heat.shape[0]) / 57)
        cells = math.ceil(min(field.size, heat.shape[0]) / cell) | 1  # odd: one in the middle
        measured[stage] = {
            "width": pyramid.gaussian_width(heat),
            "square": pyramid.square_of_share(heat, middle, 0.95),
            "cell": cell,
            "side": cells,
            "heat": pyramid.to_bytes(pyramid.cells_around(heat, middle, cell, cells)).hex(),
        }
    return measured


def field_of_view(name: str, **options) -> Variant:
    """A quarter-width network on enlarged images, so that C5 has three by three units.

    Blocks don't start as their shortcuts here: before training that would hide the branches.
    """
    spec = {"name": name, "num_classes": 10, "width": 16, "in_channels": 1, **options}
    config = replace(train.TrainConfig.quick(), epochs=4, warmup_epochs=1)
    images = {"name_or_folder": "fashion", "image_size": 96}
    return Variant(spec, images, config, measure=fields_of_view)


def accuracy_by_size(evaluation: train.Evaluation, test: data.ImageSet) -> dict[str, Any]:
    """Test accuracy and number of test images for each size of the objects in pixels."""
    right, sizes = evaluation.predictions == evaluation.labels, test.attributes["size"]
    return {
        "accuracy_by_size": locate.by_size(right, sizes),
        "images_by_size": {f"{size:g}": int((sizes == size).sum()) for size in sizes.unique()},
    }


def object_size(name: str) -> Variant:
    """Quarter width, 64 pixels, objects from an eighth to a half of the side."""
    spec = {"name": name, "num_classes": 10, "width": 16, "in_channels": 3, "zero_init": True}
    images = {"name_or_folder": "scaled-shapes", "limit": 20_000, "sizes": (8, 11, 16, 23, 32)}
    config = replace(train.TrainConfig.quick(), epochs=12, warmup_epochs=1)
    return Variant(spec, images, config, details=accuracy_by_size, test_limit=5_000)


def location(level: str) -> Location:
    """A ResNet-18 of 16 base channels and a head on one level; the images are generated."""
    config = replace(train.TrainConfig.quick(), epochs=12, warmup_epochs=1, augment=None)
    return Location({"level": level}, {"name_or_folder": "scaled-shapes", "limit": 20_000}, config)


def shipped() -> Variant:
    """Chapter 11's network, trained five times as long: the one that comes with the package."""
    quick = quarter_width("resnet50")
    config = replace(quick.config, epochs=30, warmup_epochs=1)
    return replace(quick, config=config, half=True)


EXPERIMENTS = {
    # Chapter 5: depth without and with shortcuts.
    "degradation": {
        f"{'residual' if residual else 'plain'}-{depth}": cifar_family(depth, residual)
        for depth in (20, 56)
        for residual in (False, True)
    },
    # Chapter 11: what one minute of training gives, and how far it varies with the seed.
    "quick": {f"{name}-w16": quarter_width(name) for name in ("resnet50", "resnet101")},
    # Chapter 15, planned in book/results/PLANS.md before the first run: depth and object size.
    "object-size": {f"{name}-w16": object_size(name) for name in ("resnet50", "resnet101")},
    # Chapters 14 and 16: the network that comes with the package.
    "shipped": {checkpoint.SHIPPED: shipped()},
    # Chapter 9: small objects with one stage alone and with the pyramid.
    "pyramid": {level: location(level) for level in ("C2", "C5", "P2")},
    # Chapter 9: what the units look at, before and after training; and for the explorer v1, too.
    "receptive-fields": {f"{name}-w16": field_of_view(name) for name in ("resnet50", "resnet101")},
    "receptive-fields-v1": {
        f"{name}-w16": field_of_view(name, stride_in="1x1") for name in ("resnet50", "resnet101")
    },
}


def find(name: str) -> dict[str, Variant]:
    """The variants of an experiment; UserError where there is none of that name."""
    if name not in EXPERIMENTS:
        raise UserError(f"experiment must be one of {', '.join(EXPERIMENTS)}, got {name!r}")
    return EXPERIMENTS[name]


def trial(variant: Variant, limit: int | None, epochs: int | None) -> Variant:
    """The same variant on fewer images or for fewer epochs, to try the machinery."""
    images = variant.data | ({"limit": limit} if limit else {})
    variant = replace(variant, test_limit=limit or variant.test_limit)
    if epochs:
        warmup = min(variant.config.warmup_epochs, epochs / 2)
        return replace(
            variant,
            data=images,
            config=replace(variant.config, epochs=epochs, warmup_epochs=warmup),
        )
    return replace(variant, data=images)


def run(
    experiment: str,
    name: str,
    variant: Variant,
    seed: int,
    command: str,
    log: Callable[[str], None] = train.say,
    weights: Path | None = None,
) -> records.Record:
    """Run one variant with one seed and put on record what came out, and from what."""
    variant = replace(variant, config=replace(variant.config, seed=seed))
    place = device.choose_device(variant.config.device)
    commit, date, started = records.commit(), records.now(), time.perf_counter()
    history, result = variant.execute(log, weights)
    return records.Record(
        experiment=experiment,
        variant=name,
        seed=seed,
        config=asdict(variant.config) | {"spec": variant.spec, "data": variant.data},
        history=history,
        result=result,
        environment=records.environment(place),
        commit=commit,
        date=date,
        seconds=round(time.perf_counter() - started, 1),
        command=command,
    )
