"""Checks of chapter 16, what a network looked at."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_lib import explain, models
from resnet_lib.checks.answers import function, near, same_number, same_tensor, tensor
from resnet_lib.checks.verdict import Draw, Mismatch, check

CLASSES = 4


def _network(draw: Draw) -> nn.Module:
    """A small network with logits of every size and sign, in evaluation mode."""
    model = models.build("resnet18", CLASSES, width=3, in_channels=1, stem="small").double()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.bias.copy_(0.3 * draw.normal(len(module.bias)))
    return model.eval()


def _task(draw: Draw) -> tuple[nn.Module, Tensor, Tensor]:
    """A network, images (5, 1, 16, 16), and classes, of which not all are its answers."""
    model, images = _network(draw), draw.normal(5, 1, 16, 16)
    with torch.no_grad():
        answers = model(images).argmax(1)
    return model, images, (answers + torch.arange(5)) % CLASSES


def _ask(answer: Callable, model: nn.Module, images: Tensor, *arguments) -> Tensor:
    """What the learner's function returns, if it left the network and the images alone."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    given = images.clone()
    found = tensor(answer(model, given, *arguments), "what the function returns")
    if any(module._forward_hooks for module in model.modules()):
        raise Mismatch("a hook is left on the network: remove it when you are done")
    if model.training:
        raise Mismatch("the network is left in training mode, where one image changes another's")
    if not all(torch.equal(before[name], value) for name, value in model.state_dict().items()):
        raise Mismatch("the network is not as it was: weights or statistics have changed")
    if not torch.equal(given, images):
        raise Mismatch("the images that were handed in are changed: cover a copy of them")
    return found


def _parts(
    model: nn.Module, images: Tensor, classes: Tensor | None, layer: str, score: str = "logit"
) -> tuple[Tensor, Tensor]:
    """Activations and gradients (N, K, h, w) of the layer."""
    with explain.outputs(model, [layer]) as kept:
        logits = model(images.clone().requires_grad_())
        classes = logits.argmax(1) if classes is None else classes
        scores = {"logit": logits, "probability": logits.softmax(1), "log": logits.log_softmax(1)}
        wanted = scores[score].gather(1, classes[:, None]).sum()
        (gradient,) = torch.autograd.grad(wanted, kept[layer])
    return kept[layer].detach(), gradient


@check
def check_class_maps(class_maps: Callable, *, draw: Draw) -> str:
    """Exercise 16.1: class_maps(features, weight) -> (N, C, h, w)."""
    class_maps = function(class_maps, "class_maps(features, weight)")
    for channels, classes, height, width in ((5, 3, 4, 6), (4, 4, 3, 3)):
        features = draw.normal(2, channels, height, width).abs()
        weight = draw.normal(classes, channels)
        expected = torch.einsum("nkij,ck->ncij", features, weight)
        mistakes = [
            (F.relu(expected), "you cut off what speaks against a class; this map keeps it"),
            (expected / (height * width), "divide by nothing: the *mean* of a map is the logit"),
            (expected.softmax(1), "that is a softmax at each position; the maps are plain sums"),
            (expected.mean((2, 3)), "these are the logits; keep the positions"),
            (expected.transpose(2, 3), "rows and columns are swapped"),
            (expected.transpose(0, 1), "images come first, then classes"),
        ]
        if channels == classes:
            turned = torch.einsum("nkij,kc->ncij", features, weight)
            mistakes.append((turned, "the weights are turned: a row of them is a class"))
        found = class_maps(features.clone(), weight.clone())
        same_tensor(found, expected, "what class_maps returns", mistakes)
    return "the maps are right for every class and position"


@check
def check_shift(shift: Callable) -> str:
    """Exercise 16.2: shift(jump, offset) -> pixels."""
    shift = function(shift, "shift(jump, offset)")
    for jump, offset in ((4, 0.0), (16, 0.0), (7, 1.0), (3, 2.0), (8, -1.5)):
        expected = (jump - 1) / 2 - offset
        mistakes = [
            (jump / 2 - offset, "pixel 0 has its centre at 0, and its left edge at -0.5"),
            (-expected, "the sign is turned: to the right is positive"),
            (-(jump - 1) / 2 - offset, "the first tile's centre lies right of pixel 0, not left"),
            ((jump - 1) / 2, "the field's own offset has to be taken off"),
            ((jump - 1) / 2 + offset, "the field's own offset is taken off, not added"),
            (jump - 1 - offset, "the centre of the tile, not its last pixel"),
        ]
        what = f"the shift for a jump of {jump} and an offset of {offset:g}"
        mistakes = [pair for pair in mistakes if abs(pair[0] - expected) > 1e-9]
        same_number(shift(jump, offset), expected, what, mistakes)
    return "the shift is right, for layers of a ResNet and for others"


