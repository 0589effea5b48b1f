"""A training run: the model with all that its checkpoint must hold, and its folder."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from resnet_lib import UserError, checkpoint, data, distributed
from resnet_lib.device import choose_device, choose_precision
from resnet_lib.recipes import (
    Average,
    TrainConfig,
    freeze,
    freeze_norms,
    make_optimizer,
    warmup_cosine,
)

Dataset: TypeAlias = data.ImageSet | data.FolderSet


@dataclass
class History:
    """What happened, one dictionary an epoch: losses, accuracies, lr and seconds.

    ``steps`` has the loss of each step since the process started; no checkpoint keeps it.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)

    @property
    def best(self) -> dict[str, float]:
        """The first epoch of the highest accuracy on the validation part."""
        return max(self.epochs, key=lambda epoch: epoch["val_accuracy"])


def describe(dataset: Dataset) -> dict[str, Any]:
    """What a checkpoint must know of the data to use the network later."""
    return {
        "name": dataset.name,
        "classes": list(dataset.classes),
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "channels": dataset.channels,
        "image_size": dataset.image_size,
    }


def has_narrow_strides(model: nn.Module) -> bool:
    """Whether a strided 1x1 convolution has fewer than 16 input channels.

    With several threads and channels last, torch 2.14 corrupts the memory in the backward pass of
    such a layer on a CPU.
    """
    return any(
        module.kernel_size == (1, 1) and module.stride != (1, 1) and module.in_channels < 16
        for module in model.modules()
        if isinstance(module, nn.Conv2d)
    )


def smallest_batch(config: TrainConfig, device: torch.device) -> int:
    """Examples that a batch needs; fewer join the batch before.

    One for each process and part. And two for each batch norm, which cannot normalise one example
    whose feature map is one pixel: those of a CPU see one process's examples, in training, those
    of CUDA see all.
    """
    world = distributed.world()
    alone = world > 1 and device.type == "cpu" and not config.freeze_norms
    return max(2, world * max(2 if alone else 1, config.accumulate))


def steps_per_epoch(examples: int, batch_size: int, at_least: int = 2) -> int:
    """Batches in one pass; fewer than ``at_least`` examples at the end join the batch before."""
    return data.count_batches(examples, batch_size, at_least)


