"""Scaled shapes: generated images of one object each, whose size in pixels is controlled.

Ten classes, five shapes plain or striped. **Size** is the square root of the object's area: every
class covers size x size pixels (to within the pixel grid), so area tells the size and never the
class. A striped object is scaled as a whole, its stripes too. Every class comes in every size
equally often. Whatever else varies is drawn without a look at class or size: colours, contrast,
position, angle, clutter. Even the room for the position is that of the largest size.

What a classifier may use beyond the outline: the extent (a triangle's bounding box is wider than a
disc's of the same area), the length of edges, and the greater variance of colour in a striped
object. Large objects change the mean colour of an image more than small ones do.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from resnet_lib import UserError


def _disc(u: Tensor, v: Tensor, size: Tensor) -> Tensor:
    return torch.hypot(u, v) - size / math.sqrt(math.pi)


def _ring(u: Tensor, v: Tensor, size: Tensor) -> Tensor:
    """The hole's radius is half the outer one, hence the area 3/4 pi r^2."""
    radius = size * math.sqrt(4 / (3 * math.pi))
    return (torch.hypot(u, v) - 0.75 * radius).abs() - 0.25 * radius


def _square(u: Tensor, v: Tensor, size: Tensor) -> Tensor:
    return torch.maximum(u.abs(), v.abs()) - size / 2


def _triangle(u: Tensor, v: Tensor, size: Tensor) -> Tensor:
    """Equilateral about its centroid; the area is 3 sqrt(3) times the inner radius squared."""
    sides = torch.maximum(v, (math.sqrt(3) * u.abs() - v) / 2)
    return sides - size / math.sqrt(3 * math.sqrt(3))


def _cross(u: Tensor, v: Tensor, size: Tensor) -> Tensor:
    """Five equal squares, each of a side size / sqrt(5)."""
    u, v, half = u.abs(), v.abs(), size / math.sqrt(20)
    return torch.maximum(torch.minimum(u, v) - half, torch.maximum(u, v) - 3 * half)


# (u, v, size) in pixels, from the object's centre and along its axes -> signed distance to the
# outline, negative inside. Outside it may fall short of the distance to a corner.
SHAPES = {"disc": _disc, "ring": _ring, "square": _square, "triangle": _triangle, "cross": _cross}
TEXTURES = ("plain", "striped")
CLASSES = tuple(f"{texture} {shape}" for texture in TEXTURES for shape in SHAPES)

REACH = 2 / 3**0.75  # centre to the farthest point, in sizes: the triangle's corner
MIN_SIZE = 4  # pixels; a smaller object shows no shape
DEFAULT_SIZES = (1 / 8, 3 / 16, 1 / 4, 3 / 8)  # of the image's side
STRIPES = 2  # light and dark pairs in a length of one size
CLUTTER_CELLS = (4, 8, 16, 32)  # pixels from blob to blob
CHUNK = 16  # images drawn at once, few enough to stay in the processor's cache


def default_sizes(image_size: int) -> tuple[int, ...]:
    """An eighth to three eighths of the image's side, in whole pixels."""
    return tuple(sorted({max(MIN_SIZE, round(part * image_size)) for part in DEFAULT_SIZES}))


