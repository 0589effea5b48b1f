"""What the receptive-field explorer shows: fields, measured heat and pictures, all computed."""

import base64
import inspect
import io
import math
from functools import cache

import numpy as np
import torch
from PIL import Image

from resnet_lib import UserError, data, models, pyramid, records

NETWORKS = {"resnet50": "ResNet-50", "resnet101": "ResNet-101"}
# Version -> where its bottlenecks stride, and the experiment that measured it.
VERSIONS = {"v1": ("1x1", "receptive-fields-v1"), "v1.5": ("3x3", "receptive-fields")}
TIMES = ("before", "after")
ROWS, SIDE = 5, 480  # the sheets of the measurement: five by five images, pixels
SHAPE_ROWS, SHAPE_SIZES = 4, (16, 28, 44, 64)  # images in a row, and objects' sizes in pixels
USUAL_WIDTH = inspect.signature(models.ResNet).parameters["width"].default


def meta(**spec):
    """A network without weights."""
    with torch.device("meta"):
        return models.build(**spec)


@cache
def fields(network, stride_in):
    """{stage: what the page needs of a field}. "first" is the first pixel that unit 0 sees."""
    model = meta(name=network, stride_in=stride_in)
    maps = model.features(torch.empty(1, 3, SIDE, SIDE, device="meta"))
    return {
        stage: {
            "size": field.size,
            "jump": field.jump,
            "first": field.span(0)[0],
            "units": maps[stage].shape[-1],
        }
        for stage, field in pyramid.receptive_field(model).items()
    }


def recorded(network, version):
    """The records of a network, [] where there are none; UserError if they are of another one."""
    stride_in, experiment = VERSIONS[version]
    if not any((folder / experiment).is_dir() for folder in records.FOLDERS):
        return []
    found, ours = [], pyramid.receptive_field(meta(name=network, stride_in=stride_in))
    for record in records.load(experiment):
        spec = record.config["spec"]
        if spec["name"] != network:
            continue
        # By what it computes: a version could be written in a record in other ways, too.
        if pyramid.receptive_field(meta(**spec)) != ours:
            raise UserError(f"{experiment}: {record.variant} is not {network} {version}")
        found.append(record)
    return found


def mean_heat(measured):
    """Heat maps of several seeds as one, again as square roots from 0 to 255.

    A record's bytes are square roots, scaled by its own largest; so each map is squared and
    brought to the sum 1 before the mean is taken.
    """
    shapes = {(one["cell"], one["side"]) for one in measured}
    if len(shapes) > 1:
        raise UserError(f"heat maps of one unit differ in their cells: {sorted(shapes)}")
    ((cell, side),) = shapes
    maps = []
    for one in measured:
        values = bytes.fromhex(one["heat"])
        if len(values) != side * side or not any(values):
            raise UserError(f"a heat map of {side} x {side} cells has {len(values)} values")
        heat = torch.frombuffer(bytearray(values), dtype=torch.uint8).double().square()
        maps.append(heat / heat.sum())
    heat = pyramid.to_bytes(torch.stack(maps).mean(0))
    return {
        "cell": cell,
        "side": side,
        "heat": base64.b64encode(heat).decode(),
        "width": float(np.mean([one["width"] for one in measured])),
        "square": float(np.mean([one["square"] for one in measured])),
    }


def measurement(found):
    """{"seeds": count, "before": {stage: heat}, "after": {stage: heat}} of some records."""
    heats = {
        time: {
            stage: mean_heat([record.result[time][stage] for record in found])
            for stage in found[0].result[time]
        }
        for time in TIMES
    }
    return {"seeds": len(found), **heats}


def sheet(images):
    """Grey images uint8 (n * n, 1, S, S) in n rows, as one (n * S, n * S)."""
    side, rows = images.shape[-1], math.isqrt(len(images))
    tiles = images.view(rows, rows, side, side).transpose(1, 2)
    return tiles.reshape(rows * side, rows * side)


def stretched(images):
    """Each image from black to white: grey shapes on grey are faint."""
    low, high = images.amin((1, 2, 3), True), images.amax((1, 2, 3), True)
    return (255.0 * (images - low) / (high - low).clamp(1)).to(torch.uint8)


def as_picture(identity, title, images):
    """A sheet of test images as the page embeds it."""
    pixels = sheet(images).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", quality=75, method=6)
    address = f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
    description = f"a sheet of {len(images)} images of {images.shape[-1]} pixels"
    return {
        "id": identity,
        "title": title,
        "description": description,
        "size": len(pixels),
        "address": address,
    }


@cache
def pictures():
    """Two sheets of one size: one as in the measurement, and one of objects in several sizes."""
    clothes = data.load("fashion", "test", limit=ROWS**2, image_size=SIDE // ROWS).images
    options = {"image_size": SIDE // SHAPE_ROWS, "sizes": SHAPE_SIZES, "channels": 1}
    shapes = data.load("scaled-shapes", "test", limit=SHAPE_ROWS**2, **options).images
    return [
        as_picture("clothes", "Clothes", clothes),
        as_picture("shapes", "Shapes", stretched(shapes)),
    ]


def collect():
    """(the data of the page, the files of records that they come from).

    A measurement without records is left out and named in "missing".
    """
    measured, missing, settings, files = {}, [], set(), []
    for network, title in NETWORKS.items():
        measured[network] = {}
        for version, (_, experiment) in VERSIONS.items():
            found = recorded(network, version)
            if not found:
                missing.append(f"{title} {version} (no record in {experiment!r})")
                continue
            measured[network][version] = measurement(found)
            for record in found:
                config = record.config
                settings.add((config["spec"]["width"], config["data"]["image_size"]))
    for _, experiment in VERSIONS.values():
        for folder in records.FOLDERS:
            files += sorted((folder / experiment).glob("*.json"))
    if len(settings) > 1:
        raise UserError(f"the measurements differ in width and image size: {sorted(settings)}")
    width, image_size = settings.pop() if settings else (None, None)
    computed = {
        network: {
            version: fields(network, stride_in) for version, (stride_in, _) in VERSIONS.items()
        }
        for network in NETWORKS
    }
    page = {
        "networks": [{"id": name, "title": title} for name, title in NETWORKS.items()],
        "versions": [
            {"id": version, "title": f"{version} ({stride_in.replace('x', '×')})"}
            for version, (stride_in, _) in VERSIONS.items()
        ],
        "stages": [{"id": stage, "title": stage} for stage in computed["resnet50"]["v1"]],
        "times": [{"id": time, "title": time} for time in TIMES],
        "fields": computed,
        "measured": measured,
        "missing": missing,
        "width": width,
        "usual_width": USUAL_WIDTH,
        "image_size": image_size,
        "pictures": pictures(),
    }
    return page, files
