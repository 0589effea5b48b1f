"""``train``: train a network and keep its checkpoints."""

import argparse
import shlex
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from resnet_lib import checkpoint, device, distributed, models, recipes, records, train
from resnet_lib.augment import Mix
from resnet_lib.cli import options


def add(commands: Any) -> None:
    """The options of ``train``; defaults come from TrainConfig."""
    command = commands.add_parser(
        "train",
        help="train a network and keep its checkpoints",
        description="Train a network. OUT gets last.pt (the whole state, for --resume), "
        "best.safetensors (the weights chosen on the validation part) and record.json. Started by "
        "torchrun, its processes share each batch; --batch-size is that of all together.",
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
    command.add_argument("--mixup", type=float, default=0.0, help="mix images in pairs (0: off)")
    command.add_argument("--cutmix", type=float, default=0.0, help="the same, by a patch (0: off)")
    command.add_argument("--average", type=float, help="decay of averaged weights (0: off)")
    command.add_argument(
        "--accumulate", type=options.positive, help="run a batch in so many parts, to save memory"
    )
    command.add_argument(
        "--no-decay-on-norms", action="store_true", help="no weight decay on biases and batch norms"
    )
    command.add_argument(
        "--freeze-norms", action="store_true", help="keep the batch norms' statistics"
    )
    command.add_argument("--seed", type=int, default=0, help="for weights, order, augmentation (0)")
    options.add_device(command)


def recipe(args: argparse.Namespace) -> train.TrainConfig:
    """The recipe for the device, with what the user set instead."""
    name = args.recipe or ("full" if device.choose_device(args.device).type == "cuda" else "quick")
    config = train.TrainConfig.full() if name == "full" else train.TrainConfig.quick()
    names = ("batch_size", "lr", "weight_decay", "label_smoothing", "optimizer", "warmup_epochs",
             "average", "accumulate")  # fmt: skip
    given = {key: getattr(args, key) for key in names if getattr(args, key) is not None}
    if args.epochs:
        # A run shorter than the recipe's warm-up warms up for half of its epochs.
        warmup = min(config.warmup_epochs, args.epochs / 2)
        given = {"epochs": args.epochs, "warmup_epochs": warmup} | given
    if args.no_augment:
        given["augment"] = None
    if args.mixup or args.cutmix:
        given["mix"] = Mix(args.mixup, args.cutmix)
    if args.no_decay_on_norms:
        given["decay_norms"] = False
    given["freeze_norms"] = args.freeze_norms
    return replace(config, seed=args.seed, device=args.device, precision=args.precision, **given)


def run(args: argparse.Namespace) -> None:
    """Train, keep the checkpoints, and write the record beside them."""
    with distributed.joined(args.device) as args.device:
        train_and_record(args)


def load_parts(args: argparse.Namespace) -> tuple[train.Dataset, train.Dataset]:
    """The images to train on and to validate on."""
    with distributed.first_alone():  # which downloads or counts them for all
        return tuple(
            options.load_data(args, split, limit=limit, image_size=args.image_size)
            for split, limit in (("train", args.limit), ("val", args.val_limit))
        )


def train_and_record(args: argparse.Namespace) -> None:
    """One process's part of the work; of several, the first prints and writes."""
    config = recipe(args)
    place = device.choose_device(config.device)
    precision = device.choose_precision(config.precision, place)
    if distributed.rank() == 0:
        checkpoint.open_run(args.out, args.resume)  # before the data, which may take minutes
    train_part, val_part = load_parts(args)
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
    shared = f", {distributed.world()} processes" if distributed.world() > 1 else ""
    train.say(
        f"{args.model}, {models.parameter_count(model):,} parameters, on {len(train_part):,} images"
        f" of {train_part.image_size} px; {place}, {str(precision).removeprefix('torch.')}{shared}"
    )
    commit, date, started = records.commit(), records.now(), time.perf_counter()
    command = f"{distributed.launcher()} {shlex.join(args.line)}"
    try:
        history = train.fit(model, train_part, val_part, config, out=args.out, resume=args.resume)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(how_to_go_on(Path(args.out), command)) from None
    best = history.best
    result = {"best_epoch": best["epoch"], "val_accuracy": best["val_accuracy"]}
    if distributed.rank():
        return
    settings = asdict(config) | {"spec": spec, "data": args.data, "limit": args.limit}
    record = records.Record(
        experiment="train",
        variant=args.model,
        seed=args.seed,
        config=settings | {"processes": distributed.world()},
        history=history.epochs,
        result=result,
        environment=records.environment(place),
        commit=commit,
        date=date,
        seconds=round(time.perf_counter() - started, 1),
        command=command,
    )
    out = Path(args.out)
    records.write(record, out / checkpoint.RECORD)
    train.say(
        f"best epoch {best['epoch']}: accuracy {best['val_accuracy']:.3f} on the validation part; "
        f"weights in {out / checkpoint.BEST}"
    )


def how_to_go_on(out: Path, command: str) -> str:
    """What an interrupted run has saved, and the command that continues it."""
    last = out / checkpoint.LAST
    if not last.exists():
        return f"nothing is saved before the first epoch's end; to start again: {command}"
    done = checkpoint.load(last)["epoch"]
    resume = "" if "--resume" in command.split() else " --resume"
    return f"{last} holds the state after epoch {done}; to go on from there: {command}{resume}"
