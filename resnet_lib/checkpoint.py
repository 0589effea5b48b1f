"""Checkpoints: the whole state of a training run, and weights alone, written atomically.

Both are read as tensors and plain data only: a file can never run code.
"""

import errno
import json
import os
import random
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialized
from torch import Tensor, nn

from resnet_lib import UserError, models

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None

VERSION = 3
LAST, BEST, RECORD, LOCK = "last.pt", "best.safetensors", "record.json", ".lock"
# What a run of an older version did not choose, since there was nothing to choose.
ADDED = {
    2: {
        "decay_norms": True,
        "freeze_norms": False,
        "average": 0.0,
        "accumulate": 1,
        "mix": None,
    },
    3: {"frozen": 0, "head_factor": 1.0},
}
DRIVE = Path("/content/drive/MyDrive")  # where Colab mounts a user's Drive
WEIGHTS = Path(__file__).parent / "weights"
SHIPPED = "resnet50-w16-fashion"  # the network that comes with the package
SHIPPED_SMALL_STEM = "resnet50-w16-small-fashion"  # another, whose last stage has 4 x 4 cells


def folder_on_drive(name: str | Path) -> Path:
    """Where a run survives the machine: that folder on Google Drive where it is mounted in Colab.

    Elsewhere the folder of that name here. UserError in Colab without Drive, where the run would be
    lost with the machine.
    """
    if DRIVE.is_dir():
        return DRIVE / name
    if "google.colab" in sys.modules:  # Colab's kernel has it from the start
        raise UserError(
            "Drive is not mounted: run drive.mount('/content/drive') first, or name a folder and "
            "lose the run with the machine"
        )
    return Path(name)


def open_run(folder: str | Path, resume: bool = False) -> Path:
    """The folder of a run, made if missing; refuses one that holds another run, unless resuming."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}; choose another") from None
    held = [name for name in (LAST, BEST, RECORD) if (folder / name).exists()]
    if held and not resume:
        raise UserError(
            f"{folder} holds a run ({held[0]}): resume it (--resume, or resume=True in Python), or "
            "choose another folder"
        )
    return folder


@contextmanager
def hold(folder: str | Path, resume: bool = False) -> Iterator[Path]:
    """``open_run``, and no other process can hold the folder meanwhile; UserError if one does.

    The system drops the lock with the process, however that ends. Where the file system has no
    locks, there is none.
    """
    folder = Path(folder)
    if not resume:
        open_run(folder)  # says what is there, before a file of ours is
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "a") as file:
        _lock(file.fileno(), folder)
        open_run(folder, resume)  # under the lock: another may have begun and ended meanwhile
        for part in folder.glob(".*.part"):  # of a process that was killed as it wrote
            part.unlink(missing_ok=True)
        yield folder


def _lock(descriptor: int, folder: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(
            f"another run is writing to {folder}: wait for its end, or choose another folder"
        ) from None
    except OSError:  # a network drive without locks
        pass


def write_atomically(path: str | Path, write: Callable[[str], Any]) -> None:
    """Call ``write`` with a temporary name, then rename: readers see the old file or the new one.

    On failure the old file stays, and the temporary one is removed.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(str(part))
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except (OSError, RuntimeError, SafetensorError) as error:
        kept = "the file that was there is kept" if path.exists() else "nothing was written"
        raise UserError(f"cannot write {path}: {_reason(error)} ({kept})") from error
    finally:
        part.unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    """The error in one line. torch's and safetensors' own types say "disk full" in other words."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    words = [os.strerror(number) for number in full]
    if getattr(error, "errno", None) in full or any(word in str(error) for word in words):
        return f"the disk is full: make room, then resume ({error})"
    return " ".join(str(error).split())


def random_states() -> dict[str, Any]:
    """The states of all random number generators that a run may use."""
    version, numbers, gauss = random.getstate()
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 - the global generator is the point
    return {
        "python": [version, list(numbers), gauss],
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Put back what ``random_states`` returned; CUDA's only where there are as many devices."""
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])


def save(path: str | Path, state: dict[str, Any]) -> None:
    """Write the whole state of a run: tensors, numbers, strings, lists and dictionaries."""

    def write(part: str) -> None:
        with open(part, "wb") as file:  # by Python, whose errors say that a disk is full
            torch.save({"version": VERSION, **state}, file)

    write_atomically(path, write)


