"""``finetune``: from a folder of pictures to a classifier, without writing code."""

import argparse
import json
import re
import shlex
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from resnet_lib import (
    UserError,
    checkpoint,
    data,
    device,
    finetune,
    folders,
    leakage,
    models,
    pretrained,
    records,
    splits,
    train,
)
from resnet_lib.cli import figures, options
from resnet_lib.cli.train import how_to_go_on

REPORT = "report.json"
LARGEST = 1 << 30  # bytes of images that are kept in memory, decoded once
VAL_FRACTION = 0.15  # of what is not held out
MISTAKES = 10  # the surest wrong answers, which are told by name
# Options that a probe has no use for.
TRAINING_ONLY = ("--frozen", "--epochs", "--batch-size", "--lr", "--head-factor", "--no-augment")


class Parts(NamedTuple):
    train: Any
    val: Any
    test: Any


def add(commands: Any) -> None:
    """The options of ``finetune``."""
    command = commands.add_parser(
        "finetune",
        help="make a classifier of your own pictures from a trained network",
        description="Give a trained network a new last layer and train it on a folder with one "
        "sub-folder a class. A part of the pictures is held out, and measured once at the end. OUT "
        f"gets what `train` writes there, and {REPORT}.",
    )
    command.set_defaults(run=run)
    options.add_data(command)
    command.add_argument(
        "--from",
        dest="start",
        type=options.network,
        default=checkpoint.SHIPPED,
        metavar="NETWORK",
        help=f"a run's folder, a checkpoint, or {' or '.join(pretrained.NAMES)}, torchvision's "
        f"weights, which are fetched once ({checkpoint.SHIPPED})",
    )
    command.add_argument(
        "--model", default="resnet50", help="whose weights of torchvision's (resnet50)"
    )
    command.add_argument("--out", required=True, help="the folder for this run")
    command.add_argument("--resume", action="store_true", help="continue the run in OUT")
    command.add_argument(
        "--probe", action="store_true", help="fit the last layer only, exactly: the quick baseline"
    )
    command.add_argument(
        "--frozen", type=int, choices=range(6), default=0, metavar="N",
        help="leave the first N of 5 parts as they are: 1 the stem, 5 all but the last layer (0)",
    )  # fmt: skip
    command.add_argument("--epochs", type=options.positive, default=20, help="passes (20)")
    command.add_argument("--batch-size", type=options.positive, default=32, help="images (32)")
    command.add_argument("--lr", type=float, default=0.02, help="the highest learning rate (0.02)")
    command.add_argument(
        "--head-factor", type=float, default=1.0, help="the last layer's rate over that (1)"
    )
    command.add_argument("--image-size", type=options.positive, help="pixels (the network's own)")
    command.add_argument("--no-augment", action="store_true", help="show the pictures as they are")
    command.add_argument(
        "--balance", action="store_true", help="show rare classes as often as the largest one"
    )
    command.add_argument(
        "--test-fraction", type=options.share, default=0.2,
        help="of the pictures to hold out, where the folder has no part of the name test (0.2)",
    )  # fmt: skip
    command.add_argument(
        "--group", metavar="REGEX",
        help="what pictures of one thing have in common in their file's name, such as '^[^_]+': "
        "they stay in one part",
    )  # fmt: skip
    command.add_argument("--seed", type=int, default=0, help="for parts, order, weights (0)")
    options.add_device(command)


def starting_network(args: argparse.Namespace) -> tuple[models.ResNet, dict[str, Any]]:
    """The network to start from, and what it learned with."""
    if args.start in pretrained.NAMES:
        model = models.build(args.model)
        return model, models.load_pretrained(model, args.start, args.root)
    model, metadata = checkpoint.restore_model(args.start)
    return model, metadata["data"]


def group_of(path: str, pattern: re.Pattern | None) -> str:
    """What the file's name has in common with others; without a pattern the file alone."""
    found = pattern and pattern.search(Path(path).name)
    return f"{Path(path).parent.name}/{found[0]}" if found else path


