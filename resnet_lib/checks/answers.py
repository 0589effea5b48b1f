"""What the checks ask of an answer: its kind, its shape, its values, and which mistake it shows."""

import math
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from resnet_lib.checks.verdict import Mismatch

Mistakes = Iterable[tuple[Any, str]]  # what a mistake would give, and the mistake in words


def name_of(call: str) -> str:
    return call.partition("(")[0]


def kind(answer: Any) -> str:
    """An answer's type in a learner's words."""
    if answer is None:
        return "None"
    if isinstance(answer, type):
        return f"the class {answer.__name__}"
    if isinstance(answer, nn.Module):
        return f"an instance of {type(answer).__name__}"
    name = type(answer).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def function(answer: Any, call: str) -> Callable:
    """The answer, if it is a function; ``call`` shows how it is used: "merged(first, second)"."""
    if isinstance(answer, (type, nn.Module)) or not callable(answer):
        result = "" if answer is None or callable(answer) else ", perhaps the result of a call"
        raise Mismatch(
            f"hand in the function {name_of(call)} itself, to be called as {call}; "
            f"this is {kind(answer)}{result}"
        )
    return answer


def maker(answer: Any, call: str) -> Callable:
    """The answer, if it is a class of modules or a function that makes one."""
    name = name_of(call)
    if isinstance(answer, nn.Module):
        raise Mismatch(f"hand in the class {name} itself; this is an instance of it")
    if not callable(answer):
        raise Mismatch(f"hand in the class {name}, to be used as {call}; this is {kind(answer)}")

    def make(*arguments, **options) -> nn.Module:
        made = answer(*arguments, **options)
        if not isinstance(made, nn.Module):
            raise Mismatch(f"{call} should be an nn.Module; it is {kind(made)}")
        return made.double()

    return make


def autograd_function(answer: Any, name: str) -> Callable:
    """``apply`` of a torch.autograd.Function with a backward pass of its own."""
    owner = getattr(answer, "__self__", answer)  # of Function.apply
    if isinstance(owner, torch.autograd.Function):
        raise Mismatch(f"hand in the class {name} itself; this is an instance of it")
    if not (isinstance(owner, type) and issubclass(owner, torch.autograd.Function)):
        raise Mismatch(
            f"hand in the class {name}, a torch.autograd.Function with your own backward; "
            f"this is {kind(answer)}"
        )
    return owner.apply


def number(answer: Any, what: str) -> float:
    """A finite number as a float; a tensor or array of one element is one, too."""
    if isinstance(answer, (Tensor, np.ndarray)) and math.prod(answer.shape) == 1:
        answer = answer.item()
    if not isinstance(answer, Real) or isinstance(answer, bool):
        raise Mismatch(f"{what} should be a number; it is {kind(answer)}")
    if not math.isfinite(answer):
        raise Mismatch(f"{what} is {float(answer)}, not a finite number")
    return float(answer)


def yes_or_no(answer: Any, what: str) -> bool:
    """A bool, also one of NumPy or in a tensor."""
    if isinstance(answer, (Tensor, np.ndarray, np.generic)) and math.prod(answer.shape) == 1:
        answer = answer.item()
    if not isinstance(answer, bool):
        raise Mismatch(f"{what} should be True or False; it is {kind(answer)}")
    return answer


def numbers(answer: Any, what: str, count: int | None = None) -> list[float]:
    """A list, tuple, array or tensor of finite numbers, of that length."""
    if isinstance(answer, (Tensor, np.ndarray)):
        answer = answer.tolist()
    if not isinstance(answer, (list, tuple)):
        raise Mismatch(f"{what} should be a list of numbers; it is {kind(answer)}")
    if count is not None and len(answer) != count:
        raise Mismatch(f"{what} should be {count} numbers; there are {len(answer)}")
    return [number(value, f"number {index} of {what}") for index, value in enumerate(answer, 1)]


def table(answer: Any, keys: Iterable, what: str = "your answer") -> Mapping:
    """A dictionary with these keys."""
    if not isinstance(answer, Mapping):
        raise Mismatch(f"{what} should be a dictionary; it is {kind(answer)}")
    for key in keys:
        if key not in answer:
            raise Mismatch(f"{what} has no entry {key!r}; its keys are {list(answer)}")
    return answer


