"""``report``: a run as one HTML page, with curves, figures and the worst mistakes."""

import argparse
import shlex
from pathlib import Path
from typing import Any, NamedTuple

from resnet_lib import (
    UserError,
    checkpoint,
    data,
    device,
    finetune,
    folders,
    metrics,
    records,
    report,
    shards,
    train,
)
from resnet_lib.cli import figures, options
from resnet_lib.cli.finetune import groups_of, load_parts

PAGE = "report.html"
MISTAKES = 12
PARTS = ("test", "val", "train")
FLATTERS = {
    "val": "These weights were chosen on the validation part, whose figures therefore flatter.",
    "train": "These are figures on images that the network has learned from.",
}


def add(commands: Any) -> None:
    """The options of ``report``."""
    command = commands.add_parser(
        "report",
        help="show a run as one HTML page",
        description=f"Write RUN/{PAGE}: the curves, and of the best weights the confusion matrix, "
        "each class, the calibration and the worst mistakes on the test part; the configuration, "
        "the machine and the command. The page is one file that loads nothing.",
    )
    command.set_defaults(run=run)
    command.add_argument("folder", metavar="RUN", help="the folder of `train` or `finetune`")
    command.add_argument(
        "--split", default="test", choices=PARTS, help="the part to measure (test)"
    )
    command.add_argument("--data", metavar="DATA", help="where the data are now, if moved")
    command.add_argument("--root", help="where downloaded data sets are kept now")
    command.add_argument("--limit", type=options.positive, help="measure so many images")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (auto)")


class Source(NamedTuple):
    """What a run's folder says of the run."""

    name: str
    data: str
    history: list[dict[str, float]]
    config: dict[str, Any]
    record: records.Record | None
    notes: list[str]


def run(args: argparse.Namespace) -> None:
    """Read the folder, measure the weights where that can be done, and write the page."""
    place = device.choose_device(args.device)
    folder = Path(args.folder)
    source = read(folder)
    measured, notes = None, source.notes
    try:
        measured = measure(args, folder, source, place)
        if args.split in FLATTERS:
            notes = [*notes, FLATTERS[args.split]]
    except UserError as error:
        if args.data:  # what was asked for by name is no part to leave out
            raise
        notes = [*notes, f"No figures on the {args.split} part: {error}."]
    content = report.page(
        report.Report(
            title=f"{source.name} on {Path(source.data).name}",
            facts=facts(source),
            history=source.history,
            config=source.config,
            environment=source.record.environment if source.record else {},
            command=source.record.command if source.record else "",
            measured=measured,
            notes=notes,
        )
    )
    checkpoint.write_atomically(
        folder / PAGE, lambda part: Path(part).write_text(content, encoding="utf-8")
    )
    print("\n".join([*notes, f"report in {folder / PAGE}"]))


def read(folder: Path) -> Source:
    """The run's record, or of a run that has not ended its last state."""
    if (folder / checkpoint.RECORD).exists():
        record = records.read(folder / checkpoint.RECORD)
        spec, notes = record.config.get("spec", {}), []
        if not record.history:
            notes = ["The last layer was fitted in one go, so there are no curves."]
        name, about = spec.get("name", record.variant), str(record.config.get("data", "?"))
        return Source(name, about, record.history, record.config, record, notes)
    if not (folder / checkpoint.LAST).exists():
        raise UserError(
            f"{folder} holds no run: give the folder that was --out of train or finetune"
        )
    state = checkpoint.load(folder / checkpoint.LAST)
    epochs = state["config"]["epochs"]
    note = (
        f"This run has not ended: its last state is that after epoch {state['epoch']} of {epochs}. "
        "The run's own command with --resume goes on."
    )
    config = state["config"] | {"spec": state["spec"], "data": state["data"]["name"]}
    name, about = state["spec"]["name"], state["data"]["name"]
    return Source(name, about, state["history"], config, None, [note])


def facts(source: Source) -> dict[str, Any]:
    """What somebody wants to know first."""
    found: dict[str, Any] = {"network": source.name, "data": source.data}
    if source.history:
        best = train.History(source.history).best
        found["epochs"] = f"{len(source.history)} of {source.config['epochs']}"
        found["best epoch"] = (
            f"{best['epoch']}, accuracy {best['val_accuracy']:.4f} on the validation part"
        )
    if record := source.record:
        found |= {
            "seed": record.seed,
            "date": record.date,
            "duration": f"{record.seconds / 60:.1f} minutes",
            "commit": record.commit or "none",
        }
    return found