def groups_of(part: Any, args: argparse.Namespace) -> list[str] | None:
    """Of each picture of a folder, what belongs together; None for other data sets."""
    try:
        pattern = re.compile(args.group) if args.group else None
    except re.error as error:
        raise UserError(f"--group {args.group!r} is no regular expression: {error}") from None
    if not isinstance(part, data.FolderSet):
        return None
    return [group_of(path, pattern) for path in part.paths]


def say_groups(parts: Parts, args: argparse.Namespace) -> None:
    """Tell what --group found; UserError where that is nothing."""
    pattern = args.group
    paths = [path for part in parts for path in part.paths]
    groups = [group for part in parts for group in groups_of(part, args)]
    alone = [path for path, group in zip(paths, groups, strict=True) if group == path]
    if len(alone) == len(groups):
        raise UserError(
            f"--group {pattern!r} is found in none of {len(groups):,} names, such as "
            f"{Path(alone[0]).name}"
        )
    train.say(f"{len(set(groups)):,} groups of pictures, such as {groups[0]}")
    if alone:
        train.say(
            f"warning: --group is not found in {len(alone):,} of {len(groups):,} names, such as "
            f"{Path(alone[0]).name}: each of these stands alone"
        )


def divide(whole: data.FolderSet, args: argparse.Namespace) -> Parts:
    """A folder without parts, divided so that no group is in two of them."""
    groups = groups_of(whole, args)
    labels = whole.labels.numpy()
    test = splits.hold_out(labels, groups, args.test_fraction, args.seed, whole.classes)
    rest = np.flatnonzero(~test)
    within = [groups[index] for index in rest]
    val = splits.hold_out(labels[rest], within, VAL_FRACTION, args.seed, whole.classes)
    chosen = rest[~val], rest[val], np.flatnonzero(test)
    return Parts(*(data.subset(whole, indices) for indices in chosen))


def load_parts(args: argparse.Namespace, about: dict[str, Any]) -> Parts:
    """Training, validation and test part, normalised as the network learned it."""
    settings = {
        "limit": args.limit,
        "image_size": args.image_size or about["image_size"],
        "channels": len(about["mean"]),
    }
    folder = Path(args.data).expanduser()
    if args.data in data.LOADERS or "test" in folders.find_parts(folder):
        if args.group:
            raise UserError("--group divides a folder: this data set has a test part already")
        parts = Parts(*(options.load_data(args, split, **settings)
                        for split in ("train", "val", "test")))  # fmt: skip
    else:
        parts = divide(options.load_data(args, "train+val", **settings), args)
    return Parts(*(finetune.as_learned(part, about["mean"], about["std"]) for part in parts))


def in_memory(part: Any) -> Any:
    """The pictures of a folder decoded once, if they fit."""
    size = len(part) * part.channels * part.image_size**2
    if not isinstance(part, data.FolderSet) or size > LARGEST:
        return part
    return data.ImageSet(
        part.read(range(len(part))), part.labels, part.classes, part.mean, part.std, part.name,
        part.split,
    )  # fmt: skip


def warn_of_copies(parts: Parts) -> None:
    """Say which pictures of the test part are as good as known from the training part."""
    near = leakage.search(in_memory(parts.train), in_memory(parts.test)).near
    if not len(near.first):
        return
    where = ""
    if isinstance(parts.train, data.FolderSet):
        one, other = parts.train.paths[near.first[0]], parts.test.paths[near.second[0]]
        where = f", such as {other}, near to {one}"
    count = len(near.second.unique())
    train.say(
        f"warning: {count} of {len(parts.test)} test pictures are nearly copies of training "
        f"pictures{where}: keep them together with --group, or the figures flatter"
    )


