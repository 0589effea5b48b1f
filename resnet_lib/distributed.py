"""The little that torchrun and DistributedDataParallel need; alone, a process is rank 0 of 1.

torchrun starts the processes and tells each its place through environment variables. ``joined``
makes them a group. All the others ask the group, and do nothing where there is none.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import distributed, nn

from resnet_lib import UserError
from resnet_lib.device import choose_device, synchronize


def rank() -> int:
    """Which of the processes this is, from 0. The first alone prints and writes."""
    return distributed.get_rank() if _in_group() else 0


def world() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if _in_group() else 1


def _in_group() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def launcher() -> str:
    """The beginning of the command that started this, to repeat it."""
    if world() == 1:
        return "python -m resnet_lib"
    here = int(os.environ.get("LOCAL_WORLD_SIZE", world()))
    nodes = world() // here
    where = f"--nnodes {nodes}" if nodes > 1 else "--standalone"
    return f"torchrun {where} --nproc-per-node {here} -m resnet_lib"


@contextmanager
def joined(device: str = "auto") -> Iterator[str]:
    """Join the group of processes that torchrun started, and leave it at the end.

    Gives the device's name: on CUDA each process of a machine gets a card of its own. Without
    torchrun there is no group, and the name stays as it is. UserError where there are more
    processes than cards, or one card is named for all.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield device
        return
    place, local = choose_device(device), int(os.environ["LOCAL_RANK"])
    if place.type == "cuda":
        if place.index is not None:
            raise UserError(f"every process needs a card of its own: --device cuda, not {device}")
        if local >= torch.cuda.device_count():
            raise UserError(
                f"{local + 1} processes or more, but torch sees {torch.cuda.device_count()} cards: "
                "lower --nproc-per-node"
            )
        place = torch.device("cuda", local)
        torch.cuda.set_device(place)
    backend = "nccl" if place.type == "cuda" else "gloo"
    store, here, count = next(distributed.rendezvous("env://"))
    if int(os.environ.get("GROUP_WORLD_SIZE", 1)) == 1:
        # torchrun may keep the store when it starts the processes again (torch 2.14 does), and in
        # it the addresses of those that died. Several machines count their restarts differently:
        # slurm.sh asks torchrun for a new store.
        store = distributed.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
    distributed.init_process_group(backend, store=store, rank=here, world_size=count)
    yield str(place)
    # Not after an error: the others may wait for this process, which torchrun sees by its end.
    wait()
    distributed.destroy_process_group()


def wait() -> None:
    """Wait until all processes are here."""
    if world() > 1:
        total([0.0])


@contextmanager
def first_alone() -> Iterator[None]:
    """Run the body in the first process, then in the others: to download or unpack once."""
    if rank():
        wait()
    yield
    if rank() == 0:
        wait()


def total(values: Sequence[float]) -> list[float]:
    """The sum over the processes, number by number, the same in each of them."""
    if world() == 1:
        return list(values)
    on_cuda = distributed.get_backend() == "nccl"
    device = torch.device("cuda", torch.cuda.current_device()) if on_cuda else None
    numbers = torch.tensor(list(values), dtype=torch.float64, device=device)
    distributed.all_reduce(numbers)
    return numbers.tolist()


def mean(values: Sequence[float], weight: float) -> list[float]:
    """The mean over the processes, of which each counts by its ``weight``."""
    if world() == 1:
        return list(values)
    *sums, weights = total([*(value * weight for value in values), weight])
    return [number / weights for number in sums]


def prepare(model: nn.Module) -> nn.Module:
    """Batch norms that use the statistics of the whole batch: on CUDA, where torch has them."""
    if world() > 1 and next(model.parameters()).device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return model


def parallel(model: nn.Module) -> nn.Module:
    """The model, whose backward pass now averages the gradients over the processes."""
    if world() == 1:
        return model
    device = next(model.parameters()).device
    cards = [device] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(model, cards)


@torch.no_grad()
def agree(model: nn.Module) -> None:
    """Give the running statistics the mean of what the processes found, each on its images.

    DistributedDataParallel gives all those of the first process, before each step; so only those
    of the last step are averaged.
    """
    if world() > 1:
        for buffer in model.buffers():
            if buffer.is_floating_point():
                distributed.all_reduce(buffer)
                buffer /= world()


def time_all_reduce(counts: Sequence[int], rounds: int = 5) -> list[float]:
    """Median seconds to add up so many float32 numbers over the processes, for each count."""
    on_cuda = distributed.get_backend() == "nccl"
    device = torch.device("cuda" if on_cuda else "cpu")
    medians = []
    for count in counts:
        numbers, seconds = torch.ones(count, device=device), []
        for _ in range(rounds + 1):
            wait()
            started = time.perf_counter()
            distributed.all_reduce(numbers)
            synchronize(device)
            seconds.append(time.perf_counter() - started)
        medians.append(sorted(seconds[1:])[rounds // 2])  # the first one connects
    return medians