def measure(args: argparse.Namespace, folder: Path, source: Source, place: Any) -> report.Measured:
    """Run the best weights over the part of the data; UserError where something is missing."""
    if not (folder / checkpoint.BEST).exists():
        raise UserError(f"{checkpoint.BEST} is missing from the folder")
    model, metadata = checkpoint.restore_model(folder / checkpoint.BEST)
    about = metadata["data"]
    part = load_part(args, source, about)
    if list(part.classes) != about["classes"]:
        raise UserError(f"the network knows other classes than {args.data or source.data} has")
    evaluation = train.evaluate(model, part, place)
    return report.Measured(
        part=args.split,
        figures=figures.measure(evaluation, part.classes, groups_in(source, part)),
        reliability=metrics.reliability(evaluation.logits, evaluation.labels),
        mistakes=worst(evaluation, part),
    )


def load_part(args: argparse.Namespace, source: Source, about: dict[str, Any]):
    """The part of the data, divided as the run divided it."""
    if source.record:
        given = command_of(source.record)
    elif (args.data or source.data) in data.LOADERS:
        given = argparse.Namespace(
            data=source.data, seed=source.config["seed"], root=None, download=False, strict=False
        )
    else:
        raise UserError("only a run that has ended says how its folder of images was divided")
    given.data, given.root = args.data or given.data, args.root or given.root
    if given.data not in data.LOADERS and not Path(given.data).expanduser().exists():
        raise UserError(f"there is no folder {given.data}: say with --data where the images are")
    if source.record and source.record.experiment == "finetune":
        # With the run's own limit, which has its part in how a folder is divided.
        part = getattr(load_parts(given, about), args.split)
        if not args.limit or args.limit >= len(part):
            return part
        # Evenly spaced: the images are in the order of their classes.
        return data.subset(part, [i * len(part) // args.limit for i in range(args.limit)])
    settings = {key: about[key] for key in ("image_size", "channels")}
    part = options.load_data(given, args.split, limit=args.limit, **settings)
    return finetune.as_learned(part, about["mean"], about["std"])


def part_of_run(
    weights: str | Path, about: dict[str, Any], split: str, where: str | None, **asked: Any
) -> tuple[Any, list[str] | None] | None:
    """The part of a folder as the run of finetune beside the weights divided it, and its groups.

    where: the folder now, None for the run's own. None where no such run is there, or the folder
    has parts of its own.
    """
    folder = Path(weights).parent
    if not (Path(weights).is_file() and (folder / checkpoint.RECORD).is_file()):
        return None
    if where is not None:
        place = Path(where).expanduser()
        if where in data.LOADERS or not place.is_dir() or "test" in folders.find_parts(place):
            return None
    source = read(folder)
    if source.record is None or source.record.experiment != "finetune":
        return None
    part = load_part(argparse.Namespace(data=where, split=split, **asked), source, about)
    return part, groups_in(source, part)


def groups_in(source: Source, part: Any) -> list[str] | None:
    """What belongs together in the part, as the run was told; None for a run of train."""
    if source.record is None or source.record.experiment != "finetune":
        return None
    return groups_of(part, command_of(source.record))


def command_of(record: records.Record) -> argparse.Namespace:
    """The options of the command that made the record."""
    from resnet_lib import cli  # it imports this module

    words = shlex.split(record.command)
    if record.experiment not in ("train", "finetune") or record.experiment not in words:
        raise UserError("the record is not of a run of train or finetune")
    return cli.make_parser().parse_args(words[words.index(record.experiment) :])


def worst(evaluation: train.Evaluation, part: Any) -> list[report.Mistake]:
    """The wrong answers that the network was surest of; none of shards, which have no index."""
    if isinstance(part, shards.ShardSet):
        return []
    sure, answers = evaluation.logits.softmax(1).max(1)
    paths = getattr(part, "paths", None)
    chosen = figures.surest_mistakes(evaluation, MISTAKES)
    return [
        report.Mistake(
            picture=picture,
            name=str(paths[index]) if paths else f"image {index}",
            label=part.classes[evaluation.labels[index]],
            answer=part.classes[answers[index]],
            probability=sure[index].item(),
        )
        for index, picture in zip(chosen, part.read(chosen) if chosen else (), strict=True)
    ]