def load(path: str | Path) -> dict[str, Any]:
    """Read what ``save`` wrote, on the CPU; UserError where it is missing, damaged or unsafe."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no checkpoint at {path}: check the name, or train one first")
    if not zipfile.is_zipfile(path):
        with open(path, "rb") as file:
            pickled = file.read(1) == b"\x80"
        if pickled:
            raise UserError(f"{path} is a bare pickle, which can run code: refused, not opened")
        raise UserError(f"{path} is truncated or not a checkpoint: use an earlier copy")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if "Unsupported global" in str(error):
            raise UserError(f"{path} holds code beside tensors: refused, not run") from None
        raise UserError(
            f"{path} is damaged ({type(error).__name__}): use an earlier copy"
        ) from None
    if not isinstance(state, dict) or "model" not in state:
        raise UserError(f"{path} is no checkpoint of a training run: it holds no 'model'")
    return migrate(state, path)


def migrate(state: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """A state of an older version as one of this; UserError for one that nothing is known of.

    Version 2 added fields to the configuration, and averaged weights; version 3 more fields.
    """
    found = state.get("version")
    if found not in range(1, VERSION + 1):
        newer = isinstance(found, int) and found > VERSION
        way = "update resnet_lib" if newer else "train it again"
        raise UserError(f"{path} has format {found}, this version reads 1 to {VERSION}: {way}")
    config = state.get("config", {})
    for version in range(found + 1, VERSION + 1):
        config = ADDED[version] | config
    return {"average": {}, **state, "version": VERSION, "config": config}


def round_to_half(model: nn.Module) -> None:
    """Round every weight and buffer to the nearest float16, leaving it float32."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            rounded = tensor.half()
            if not rounded.isfinite().all():
                raise UserError(f"{name} has values beyond float16: keep these weights in float32")
            tensor.copy_(rounded)


def save_weights(
    path: str | Path, model: nn.Module, metadata: dict[str, Any], half: bool = False
) -> None:
    """Write the weights as safetensors; ``metadata`` (plain data) goes into the file's header.

    ``half`` writes float16, half the bytes, without a loss after ``round_to_half``.
    """
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if half:
        weights = {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}
    header = {"resnet_lib": json.dumps({"version": VERSION, "spec": model.spec, **metadata})}
    content = serialized(weights, metadata=header)
    write_atomically(path, lambda part: Path(part).write_bytes(content))


def load_weights(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights and metadata of a .safetensors file or of a run's whole state."""
    path = Path(path)
    if path.suffix != ".safetensors":
        state = load(path)
        return state["model"], {key: state[key] for key in ("spec", "data", "epoch")}
    if not path.is_file():
        raise UserError(f"no checkpoint at {path}: check the name, or train one first")
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get("resnet_lib", "{}")
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads(header)  # noqa: SIM118 - not a dictionary
    except (SafetensorError, ValueError) as error:
        raise UserError(f"{path} is truncated or no safetensors file: {error}") from None


def fill(model: nn.Module, weights: dict[str, Tensor], source: str | Path) -> None:
    """Load the weights strictly; UserError names the first that does not fit."""
    own = model.state_dict()
    for name in [*own, *weights]:
        if name not in weights:
            raise UserError(f"{source} is of another architecture: it lacks {name}")
        if name not in own:
            raise UserError(f"{source} is of another architecture: the model has no {name}")
        theirs, ours = tuple(weights[name].shape), tuple(own[name].shape)
        if theirs != ours:
            raise UserError(
                f"{source} is of another architecture: {name} is {theirs}, the model's is {ours}"
            )
    model.load_state_dict(weights)


def restore_model(path: str | Path = SHIPPED) -> tuple[models.ResNet, dict[str, Any]]:
    """The network that a checkpoint of ours holds, in evaluation mode, and the file's metadata.

    By default the one that comes with the package, a quarter-width ResNet-50 of chapter 11's kind
    trained on the embedded images; a name instead of a path means such a network.
    """
    if str(path) in (SHIPPED, SHIPPED_SMALL_STEM):
        path = WEIGHTS / f"{path}.safetensors"
    weights, metadata = load_weights(path)
    if "spec" not in metadata:
        raise UserError(
            f"{path} does not say which model it is of: build one and load it with fill"
        )
    model = models.build(**metadata["spec"])
    fill(model, weights, path)
    return model.eval(), metadata