def tensor(answer: Any, what: str) -> Tensor:
    """A tensor, detached, in double precision."""
    if answer is None:
        raise Mismatch(f"{what} is None: nothing was computed or returned for it")
    if isinstance(answer, np.ndarray):
        answer = torch.as_tensor(answer.copy())  # a flipped view has strides torch refuses
    if not isinstance(answer, Tensor):
        raise Mismatch(f"{what} should be a tensor; it is {kind(answer)}")
    return answer.detach().double()


def shaped(answer: Any, shape: tuple[int, ...], what: str) -> Tensor:
    """A tensor of that shape, detached, in double precision."""
    found = tensor(answer, what)
    if found.shape != shape:
        raise Mismatch(f"{what} has the shape {tuple(found.shape)}, expected {tuple(shape)}")
    return found


def returned(answer: Any, count: int, call: str) -> tuple:
    """The values that a function returned, if they are so many."""
    if not isinstance(answer, (tuple, list)):
        raise Mismatch(f"{call} should return {count} values; it returns {kind(answer)}")
    if len(answer) != count:
        raise Mismatch(f"{call} should return {count} values; it returns {len(answer)}")
    return tuple(answer)


def near(found: Tensor, expected: Tensor, tolerance: float = 1e-6) -> bool:
    """Same shape, and equal up to a share of the largest expected value."""
    if found.shape != expected.shape:
        return False
    if not expected.numel():
        return True
    allowed = tolerance * max(expected.abs().max().item(), 1e-6)
    return bool(((found - expected).abs() <= allowed).all())  # false where something is NaN


def same_tensor(
    answer: Any, expected: Tensor, what: str, mistakes: Mistakes = (), tolerance: float = 1e-6
) -> None:
    """Mismatch unless the tensors agree; a mistake whose result the answer equals is named."""
    found, expected = tensor(answer, what), expected.detach().double()
    if near(found, expected, tolerance):
        return
    for value, words in mistakes:
        if near(found, value.detach().double(), tolerance):
            raise Mismatch(words)
    shaped(found, expected.shape, what)
    if not found.isfinite().all():
        raise Mismatch(f"{what} has values that are not finite")
    difference = (found - expected).abs().max().item()
    size = expected.abs().max().item()
    raise Mismatch(
        f"{what} differs from the reference by up to {difference:.2g}; "
        f"its largest value should be {size:.2g}"
    )


def same_number(
    answer: Any, expected: float, what: str, mistakes: Mistakes = (), tolerance: float = 1e-9
) -> None:
    """Mismatch unless the numbers agree; a mistake whose result the answer equals is named."""
    found = number(answer, what)

    def equal(value: float) -> bool:
        return abs(found - value) <= tolerance * max(abs(value), 1e-12)

    if equal(expected):
        return
    for value, words in mistakes:
        if equal(value):
            raise Mismatch(words)
    direction = "too large" if found > expected else "too small"
    raise Mismatch(f"{what} is {show(found)}, {show(abs(found - expected))} {direction}")


def show(value: float) -> str:
    """A count with commas, anything else with four digits."""
    whole = float(value).is_integer() and abs(value) < 1e15
    return f"{int(value):,}" if whole else f"{value:.4g}"


def gradients(function: Callable, inputs: Iterable[Any], upstream: Tensor) -> tuple:
    """The output for copies of the inputs, and the gradients of those that are floats.

    A gradient that is not computed is None.
    """
    copies = [
        value.clone().requires_grad_()
        if isinstance(value, Tensor) and value.is_floating_point()
        else value
        for value in inputs
    ]
    output = function(*copies)
    if not isinstance(output, Tensor):
        raise Mismatch(f"the output should be a tensor; it is {kind(output)}")
    leaves = [value for value in copies if isinstance(value, Tensor) and value.requires_grad]
    if output.shape != upstream.shape:
        return output, *[None] * len(leaves)
    if not output.requires_grad:
        raise Mismatch("no gradient flows back from the output: it is detached from the input")
    found = torch.autograd.grad(output, leaves, upstream, allow_unused=True)
    return output.detach(), *found
