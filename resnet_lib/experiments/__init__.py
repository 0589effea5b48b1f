"""The book's recorded experiments: what each trains, and the record of one run."""

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from resnet_lib import UserError, checkpoint, cifar, device, models, records, train
from resnet_lib.augment import Augment
from resnet_lib.experiments import ablation, measures, transfer
from resnet_lib.experiments.attention import Attention
from resnet_lib.experiments.costs import Cost
from resnet_lib.experiments.serving import Serving
from resnet_lib.experiments.variant import Location, Variant

DEPTHS = ("resnet50", "resnet101")


def quarter_width(name: str) -> Variant:
    """A network of 16 base channels on the embedded images, as in chapter 11."""
    spec = {"name": name, "num_classes": 10, "width": 16, "in_channels": 1, "zero_init": True}
    return Variant(spec, {"name_or_folder": "fashion"}, train.TrainConfig.quick())


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
        measures.signals_of_a_batch,
    )


def field_of_view(name: str, **options) -> Variant:
    """A quarter-width network on enlarged images, so that C5 has three by three units.

    Blocks don't start as their shortcuts here: before training that would hide the branches.
    """
    spec = {"name": name, "num_classes": 10, "width": 16, "in_channels": 1, **options}
    config = replace(train.TrainConfig.quick(), epochs=4, warmup_epochs=1)
    images = {"name_or_folder": "fashion", "image_size": 96}
    return Variant(spec, images, config, measure=measures.fields_of_view)


def compared(name: str) -> Variant:
    """Chapter 11's runs again, with what chapter 15 compares beside the accuracy."""
    return replace(quarter_width(name), details=(measures.quality, measures.right_by_image))


SHAPES = 60_000  # training images of chapter 15, each seen once
SHAPES_LR = 0.2  # of 0.05, 0.2 and 0.4 the best for ResNet-50 on validation images, seed 100


def object_size(
    name: str, width: int = 16, image_size: int = 64, images: int = SHAPES, details: tuple = ()
) -> Variant:
    """One pass over fresh images, objects from an eighth to a half of the side."""
    spec = {"name": name, "num_classes": 10, "width": width, "in_channels": 3, "zero_init": True}
    sizes = {64: (8, 11, 16, 23, 32), 48: (6, 8, 12, 17, 24)}[image_size]
    shapes = {"name_or_folder": "scaled-shapes", "image_size": image_size, "sizes": sizes}
    return Variant(
        spec,
        shapes | {"limit": images},
        replace(train.TrainConfig.quick(), epochs=1, lr=SHAPES_LR, warmup_epochs=0.1),
        details=(measures.accuracy_by_size, measures.right_by_image, *details),
        limits={"val": 2_000, "test": 5_000, "fitted": 5_000},
    )


def longer(name: str, other: str) -> Variant:
    """As many more fresh images as make the multiply-adds of the other network's training."""
    base = object_size(name)
    own, others = (
        models.multiply_adds(models.build(**base.spec | {"name": each}), base.data["image_size"], 3)
        for each in (name, other)
    )
    return object_size(name, images=100 * round(SHAPES * others / own / 100))


def look_of(name: str) -> Attention:
    """What the networks of ``object_size`` look at; they are read, not trained again."""
    base = object_size(name)
    return Attention(base.spec, base.data, base.config, limits=base.limits)


def cost(name: str, width: int) -> Cost:
    """What a step costs, on batches of 64 scaled shapes of 64 pixels."""
    spec = {"name": name, "num_classes": 10, "width": width, "in_channels": 3}
    return Cost(spec, {"name_or_folder": "scaled-shapes", "limit": 640}, train.TrainConfig.quick())


def served(**options) -> Serving:
    """The network that comes with the package, in use; calibrated and timed on its own images."""
    data = {"name_or_folder": "fashion"}
    return Serving({}, data, train.TrainConfig.quick(), shipped=True, **options)


def served_whole() -> Serving:
    """A ResNet-50 at full width and 224 pixels, with random weights, on one thread."""
    spec = {"name": "resnet50", "num_classes": 1000, "width": 64, "in_channels": 3}
    images = {"name_or_folder": "scaled-shapes", "image_size": 224}
    sizes = {"rounds": 5, "requests": 10, "batch": 4, "limits": {"train": 32, "test": 16}}
    return Serving(spec, images, train.TrainConfig.quick(), threads=1, **sizes)


def location(level: str) -> Location:
    """A ResNet-18 of 16 base channels and a head on one level; the images are generated."""
    config = replace(train.TrainConfig.quick(), epochs=12, warmup_epochs=1, augment=None)
    return Location({"level": level}, {"name_or_folder": "scaled-shapes", "limit": 20_000}, config)


