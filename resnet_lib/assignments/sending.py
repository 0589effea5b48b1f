"""What crosses the border between a student's process and the judge's: plain values as bytes.

JSON for the structure and safetensors for the tensors: reading them never runs code.
"""

import json
import math
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from resnet_lib.checks.answers import kind
from resnet_lib.checks.verdict import Mismatch

# What a question holds and an answer may hold, in lists and dictionaries of strings to any depth.
Sendable = Tensor | int | float | str | bool | None | list | dict

LARGEST = 64 * 2**20  # bytes of one message
LARGEST_STRUCTURE = 2**20  # bytes of its JSON part
MOST_VALUES = 100_000
DEEPEST = 8
TENSOR = "tensor:"  # a string that starts with it stands for a tensor, or is escaped by ESCAPE
ESCAPE = "text:"
DTYPES = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
    torch.int16, torch.int8, torch.uint8, torch.bool,
)  # fmt: skip
HEADER = struct.Struct(">I")  # length of the JSON part, which comes first


def pack(values: Mapping[str, Sendable]) -> bytes:
    """The values as bytes; Mismatch names the first one that is not a plain value.

    Tuples become lists, numbers of NumPy become Python's, arrays become tensors.
    """
    tensors: dict[str, Tensor] = {}
    structure = json.dumps(_strip(dict(values), tensors, "")).encode()
    message = HEADER.pack(len(structure)) + structure + safetensors.torch.save(tensors)
    if len(message) > LARGEST or len(structure) > LARGEST_STRUCTURE:
        raise Mismatch(f"the outputs take {len(message):,} bytes, more than can be handed over")
    return message


def _strip(value: Any, tensors: dict[str, Tensor], place: str, depth: int = 0) -> Any:
    """The value with each tensor replaced by its name; the tensors are added to the dictionary."""
    if depth > DEEPEST:
        raise Mismatch(f"{place or 'the output'} is nested too deeply")
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.ascontiguousarray(value))
    elif isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Tensor):
        if value.dtype not in DTYPES or value.layout != torch.strided or value.is_meta:
            raise Mismatch(f"{place} is a tensor of the kind {value.dtype}, {value.layout}")
        name = f"{TENSOR}{len(tensors)}"
        # A copy: safetensors refuses tensors that share memory.
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return name
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise Mismatch(f"{place or 'the output'} has the key {key!r}, which is no string")
        return {
            str(key): _strip(inner, tensors, f"{place}.{key}" if place else str(key), depth + 1)
            for key, inner in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [
            _strip(inner, tensors, f"{place}[{index}]", depth + 1)
            for index, inner in enumerate(value)
        ]
    if isinstance(value, str):
        return ESCAPE + value if value.startswith((TENSOR, ESCAPE)) else str(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    raise Mismatch(
        f"{place or 'the output'} should be a tensor, a number, a text or lists of them; "
        f"it is {kind(value)}"
    )


def unpack(message: bytes) -> dict[str, Sendable]:
    """The values of a message from anywhere; ValueError where it isn't one that ``pack`` writes."""
    if not HEADER.size <= len(message) <= LARGEST:
        raise ValueError(f"a message of {len(message):,} bytes")
    (length,) = HEADER.unpack_from(message)
    if length > min(LARGEST_STRUCTURE, len(message) - HEADER.size):
        raise ValueError("the structure is longer than the message")
    end = HEADER.size + length
    try:
        structure = json.loads(message[HEADER.size : end])
        tensors = safetensors.torch.load(message[end:])
    except (ValueError, RecursionError, KeyError, safetensors.SafetensorError) as error:
        raise ValueError(f"unreadable: {type(error).__name__}") from None
    if not isinstance(structure, dict):
        raise ValueError("the structure is not a dictionary")
    left = [MOST_VALUES]
    return _fill(structure, tensors, left)


def _fill(value: Any, tensors: dict[str, Tensor], left: list[int], depth: int = 0) -> Any:
    """The value with each tensor in its place."""
    left[0] -= 1
    if depth > DEEPEST or left[0] < 0:
        raise ValueError("too many values, or nested too deeply")
    if isinstance(value, dict):
        return {key: _fill(inner, tensors, left, depth + 1) for key, inner in value.items()}
    if isinstance(value, list):
        return [_fill(inner, tensors, left, depth + 1) for inner in value]
    if isinstance(value, str):
        if value.startswith(ESCAPE):
            return value[len(ESCAPE) :]
        if value.startswith(TENSOR):
            if value not in tensors or tensors[value].dtype not in DTYPES:
                raise ValueError("a tensor is missing, or of a kind that is not sent")
            return tensors[value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**63:
        return math.inf if value > 0 else -math.inf  # no arithmetic on numbers of a million digits
    return value
