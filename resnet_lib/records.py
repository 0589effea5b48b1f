"""Run records: what was run, where, and what came out, as one JSON file a run."""

import datetime
import json
import os
import platform
import shlex
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from resnet_lib import UserError, __version__

_HERE = Path(__file__).resolve().parent
# The book's records: beside the package in a checkout, inside it when installed from a wheel.
FOLDERS = (_HERE.parent / "book" / "results", _HERE / "results")


@dataclass(frozen=True)
class Record:
    """One run. ``history`` has a dictionary an epoch; ``seconds`` is the time of the whole run."""

    experiment: str
    variant: str
    seed: int
    config: dict[str, Any]
    history: list[dict[str, float]]
    result: dict[str, Any]
    environment: dict[str, Any]
    commit: str
    date: str
    seconds: float
    command: str


def environment(device: torch.device | str = "cpu") -> dict[str, Any]:
    """The machine and the versions that a result depends on."""
    import torchvision  # here: it takes as long as torch itself, and reading records needs it not

    device = torch.device(device)
    cuda = device.type == "cuda"
    return {
        "device": device.type,
        "name": torch.cuda.get_device_name(device) if cuda else cpu_name(),
        "cpu_threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
        "cuda": torch.version.cuda if cuda else None,
        "resnet_lib": __version__,
    }


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(": ")[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration, IndexError):
        return platform.processor() or platform.machine()


def commit() -> str:
    """The commit of the code, with "-dirty" where files differ from it; "" outside a checkout."""
    git = ["git", "-C", str(_HERE), "describe", "--always", "--dirty", "--abbrev=40", "--match="]
    try:
        found = subprocess.run(git, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return found.stdout.strip()


def portable(arguments: list[str]) -> str:
    """The command as one line, absolute paths cut to their last part: they are one machine's."""
    return shlex.join(Path(a).name if Path(a).is_absolute() else a for a in arguments)


def now() -> str:
    """The date and time in UTC, to the second, as ISO 8601."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def write(record: Record, path: str | Path) -> None:
    """Write the record as JSON, in one step: a reader never meets half a file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(asdict(record), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(part, path)


def read(path: str | Path) -> Record:
    """Read one record; UserError where it is no record or lacks a key."""
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no readable record: {error}") from None
    expected = {field.name for field in fields(Record)}
    if not isinstance(values, dict) or set(values) != expected:
        odd = sorted(expected ^ set(values)) if isinstance(values, dict) else ["not an object"]
        raise UserError(f"{path} is no record of a run: missing or unknown {', '.join(odd)}")
    return Record(**values)


def load(name: str) -> list[Record]:
    """The book's recorded runs of an experiment, ordered by variant and seed."""
    for folder in FOLDERS:
        if (folder / name).is_dir():
            records = [read(path) for path in sorted((folder / name).glob("*.json"))]
            return sorted(records, key=lambda record: (record.variant, record.seed))
    known = sorted({path.parent.name for folder in FOLDERS for path in folder.glob("*/*.json")})
    raise UserError(f"no recorded experiment {name!r}; there are: {', '.join(known) or 'none'}")


def provenance(runs: Sequence[Record]) -> str:
    """Where figures come from: the experiments, how long, when, on what, and how to run it again.

    A line for each thing that is asked; what differs between the runs is listed.
    """
    if not runs:
        raise UserError("no runs, no provenance: name at least one record")

    def each(values: Iterable[str]) -> str:
        return ", ".join(dict.fromkeys(values))

    kinds = each(run.experiment for run in runs)
    count, seeds = len(runs), len({run.seed for run in runs})
    hours = sum(run.seconds for run in runs) / 3600
    dates = sorted({run.date[:10] for run in runs})
    machines = [run.environment for run in runs]
    return "\n".join(
        (
            f"{kinds}: {_number(count, 'run')}, {_number(seeds, 'seed')}, "
            f"{hours:.1f} hours of computing, {' to '.join(dates[:1] + dates[1:][-1:])}",
            each(f"{m['name']}, {_number(m['cpu_threads'], 'thread')}" for m in machines)
            + "; torch "
            + each(m["torch"] for m in machines),
            f"commit {each(run.commit[:10] for run in runs)}",
            each(run.command.split(" --out")[0] for run in runs),
        )
    )


def _number(count: int, thing: str) -> str:
    return f"{count} {thing}{'s' * (count != 1)}"