def shipped(stem: str = "imagenet", epochs: int = 30) -> Variant:
    """Chapter 11's network, trained longer: those that come with the package.

    With the small stem a pass takes seven times as long.
    """
    quick = quarter_width("resnet50")
    spec = quick.spec | ({"stem": stem} if stem != "imagenet" else {})
    config = replace(quick.config, epochs=epochs, warmup_epochs=1)
    return replace(quick, spec=spec, config=config, half=True)


def full_width(name: str) -> Variant:
    """The whole network with half of the passes of chapter 11's short recipe."""
    base = quarter_width(name)
    return replace(
        base,
        spec=base.spec | {"width": 64},
        config=replace(base.config, epochs=3),
        limits={"fitted": 2_000},
    )


def with_images(count: int) -> Variant:
    """Fewer training images, passed over as often as gives the number of updates of all 9,000."""
    base = quarter_width("resnet50")
    epochs = round(base.config.epochs * 9_000 / count)
    # The validation part decides nothing here; a look at it after each of many epochs costs time.
    return replace(
        base,
        data=base.data | {"limit": count},
        config=replace(base.config, epochs=epochs, warmup_epochs=0.5 * 9_000 / count),
        limits={"val": 200, "test": 2_000},
    )


EXPERIMENTS = {
    # Chapter 5: depth without and with shortcuts.
    "degradation": {
        f"{'residual' if residual else 'plain'}-{depth}": cifar_family(depth, residual)
        for depth in (20, 56)
        for residual in (False, True)
    },
    # Chapter 11: what one minute of training gives, and how far it varies with the seed.
    "quick": {f"{name}-w16": quarter_width(name) for name in DEPTHS},
    # Chapter 10: what more training images are worth.
    "data-size": {f"n{count}": with_images(count) for count in (500, 1000, 2000, 4000, 9000)},
    # Chapter 11: the networks at full width.
    "full": {f"{name}-w64": full_width(name) for name in DEPTHS},
    # Chapter 12: each part of a recipe switched alone.
    "ablation": ablation.variants(),
    # Chapter 15, planned in book/results/PLANS.md before the first run: depth and object size.
    # The same runs tell chapter 16 where these networks look.
    "object-size": {
        f"{name}-w16": object_size(name, details=(measures.attention,)) for name in DEPTHS
    },
    "object-size-width": {f"{name}-w8": object_size(name, width=8) for name in DEPTHS},
    "object-size-pixels": {f"{name}-w16": object_size(name, image_size=48) for name in DEPTHS},
    "object-size-compute": {"resnet50-w16": longer("resnet50", "resnet101")},
    # Chapter 15, beside it: the same two networks on photographs, and what they cost.
    "compared": {f"{name}-w16": compared(name) for name in DEPTHS},
    "cost": {f"{name}-w{width}": cost(name, width) for width in (16, 64) for name in DEPTHS},
    # Chapters 14 and 16: the network that comes with the package. And, for the classifier in the
    # page, one whose last stage has four by four cells.
    "shipped": {checkpoint.SHIPPED: shipped()},
    "shipped-small-stem": {checkpoint.SHIPPED_SMALL_STEM: shipped("small", epochs=10)},
    # Chapter 16: what the networks of "object-size" look at; --weights names their folder.
    "attention": {f"{name}-w16": look_of(name) for name in DEPTHS},
    # Chapter 18: a network in use, by way of running it.
    "serving": {
        "shipped": served(),
        "shipped-1-thread": served(threads=1),
        "resnet50-224": served_whole(),
    },
    # Chapter 17: a trained network on few images of another kind.
    "small-data": transfer.variants(),
    # Chapter 9: small objects with one stage alone and with the pyramid.
    "pyramid": {level: location(level) for level in ("C2", "C5", "P2")},
    # Chapter 9: what the units look at, before and after training; and for the explorer v1, too.
    "receptive-fields": {f"{name}-w16": field_of_view(name) for name in DEPTHS},
    "receptive-fields-v1": {f"{name}-w16": field_of_view(name, stride_in="1x1") for name in DEPTHS},
}


def find(name: str) -> dict[str, Variant]:
    """The variants of an experiment; UserError where there is none of that name."""
    if name not in EXPERIMENTS:
        raise UserError(f"experiment must be one of {', '.join(EXPERIMENTS)}, got {name!r}")
    return EXPERIMENTS[name]


def trial(variant: Variant, limit: int | None, epochs: int | None) -> Variant:
    """The same variant on fewer images or for fewer epochs, to try the machinery."""
    images = variant.data | ({"limit": limit} if limit else {})
    if limit:
        variant = replace(variant, limits={})
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