def run(args: argparse.Namespace) -> None:
    """Divide, train, and measure the held-out part once."""
    checkpoint.open_run(args.out, args.resume)
    if args.probe and args.resume:
        raise UserError("a probe is fitted in one go: leave --resume out")
    if args.probe and (given := [word for word in args.line if word.startswith(TRAINING_ONLY)]):
        train.say(f"warning: a probe is fitted in one go: without effect are {', '.join(given)}")
    config = train.TrainConfig(
        epochs=args.epochs, batch_size=args.batch_size, lr=args.lr, frozen=args.frozen,
        warmup_epochs=min(1.0, args.epochs / 2), head_factor=args.head_factor, seed=args.seed,
        weight_decay=1e-4, device=args.device, precision=args.precision,
        **({"augment": None} if args.no_augment else {}),
    )  # fmt: skip
    place, out = device.choose_device(args.device), Path(args.out)
    model, about = starting_network(args)
    parts = load_parts(args, about)
    if args.group:
        say_groups(parts, args)
    counts = torch.bincount(parts.train.labels, minlength=len(parts.train.classes)).tolist()
    train.say(
        f"{model.spec['name']} from {args.start}; {len(parts.train):,} pictures to learn from, "
        f"{len(parts.val):,} to validate, {len(parts.test):,} held out; classes: "
        + ", ".join(f"{n} {c:,}" for n, c in zip(parts.train.classes, counts, strict=True))
    )
    if max(counts) > 3 * min(counts):
        train.say("the classes differ in size: look at the mean accuracy, and try --balance")
    warn_of_copies(parts)
    device.seed_everything(args.seed)
    started, commit, date = time.perf_counter(), records.commit(), records.now()
    command = shlex.join(["python", "-m", "resnet_lib", *args.line])
    learn = in_memory(parts.train)
    if args.balance:
        learn = data.subset(learn, splits.repeat_rare(learn.labels.numpy(), args.seed))
    history = []
    if args.probe:
        finetune.probe(model.to(place), learn)
        checkpoint.save_weights(out / checkpoint.BEST, model, {"data": train.describe(learn)})
    else:
        finetune.replace_head(model, len(learn.classes))
        try:
            fitted = train.fit(
                model, learn, in_memory(parts.val), config, out=out, resume=args.resume
            )
        except KeyboardInterrupt:
            raise KeyboardInterrupt(how_to_go_on(out, command)) from None
        history = fitted.epochs
    model, _ = checkpoint.restore_model(out / checkpoint.BEST)
    evaluation = train.evaluate(model, in_memory(parts.test), place)
    result = figures.measure(evaluation, learn.classes, groups_of(parts.test, args))
    report = result | {"mistakes": mistakes(evaluation, parts.test)}
    content = json.dumps({"command": command, "from": args.start} | report, indent=1)
    checkpoint.write_atomically(
        out / REPORT, lambda part: Path(part).write_text(content + "\n", encoding="utf-8")
    )
    settings = asdict(config) | {"spec": model.spec, "data": args.data, "from": args.start}
    records.write(
        records.Record(
            "finetune", "probe" if args.probe else "fine-tune", args.seed, settings, history,
            result, records.environment(place), commit, date,
            round(time.perf_counter() - started, 1), command,
        ),
        out / checkpoint.RECORD,
    )  # fmt: skip
    print("\n".join(["", f"{len(parts.test):,} pictures held out", *figures.lines(result)]))
    for wrong in report["mistakes"]:
        print(
            f"taken for {wrong['answer']} with {wrong['probability']:.2f}: {wrong['image']} "
            f"({wrong['label']})"
        )
    print(f"\nweights in {out / checkpoint.BEST}, all figures in {out / REPORT}")


def mistakes(evaluation: train.Evaluation, part: Any) -> list[dict[str, Any]]:
    """The wrong answers that the network was surest of."""
    sure, answers = evaluation.logits.softmax(1).max(1)
    paths = part.paths if isinstance(part, data.FolderSet) else range(len(part))
    return [
        {
            "image": str(paths[index]),
            "label": part.classes[evaluation.labels[index]],
            "answer": part.classes[answers[index]],
            "probability": sure[index].item(),
        }
        for index in figures.surest_mistakes(evaluation, MISTAKES)
    ]