class Run:
    """A model in training with all that its checkpoint must hold."""

    def __init__(self, model: nn.Module, train: Dataset, config: TrainConfig):
        self.device = choose_device(config.device)
        self.identity = self.describe(model, train, config)
        if self.device.type == "cpu" and has_narrow_strides(model):
            config = replace(config, channels_last=False)
        self.config, self.examples, self.spec = config, len(train), model.spec
        self.dtype = choose_precision(config.precision, self.device)
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        self.model = model.to(self.device, memory_format=layout)
        freeze(self.model, config.frozen)
        if config.freeze_norms:
            freeze_norms(self.model)
        else:
            self.model = distributed.prepare(self.model)
        self.average = Average(self.model, config.average) if config.average else None
        self.optimizer = make_optimizer(self.model, config)
        self.parallel = distributed.parallel(self.model)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        self.steps = max(
            1,
            steps_per_epoch(self.examples, config.batch_size, smallest_batch(config, self.device)),
        )
        if min(self.examples, config.batch_size) < distributed.world() * config.accumulate:
            raise UserError(
                f"{min(self.examples, config.batch_size)} images in a batch are too few for "
                f"{distributed.world()} processes and {config.accumulate} parts: lower accumulate"
            )
        total, warmup = config.epochs * self.steps, round(config.warmup_epochs * self.steps)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: warmup_cosine(step, total, warmup)
        )
        self.history = History()
        self.folder: Path | None = None
        self.losses: list[Tensor] = []  # of this epoch's steps, on the device
        self.counts: list[int] = []  # of examples, of this process

    @staticmethod
    def describe(model: nn.Module, train: Dataset, config: TrainConfig) -> dict[str, Any]:
        """What must not change between the parts of a run; the device may."""
        return {
            "spec": model.spec,
            "config": {key: value for key, value in asdict(config).items() if key != "device"},
            "data": describe(train) | {"examples": len(train)},
        }

    @property
    def kept(self) -> nn.Module:
        """The network that is evaluated and kept: the model, or the average of its weights."""
        return self.average.model if self.average else self.model

    def size(self, labels: Tensor) -> float:
        """Examples of this step's whole batch for each process: what its loss is divided by.

        DistributedDataParallel takes the mean of the processes' gradients, whose shares of an
        uneven batch differ. Divided by this, the mean is the gradient of the whole batch.
        """
        self.counts.append(len(labels))
        if distributed.world() == 1:
            return len(labels)
        before = (len(self.counts) - 1) * self.config.batch_size
        last = len(self.counts) == self.steps
        whole = self.examples - before if last else self.config.batch_size
        return whole / distributed.world()

    def after_step(self, loss: Tensor) -> None:
        """What is due when the weights have changed."""
        if self.average:
            self.average.update(self.model)
        self.losses.append(loss)
        if self.device.type == "cpu" and distributed.world() == 1:  # no wait: look at once
            self.stop_unless_finite([loss.item()], len(self.losses))

    def end_epoch(self, loss: float, accuracy: float) -> tuple[float, float]:
        """The processes' common loss and accuracy, after all have come to the end of the epoch.

        Raises UserError where the loss of a step was not a number.
        """
        weights = torch.tensor(self.counts, dtype=torch.float64)
        steps = torch.stack(self.losses).double().cpu()
        if distributed.world() > 1:
            sums = distributed.total([*(steps * weights).tolist(), *weights.tolist()])
            steps = torch.tensor(sums).view(2, -1)
            steps = steps[0] / steps[1]
        self.stop_unless_finite(steps.tolist(), 1)
        self.history.steps += steps.tolist()
        loss, accuracy = distributed.mean([loss, accuracy], sum(self.counts))
        self.losses, self.counts = [], []
        if not self.config.freeze_norms:
            for model in {self.model, self.kept}:
                distributed.agree(model)
        return loss, accuracy

    def stop_unless_finite(self, losses: list[float], step: int) -> None:
        """UserError for the first loss that is none; ``step`` is the first one's, from 1."""
        bad = next((i for i, loss in enumerate(losses) if not math.isfinite(loss)), None)
        if bad is None:
            return
        done, step = len(self.history.epochs), step + bad
        factor = self.scheduler.lr_lambdas[0](done * self.steps + step - 1)
        kept = ""
        if self.folder and done:
            kept = f"; the last good state is {self.folder / checkpoint.LAST}, after epoch {done}"
        raise UserError(
            f"the loss is {losses[bad]} in epoch {done + 1}, step {step} of {self.steps} "
            f"(lr {self.config.lr * factor:.3g}): start anew with a lower lr{kept}"
        )

    def state(self) -> dict[str, Any]:
        """Everything that continues the run, as tensors and plain data."""
        return {
            **self.identity,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average.state_dict() if self.average else {},
            "random": checkpoint.random_states(),
            "epoch": len(self.history.epochs),
            "history": self.history.epochs,
        }

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint; UserError where it is of another run."""
        state = checkpoint.load(path)
        for part, ours in self.identity.items():
            for key, value in ours.items():
                if state[part].get(key) != value:
                    raise UserError(
                        f"{path} is of another run: {part} {key} was {state[part].get(key)!r}, "
                        f"now {value!r}; repeat the first run's arguments, or choose another folder"
                    )
        checkpoint.fill(self.model, state["model"], path)
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average:
            self.average.load_state_dict(state["average"])
        checkpoint.restore_random_states(state["random"])
        self.history.epochs = state["history"]

    def save(self, folder: Path) -> None:
        """The weights where this epoch is the best so far, then the whole state.

        In this order a run killed in between repeats the epoch and writes the same weights again.
        Of several processes the first writes.
        """
        if distributed.rank():
            return
        latest = self.history.epochs[-1]
        if self.history.best is latest:
            chosen = {"epoch": latest["epoch"], "val_accuracy": latest["val_accuracy"]}
            metadata = {"data": self.identity["data"], **chosen}
            checkpoint.save_weights(folder / checkpoint.BEST, self.kept, metadata)
        checkpoint.save(folder / checkpoint.LAST, self.state())


@contextmanager
def folder_of(out: str | Path | None, resume: bool) -> Iterator[Path | None]:
    """The folder of a run, held by it alone; the first process asks, the others wait for it."""
    if out is None:
        yield None
    elif distributed.rank():
        distributed.wait()
        yield Path(out)
    else:
        with checkpoint.hold(out, resume) as folder:
            distributed.wait()
            yield folder


@contextmanager
def enough_memory(doing: str, ways: list[str]) -> Iterator[None]:
    """Turn an allocation that failed into a UserError with the ways out."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise UserError(f"out of memory in {doing}: try {', or '.join(ways)}") from error


def out_of_memory(error: BaseException) -> bool:
    """Whether torch or Python could not get the memory that it asked for."""
    # The last is what oneDNN says where it gets no memory for itself.
    words = ("DefaultCPUAllocator", "not enough memory", "out of memory", "create a primitive")
    kinds = (MemoryError, torch.cuda.OutOfMemoryError)
    return isinstance(error, kinds) or any(word in str(error) for word in words)


def smaller_images(spec: dict[str, Any], image_size: int) -> list[str]:
    """What to change about the network and its images, and by how much."""
    size = round(image_size / math.sqrt(2))
    ways = [f"--image-size {size} (half the pixels)"]
    width = spec.get("width", 64)
    return [*ways, f"--width {width // 2} (half the channels)"] if width > 1 else ways


def smaller_steps(config: TrainConfig, at_once: int) -> list[str]:
    """What to change about the step, and by how much; ``at_once`` images are too many."""
    if at_once < 2:
        return []
    parts, images, lr = 2 * config.accumulate, config.batch_size // 2, config.lr / 2
    return [
        f"--accumulate {parts} ({math.ceil(at_once / 2)} images at once, in batches as before)",
        f"--batch-size {images} --lr {lr:g} (half the images, and the rate that goes with them)",
    ]