@check
def check_against(against: Callable, *, draw: Draw) -> str:
    """Exercise 16.3: against(model, images, classes, layer) -> (N, h, w)."""
    against = function(against, "against(model, images, classes, layer)")
    model, images, classes = _task(draw)
    for layer in ("C3", "C4"):
        activation, gradient = _parts(model, images, classes, layer)
        weights = gradient.mean((2, 3), keepdim=True)
        plain = (weights * activation).sum(1)
        answers = _weighted(*_parts(model, images, None, layer))
        probable = _weighted(*_parts(model, images, classes, layer, "probability"))
        mistakes = [
            (F.relu(plain), "that is Grad-CAM itself: evidence for the class"),
            (-plain, "cut off what is negative after the sum, as Grad-CAM does"),
            (plain, "this is the sum before the cut: negate it, and cut off what is negative"),
            (plain.abs(), "the absolute value mixes what speaks for and against the class"),
            (F.relu(-weights * activation).sum(1), "sum over the channels first, then cut off"),
            (F.relu(-weights).mul(activation).sum(1), "keep all channels: only the sum is cut off"),
            (F.relu(-(gradient * activation).sum(1)), "average the gradient over the positions"),
            (F.relu(-answers), "that is for the network's own answers; take the classes given"),
            (F.relu(-probable), "that is the gradient of the probability; take the logit"),
        ]
        found = _ask(against, model, images, classes.clone(), layer)
        what = f"the maps of {layer}"
        same_tensor(found, F.relu(-plain), what, mistakes)
    return "the maps show what speaks against the classes, at two stages"


def _weighted(activation: Tensor, gradient: Tensor) -> Tensor:
    """Grad-CAM before the cut."""
    return (gradient.mean((2, 3), keepdim=True) * activation).sum(1)


def _falls(
    model: nn.Module, images: Tensor, cell: int, value: Tensor | float = 0.0, keep: bool = False
) -> Tensor:
    """The fall of every logit when each square is covered: (N, h, h, classes).

    ``keep`` leaves the squares before covered, too.
    """
    side = images.shape[-1] // cell
    covered, falls = images.clone(), []
    with torch.no_grad():
        whole = model(images)
        for row in range(side):
            for column in range(side):
                if not keep:
                    covered = images.clone()
                rows = slice(row * cell, (row + 1) * cell)
                covered[:, :, rows, column * cell : (column + 1) * cell] = value
                falls.append(whole - model(covered))
    return torch.stack(falls, 1).view(len(images), side, side, -1)


@check
def check_occlusion(occlusion: Callable, *, draw: Draw) -> str:
    """Exercise 16.4: occlusion(model, images, classes, cell) -> (N, H / cell, H / cell)."""
    occlusion = function(occlusion, "occlusion(model, images, classes, cell)")
    model, images, classes = _task(draw)

    def of(falls: Tensor, wanted: Tensor) -> Tensor:
        index = wanted[:, None, None, None].expand(-1, *falls.shape[1:3], 1)
        return falls.gather(3, index)[..., 0]

    for cell in (8, 4):
        found = _ask(occlusion, model, images, classes.clone(), cell)
        falls = _falls(model, images, cell)
        expected = of(falls, classes)
        if near(found, expected):
            continue
        with torch.no_grad():
            logits = model(images)
        shares = logits.softmax(1)[:, None, None] - (logits[:, None, None] - falls).softmax(3)
        kept = of(_falls(model, images, cell, keep=True), classes)
        least = of(_falls(model, images, cell, images.min()), classes)
        mistakes = [
            (-expected, "the sign is turned: a logit that falls gives a positive number"),
            (F.relu(expected), "a rise is negative: cut nothing off"),
            (expected.transpose(1, 2), "rows and columns are swapped"),
            (of(falls, logits.argmax(1)), "that is for the network's own answers, not the classes"),
            (of(shares, classes), "that is the fall of the probability; take the logit"),
            (of(logits[:, None, None] - falls, classes), "that is the logit itself, not its fall"),
            (kept, "the squares before are still covered: begin with the whole image each time"),
            (least, "cover with zeros, the mean of normalised images"),
        ]
        same_tensor(found, expected, f"the maps for a cell of {cell} pixels", mistakes)
    return "the falls are right for cells of 8 and of 4 pixels"


