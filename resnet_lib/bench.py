"""How fast the training path is on the device at hand, beside a tutorial's loop and the machine.

Everything runs in one process, in rounds: in each round every loop trains once on the same images.
A ratio is formed within a round, where both sides met the same machine, and reported as the median
over the rounds with the quartiles.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import torch

from resnet_lib import (
    UserError,
    data,
    device,
    memory,
    models,
    records,
    scaled_shapes,
    train,
    tutorial,
)
from resnet_lib.experiments.costs import spread
from resnet_lib.latency import interleave
from resnet_lib.pointwise import pointwise_products

Loop: TypeAlias = Callable[[int], None]  # trains on all images once; its argument is the epoch
LR = 0.01  # at most: small, so that no loop meets infinities, which some kernels handle slowly
PEAK_SIZES = {"cpu": (1024, 2048, 4096), "cuda": (4096, 8192)}
PEAK_SECONDS = 0.2  # for each size: a speed that lasts for one product only is no peak
TRIAL_ROUNDS = 5  # at most: a trial asks for a direction, not for the third digit

# What can be changed about the bare step. Each trial is measured beside the step as it is.
TRIALS = {
    "float32": "float32, if the chosen format is another",
    "nchw": "NCHW in place of channels last",
    "unfused": "the optimizer as torch makes it by default",
    "products": "1x1 convolutions as matrix products",
    "compile": "torch.compile",
    "compile-graph": "torch.compile with CUDA graphs (mode reduce-overhead)",
    "cudnn-benchmark": "cuDNN tries its kernels and takes the fastest",
}
ON_CUDA = {"compile-graph", "cudnn-benchmark"}
# torch.compile takes minutes on a CPU.
TRIED = {"cpu": ("float32", "nchw", "unfused", "products"), "cuda": tuple(TRIALS)}

MEMORY = {
    "cuda": "the most that torch's allocator held while the loop ran",
    "cpu": "the largest resident memory of the process while the loop ran, with the networks of "
    "all loops in it (Linux; 0 elsewhere)",
}
# Published training throughput of ResNet-50 in mixed precision: other cards, and larger images.
PUBLISHED_SIZE = 224
PUBLISHED = (
    {"source": "NVIDIA, ResNet-50 v1.5", "card": "A100 80 GB", "images_per_second": 2470},
    {"source": "NVIDIA, ResNet-50 v1.5", "card": "V100 16 GB", "images_per_second": 1200},
    {"source": "timm, channels last", "card": "RTX 3090", "images_per_second": 1218},
)


@dataclass(frozen=True)
class Settings:
    """What is measured; None leaves it to the device, see ``complete``."""

    model: str = "resnet50"
    image_size: int = 64
    batch_size: int = 64
    rounds: int = 9
    steps: int | None = None
    workers: int | None = None
    device: str = "auto"
    precision: str = "auto"
    tried: tuple[str, ...] | None = None
    seed: int = 0

    def __post_init__(self):
        if self.batch_size < 2:
            raise UserError("batch_size must be at least 2: batch norm compares images")
        if self.workers is not None and self.workers < 0:
            raise UserError(f"workers must be at least 0, got {self.workers}")
        if unknown := sorted(set(self.tried or ()) - set(TRIALS)):
            raise UserError(f"a trial must be one of {', '.join(TRIALS)}, got {unknown[0]!r}")

    def complete(self, place: torch.device) -> "Settings":
        """With the device's choices: steps a round, the tutorial's worker processes, trials.

        A GPU is so fast that only many steps can be timed, and tutorials give it workers. On a CPU
        they would take the cores that compute.
        """
        cuda = place.type == "cuda"
        if not cuda and (odd := ON_CUDA & set(self.tried or ())):
            raise UserError(f"{sorted(odd)[0]} can be tried on a CUDA device only")
        choices = {
            "steps": 50 if cuda else 4,
            "workers": 4 if cuda else 0,
            "tried": TRIED[place.type],
        }
        unset = {key: value for key, value in choices.items() if getattr(self, key) is None}
        return replace(self, **unset)


def ours(name: str, images: data.ImageSet) -> models.ResNet:
    """The package's network, of the same shape as torchvision's."""
    return models.build(name, len(images.classes), in_channels=images.channels)


def some_images(count: int, size: int, seed: int) -> data.ImageSet:
    """Generated colour images of ``size`` pixels, so that nothing has to be downloaded."""
    enough = max(count, len(scaled_shapes.CLASSES))  # ``load`` gives each class one at least
    images = data.load("scaled-shapes", "train", limit=enough, image_size=size, seed=seed)
    return data.subset(images, range(count))


def training_path(run: train.Run, images: data.ImageSet, config: train.TrainConfig) -> Loop:
    """The whole path of ``train.fit``: data, augmentation, normalisation, step."""
    return epoch_of(run, lambda epoch: train.training_batches(images, config, epoch, run.device))


def bare_step(run: train.Run, images: data.ImageSet, config: train.TrainConfig) -> Loop:
    """The step alone: its batches lie on the device already, and are not augmented."""
    plain = replace(config, augment=None)
    batches = list(train.training_batches(images, plain, 0, run.device))
    return epoch_of(run, lambda epoch: batches)


def epoch_of(run: train.Run, batches: Callable[[int], Any]) -> Loop:
    """The package's epoch over ``batches(epoch)``."""

    def epoch(number: int) -> None:
        train.train_one_epoch(
            run.model, batches(number), run.optimizer, run.device, run.scheduler, run.dtype,
            run.scaler,
        )  # fmt: skip

    return epoch


