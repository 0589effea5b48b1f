"""``experiment``: rerun one of the book's recorded experiments."""

import argparse
import os
import time
from collections.abc import Iterator
from concurrent import futures
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from resnet_lib import UserError, device, experiments, records, train
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
    command.add_argument("--out", required=True, type=Path, help="the folder for the records")
    command.add_argument("--seeds", type=options.positive, default=5, help="seeds 0 to N-1 (5)")
    command.add_argument("--only", metavar="VARIANT", help="run this variant alone")
    command.add_argument(
        "--jobs", type=options.positive, default=1, help="runs at a time, each on its own cores (1)"
    )
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
    if args.only and args.only not in variants:
        raise UserError(f"variant must be one of {', '.join(variants)}, got {args.only!r}")
    variants = [args.only] if args.only else list(variants)
    place = device.choose_device(args.device)
    device.choose_precision(args.precision, place)
    if args.weights:
        args.weights.mkdir(parents=True, exist_ok=True)
    tasks = [(name, seed) for seed in range(args.seeds) for name in variants]
    missing = [task for task in tasks if not record_path(args, *task).exists()]
    train.say(f"{len(tasks) - len(missing)} of {len(tasks)} runs are done")
    started = time.perf_counter()
    for done, label in enumerate(finished(args, missing), start=1):
        left = (time.perf_counter() - started) / done * (len(missing) - done)
        train.say(f"{label} is done, {len(missing) - done} to go: about {left / 60:.0f} min left")


def record_path(args: argparse.Namespace, name: str, seed: int) -> Path:
    """Where the record of a variant and seed belongs."""
    return args.out / f"{name}-seed{seed}.json"


def finished(args: argparse.Namespace, tasks: list[tuple[str, int]]) -> Iterator[str]:
    """Run the tasks, one after another or ``--jobs`` at a time, and name each when it is done."""
    if args.jobs == 1 or len(tasks) < 2:
        for task in tasks:
            yield run_one(args, *task)
        return
    threads = max(1, (os.cpu_count() or 1) // args.jobs)
    # Started afresh: a fork of a process that has used its threads or CUDA hangs.
    with futures.ProcessPoolExecutor(
        args.jobs, get_context("spawn"), torch.set_num_threads, (threads,)
    ) as pool:
        running = [pool.submit(run_one, args, *task) for task in tasks]
        try:
            for future in futures.as_completed(running):
                yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def run_one(args: argparse.Namespace, name: str, seed: int) -> str:
    """Run one variant with one seed and write its record: "resnet50-w16, seed 3"."""
    label = f"{name}, seed {seed}"
    train.say(label)
    variant = experiments.trial(experiments.find(args.name)[name], args.limit, args.epochs)
    config = replace(variant.config, device=args.device, precision=args.precision)
    path = record_path(args, name, seed)
    prefix = f"{label}: " if args.jobs > 1 else ""
    record = experiments.run(
        args.name,
        name,
        replace(variant, config=config),
        seed,
        records.portable(["python", "-m", "resnet_lib", *args.line]),
        log=lambda line: train.say(prefix + line),
        weights=args.weights and args.weights / f"{path.stem}.safetensors",
    )
    records.write(record, path)
    return label
