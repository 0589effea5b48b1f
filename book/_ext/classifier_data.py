"""What the classifier in the page consists of: the exported network and a gallery of images."""

import base64
import hashlib
import io
import math
import tempfile
from functools import cache
from importlib.metadata import version
from pathlib import Path

import classifier_runtime
import torch
from classifier_runtime import Missing
from PIL import Image

from resnet_lib import UserError, checkpoint, data, deployed, export, records

WEIGHTS = checkpoint.WEIGHTS / f"{checkpoint.SHIPPED_SMALL_STEM}.safetensors"
EXPERIMENT = "shipped-small-stem"
GALLERY = 30  # images, as many of each class
SIDE = 28  # pixels of an image, before the zeros around it
KEPT = "classifier-{}.onnx"  # among the downloads, since an export takes half a minute


def key():
    """A short name for what the exported file depends on."""
    digest = hashlib.sha256(" ".join(map(version, ("onnxscript", "torch"))).encode())
    for path in (WEIGHTS, *sorted(Path(export.__file__).parent.glob("*.py"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def network():
    """The path of the ONNX file; raises Missing without the weights or without the libraries."""
    if not WEIGHTS.is_file():
        raise Missing(
            f"the network's weights, {WEIGHTS.name}, are not in the package: install it again"
        )
    try:
        deployed.require(*deployed.PACKAGES)
    except UserError as error:
        raise Missing(
            f"the network could not be exported: {error}, and build the book again"
        ) from None
    path = classifier_runtime.downloads() / KEPT.format(key())
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        model, about = checkpoint.restore_model(WEIGHTS)
        # Under a name of its own: two builds at a time would write the same file.
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
            made = Path(folder, path.name)
            export.to_onnx(model, made, about)
            made.replace(path)
        for old in set(path.parent.glob(KEPT.format("*"))) - {path}:
            old.unlink(missing_ok=True)
    return path


def as_png(image):
    """A grey image uint8 (1, H, W) as an address that holds it."""
    file = io.BytesIO()
    Image.fromarray(image[0].numpy()).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


@cache
def gallery():
    """Test images at their own size, the classes in turns."""
    images = data.load("fashion", "test", limit=GALLERY, image_size=SIDE)
    each = GALLERY // len(images.classes)
    by_class = torch.argsort(images.labels, stable=True).view(-1, each)
    return [
        {"label": images.classes[images.labels[index]], "address": as_png(images.images[index])}
        for index in by_class.T.flatten().tolist()
    ]


def measured():
    """(accuracy, images) on the test part, as the network's record has it; None without one."""
    try:
        (record,) = records.load(EXPERIMENT)
    except UserError:
        return None
    return record.result["test_accuracy"], record.result["test_images"]


def collect():
    """({name: script of the page}, the data of its markup); raises Missing."""
    scripts = {"runtime": classifier_runtime.script()}
    path = network()
    scripts["model"] = classifier_runtime.assignment("model", path.read_bytes())
    known = deployed.load(path)[1]["data"]
    page = {
        "facts": {name: known[name] for name in ("classes", "mean", "std", "image_size")},
        "side": SIDE,
        "gallery": gallery(),
        "megabytes": math.ceil(sum(map(len, scripts.values())) / 1e6),
        "measured": measured(),
    }
    return scripts, page
