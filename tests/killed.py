"""A short run that kills itself at a given point; what is left of it must be enough to go on.

One process forks a child for each point, so that torch is loaded once.
"""

import os
import signal
import sys
from pathlib import Path

import torch
from toys import make_images, make_model

from resnet_lib import checkpoint, train
from resnet_lib.augment import Augment

CONFIG = train.TrainConfig(
    epochs=3, batch_size=16, lr=0.05, warmup_epochs=0.5, average=0.9, precision="float32",
    augment=Augment(crop_padding=1), device="cpu",
)  # fmt: skip


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def before(module, name, call):
    """Die instead of making the call of this number."""
    real, calls = getattr(module, name), []

    def replaced(*args, **kwargs):
        calls.append(name)
        return die() if len(calls) == call else real(*args, **kwargs)

    setattr(module, name, replaced)


def half_written(state, file):
    """Write a part of the second checkpoint, as far as a process came."""
    real = half_written.real
    if state["epoch"] < 2:
        return real(state, file)
    file.write(b"PK\3\4" + bytes(1000))
    file.flush()
    die()


half_written.real = torch.save

# Files are renamed in this order: best.safetensors and last.pt of epoch 1, then those of 2 and 3,
# unless an epoch is not the best.
POINTS = {
    "first step": lambda: before(train.Run, "after_step", 1),
    "middle of the first epoch": lambda: before(train.Run, "after_step", 2),
    "first evaluation": lambda: before(train, "evaluate", 1),
    "between the first weights and state": lambda: before(checkpoint, "save", 1),
    "before the first state has its name": lambda: before(os, "replace", 2),
    "after the first state": lambda: before(train, "one_epoch", 2),
    "middle of the second epoch": lambda: before(train.Run, "after_step", 5),
    "middle of writing the second state": lambda: setattr(torch, "save", half_written),
    "second state written, not yet on the disk": lambda: before(os, "fsync", 3),
    "last step": lambda: before(train.Run, "after_step", 9),
    "after the last state": lambda: before(train, "one_epoch", 4),
}


def run(folder, resume=False):
    train.fit(
        make_model(), make_images(), make_images(20, seed=1, split="val"), CONFIG, folder, resume,
        log=lambda line: None,
    )  # fmt: skip


def in_child(action):
    """Fork, act, and return how it ended: 0, or minus the signal."""
    child = os.fork()
    if child == 0:
        try:
            action()
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(folder):
    torch.set_num_threads(1)
    assert in_child(lambda: run(folder / "whole")) == 0
    for point, arm in POINTS.items():
        ended = in_child(lambda arm=arm, point=point: (arm(), run(folder / point)))
        left = sorted(path.name for path in (folder / point).iterdir())
        state = folder / point / checkpoint.LAST
        epoch = checkpoint.load(state)["epoch"] if state.exists() else 0
        again = in_child(lambda point=point: run(folder / point, resume=True))
        print(f"{point}|{ended}|{epoch}|{' '.join(left)}|{again}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
