"""The memory of a training step: by part, as it is predicted, and as it is measured.

A step holds parameters, gradients, the optimizer's state, and what the forward pass keeps for the
backward pass: the activations. ``checkpoint_blocks`` trades the last for time.
"""

import copy
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from resnet_lib import UserError

PARTS = ("parameters", "gradients", "optimizer", "activations")
STATES = {"sgd": 1, "adamw": 2}  # numbers that the optimizer keeps for each parameter
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
STAGES = ("layer1", "layer2", "layer3", "layer4")


def mixed(device: torch.device, dtype: torch.dtype) -> AbstractContextManager:
    """Autocast to the format; nothing for float32, which the meta device then also can."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def saved_bytes(model: nn.Module, images: Tensor, dtype: torch.dtype) -> int:
    """Bytes that the forward pass of a training step keeps for the backward pass.

    Each tensor's memory counts once, the copies of weights in another number format included;
    parameters and the images themselves don't count.
    """
    known = {tensor.untyped_storage() for tensor in (*model.parameters(), images)}
    kept: dict[torch.UntypedStorage, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage not in known:
            kept[storage] = storage.nbytes()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
    with hooks, mixed(images.device, dtype):
        model(images)
    return sum(kept.values())


def estimate(
    model: nn.Module,
    batch_size: int,
    image_size: int,
    in_channels: int = 3,
    dtype: torch.dtype = torch.float32,
    optimizer: str = "sgd",
) -> dict[str, int]:
    """Bytes of a step by part, named as in ``PARTS``; the model stays as it is.

    Activations are counted for two and for four images, and each image more adds the same. What
    doesn't grow is the copies of the weights in a 16-bit format. The parts are never at their
    largest all at once, so the step's peak is below their sum, but for its temporary tensors.
    It runs where the model is; in float32, a model on the meta device takes no memory and time.
    """
    if optimizer not in STATES:
        raise UserError(f"optimizer must be one of {', '.join(STATES)}, got {optimizer!r}")
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, got {batch_size}")
    device = next(model.parameters()).device
    twin = copy.deepcopy(model).train()  # the passes change running statistics
    shape = (in_channels, image_size, image_size)
    two, four = (saved_bytes(twin, torch.zeros(n, *shape, device=device), dtype) for n in (2, 4))
    parameters = tensor_bytes(model.parameters())
    return {
        "parameters": parameters,
        "gradients": parameters,
        "optimizer": STATES[optimizer] * parameters,
        "activations": two + (batch_size - 2) * (four - two) // 2,
    }


def measure(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    optimizer: torch.optim.Optimizer,
    dtype: torch.dtype = torch.float32,
) -> dict[str, int]:
    """Bytes of a step by part, as in ``PARTS``, and its "peak", which counts all that it needs.

    Takes three steps on the batch (n, C, H, W), (n,), which lies on the model's device.
    """
    device, kept = images.device, {}

    def forward() -> None:
        with mixed(device, dtype):
            logits = model(images)
        kept["loss"] = F.cross_entropy(logits.float(), labels)

    def step() -> None:
        forward()
        kept.pop("loss").backward()
        optimizer.step()

    model.train()
    step()  # afterwards the optimizer's state exists
    optimizer.zero_grad()
    _, activations = allocated(forward, device)
    kept.pop("loss").backward()
    optimizer.step()
    found = {
        "parameters": tensor_bytes(model.parameters()),
        "gradients": tensor_bytes(p.grad for p in model.parameters() if p.grad is not None),
        "optimizer": tensor_bytes(
            value for state in optimizer.state.values() for value in state.values()
        ),
        "activations": activations,
    }
    optimizer.zero_grad()
    above, _ = allocated(step, device)
    return found | {"peak": found["parameters"] + found["optimizer"] + above}


def tensor_bytes(values: Iterable[Any]) -> int:
    """Bytes of the tensors among the values."""
    tensors = (value for value in values if isinstance(value, Tensor))
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def allocated(work: Callable[[], None], device: torch.device) -> tuple[int, int]:
    """Bytes that torch's allocator gave out while ``work`` ran: at most, and still at its end.

    Both count from the start of the work. On a CPU the allocator keeps no account, so the
    profiler's notes are added up; the buffers of libraries such as oneDNN are not among them.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        peak, end = torch.cuda.max_memory_allocated(device), torch.cuda.memory_allocated(device)
        return peak - before, end - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler writes to stderr
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        work()
    notes = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    changes = [note.nbytes() for note in sorted(notes, key=lambda note: note.start_ns())]
    return max(itertools.accumulate(changes, initial=0)), sum(changes)


class Checkpointed(nn.Sequential):
    """A stage whose blocks keep only their inputs, and run once more in the backward pass.

    Chen et al. 2016. The names in the ``state_dict`` are those of the stage.
    """

    def forward(self, x: Tensor) -> Tensor:
        for block in self:
            if torch.is_grad_enabled():
                again = partial(recomputation, block)
                x = checkpoint(block, x, use_reentrant=False, context_fn=again)
            else:
                x = block(x)
        return x


def recomputation(block: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    """The contexts for torch's checkpoint: of the first pass, and of the second."""
    return nullcontext(), kept_statistics(block)


@contextmanager
def kept_statistics(block: nn.Module) -> Iterator[None]:
    """Batch norms normalise with the batch, but their running statistics stay as they are.

    Else a block that runs twice in a step would move them twice.
    """
    norms = [m for m in block.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        # A copy, since the counter counts in place.
        norm.num_batches_tracked = norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count


def checkpoint_blocks(model: nn.Module) -> nn.Module:
    """Let each block of a ResNet keep only its input for the backward pass: the same model.

    Loss, gradients, running statistics and ``state_dict`` are as before; a step takes about one
    more forward pass.
    """
    for name in STAGES:
        setattr(model, name, Checkpointed(*getattr(model, name)))
    return model


def reset_peak(device: torch.device) -> None:
    """Begin to note the most memory in use anew, where the system lets us."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        CLEAR.write_text("5")  # Linux: proc(5)


def peak(device: torch.device) -> int:
    """The most bytes in use since ``reset_peak``; 0 if not known.

    On CUDA those of torch's allocator, on a CPU the resident memory of the whole process.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with suppress(OSError):
        lines = (line.split() for line in STATUS.read_text().splitlines())
        return next((int(words[1]) * 1024 for words in lines if words[0] == "VmHWM:"), 0)
    return 0
