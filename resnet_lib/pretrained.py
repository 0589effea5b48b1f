"""torchvision's trained weights: fetched once, checked, kept, and loaded into our networks."""

import hashlib
import os
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from tqdm import tqdm

from resnet_lib import UserError

MEAN, STD, IMAGE_SIZE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 224  # what they learned with
NAMES = ("IMAGENET1K_V1", "IMAGENET1K_V2")
BLOCK, WAIT = 1 << 20, 30  # bytes read at once; seconds until a silent server counts as gone


class Source(NamedTuple):
    """Where weights lie, and how their SHA-256 begins: torchvision puts that into the name."""

    url: str
    digest: str
    classes: tuple[str, ...]


def find(network: str, weights: str) -> Source:
    """torchvision's entry for a network and its weights; UserError where it has none."""
    import torchvision  # here: it takes as long as torch itself

    if weights not in NAMES:
        raise UserError(f"weights must be one of {', '.join(NAMES)}, got {weights!r}")
    known = {entry.name: entry for entry in torchvision.models.get_model_weights(network)}
    if weights not in known:
        raise UserError(f"torchvision has no {weights} for {network}: it has {', '.join(known)}")
    url = known[weights].url
    digest = Path(url).stem.rpartition("-")[2]
    return Source(url, digest, tuple(known[weights].meta["categories"]))


def load_pretrained(
    model: nn.Module, weights: str, root: str | Path | None = None
) -> dict[str, Any]:
    """Load torchvision's ``weights``, "IMAGENET1K_V1" or "IMAGENET1K_V2", into the model.

    The model is one of 1,000 classes, at full width; a new head comes after, see
    ``finetune.replace_head``. The file is fetched on the first call only, into ``root``/weights
    (default: $RESNET_LIB_DATA, or ~/.cache/resnet_lib). A fetch that broke off goes on where it
    was, and the SHA-256 of the file has to begin as its name says. Returns what the network
    learned with: classes, mean, std, channels, image_size. Raises UserError on whatever the user
    can put right.
    """
    spec = model.spec
    if spec.get("stride_in", "3x3") != "3x3":
        raise UserError("these weights are of v1.5: build the model with stride_in='3x3'")
    source = find(spec["name"], weights)
    root = Path(root or os.environ.get("RESNET_LIB_DATA") or "~/.cache/resnet_lib").expanduser()
    path = fetch(source, root / "weights")
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch trips over; the digest was right
        raise UserError(f"{path} cannot be read as weights: {error}") from error
    try:
        model.load_state_dict(values)
    except RuntimeError as error:  # its first line only names the class
        first = str(error).splitlines()[1].strip()
        raise UserError(f"{path} is of another architecture: {first}") from None
    return {
        "name": weights,
        "classes": list(source.classes),
        "mean": list(MEAN),
        "std": list(STD),
        "channels": 3,
        "image_size": IMAGE_SIZE,
    }


def fetch(source: Source, folder: Path) -> Path:
    """The file in the folder, fetched if it is not there; UserError if that fails."""
    path = folder / Path(source.url).name
    if path.exists():
        if digest_of(path).startswith(source.digest):
            return path
        raise UserError(f"{path} is damaged: remove it, and it will be fetched again")
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    try:
        continue_download(source.url, part)
    except (OSError, HTTPException) as error:  # URLError is an OSError
        kept = f"; {part.stat().st_size:,} bytes are kept, the next try goes on" if (
            part.exists()) else ""  # fmt: skip
        raise UserError(
            f"{source.url} could not be fetched ({error}){kept}. Or fetch it by hand and put it "
            f"into {folder}"
        ) from error
    if not digest_of(part).startswith(source.digest):
        part.unlink()
        raise UserError(
            f"what came from {source.url} is not the file it should be (its SHA-256 does not "
            f"begin with {source.digest}) and was removed: try again, or fetch it by hand into "
            f"{folder}"
        )
    os.replace(part, path)
    return path


def continue_download(url: str, part: Path) -> None:
    """Fetch into ``part`` what it lacks; all of it where the server cannot continue."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=WAIT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing is left to fetch, or another file lies there
            return
        raise
    with answer:
        continued = answer.status == 206
        left = int(answer.headers.get("Content-Length") or 0)
        done = have if continued else 0
        bar = {"unit": "B", "unit_scale": True, "desc": part.stem, "leave": False}
        with (
            open(part, "ab" if continued else "wb") as file,
            tqdm(total=done + left, initial=done, disable=None, **bar) as progress,
        ):
            while block := answer.read(BLOCK):
                file.write(block)
                progress.update(len(block))
        if left and part.stat().st_size < done + left:
            raise OSError("the connection ended early")


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            sha.update(block)
    return sha.hexdigest()
