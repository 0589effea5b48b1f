"""Exported networks: what a file says of itself, and how it is run. ``export`` writes them.

An ONNX file is data. A .pt2 file is opened by ``torch.export.load``, which can run code that
somebody hid in the file: open those of people you trust.
"""

import io
import json
import logging
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from resnet_lib import UserError

Run: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]  # normalised images -> logits, maps
SUFFIXES = {".onnx": "onnx", ".pt2": "torch-export"}
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
IMAGES, LOGITS, MAPS = "images", "logits", "maps"  # the names of input and outputs
# What both formats tell, each as JSON. "resnet_lib" is the version that wrote the file.
ABOUT = ("spec", "precision", "resnet_lib")
DATA = ("name", "classes", "mean", "std", "channels", "image_size")


def require(*packages: str) -> None:
    """UserError where one of the packages is missing, with the way to get it."""
    missing = [name for name in packages if not find_spec(name)]
    if missing:
        raise UserError(
            f"ONNX files need {' and '.join(missing)}: run 'pip install {' '.join(PACKAGES)}'"
        )


@contextmanager
def quietly() -> Iterator[None]:
    """Keep the libraries' warnings and log lines from the user, who can do nothing about them."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def describe(about: dict[str, Any], precision: str, version: str) -> dict[str, str]:
    """What goes into the file: key -> JSON, from the metadata of a checkpoint."""
    facts = {"spec": about["spec"], "precision": precision, "resnet_lib": version}
    facts |= {key: about["data"].get(key) for key in DATA}
    return {key: json.dumps(value) for key, value in facts.items()}


def understand(texts: dict[str, str], path: str | Path) -> dict[str, Any]:
    """The metadata in the form of a checkpoint's; UserError where the file is not of ours."""
    try:
        facts = {key: json.loads(texts[key]) for key in (*ABOUT, *DATA)}
    except (KeyError, ValueError):
        raise UserError(
            f"{path} does not say which classes it knows and which images it takes: "
            f"use a file that 'python -m resnet_lib export' wrote"
        ) from None
    return {key: facts[key] for key in ABOUT} | {"data": {key: facts[key] for key in DATA}}


def onnx_session(content: str | Path | bytes, threads: int | None = None):
    """ONNX Runtime's session on the CPU, of a file or its bytes; by default torch's threads.

    onnxruntime has its own pool of threads, which would take every core.
    """
    require("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.log_severity_level = 3  # errors
    source = content if isinstance(content, bytes) else str(content)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def onnx_run(session) -> Run:
    """The session as a function of tensors."""

    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        inputs = {IMAGES: np.ascontiguousarray(images.numpy())}
        logits, maps = session.run([LOGITS, MAPS], inputs)
        return torch.from_numpy(logits), torch.from_numpy(maps)

    return run


def torch_run(content: str | Path | bytes) -> tuple[Run, dict[str, str]]:
    """A .pt2 file or its bytes as a function of tensors, and what the file says of itself."""
    extra = dict.fromkeys((*ABOUT, *DATA), "")
    source = io.BytesIO(content) if isinstance(content, bytes) else str(content)
    with quietly():
        module = torch.export.load(source, extra_files=extra).module()

    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        with torch.inference_mode():
            return module(images)

    return run, extra


def is_exported(path: str | Path) -> bool:
    """Whether the name is that of an exported file."""
    return Path(path).suffix in SUFFIXES


def load(path: str | Path, threads: int | None = None) -> tuple[Run, dict[str, Any]]:
    """An exported file as a function, and its metadata: "spec", "data" as in a checkpoint.

    The function takes normalised float32 images (N, C, S, S) on the CPU and gives logits (N, K) and
    class activation maps (N, K, h, w). UserError where the file is missing, damaged or not of ours.
    threads: of ONNX Runtime, by default as many as torch has.
    """
    path = Path(path)
    if not is_exported(path):
        raise UserError(f"{path} is no exported file: its name must end in {' or '.join(SUFFIXES)}")
    if not path.is_file():
        raise UserError(f"no exported file at {path}: check the name, or export one first")
    try:
        if path.suffix == ".onnx":
            session = onnx_session(path, threads)
            run, texts = onnx_run(session), session.get_modelmeta().custom_metadata_map
        elif zipfile.is_zipfile(path):
            run, texts = torch_run(path)
        else:
            raise ValueError("no zip file")
    except UserError:
        raise
    except Exception as error:  # each library has several classes for it
        raise UserError(
            f"{path} is damaged or of another kind ({type(error).__name__}): export it again"
        ) from None
    return run, understand(texts, path)
