"""The device to compute on, the number format it is good at, and the seeds."""

import random

import numpy as np
import torch

from resnet_lib import UserError

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(name: str = "auto") -> torch.device:
    """CUDA where there is one, for "auto"; UserError where a named device is missing."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UserError(f"device must be auto, cpu, cuda or cuda:0, cuda:1, …, got {name!r}")
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise UserError(
            f"{name} asked for, but torch sees {count} CUDA devices: use --device cpu (in Python: "
            "device='cpu'); in Colab, choose a GPU under Runtime, Change runtime type"
        )
    return device


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 itself, rather than by slow emulation."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)  # Ampere and later
    if hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return torch.cpu._is_avx512_bf16_supported()  # before torch.cpu.get_capabilities


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """The number format for the forward pass; "auto" is bfloat16 where the device has it."""
    if name == "auto":
        return torch.bfloat16 if has_bfloat16(device) else torch.float32
    if name not in PRECISIONS:
        known = ", ".join(["auto", *PRECISIONS])
        raise UserError(f"precision must be one of {known}, got {name!r}")
    if name == "float16" and device.type == "cpu":
        raise UserError("float16 training needs CUDA: use --precision auto on a CPU")
    return PRECISIONS[name]


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's generators, on the CPU and on every CUDA device."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - other libraries draw from the global generator
    torch.manual_seed(seed)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was asked to: before and after taking the time."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
