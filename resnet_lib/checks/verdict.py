"""What a check says: right, or the first difference in words."""

import contextlib
import functools
import inspect
import random
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import resnet_lib

OURS = (Path(resnet_lib.__file__).parent, Path(torch.__file__).parent)
LONGEST_ERROR = 300  # characters of a learner's error that are shown


@dataclass(frozen=True)
class Verdict:
    """Shown as its message at the end of a cell; true where the answer is right."""

    ok: bool
    message: str

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        return f"{'Right' if self.ok else 'Not yet'}: {self.message}"


class Mismatch(Exception):
    """A difference from the reference, in words for the learner."""


class Draw:
    """The random inputs of a check, from a generator that nobody else draws from."""

    def __init__(self, seed: int):
        # Not the seed itself: code that calls torch.manual_seed(0) should not draw the same.
        self.generator = torch.Generator().manual_seed(1_000_003 * (seed + 1))

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, dtype=torch.float64, device="cpu")

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=self.generator, device="cpu").item()

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """From low to high, high included."""
        return torch.randint(low, high + 1, shape, generator=self.generator, device="cpu")

    def integer(self, low: int, high: int) -> int:
        return int(self.integers(low, high))


@contextlib.contextmanager
def undisturbed(seed: int) -> Iterator[None]:
    """Whatever a check and the learner's code draw, the next number outside is as without it.

    Within, the global generators start from the seed, so that a verdict repeats, and tensors are
    made on the CPU.
    """
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    dtype = torch.get_default_dtype()
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    try:
        with torch.enable_grad(), torch.device("cpu"):
            yield
    finally:
        torch.set_rng_state(states[0])
        random.setstate(states[1])
        np.random.set_state(states[2])  # noqa: NPY002
        torch.set_default_dtype(dtype)


def _place(error: Exception) -> str:
    """Where the learner's code failed: the innermost line outside of this package and of torch."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [
        frame
        for frame in frames
        if frame.line and not any(folder in Path(frame.filename).parents for folder in OURS)
    ]
    return f', at the line "{theirs[-1].line}"' if theirs else ""


def short(error: Exception) -> str:
    """An error's message on one line, the end of a long one cut off."""
    text = " ".join(str(error).split())
    return text if len(text) <= LONGEST_ERROR else f"{text[:LONGEST_ERROR]} …"


def _failure(error: Exception) -> str:
    return f"your code raised {type(error).__name__}: {short(error)}{_place(error)}"


def check(function: Callable[..., str]) -> Callable[..., Verdict]:
    """A check: the function returns what was found equal, or raises Mismatch.

    Any other error is the learner's code failing, and becomes a verdict, too. A function with a
    parameter ``draw`` takes its random inputs from there; ``seed`` draws others. The state of the
    global random generators stays as it was.
    """
    parameters = inspect.signature(function).parameters
    wants_draw = "draw" in parameters

    @functools.wraps(function)
    def judged(*answers, seed: int = 0, **options) -> Verdict:
        if wants_draw:
            options["draw"] = Draw(seed)
        try:
            with undisturbed(seed):
                return Verdict(True, function(*answers, **options))
        except Mismatch as difference:
            return Verdict(False, str(difference))
        except Exception as error:
            return Verdict(False, _failure(error))

    seed = inspect.Parameter("seed", inspect.Parameter.KEYWORD_ONLY, default=0, annotation=int)
    shown = [parameter for name, parameter in parameters.items() if name != "draw"]
    judged.__signature__ = inspect.Signature([*shown, seed], return_annotation=Verdict)
    return judged
