"""How long an answer takes, and how many come a second: several ways to run a network, in turns.

A request is one image. What a user waits for is the latency of a request: its median (p50) and the
value that one request in twenty exceeds (p95). What a full machine gets done is the throughput, in
images a second, here in batches.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

WARM_UP = 3  # requests and batches that are not timed: the first ones allocate, and choose kernels


def interleave(
    loops: dict[str, Callable[[int], Any]], rounds: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(round, {name: what the loop returned}); every other round goes through them backwards.

    So a machine that slows down steadily favours neither side of a ratio.
    """
    for number in range(1, rounds + 1):
        names = list(loops)[:: 1 if number % 2 else -1]
        yield number, {name: loops[name](number) for name in names}


def percentile(seconds: Sequence[float], share: float) -> float:
    """The time that this share of the requests does not exceed, interpolated."""
    return float(np.quantile(seconds, share))


@dataclass(frozen=True)
class Speed:
    """Seconds of each request, and of each batch of ``batch_size`` images, round by round."""

    requests: list[list[float]]
    batches: list[float]
    batch_size: int

    def latency(self, share: float) -> float:
        """Seconds that this share of all requests does not exceed."""
        return percentile([second for one in self.requests for second in one], share)

    @property
    def mean(self) -> float:
        """Seconds a request takes on average."""
        return float(np.mean([second for one in self.requests for second in one]))

    @property
    def images_per_second(self) -> float:
        """In batches; the median over the rounds."""
        return self.batch_size / percentile(self.batches, 0.5)

    def times_faster(self, other: "Speed") -> list[float]:
        """The other's median latency over this one's, in each round."""
        pairs = zip(other.requests, self.requests, strict=True)
        return [percentile(theirs, 0.5) / percentile(ours, 0.5) for theirs, ours in pairs]


@torch.inference_mode()
def measure(
    runs: dict[str, Callable[[Tensor], Any]], images: Tensor, rounds: int = 5, requests: int = 40
) -> dict[str, Speed]:
    """Time each way to run the network on normalised images (N, C, S, S), on the CPU.

    In each round each of them answers so many requests in a row, and then one batch of all images.
    """
    for run in runs.values():
        for _ in range(WARM_UP):
            run(images[:1])
            run(images)
    loops = {name: partial(_round, run, images, requests) for name, run in runs.items()}
    found: dict[str, list[tuple[list[float], float]]] = {name: [] for name in runs}
    for _, measured in interleave(loops, rounds):
        for name, times in measured.items():
            found[name].append(times)
    return {
        name: Speed([one for one, _ in times], [batch for _, batch in times], len(images))
        for name, times in found.items()
    }


def _round(
    run: Callable[[Tensor], Any], images: Tensor, requests: int, _: int
) -> tuple[list[float], float]:
    """Seconds of each request and of a batch, after a request that brings the network back."""
    run(images[:1])
    chosen = [index % len(images) for index in range(requests)]
    singles = [seconds(run, images[index : index + 1]) for index in chosen]
    return singles, seconds(run, images)


def seconds(run: Callable[[Tensor], Any], images: Tensor) -> float:
    """Of one call."""
    started = time.perf_counter()
    run(images)
    return time.perf_counter() - started
