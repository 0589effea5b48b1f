"""Training: one epoch, evaluation, and the loop around them with checkpoints and resume."""

import math
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from resnet_lib import checkpoint, data, distributed
from resnet_lib.augment import normalize
from resnet_lib.device import choose_device, seed_everything
from resnet_lib.recipes import TrainConfig, hard, make_optimizer, warmup_cosine
from resnet_lib.runs import (
    Dataset,
    History,
    Run,
    describe,
    enough_memory,
    folder_of,
    smaller_images,
    smaller_steps,
    smallest_batch,
    steps_per_epoch,
)

__all__ = [
    "Dataset", "Evaluation", "History", "Run", "TrainConfig", "describe", "evaluate", "fit",
    "make_optimizer", "say", "steps_per_epoch", "train_one_epoch", "training_batches",
    "warmup_cosine",
]  # fmt: skip


@dataclass(frozen=True)
class Evaluation:
    """Logits (N, K) and labels (N,) on the CPU, in the order of the data."""

    logits: Tensor
    labels: Tensor

    @property
    def predictions(self) -> Tensor:
        return self.logits.argmax(1)

    @property
    def accuracy(self) -> float:
        return (self.predictions == self.labels).double().mean().item()

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats."""
        return F.cross_entropy(self.logits, self.labels).item()


def train_one_epoch(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
    device: torch.device,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    dtype: torch.dtype = torch.float32,
    scaler: torch.amp.GradScaler | None = None,
    label_smoothing: float = 0.0,
    parts: int = 1,
    size: Callable[[Tensor], float] = len,
    after_step: Callable[[Tensor], None] = lambda loss: None,
) -> tuple[float, float]:
    """One pass over batches of images (n, C, H, W) and labels (n,): mean loss and accuracy.

    Both are weighted by examples and measured in training mode, while the weights change. Labels
    may also be shares of the classes (n, K). A batch runs in ``parts``, whose gradients add up to
    those of its mean loss. The mean is over ``size`` of the labels; ``after_step`` is called with
    the loss of each step, on the device.
    """
    model.train()
    scaler = scaler or torch.amp.GradScaler(device.type, enabled=False)
    loss_sum, hits = torch.zeros(2, device=device)
    count = 0
    for images, labels in batches:
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        step_loss, whole = torch.zeros((), device=device), size(labels)
        for x, y in zip(images.tensor_split(parts), labels.tensor_split(parts), strict=True):
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                logits = model(x)
            loss = F.cross_entropy(logits.float(), y, label_smoothing=label_smoothing)
            scaler.scale(loss * (len(y) / whole)).backward()
            step_loss += loss.detach() * len(y)
            hits += (logits.argmax(1) == hard(y)).sum()
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
        loss_sum += step_loss
        count += len(labels)
        after_step(step_loss / len(labels))
    # The only read of a number from the device: .item() for each batch would stop it there.
    return loss_sum.item() / count, hits.item() / count


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    dataset: Dataset,
    device: str | torch.device = "auto",
    batch_size: int = 256,
    rank: int = 0,
    world: int = 1,
) -> Evaluation:
    """Run the model over the data in evaluation mode and float32, without augmentation.

    Of several processes, ``rank`` of ``world`` takes its share of the images.
    """
    device = choose_device(str(device))
    model.to(device).eval()
    logits, labels = [], []
    for images, targets in data.batches(dataset, batch_size, rank=rank, world=world):
        images = normalize(images.to(device), dataset.mean, dataset.std)
        logits.append(model(images))
        labels.append(targets)
    return Evaluation(torch.cat(logits).cpu(), torch.cat(labels))


def training_batches(
    dataset: Dataset, config: TrainConfig, epoch: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled, augmented, normalised batches on the device, fixed by seed and epoch.

    Of several processes each gets its rows of every batch, augmented as one process would do it.
    What mixes images mixes those of a process.
    """
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + epoch)
    layout = torch.channels_last if config.channels_last else torch.contiguous_format
    at_least, rank, world = smallest_batch(config, device), distributed.rank(), distributed.world()
    last = steps_per_epoch(len(dataset), config.batch_size, at_least) - 1
    batches = data.batches(
        dataset, config.batch_size, shuffle=True, seed=config.seed, epoch=epoch, at_least=at_least,
        rank=rank, world=world,
    )  # fmt: skip
    for step, (images, labels) in enumerate(batches):
        images = images.to(device, non_blocking=True)
        if config.augment and world == 1:
            images = config.augment(images, generator)
        elif config.augment:
            whole = len(dataset) - last * config.batch_size if step == last else config.batch_size
            images = config.augment(images, generator, slice(rank, None, world), whole)
        images = normalize(images, dataset.mean, dataset.std).contiguous(memory_format=layout)
        labels = labels.to(device, non_blocking=True)
        if config.mix:
            images, labels = config.mix(images, labels, len(dataset.classes), generator)
        yield images, labels