def in_turn(*loops: Loop) -> Loop:
    """The loops in turn, each for two rounds.

    Of two equal networks the one that was made first may be some percent slower, as its memory
    lies. So each side of a comparison is made twice, once before the other side and once after.
    """
    return lambda number: loops[number // 2 % len(loops)](number)


def changed_step(name: str, images: data.ImageSet, model: str, config: train.TrainConfig) -> Loop:
    """Our bare step with one of the ``TRIALS`` changes."""
    changes = {"float32": {"precision": "float32"}, "nchw": {"channels_last": False}}
    config = replace(config, **changes.get(name, {}))
    run = train.Run(ours(model, images), images, config)
    if name == "unfused":
        run.optimizer.param_groups[0]["fused"] = False
    elif name == "products":
        pointwise_products(run.model)
    elif name == "compile":
        run.model = torch.compile(run.model)
    elif name == "compile-graph":
        run.model = torch.compile(run.model, mode="reduce-overhead")
    step = bare_step(run, images, config)

    def epoch(number: int) -> None:
        tuned = name == "cudnn-benchmark"
        with torch.backends.cudnn.flags(benchmark=True) if tuned else nullcontext():
            step(number)

    return epoch


class Measured(NamedTuple):
    images_per_second: float
    peak_bytes: int


def measure(images: int, place: torch.device, loop: Loop, epoch: int) -> Measured:
    """Run the loop once; the device is waited for before and after."""
    memory.reset_peak(place)
    device.synchronize(place)
    started = time.perf_counter()
    loop(epoch)
    device.synchronize(place)
    return Measured(images / (time.perf_counter() - started), memory.peak(place))


def matrix_peak(dtype: torch.dtype, place: torch.device, _: int = 0) -> float:
    """FLOP/s of products of square matrices, at the size that is the fastest here."""
    best = 0.0
    for size in PEAK_SIZES[place.type]:
        left, right = torch.randn(2, size, size, device=place).to(dtype)
        out = torch.mm(left, right)
        device.synchronize(place)
        started = time.perf_counter()
        for products in itertools.count(1):
            torch.mm(left, right, out=out)
            device.synchronize(place)
            seconds = time.perf_counter() - started
            if seconds > PEAK_SECONDS and products > 1:
                break
        best = max(best, 2 * size**3 * products / seconds)
    return best


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Round by round."""
    return [a / b for a, b in zip(over, under, strict=True)]


def utilisation(images_per_second: float, peak: float, multiply_adds: int) -> float:
    """The share of the peak that goes into the model's own arithmetic.

    A multiply-add is two operations, and the backward pass has two for each of the forward's.
    """
    return 6 * multiply_adds * images_per_second / peak


def try_out(change: str, step: Loop, build: Callable[[], Loop], rounds: int, time_it: Callable):
    """Measure one trial beside the bare step. One that fails is told, and stops nothing."""
    started = time.perf_counter()
    try:
        loop = build()
        loop(0)
        ready = time.perf_counter() - started
        loops = {"step": partial(time_it, step), "changed": partial(time_it, loop)}
        found = [measured for _, measured in interleave(loops, rounds)]
    except RuntimeError as error:  # such as a compiler that is missing
        return {"change": TRIALS[change], "failed": str(error).strip().splitlines()[0]}
    step, changed = ([m[key].images_per_second for m in found] for key in ("step", "changed"))
    return {
        "change": TRIALS[change],
        "images_per_second": spread(changed),
        "ratio_vs_bare_step": spread(ratios(changed, step)),
        "seconds_until_ready": ready,
    }


def bench(settings: Settings, log: Callable[[str], None] = train.say) -> dict[str, Any]:
    """Measure everything, as plain data for JSON. Ratios and speeds are spreads over the rounds.

    ratio_vs_tutorial: our path's images a second over those of the tutorial's loop.
    ratio_vs_bare_step: our path's over those of the step alone; the rest is what the data cost.
    utilisation: of the measured peak in the same number format, by our path.
    ratio_step_vs_torchvision: our step's images a second over those of torchvision's network.
    """
    started, date, place = time.perf_counter(), records.now(), device.choose_device(settings.device)
    settings = settings.complete(place)
    precision = device.choose_precision(settings.precision, place)
    count, size = settings.batch_size * settings.steps, settings.image_size
    images = some_images(count, size, settings.seed)
    config = train.TrainConfig(
        epochs=settings.rounds + 2, warmup_epochs=settings.rounds + 1, lr=LR, seed=settings.seed,
        batch_size=settings.batch_size, precision=settings.precision, device=settings.device,
    )  # fmt: skip
    device.seed_everything(settings.seed)
    makers = ours, tutorial.network, tutorial.network, ours
    runs = [train.Run(make(settings.model, images), images, config) for make in makers]
    steps = [bare_step(run, images, config) for run in runs]
    loops = {
        "tutorial": tutorial.loop(images, settings.model, settings.workers, config),
        "ours": in_turn(*(training_path(run, images, config) for run in (runs[0], runs[3]))),
        "bare_step": in_turn(steps[0], steps[3]),
        "torchvision_step": in_turn(steps[1], steps[2]),
    }
    for loop in (loops["tutorial"], *steps):
        loop(0)  # the first steps allocate, and choose kernels
    time_it = partial(measure, count, place)
    timed = {name: partial(time_it, loop) for name, loop in loops.items()}
    found = []
    for number, measured in interleave(
        timed | {"peak": partial(matrix_peak, precision, place)}, settings.rounds
    ):
        found.append(measured)
        speeds = (f"{name} {measured[name].images_per_second:.1f}" for name in loops)
        log(f"round {number} of {settings.rounds}, images/s: {', '.join(speeds)}")
    speeds = {name: [m[name].images_per_second for m in found] for name in loops}
    peaks = [measured["peak"] for measured in found]
    work = models.multiply_adds(runs[0].model, size, in_channels=images.channels)
    shares = [utilisation(*pair, work) for pair in zip(speeds["ours"], peaks, strict=True)]
    result = {
        "ratio_vs_tutorial": spread(ratios(speeds["ours"], speeds["tutorial"])),
        "ratio_vs_bare_step": spread(ratios(speeds["ours"], speeds["bare_step"])),
        "utilisation": spread(shares),
        "ratio_step_vs_torchvision": spread(
            ratios(speeds["bare_step"], speeds["torchvision_step"])
        ),
        "images_per_second": {name: spread(values) for name, values in speeds.items()},
        "peak_flops": spread(peaks),
        "multiply_adds": work,
        "peak_bytes": {name: max(m[name].peak_bytes for m in found) for name in loops},
        "peak_bytes_are": MEMORY[place.type],
        "rounds": {"images_per_second": speeds, "peak_flops": peaks},
        "tried": {},
    }
    del runs, timed
    for change in settings.tried:
        log(f"trying {change}: {TRIALS[change]}")
        build = partial(changed_step, change, images, settings.model, config)
        rounds = min(settings.rounds, TRIAL_ROUNDS)
        result["tried"][change] = try_out(change, steps[0], build, rounds, time_it)
    return result | {
        "published": [figure | {"image_size": PUBLISHED_SIZE} for figure in PUBLISHED],
        "settings": asdict(settings) | {"precision": str(precision).removeprefix("torch.")},
        "environment": records.environment(place),
        "commit": records.commit(),
        "date": date,
        "seconds": round(time.perf_counter() - started, 1),
    }