@check
def check_hires_cam(hires_cam: Callable, *, draw: Draw) -> str:
    """Exercise 16.5: hires_cam(model, images, classes, layer) -> (N, h, w)."""
    hires_cam = function(hires_cam, "hires_cam(model, images, classes, layer)")
    model, images, classes = _task(draw)
    for layer in ("C3", "C4", "C5"):
        activation, gradient = _parts(model, images, classes, layer)
        product = gradient * activation
        answers = torch.mul(*_parts(model, images, None, layer)).sum(1)
        probable = torch.mul(*_parts(model, images, classes, layer, "probability")).sum(1)
        mistakes = [
            (product.sum(1), "cut off what is negative after the sum"),
            (F.relu(product).sum(1), "sum over the channels first, then cut off"),
            (F.relu(product.mean(1)), "sum over the channels, do not average"),
            (
                product.sum(1).abs(),
                "the absolute value mixes what speaks for and against the class",
            ),
            (F.relu(gradient.sum(1)), "multiply the gradient by the activation first"),
            (F.relu(answers), "that is for the network's own answers; take the classes given"),
            (F.relu(probable), "that is the gradient of the probability; take the logit"),
        ]
        if layer != "C5":  # there the two are the same
            plain = F.relu(_weighted(activation, gradient))
            words = "that is Grad-CAM: its gradient is averaged over the positions, here it is not"
            mistakes.append((plain, words))
        found = _ask(hires_cam, model, images, classes.clone(), layer)
        same_tensor(found, F.relu(product.sum(1)), f"the maps of {layer}", mistakes)
    return "the maps are right at three stages"


@check
def check_blind_share(blind_share: Callable, *, draw: Draw) -> str:
    """Exercise 16.6: blind_share(maps, masks) -> (N,)."""
    blind_share = function(blind_share, "blind_share(maps, masks)")
    for blind in (0, 2):
        maps = draw.normal(7, 6, 6).exp() * draw.normal(7).exp()[:, None, None]
        maps[:blind] = 0
        masks = draw.normal(7, 6, 6) > 0.4
        masks[:, 2:4, 2:4] = True
        sums = maps.sum((1, 2), keepdim=True)
        even = maps / torch.where(sums > 0, sums, 1)

        def share(found: Tensor, masks: Tensor = masks) -> Tensor:
            return (found * masks).sum((1, 2)) / found.sum((1, 2))

        expected = share(even.sum(0) - even)
        own_too = share(even.sum(0).expand(7, -1, -1))
        mistakes = [
            (own_too, "the image's own map is in the mean: leave it out"),
            (share(maps.sum(0) - maps), "scale each map to the sum 1 first, or one map decides"),
            (share(maps), "that is the share of each image's own map"),
            (masks.double().mean((1, 2)), "that is the mask's share of the image, a uniform map"),
            (share(even.roll(1, 0)), "that is the map of one other image; take the mean of all"),
            (share(even.roll(-1, 0)), "that is the map of one other image; take the mean of all"),
            (((even.sum(0) - even) * masks).sum((1, 2)), "divide by the sum of the mean map"),
            (((even.sum(0) - even) / 7 * masks).sum((1, 2)), "the others are one image fewer"),
        ]
        found = tensor(blind_share(maps.clone(), masks.clone()), "what blind_share returns")
        if blind and found.isnan().any():
            raise Mismatch("a map of zeros makes NaN: divide by its sum only where that is not 0")
        mistakes = [pair for pair in mistakes if not near(pair[0], expected)]
        same_tensor(found, expected, "what blind_share returns", mistakes)
    return "the shares are right, also where some maps are zero"
