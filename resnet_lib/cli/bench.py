"""``bench``: how fast training is here, beside a tutorial's loop and the machine's peak."""

import argparse
import json
import shlex
from pathlib import Path
from typing import Any

from resnet_lib import UserError, bench, models
from resnet_lib.cli import options

NAMES = {
    "tutorial": "a tutorial's loop",
    "ours": "ours, data and all",
    "bare_step": "ours, bare step",
    "torchvision_step": "torchvision, bare step",
}


def add(commands: Any) -> None:
    """The options of ``bench``; defaults come from Settings."""
    default = bench.Settings()
    command = commands.add_parser(
        "bench",
        help="measure how fast training is on this machine",
        description="Compare in one run, interleaved: the loop that tutorials give, the package's "
        "training, its step alone, torchvision's step, and the machine's matrix products. "
        "Let nothing else run meanwhile.",
    )
    command.set_defaults(run=run)
    command.add_argument(
        "--model", default=default.model, help=f"{', '.join(models.DEPTHS)} ({default.model})"
    )
    for name, what in (
        ("image-size", "pixels"),
        ("batch-size", "images a step"),
        ("rounds", "rounds, in each of which every loop runs once"),
    ):
        value = getattr(default, name.replace("-", "_"))
        command.add_argument(
            f"--{name}", type=options.positive, default=value, help=f"{what} ({value})"
        )
    command.add_argument(
        "--steps", type=options.positive, help="batches a round (4 on a CPU, 50 on CUDA)"
    )
    command.add_argument(
        "--workers", type=int, help="the tutorial's worker processes (0 on a CPU, 4 on CUDA)"
    )
    known = "; ".join(f"{name}: {what}" for name, what in bench.TRIALS.items())
    command.add_argument(
        "--try",
        dest="tried",
        nargs="*",
        metavar="CHANGE",
        help=f"changes of the step to measure (on CUDA all, on a CPU the first four): {known}",
    )
    command.add_argument("--seed", type=int, default=0, help="for weights, images and order (0)")
    command.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    options.add_device(command)


def run(args: argparse.Namespace) -> None:
    """Measure, print, and write the file."""
    if args.json and not args.json.parent.is_dir():  # before minutes of measuring
        raise UserError(f"--json: there is no folder {args.json.parent}: create it first")
    names = ("model", "image_size", "batch_size", "rounds", "steps", "workers", "device",
             "precision", "seed")  # fmt: skip
    chosen = {name: getattr(args, name) for name in names}
    tried = None if args.tried is None else tuple(args.tried)
    result = bench.bench(bench.Settings(**chosen, tried=tried))
    print("\n".join(summary(result)))
    if args.json:
        command = shlex.join(["python", "-m", "resnet_lib", *args.line])
        content = json.dumps(result | {"command": command}, indent=1, allow_nan=False)
        args.json.write_text(content + "\n", encoding="utf-8")


def summary(result: dict[str, Any]) -> list[str]:
    """The figures as lines of text."""
    settings, machine = result["settings"], result["environment"]
    cuda = machine["device"] == "cuda"
    threads = "" if cuda else f", {machine['cpu_threads']} threads"
    lines = [
        "",
        f"{machine['name']}{threads}; torch {machine['torch']}; ours in {settings['precision']}",
        f"{settings['model']}, {settings['image_size']} px, batches of {settings['batch_size']}; "
        f"{settings['rounds']} rounds of {settings['steps']} batches: median (quartiles)",
        "",
        f"{'':24}{'images/s':>28}{'peak memory':>14}",
    ]
    for name, label in NAMES.items():
        speed, gib = result["images_per_second"][name], result["peak_bytes"][name] / 2**30
        lines.append(f"{label:24}{show(speed, '.1f'):>28}{gib:>10.2f} GiB")
    peak = {key: value / 1e12 for key, value in result["peak_flops"].items()}
    lines += [
        f"peak memory: {result['peak_bytes_are']}",
        "",
        f"ours over the tutorial's loop      {show(result['ratio_vs_tutorial'], '.2f')}",
        f"ours over its bare step            {show(result['ratio_vs_bare_step'], '.3f')}",
        f"our step over torchvision's        {show(result['ratio_step_vs_torchvision'], '.3f')}",
        f"matrix products, TFLOP/s           {show(peak, '.3f')}",
        f"utilisation of that peak           {show(result['utilisation'], '.3f')}",
        f"  = 6 x {result['multiply_adds'] / 1e9:.3f} G multiply-adds x images/s / peak",
    ]
    if result["tried"]:
        lines += ["", "Changes of the bare step, and its speed over that of the unchanged step:"]
    for name, found in result["tried"].items():
        said = found.get("failed") and f"failed: {found['failed']}"
        said = said or (
            f"{show(found['ratio_vs_bare_step'], '.3f')}, ready after "
            f"{found['seconds_until_ready']:.0f} s"
        )
        lines.append(f"  {name:18}{said}  [{found['change']}]")
    return lines + (published(result) if cuda and settings["model"] == "resnet50" else [])


def published(result: dict[str, Any]) -> list[str]:
    """What others publish, and what differs."""
    size, name = result["settings"]["image_size"], result["environment"]["name"]
    speed = result["images_per_second"]["ours"]["median"]
    lines = [
        "",
        f"Published for mixed precision, {bench.PUBLISHED_SIZE} px, other cards and loops:",
    ]
    lines += [
        f"  {figure['images_per_second']:>6,} images/s  {figure['card']} ({figure['source']})"
        for figure in result["published"]
    ]
    lines.append(f"  {speed:>6,.0f} images/s  {name}, this run, at {size} px")
    if size != bench.PUBLISHED_SIZE:
        larger = f"python -m resnet_lib bench --image-size {bench.PUBLISHED_SIZE}"
        lines.append(f"  Sizes differ, so the figures don't compare; for that: {larger}")
    return lines


def show(values: dict[str, float], form: str) -> str:
    """ "2.05 (2.03 to 2.06)"."""
    median, low, high = (format(values[key], form) for key in ("median", "low", "high"))
    return f"{median} ({low} to {high})"
