"""What a finished network costs in use: size, latency, throughput, accuracy, by way to run it."""

import importlib.metadata
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from resnet_lib import UserError, checkpoint, deployed, device, export, latency, models, train
from resnet_lib.augment import normalize
from resnet_lib.experiments.costs import spread
from resnet_lib.experiments.variant import Variant

WAYS = ("eager", "compiled", "torch-export", "onnx-fp32", "onnx-int8")
CALIBRATION = 256  # images, at most
CACHE = "TORCHINDUCTOR_CACHE_DIR"  # where torch.compile keeps what it has made


@dataclass(frozen=True)
class Serving(Variant):
    """An arm that trains nothing: it times the ways to run one network. A seed is a repetition.

    shipped: the network that comes with the package, else one with random weights, whose speed is
    that of a trained one, and which has no accuracy. threads: of each way, or 0 for torch's number.
    """

    shipped: bool = False
    threads: int = 0
    rounds: int = 10
    requests: int = 50
    batch: int = 32
    compiles: bool = True  # a trial can leave it out: it takes a minute

    def execute(
        self, log: Callable[[str], None], weights: Path | None = None
    ) -> tuple[list[dict[str, float]], dict[str, Any]]:
        """All ways in turns, in one process: a dictionary each, times in milliseconds."""
        if weights:
            raise UserError("this experiment keeps no weights: leave --weights out")
        if device.choose_device(self.config.device).type != "cpu":
            raise UserError("this experiment runs on the CPU: add --device cpu")
        deployed.require(*deployed.PACKAGES)
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads or before)
        try:
            return [], self.compare_ways(log)
        finally:
            torch.set_num_threads(before)

    def network(self, images: Any) -> tuple[models.ResNet, dict[str, Any]]:
        """The network, and metadata as a checkpoint has them."""
        if self.shipped:
            return checkpoint.restore_model()
        device.seed_everything(self.config.seed)
        model = self.make(**self.spec).eval()
        return model, {"spec": model.spec, "data": train.describe(images)}

    def compare_ways(self, log: Callable[[str], None]) -> dict[str, Any]:
        """Make, check and time each way."""
        calibration, test = self.part("train"), self.part("test")
        model, about = self.network(calibration)
        pictures = calibration.read(range(min(CALIBRATION, len(calibration))))
        inputs = normalize(test.images, about["data"]["mean"], about["data"]["std"])
        found: dict[str, dict[str, Any]] = {}
        runs: dict[str, Callable[[Tensor], Any]] = {}
        with tempfile.TemporaryDirectory() as folder, compiling_in(folder):
            for way in WAYS if self.compiles else [way for way in WAYS if way != "compiled"]:
                log(f"making {way}")
                started = time.perf_counter()
                runs[way], size = make(way, model, about, Path(folder), pictures)
                with torch.inference_mode():
                    runs[way](inputs[:1]), runs[way](inputs[: self.batch])
                ready = time.perf_counter() - started
                found[way] = {"bytes": size, "seconds_until_ready": ready}
                log(f"{way} is ready after {ready:.0f} s")
            log(f"timing, {self.rounds} rounds")
            speeds = latency.measure(runs, inputs[: self.batch], self.rounds, self.requests)
            expected = logits_of(runs["eager"], inputs, self.batch)
            for way, speed in speeds.items():
                logits = logits_of(runs[way], inputs, self.batch)
                found[way] |= in_numbers(speed, speeds["eager"])
                found[way]["max_error"] = (logits - expected).abs().max().item()
                if self.shipped:
                    found[way]["right"] = (logits.argmax(1) == test.labels).int().tolist()
        size = inputs.shape[-1]
        return {
            "ways": found,
            "threads": torch.get_num_threads(),
            "batch_size": self.batch,
            "image_size": size,
            "requests": self.requests * self.rounds,
            "rounds": self.rounds,
            "largest_logit": expected.abs().max().item(),
            "parameters": models.parameter_count(model),
            "multiply_adds": models.multiply_adds(model, size, inputs.shape[1]),
            "libraries": {name: importlib.metadata.version(name) for name in deployed.PACKAGES},
        }


@contextmanager
def compiling_in(folder: str) -> Iterator[None]:
    """Let torch.compile find nothing of earlier runs, which would hide how long it takes."""
    before = os.environ.get(CACHE)
    os.environ[CACHE] = folder
    torch.compiler.reset()  # what this process remembers of an equal network
    try:
        yield
    finally:
        del os.environ[CACHE]
        os.environ |= {} if before is None else {CACHE: before}


def make(
    way: str, model: models.ResNet, about: dict[str, Any], folder: Path, pictures: Tensor
) -> tuple[Callable[[Tensor], Any], int]:
    """A way to run the network, as a function of normalised images, and the bytes of its file.

    Eager and compiled are run from the weights, whose bytes count.
    """
    if way in ("eager", "compiled"):
        run: nn.Module = model if way == "eager" else torch.compile(model)
        return run, sum(t.numel() * t.element_size() for t in model.state_dict().values())
    if way == "torch-export":
        path = folder / f"{way}.pt2"
        export.to_torch_export(model, path, about, check=pictures[:2])
    else:
        path = folder / f"{way}.onnx"
        precision = way.removeprefix("onnx-")
        export.to_onnx(model, path, about, precision, calibration=pictures, check=pictures[:2])
    return deployed.load(path)[0], path.stat().st_size


@torch.inference_mode()
def logits_of(run: Callable[[Tensor], Any], inputs: Tensor, batch: int) -> Tensor:
    """(N, K), in whole batches and a rest of single images: compiled networks know no other."""
    whole = len(inputs) // batch * batch
    parts = [*inputs[:whole].split(batch), *inputs[whole:].split(1)]
    answers = [run(part) for part in parts]
    return torch.cat([a if isinstance(a, Tensor) else a[0] for a in answers])


def in_numbers(speed: latency.Speed, eager: latency.Speed) -> dict[str, Any]:
    """Times in milliseconds; "times_faster" are medians and quartiles over the rounds."""
    return {
        "p50_ms": 1000 * speed.latency(0.5),
        "p95_ms": 1000 * speed.latency(0.95),
        "mean_ms": 1000 * speed.mean,
        "images_per_second": speed.images_per_second,
        "times_faster": spread(speed.times_faster(eager)),
    }
