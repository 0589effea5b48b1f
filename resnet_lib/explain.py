"""What an answer of the network rests on: Grad-CAM, and how much of it lies on the object.

A layer is named by its stage, "C2" to "C5", or by its module, "layer3.4.conv2". Maps have the
layer's resolution; ``enlarge`` brings them to the image's.
"""

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_lib import UserError
from resnet_lib.augment import normalize
from resnet_lib.data import ImageSet, load

STAGES = ("C2", "C3", "C4", "C5")
PARTS = ("fc", "layer4", "layer3", "layer2", "layer1", "bn1", "conv1")  # of a ResNet, from the top
PLACES = ("cells", "fields")


def find(model: nn.Module, layer: str) -> nn.Module:
    """The module of that name, ``layer1`` for "C2" and so on; UserError where there is none."""
    name = f"layer{int(layer[1]) - 1}" if layer in STAGES else layer
    modules = dict(model.named_modules())
    if not name or name not in modules:
        raise UserError(f"the network has no layer {layer!r}: name a stage or one of its modules")
    return modules[name]


@contextmanager
def outputs(model: nn.Module, layers: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """Layer -> what it put out in the last forward pass; the hooks end with the ``with`` block."""
    kept = {}

    def keep(layer: str) -> Callable:
        def hook(module, inputs, output):
            kept[layer] = output
            # What follows gets a copy: a ReLU that works in place would change what is kept.
            return output.clone()

        return hook

    handles = [find(model, layer).register_forward_hook(keep(layer)) for layer in layers]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def grad_cam(
    model: nn.Module,
    images: Tensor,
    classes: Tensor | None = None,
    layers: Iterable[str] = ("C5",),
) -> dict[str, Tensor]:
    """Layer -> maps (N, h, w), 0 or more: the evidence for the classes (N,) in images (N, C, H, W).

    The layer's channels, weighted by the mean gradient of the class's logit, summed, negative sums
    set to 0. Without classes those that the network predicts. All layers take one forward and one
    backward pass, in the mode that the model is in: use ``model.eval()``. Selvaraju et al. 2017,
    equations 1 and 2, DOI 10.1109/ICCV.2017.74.
    """
    images = images.detach().requires_grad_()  # so that frozen weights give gradients, too
    with torch.enable_grad(), outputs(model, layers) as kept:
        logits = model(images)
        classes = logits.argmax(1) if classes is None else classes
        score = logits.gather(1, classes[:, None]).sum()
        gradients = torch.autograd.grad(score, list(kept.values()))
    maps = {}
    for (layer, activation), gradient in zip(kept.items(), gradients, strict=True):
        weights = gradient.mean((2, 3), keepdim=True)
        maps[layer] = F.relu((weights * activation.detach()).sum(1))
    return maps


def enlarge(maps: Tensor, size: int, place: str = "cells") -> Tensor:
    """Maps (N, h, h) -> (N, size, size), bilinear.

    place: where a value belongs, with the first as an example. "cells": to the middle of the first
    square of pixels when h x h of them tile the image, as image libraries have it. "fields": to the
    centre of its receptive field, in the ResNets of this book the first pixel.
    """
    if place not in PLACES:
        raise UserError(f"place must be one of {', '.join(PLACES)}, got {place!r}")
    cells = maps.shape[-1]
    at = torch.arange(size, device=maps.device) * cells / size  # of each pixel, in cells
    if place == "cells":
        at = at + cells / (2 * size) - 0.5
    steps = at.clamp(0, cells - 1)[:, None] - torch.arange(cells, device=maps.device)
    weights = F.relu(1 - steps.abs()).to(maps.dtype)  # of each cell for each pixel of a row
    return weights @ maps @ weights.T


def to_unit(maps: Tensor) -> Tensor:
    """Each map (N, h, w) on a scale of its own, from 0 to 1; 0 where a map is the same all over."""
    maps = maps - maps.amin((1, 2), keepdim=True)
    top = maps.amax((1, 2), keepdim=True)
    return maps / torch.where(top > 0, top, 1)


def share_inside(maps: Tensor, masks: Tensor, place: str = "cells") -> Tensor:
    """The share of each map's sum that lies in the mask bool (N, H, H): (N,), from 0 to 1, double.

    NaN where a map is zero everywhere: it points nowhere. Maps of a coarser resolution (N, h, h)
    are enlarged first. A map that is the same everywhere gets the mask's share of the image. Wang
    et al. 2020, DOI 10.48550/arXiv.1910.01279, do the same with bounding boxes.
    """
    maps = enlarge(maps.double(), masks.shape[-1], place)
    return (maps * masks).sum((1, 2)) / maps.sum((1, 2))


def best_share(masks: Tensor, cells: int, place: str = "cells") -> Tensor:
    """The highest ``share_inside`` that any map of cells x cells can have: (N,), double.

    The share of a sum of maps is a weighted mean of their shares, so one cell alone is the best.
    """
    single = torch.eye(cells**2, dtype=torch.double, device=masks.device)
    single = enlarge(single.view(-1, cells, cells), masks.shape[-1], place).flatten(1)
    return (masks.flatten(1).double() @ single.T / single.sum(1)).amax(1)


def centres(masks: Tensor, cells: int) -> Tensor:
    """Whether the mask (N, H, W) is true at the centre of each of cells x cells: bool (N, h, w)."""
    side = masks.shape[-1]
    middle = ((torch.arange(cells, device=masks.device) + 0.5) * side / cells).long()
    return masks[:, middle][:, :, middle]


def points_inside(maps: Tensor, masks: Tensor) -> Tensor:
    """Whether the centre of the map's largest cell lies in the mask: bool (N,).

    The pointing game of Zhang et al. 2016, DOI 10.48550/arXiv.1608.00507, without a margin.
    """
    inside = centres(masks, maps.shape[-1]).flatten(1)
    return inside.gather(1, maps.flatten(1).argmax(1, keepdim=True))[:, 0]


def energy_inside(
    model: nn.Module,
    images: Tensor,
    classes: Tensor,
    masks: Tensor,
    layer: str = "C4",
    place: str = "cells",
    batch_size: int = 128,
) -> Tensor:
    """``share_inside`` of the Grad-CAM maps for the classes: (N,), double, on the CPU.

    images: normalised float (N, C, H, H). classes: the labels, or the network's predictions.
    Tensors may be on any device; the model stays in its mode.
    """
    device, shares = next(model.parameters()).device, []
    for batch in zip(*(x.split(batch_size) for x in (images, classes, masks)), strict=True):
        pictures, wanted, inside = (x.to(device) for x in batch)
        maps = grad_cam(model, pictures, wanted, (layer,))[layer]
        shares.append(share_inside(maps, inside, place))
    return torch.cat(shares).cpu()


def predict_and_explain(
    model: nn.Module, images: ImageSet, layers: Iterable[str] = STAGES, batch_size: int = 128
) -> tuple[Tensor, dict[str, Tensor]]:
    """Predictions (N,), and layer -> the maps (N, h, w) for them, all on the CPU.

    The model is put into evaluation mode.
    """
    place, layers = next(model.parameters()).device, tuple(layers)
    model.eval()
    predictions, maps = [], {layer: [] for layer in layers}
    for batch in images.images.split(batch_size):
        pictures = normalize(batch.to(place), images.mean, images.std)
        with outputs(model, ["fc"]) as last:
            found = grad_cam(model, pictures, layers=layers)
        predictions.append(last["fc"].argmax(1).cpu())
        for layer, parts in maps.items():
            parts.append(found[layer].cpu())
    return torch.cat(predictions), {layer: torch.cat(parts) for layer, parts in maps.items()}


def _mean(values: Tensor) -> float | None:
    return values.double().mean().item() if len(values) else None


def meet_objects(
    predictions: Tensor, maps: dict[str, Tensor], shapes: ImageSet, place: str = "cells"
) -> dict[str, dict[str, dict[str, float | int | None]]]:
    """Layer -> object size in pixels -> how well the maps (N, h, h) meet the objects.

    shapes: with the attributes "size" and "mask". "images", of which "right" were classified
    rightly and "zero" have a map that is zero everywhere. The rest are means over the other
    images, None where there are none: "inside" of ``share_inside`` the object, "inside_right" and
    "inside_wrong" of it over right and wrong answers; "chance" of the object's share of the image,
    "other" of the share inside when the map is that of another image with this size of object,
    "best" of the highest share at this resolution; "points" and "can_point" of whether the largest
    cell has its centre in the object, and whether any has.
    """
    sizes, masks = shapes.attributes["size"], shapes.attributes["mask"]
    right, measured = predictions == shapes.labels, {}
    for layer, found in maps.items():
        seen, cells, measured[layer] = found.flatten(1).sum(1) > 0, found.shape[-1], {}
        for size in sizes.unique():
            chosen = sizes == size
            some = chosen & seen
            own, inside, hit = found[some], masks[some], right[some]
            share = share_inside(own, inside, place)
            measured[layer][f"{size:g}"] = {
                "images": int(chosen.sum()),
                "right": int(right[chosen].sum()),
                "zero": int((chosen & ~seen).sum()),
                "inside": _mean(share),
                "inside_right": _mean(share[hit]),
                "inside_wrong": _mean(share[~hit]),
                "chance": _mean(inside.flatten(1).double().mean(1)),
                "other": _mean(share_inside(own.roll(1, 0), inside, place)),
                "best": _mean(best_share(inside, cells, place)),
                "points": _mean(points_inside(own, inside)),
                "can_point": _mean(centres(inside, cells).flatten(1).any(1)),
            }
    return measured


def energy_by_size(
    model: nn.Module, shapes: ImageSet, layers: Iterable[str] = STAGES, batch_size: int = 128
) -> dict[str, dict[str, dict[str, float | int | None]]]:
    """``meet_objects`` for the maps of the classes that the network predicts."""
    return meet_objects(*predict_and_explain(model, shapes, layers, batch_size), shapes)


def roaming(shapes: ImageSet, count: int) -> ImageSet:
    """New test images like these, in which every size may lie as far out as it can.

    In one set of scaled shapes all objects keep the room of the largest, near the middle. Here each
    size is drawn for itself, ``count`` images of each: the same scenes, in which the object alone
    grows, and moves with its room.
    """
    sizes, side = shapes.attributes["size"].unique().tolist(), shapes.image_size
    drawn = [
        load("scaled-shapes", "test", limit=count, image_size=side, sizes=(size,)) for size in sizes
    ]
    attributes = {
        key: torch.cat([part.attributes[key] for part in drawn]) for key in drawn[0].attributes
    }
    images, labels = (torch.cat([getattr(p, name) for p in drawn]) for name in ("images", "labels"))
    return replace(shapes, images=images, labels=labels, attributes=attributes)


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's, of each pair of maps (N, h, h): (N,), double; NaN where a map is constant.

    Equal values share the mean of their ranks.
    """
    ranks = []
    for values in (first.flatten(1), second.flatten(1)):
        below = (values[:, :, None] > values[:, None, :]).double().sum(2)
        equal = (values[:, :, None] == values[:, None, :]).double().sum(2)
        rank = below + (equal - 1) / 2
        ranks.append(rank - rank.mean(1, keepdim=True))
    one, two = ranks
    return (one * two).sum(1) / (one.square().sum(1) * two.square().sum(1)).sqrt()


def randomised(model: nn.Module, images: Tensor, parts: Iterable[str], seed: int) -> nn.Module:
    """A copy in evaluation mode whose parts, such as "layer4", are as new: Adebayo et al. 2018.

    images: normalised (N, C, H, W), a batch from which their batch norms take the statistics that
    they would have had; those of a new network don't fit. DOI 10.48550/arXiv.1810.03292.
    """
    model = copy.deepcopy(model).eval()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for part in parts:
            for module in model.get_submodule(part).modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                elif isinstance(module, (nn.Linear, nn.BatchNorm2d)):
                    module.reset_parameters()
                if isinstance(module, nn.BatchNorm2d):
                    module.momentum = None  # the statistics of all that it sees, here one batch
                    module.train()
        model(images)
    return model.eval()


def cascade(
    model: nn.Module, images: Tensor, layers: Iterable[str], seed: int = 0
) -> dict[str, dict[str, Tensor]]:
    """Part -> layer -> the rank correlation (N,) of the maps before and after it became random.

    The parts become random one after another, from the top, and stay so. images: normalised
    (N, C, H, W), all at once. The classes are those that the trained network predicts. "another
    image", the first entry, compares the maps of different images in the trained network.
    """
    layers = tuple(layers)
    with torch.no_grad():
        classes = model(images).argmax(1)
    trained = grad_cam(model, images, classes, layers)
    found = {"another image": {k: rank_correlation(v, v.roll(1, 0)) for k, v in trained.items()}}
    for count, part in enumerate(PARTS, start=1):
        changed = randomised(model, images, PARTS[:count], seed)
        maps = grad_cam(changed, images, classes, layers)
        found[part] = {layer: rank_correlation(trained[layer], maps[layer]) for layer in layers}
    return found
