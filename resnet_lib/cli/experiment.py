"""``experiment``: rerun one of the book's recorded experiments."""

import argparse
import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from resnet_lib import device, experiments, records, train
from resnet_lib.cli import options


def add(commands: Any) -> None:
    """The options of ``experiment``."""
    command = commands.add_parser(
        "experiment",
        help="rerun one of the book's recorded experiments",
        description="Rerun a recorded experiment, one JSON record a variant and seed. "
        "Finished records are never computed again.",
    )
    command.set_defaults(run=run)
    command.add_argument("name", help=", ".join(experiments.EXPERIMENTS))
    command.add_argument("--out", required=True, help="the folder for the records")
    command.add_argument("--seeds", type=options.positive, default=5, help="seeds 0 to N-1 (5)")
    command.add_argument(
        "--limit", type=options.positive, help="use so many training images: a trial run"
    )
    command.add_argument(
        "--epochs", type=options.positive, help="train for so many epochs: a trial run"
    )
    command.add_argument(
        "--weights", type=Path, help="also keep the trained networks, in this folder"
    )
    options.add_device(command)


def run(args: argparse.Namespace) -> None:
    """Run what is missing of an experiment; finished records stay as they are."""
    variants = experiments.find(args.name)
    place = device.choose_device(args.device)
    device.choose_precision(args.precision, place)
    out = Path(args.out)
    todo = [
        (name, seed, out / f"{name}-seed{seed}.json")
        for seed in range(args.seeds)
        for name in variants
    ]
    if args.weights:
        args.weights.mkdir(parents=True, exist_ok=True)
    missing = [task for task in todo if not task[2].exists()]
    train.say(f"{len(todo) - len(missing)} of {len(todo)} runs are done")
    command = shlex.join(["python", "-m", "resnet_lib", *args.line])
    started = time.perf_counter()
    for done, (name, seed, path) in enumerate(missing):
        left = (time.perf_counter() - started) / max(1, done) * (len(missing) - done)
        remaining = f"; about {left / 60:.0f} min left" if done else ""
        train.say(f"{name}, seed {seed}{remaining}")
        variant = experiments.trial(variants[name], args.limit, args.epochs)
        config = replace(variant.config, device=args.device, precision=args.precision)
        variant = replace(variant, config=config)
        weights = args.weights and args.weights / f"{path.stem}.safetensors"
        record = experiments.run(args.name, name, variant, seed, command, weights=weights)
        records.write(record, path)
