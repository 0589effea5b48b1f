"""Training: one epoch, evaluation, and the loop around them with checkpoints and resume."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from resnet_lib import UserError, checkpoint, data
from resnet_lib.augment import normalize
from resnet_lib.device import choose_device, choose_precision, seed_everything
from resnet_lib.recipes import Average, TrainConfig, hard, make_optimizer, warmup_cosine

Dataset: TypeAlias = data.ImageSet | data.FolderSet


@dataclass
class History:
    """What happened, one dictionary an epoch: losses, accuracies, lr and seconds."""

    epochs: list[dict[str, float]] = field(default_factory=list)

    @property
    def best(self) -> dict[str, float]:
        """The first epoch of the highest accuracy on the validation part."""
        return max(self.epochs, key=lambda epoch: epoch["val_accuracy"])


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
        step_loss = torch.zeros((), device=device)
        for x, y in zip(images.chunk(parts), labels.chunk(parts), strict=True):
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                logits = model(x)
            loss = F.cross_entropy(logits.float(), y, label_smoothing=label_smoothing)
            scaler.scale(loss * (len(y) / size(labels))).backward()
            step_loss += loss.detach() * len(y)
            hits += (logits.argmax(1) == hard(y)).sum()
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
        loss_sum += step_loss
        count += len(labels)
        after_step(step_loss / len(labels))
    # The only wait for the device in the epoch: .item() in the loop would stop it at every batch.
    return loss_sum.item() / count, hits.item() / count


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    dataset: Dataset,
    device: str | torch.device = "auto",
    batch_size: int = 256,
) -> Evaluation:
    """Run the model over the data in evaluation mode and float32, without augmentation."""
    device = choose_device(str(device))
    model.to(device).eval()
    logits, labels = [], []
    for images, targets in data.batches(dataset, batch_size):
        images = normalize(images.to(device), dataset.mean, dataset.std)
        logits.append(model(images))
        labels.append(targets)
    return Evaluation(torch.cat(logits).cpu(), torch.cat(labels))


def training_batches(
    dataset: Dataset, config: TrainConfig, epoch: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled, augmented, normalised batches on the device, fixed by seed and epoch."""
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + epoch)
    layout = torch.channels_last if config.channels_last else torch.contiguous_format
    # Batch norm cannot normalise one example whose feature map is one pixel.
    single = len(dataset) % config.batch_size == 1 and len(dataset) > 1
    for images, labels in data.batches(
        dataset, config.batch_size, shuffle=True, seed=config.seed, epoch=epoch, drop_last=single
    ):
        images = images.to(device, non_blocking=True)
        if config.augment:
            images = config.augment(images, generator)
        images = normalize(images, dataset.mean, dataset.std).contiguous(memory_format=layout)
        labels = labels.to(device, non_blocking=True)
        if config.mix:
            images, labels = config.mix(images, labels, len(dataset.classes), generator)
        yield images, labels


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


class Run:
    """A model in training with all that its checkpoint must hold."""

    def __init__(self, model: nn.Module, train: Dataset, config: TrainConfig):
        self.device = choose_device(config.device)
        self.dtype = choose_precision(config.precision, self.device)
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        self.model = model.to(self.device, memory_format=layout)
        self.optimizer = make_optimizer(model, config)
        self.average = Average(self.model, config.average) if config.average else None
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        self.steps = max(1, steps_per_epoch(len(train), config.batch_size))
        total, warmup = config.epochs * self.steps, round(config.warmup_epochs * self.steps)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: warmup_cosine(step, total, warmup)
        )
        self.history = History()
        # What must not change between the parts of a run; the device may.
        self.identity = {
            "spec": model.spec,
            "config": {key: value for key, value in asdict(config).items() if key != "device"},
            "data": describe(train) | {"examples": len(train)},
        }

    @property
    def kept(self) -> nn.Module:
        """The network that is evaluated and kept: the model, or the average of its weights."""
        return self.average.model if self.average else self.model

    def after_step(self, loss: Tensor) -> None:
        """What is due when the weights have changed."""
        if self.average:
            self.average.update(self.model)

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
        """
        latest = self.history.epochs[-1]
        if self.history.best is latest:
            chosen = {"epoch": latest["epoch"], "val_accuracy": latest["val_accuracy"]}
            metadata = {"data": self.identity["data"], **chosen}
            checkpoint.save_weights(folder / checkpoint.BEST, self.kept, metadata)
        checkpoint.save(folder / checkpoint.LAST, self.state())


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Batches in one pass; a last batch of a single example is left out, see training_batches."""
    full, rest = divmod(examples, batch_size)
    return full + (rest > 1)


def say(line: str) -> None:
    """Print at once: a line that waits in a buffer is no progress report."""
    print(line, flush=True)


def fit(
    model: nn.Module,
    train: Dataset,
    val: Dataset,
    config: TrainConfig,
    out: str | Path | None = None,
    resume: bool = False,
    log: Callable[[str], None] = say,
) -> History:
    """Train, evaluating on ``val`` after each epoch; one line an epoch goes to ``log``.

    With ``out``, that folder gets last.pt (the whole state) and best.safetensors (the weights of
    the best epoch on ``val``) after each epoch; ``resume`` continues where last.pt stands, on a
    CPU to the same bits, and starts from the beginning where there is none. At the end the model
    holds the weights of the last epoch, averaged where the configuration asks for it.
    """
    seed_everything(config.seed)
    run = Run(model, train, config)
    folder = checkpoint.open_run(out, resume) if out else None
    if folder and (folder / checkpoint.LAST).exists():
        run.restore(folder / checkpoint.LAST)
        log(f"resumed after epoch {len(run.history.epochs)} of {config.epochs}")
    for epoch in range(len(run.history.epochs) + 1, config.epochs + 1):
        started = time.perf_counter()
        # disable=None: a bar in a terminal only, so that notebooks and logs stay readable.
        batches = tqdm(
            training_batches(train, config, epoch, run.device),
            total=run.steps,
            desc=f"epoch {epoch}",
            leave=False,
            disable=None,
        )
        lr = run.optimizer.param_groups[0]["lr"]
        loss, accuracy = train_one_epoch(
            model, batches, run.optimizer, run.device, run.scheduler, run.dtype, run.scaler,
            config.label_smoothing, config.accumulate, after_step=run.after_step,
        )  # fmt: skip
        if not math.isfinite(loss):
            saved = folder and epoch > 1
            kept = f"; the last good state is {folder / checkpoint.LAST}" if saved else ""
            raise UserError(f"the loss is {loss} in epoch {epoch} (lr {lr:.3g}): lower lr{kept}")
        result = evaluate(run.kept, val, run.device)
        seconds = time.perf_counter() - started
        run.history.epochs.append(
            {
                "epoch": epoch,
                "train_loss": loss,
                "train_accuracy": accuracy,
                "val_loss": result.loss,
                "val_accuracy": result.accuracy,
                "lr": lr,
                "seconds": seconds,
            }
        )
        log(
            f"epoch {epoch:3d}/{config.epochs}  train loss {loss:.3f}  accuracy {accuracy:.3f}"
            f"  val loss {result.loss:.3f}  accuracy {result.accuracy:.3f}  {seconds:.0f} s"
        )
        if folder:
            run.save(folder)
    if run.average:
        model.load_state_dict(run.average.model.state_dict())
    return run.history