def say(line: str) -> None:
    """Print at once: a line that waits in a buffer is no progress report.

    Of several processes the first prints.
    """
    if distributed.rank() == 0:
        print(line, flush=True)


def fit(
    model: nn.Module,
    train: Dataset,
    val: Dataset,
    config: TrainConfig,
    out: str | Path | None = None,
    resume: bool = False,
    log: Callable[[str], None] = say,
    watch: Callable[[History], None] | None = None,
) -> History:
    """Train, evaluating on ``val`` after each epoch; one line an epoch goes to ``log``.

    In a terminal the line says how long the rest will take. ``watch`` is called after each epoch
    with the history so far, as by ``plots.Live()``.

    With ``out``, that folder gets last.pt (the whole state) and best.safetensors (the weights of
    the best epoch on ``val``) after each epoch; ``resume`` continues where last.pt stands, on a
    CPU to the same bits, and starts from the beginning where there is none. At the end the model
    holds the weights of the last epoch, averaged where the configuration asks for it.

    Within ``distributed.joined`` the processes share each batch, and the first writes and logs.
    Raises UserError where the loss is no number, the memory is too small for a step, the disk is
    full, or another run has the folder.
    """
    seed_everything(config.seed)
    run = Run(model, train, config)
    with folder_of(out, resume) as run.folder:
        if run.folder and (run.folder / checkpoint.LAST).exists():
            run.restore(run.folder / checkpoint.LAST)
            if distributed.rank() == 0:
                log(f"resumed after epoch {len(run.history.epochs)} of {config.epochs}")
        first = len(run.history.epochs)
        for epoch in range(first + 1, config.epochs + 1):
            entry = one_epoch(run, train, val, epoch)
            run.history.epochs.append(entry)
            if distributed.rank() == 0:
                log(
                    f"epoch {epoch:3d}/{config.epochs}  train loss {entry['train_loss']:.3f}  "
                    f"accuracy {entry['train_accuracy']:.3f}  val loss {entry['val_loss']:.3f}  "
                    f"accuracy {entry['val_accuracy']:.3f}  {entry['seconds']:.0f} s"
                    + time_left(run.history.epochs[first:], config.epochs - epoch)
                )
            if run.folder:
                run.save(run.folder)
            if watch and distributed.rank() == 0:
                watch(run.history)
    if run.average:
        model.load_state_dict(run.average.model.state_dict())
    return run.history


def time_left(done: Sequence[dict[str, float]], epochs: int) -> str:
    """What a terminal shows at the end of an epoch's line: "  about 5 min left".

    done: the entries of the epochs since the process started; epochs: how many are to come. In
    files and notebooks the lines stay without, for there nobody waits for them.
    """
    if not epochs or not sys.stdout.isatty():
        return ""
    # The median: the first epoch on a card takes longer, and so does one while others compute.
    seconds = statistics.median(entry["seconds"] for entry in done) * epochs
    if seconds < 100:
        return f"  about {max(1, seconds):.0f} s left"
    hours, minutes = divmod(math.ceil(seconds / 60), 60)
    return f"  about {f'{hours} h ' * (hours > 0)}{minutes} min left"


def one_epoch(run: Run, train: Dataset, val: Dataset, epoch: int) -> dict[str, float]:
    """Train for an epoch and evaluate: its entry in the history."""
    started = time.perf_counter()
    rank, world = distributed.rank(), distributed.world()
    # disable=None: a bar in a terminal only, so that notebooks and logs stay readable.
    batches = tqdm(
        training_batches(train, run.config, epoch, run.device),
        total=run.steps,
        desc=f"epoch {epoch}",
        leave=False,
        disable=None if rank == 0 else True,
    )
    lr = run.optimizer.param_groups[0]["lr"]
    at_once = math.ceil(run.config.batch_size / world / run.config.accumulate)
    smaller = smaller_images(run.spec, train.image_size)
    ways = [*smaller_steps(run.config, at_once), *smaller]
    with enough_memory(f"a step of {at_once} images of {train.image_size} px", ways):
        loss, accuracy = train_one_epoch(
            run.parallel, batches, run.optimizer, run.device, run.scheduler, run.dtype, run.scaler,
            run.config.label_smoothing, run.config.accumulate, run.size, run.after_step,
        )  # fmt: skip
    loss, accuracy = run.end_epoch(loss, accuracy)
    with enough_memory(f"the evaluation, on images of {train.image_size} px", smaller):
        result = evaluate(run.kept, val, run.device, rank=rank, world=world)
    found = distributed.mean([result.loss, result.accuracy], len(result.labels))
    return {
        "epoch": epoch,
        "train_loss": loss,
        "train_accuracy": accuracy,
        "val_loss": found[0],
        "val_accuracy": found[1],
        "lr": lr,
        "seconds": time.perf_counter() - started,
    }
