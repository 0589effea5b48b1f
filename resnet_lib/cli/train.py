"""``train``: train a network and keep its checkpoints."""

import argparse
import shlex
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from resnet_lib import checkpoint, device, models, recipes, records, train
from resnet_lib.cli import options


def add(commands: Any) -> None:
    """The options of ``train``; defaults come from TrainConfig."""
    command = commands.add_parser(
        "train",
        help="train a network and keep its checkpoints",
        description="Train a network. OUT gets last.pt (the whole state, for --resume), "
        "best.safetensors (the weights chosen on the validation part) and record.json.",
    )
    command.set_defaults(run=run)
    command.add_argument("--model", default="resnet50", help=", ".join(models.DEPTHS))
    command.add_argument("--width", type=options.positive, default=64, help="base channels (64)")
    command.add_argument("--stem", help="imagenet or small (by image size: small up to 64 px)")
    command.add_argument(
        "--stride-in", help="3x3 (v1.5, the default) or 1x1 (v1), bottlenecks only"
    )
    # On by default: without it a deep network learns little in a short run.
    command.add_argument(
        "--no-zero-init", action="store_true", help="do not start each block as its shortcut"
    )
    options.add_data(command)
    command.add_argument("--image-size", type=options.positive, help="pixels (the data set's own)")
    command.add_argument("--val-limit", type=options.positive, help="validate on so many images")
    command.add_argument("--out", required=True, help="the folder for this run")
    command.add_argument("--resume", action="store_true", help="continue the run in OUT")
    command.add_argument("--recipe", choices=("quick", "full"), help="quick on CPU, full on CUDA")
    for name, kind in (
        ("epochs", options.positive),
        ("batch-size", options.positive),
        ("lr", float),
    ):
        command.add_argument(f"--{name}", type=kind, help="instead of the recipe's")
    command.add_argument("--weight-decay", type=float, help="instead of the recipe's")
    command.add_argument("--warmup-epochs", type=float, help="instead of the recipe's")
    command.add_argument("--label-smoothing", type=float, help="instead of the recipe's")
    command.add_argument("--optimizer", help=f"{' or '.join(recipes.OPTIMIZERS)} (sgd)")
    command.add_argument(
        "--no-augment", action="store_true", help="train on the images as they are"
    )
    command.add_argument("--seed", type=int, default=0, help="for weights, order, augmentation (0)")
    options.add_device(command)


def recipe(args: argparse.Namespace) -> train.TrainConfig:
    """The recipe for the device, with what the user set instead."""
    name = args.recipe or ("full" if device.choose_device(args.device).type == "cuda" else "quick")
    config = train.TrainConfig.full() if name == "full" else train.TrainConfig.quick()
    names = ("batch_size", "lr", "weight_decay", "label_smoothing", "optimizer", "warmup_epochs")
    given = {key: getattr(args, key) for key in names if getattr(args, key) is not None}
    if args.epochs:
        # A run shorter than the recipe's warm-up warms up for half of its epochs.
        warmup = min(config.warmup_epochs, args.epochs / 2)
        given = {"epochs": args.epochs, "warmup_epochs": warmup} | given
    if args.no_augment:
        given["augment"] = None
    return replace(config, seed=args.seed, device=args.device, precision=args.precision, **given)


def run(args: argparse.Namespace) -> None:
    """Train, keep the checkpoints, and write the record beside them."""
    config = recipe(args)
    place = device.choose_device(config.device)
    precision = device.choose_precision(config.precision, place)
    checkpoint.open_run(args.out, args.resume)  # before the data, which may take minutes
    size = args.image_size
    train_part = options.load_data(args, "train", limit=args.limit, image_size=size)
    val_part = options.load_data(args, "val", limit=args.val_limit, image_size=size)
    spec = {
        "name": args.model,
        "num_classes": len(train_part.classes),
        "width": args.width,
        "stem": args.stem or ("small" if train_part.image_size <= 64 else "imagenet"),
        "in_channels": train_part.channels,
        "zero_init": not args.no_zero_init,
    }
    if args.stride_in:
        spec["stride_in"] = args.stride_in
    device.seed_everything(args.seed)
    model = models.build(**spec)
    train.say(
        f"{args.model}, {models.parameter_count(model):,} parameters, on {len(train_part):,} images"
        f" of {train_part.image_size} px; {place}, {str(precision).removeprefix('torch.')}"
    )
    commit, date, started = records.commit(), records.now(), time.perf_counter()
    history = train.fit(model, train_part, val_part, config, out=args.out, resume=args.resume)
    best = history.best
    record = records.Record(
        experiment="train",
        variant=args.model,
        seed=args.seed,
        config=asdict(config) | {"spec": spec, "data": args.data, "limit": args.limit},
        history=history.epochs,
        result={"best_epoch": best["epoch"], "val_accuracy": best["val_accuracy"]},
        environment=records.environment(place),
        commit=commit,
        date=date,
        seconds=round(time.perf_counter() - started, 1),
        command=shlex.join(["python", "-m", "resnet_lib", *args.line]),
    )
    out = Path(args.out)
    records.write(record, out / checkpoint.RECORD)
    print(
        f"best epoch {best['epoch']}: accuracy {best['val_accuracy']:.3f} on the validation part; "
        f"weights in {out / checkpoint.BEST}"
    )
