"""What training on many devices takes: a model of a step's time out of compute, network and input.

It is crude on purpose: a handful of numbers, each of which can be measured or looked up. Chapter 13
says by how much it is wrong.
"""

import io
import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from resnet_lib import UserError

OVERLAP = 2 / 3  # of a step is the backward pass, while which finished gradients travel


@dataclass(frozen=True)
class Cluster:
    """Devices that share each batch.

    alone: images a second of one device by itself. link: bytes a second, in one direction, that a
    node has to send what its devices agreed on; devices of one node talk for nothing. latency:
    seconds for the smallest message. spread: standard deviation of the devices' times for a step,
    as a share of their mean. supply: images a second for each device from storage and decoding.
    """

    devices: int
    alone: float
    link: float = math.inf
    latency: float = 0.0
    per_node: int = 1
    spread: float = 0.0
    supply: float = math.inf

    def __post_init__(self):
        if self.devices < 1 or self.per_node < 1:
            raise UserError("devices and per_node must be at least 1")
        if min(self.alone, self.link, self.supply) <= 0:
            raise UserError("alone, link and supply must be above 0")


@dataclass(frozen=True)
class Step:
    """Seconds of one step by part; ``network`` is what the backward pass does not hide."""

    compute: float
    slowest: float
    network: float
    input: float
    images: float

    @property
    def seconds(self) -> float:
        """Input is fetched beside the rest, so the longer of the two counts."""
        return max(self.compute + self.slowest + self.network, self.input)

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds

    @property
    def efficiency(self) -> float:
        """The share of the devices' time that goes into the networks."""
        return self.compute / self.seconds

    @property
    def limit(self) -> str:
        """What costs the most time beside computing: "input", "network" or "slowest"."""
        busy = self.compute + self.slowest + self.network
        if self.input > busy:
            return "input"
        return "network" if self.network > self.slowest else "slowest"


def ring_bytes(size: float, members: int) -> float:
    """Bytes that each member of a ring sends to add up ``size`` bytes in all of them.

    In members - 1 rounds each part is summed, in as many more the sums go around. Patarasuk and
    Yuan 2009 show that no method sends less.
    """
    return 2 * (members - 1) / members * size


def all_reduce_seconds(size: float, members: int, link: float, latency: float = 0.0) -> float:
    """Time to add up ``size`` bytes over the members: a ring's bytes, and a tree's messages.

    A ring sends as few bytes as is possible, in a number of messages that grows with the members;
    a tree needs their logarithm. Libraries mix the two.
    """
    if members == 1:
        return 0.0
    return ring_bytes(size, members) / link + 2 * math.ceil(math.log2(members)) * latency


def expected_slowest(devices: int, spread: float) -> float:
    """By what share the slowest of the devices is slower than their mean, about.

    The largest of n normal numbers lies below sqrt(2 ln n) standard deviations, and comes close to
    that slowly.
    """
    return spread * math.sqrt(2 * math.log(devices))


def estimate(cluster: Cluster, batch: float, gradient_bytes: float) -> Step:
    """One step of a batch of all devices together, whose gradients have so many bytes."""
    share = batch / cluster.devices
    compute = share / cluster.alone
    nodes = math.ceil(cluster.devices / cluster.per_node)
    reduce = all_reduce_seconds(gradient_bytes, nodes, cluster.link, cluster.latency)
    return Step(
        compute=compute,
        slowest=compute * expected_slowest(cluster.devices, cluster.spread),
        network=max(0.0, reduce - OVERLAP * compute),
        input=share / cluster.supply,
        images=batch,
    )


def fit_line(sizes: list[float], seconds: list[float]) -> tuple[float, float]:
    """(latency, bytes a second) of ``seconds = latency + bytes / rate``, by least squares.

    Each measurement counts by its relative error, so that small messages fix the latency.
    """
    x = torch.tensor([sizes, [1.0] * len(sizes)], dtype=torch.float64).T
    y = torch.tensor(seconds, dtype=torch.float64)
    slope, latency = torch.linalg.lstsq(x / y[:, None], torch.ones_like(y)[:, None]).solution[:, 0]
    return max(latency.item(), 0.0), 1 / slope.item()


def decoding_speed(seconds: float = 0.5, size: tuple[int, int] = (500, 375)) -> float:
    """JPEG images a second that one core decodes and scales to 224 pixels.

    The image is of about the size of ImageNet's, smooth with some noise.
    """
    generator = np.random.default_rng(0)
    small = Image.fromarray(generator.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    pixels = np.asarray(small.resize(size, Image.Resampling.BICUBIC), dtype=np.int16)
    pixels = pixels + generator.integers(-12, 13, pixels.shape)
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    started, count = time.perf_counter(), 0
    while (passed := time.perf_counter() - started) < seconds:
        file.seek(0)
        np.asarray(Image.open(file).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR))
        count += 1
    return count / passed


@dataclass(frozen=True)
class Published:
    """A run that others measured; ``alone`` is theirs for one device, or one node's by device."""

    name: str
    cluster: Cluster
    batch: int
    gradient_bytes: float
    images_per_second: float

    @property
    def predicted(self) -> float:
        return estimate(self.cluster, self.batch, self.gradient_bytes).images_per_second

    @property
    def error(self) -> float:
        """(predicted - measured) / measured."""
        return self.predicted / self.images_per_second - 1