def generate(
    count: int,
    generator: torch.Generator,
    *,
    image_size: int = 64,
    sizes: Sequence[float] | None = None,
    start: int = 0,
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Images uint8 (N, 3, S, S), labels int64 (N,), and attributes of N rows.

    sizes: in pixels; ``default_sizes`` by default. start: where to go on in the rotation of
    classes and sizes, so that two calls are balanced together. The same arguments, the generator's
    state among them, give the same images.
    attributes: "size" in pixels, "mask" bool (N, S, S), true where a pixel's centre lies in the
    object, "position" (x, y) of the centre in pixels from the top left corner, "angle" in radians,
    "colour" and "background" RGB on the 0..1 scale, "contrast" the distance between these two,
    "stripe" the RGB step from "colour" to the stripes, drawn for plain objects too, "clutter" the
    amplitude of the background's blobs on the 0..1 scale.
    Class counts differ by one at the most, and so do the counts of a class in each size. Raises
    UserError on sizes that don't fit.
    """
    sizes = _checked(default_sizes(image_size) if sizes is None else sizes, image_size)
    order = start + torch.randperm(count, generator=generator)
    labels = order % len(CLASSES)
    # Shifted by the label, so that sizes are balanced in a last, incomplete round as well.
    size = torch.tensor(sizes)[(order // len(CLASSES) + labels) % len(sizes)]
    facts = _nuisances(count, image_size, REACH * max(sizes), generator)
    canvas = _clutter(image_size, generator)
    corners = torch.randint(canvas.shape[-1] - image_size + 1, (2, count), generator=generator)
    sign = 1 - 2 * torch.randint(2, (count,), generator=generator)
    images = torch.empty(count, 3, image_size, image_size, dtype=torch.uint8)
    mask = torch.empty(count, image_size, image_size, dtype=torch.bool)
    crops = canvas.unfold(1, image_size, 1).unfold(2, image_size, 1)
    for label, name in enumerate(CLASSES):
        for chunk in (labels == label).nonzero().flatten().split(CHUNK):
            chosen = {key: values[chunk] for key, values in facts.items()}
            blobs = crops[:, corners[0, chunk], corners[1, chunk]].transpose(0, 1)
            blobs = blobs * (sign[chunk] * chosen["clutter"])[:, None, None, None]
            images[chunk], mask[chunk] = _draw(name, size[chunk], blobs, chosen)
    return images, labels, {"size": size, "mask": mask, **facts}


def _checked(sizes: Sequence[float], image_size: int) -> list[float]:
    sizes = list(sizes) if isinstance(sizes, Sequence) else [sizes]
    if not sizes or len(set(sizes)) < len(sizes) or min(sizes) < MIN_SIZE:
        raise UserError(f"sizes must be different numbers of {MIN_SIZE} px or more, got {sizes}")
    needed = math.ceil(2 * REACH * max(sizes))
    if image_size < needed:
        raise UserError(
            f"an object of size {max(sizes)} px needs image_size of at least {needed}, "
            f"got {image_size}: choose smaller sizes or larger images"
        )
    return sizes


def _nuisances(
    count: int, image_size: int, reach: float, generator: torch.Generator
) -> dict[str, Tensor]:
    """Everything that carries no information on the class or the size."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    def towards() -> Tensor:
        return torch.randn(count, 3, generator=generator)

    contrast = uniform(0.3, 0.5)
    away = F.normalize(towards(), dim=1)
    # Across the line from background to object: stripes leave the contrast of an object alone.
    across = F.normalize(torch.linalg.cross(away, towards()), dim=1)
    middle, half = uniform(0.35, 0.65, 3), contrast[:, None] / 2
    return {
        "position": uniform(reach, image_size - reach, 2),
        "angle": uniform(0, 2 * math.pi),
        "colour": middle + half * away,
        "background": middle - half * away,
        "stripe": half * across,
        "contrast": contrast,
        "clutter": uniform(0.05, 0.2),
    }


def _clutter(image_size: int, generator: torch.Generator) -> Tensor:
    """(3, side, side) in -1..1: sharp-edged blobs of several scales, to cut backgrounds from."""
    side = 8 * max(CLUTTER_CELLS) + 2 * image_size
    layers = []
    for cell in CLUTTER_CELLS:
        grid = torch.randn(1, 3, side // cell + 2, side // cell + 2, generator=generator)
        smooth = F.interpolate(grid, scale_factor=cell, mode="bicubic")[0, :, :side, :side]
        # Steep at its zeros: an edge about two pixels wide, whatever the scale.
        layers.append((smooth * cell).clamp(-1, 1))
    return torch.stack(layers).mean(0)


def _draw(
    name: str, size: Tensor, blobs: Tensor, facts: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Images uint8 (n, 3, S, S) and masks of n objects of one class on their blobs (n, 3, S, S)."""
    texture, shape = name.split()
    centres = torch.arange(blobs.shape[-1]) + 0.5
    x, y = (centres - facts["position"].T[:, :, None]).unbind()
    cos, sin = facts["angle"].cos()[:, None], facts["angle"].sin()[:, None]
    u = (cos * x)[:, None, :] + (sin * y)[:, :, None]
    v = (cos * y)[:, :, None] - (sin * x)[:, None, :]
    size = size[:, None, None]
    distance = SHAPES[shape](u, v, size)
    ink = facts["colour"][:, :, None, None]
    if texture == "striped":
        period = size / STRIPES
        to_edge = ((u / period).frac().abs() - 0.5).abs_().sub_(0.25).mul_(period)
        ink = ink + facts["stripe"][:, :, None, None] * (2 * to_edge).clamp_(-1, 1)[:, None]
    cover = (0.5 - distance).clamp_(0, 1)[:, None]  # of a pixel on the outline, about
    picture = torch.lerp(blobs.add_(facts["background"][:, :, None, None]), ink, cover)
    return picture.mul_(255).add_(0.5).clamp_(0, 255).to(torch.uint8), distance < 0
