"""What trained networks look at: Grad-CAM on objects whose masks are known."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from resnet_lib import UserError, checkpoint, data, device, explain
from resnet_lib.augment import normalize
from resnet_lib.experiments.variant import Variant

LOOKED_AT = 1_000  # test images, the first ones: those that the training's own record is of
RANDOMISED = 100  # of them for the test with random weights
DRAWS = 2  # of random weights
EXAMPLES = 2  # images of each size whose maps are kept


@dataclass(frozen=True)
class Attention(Variant):
    """An arm that trains nothing: it looks at the network that another experiment has kept.

    "centred" is measured on test images like those of the training, "roaming" on images whose
    objects lie further out; each has an entry for both places of a map. "cascade" tells what random
    weights do to the maps, "examples" holds the maps of the first roaming images of each size.
    """

    source: str = "object-size"  # the experiment that keeps the networks

    def execute(
        self, log: Callable[[str], None], weights: Path | None = None
    ) -> tuple[list[dict[str, float]], dict[str, Any]]:
        """Read the network from ``weights`` and measure its maps."""
        if not (weights and weights.is_file()):
            missing = f", there is no {weights.name}" if weights else ""
            raise UserError(
                f"this experiment trains nothing: run {self.source} with --weights FOLDER "
                f"first, then this one with the same folder{missing}"
            )
        model, _ = checkpoint.restore_model(weights)
        if model.spec != self.spec:
            raise UserError(f"{weights.name} is of another network: {model.spec}")
        model.to(device.choose_device(self.config.device))
        test = self.part("test")
        centred = data.subset(test, range(len(test))[:LOOKED_AT])
        count = len(centred) // len(test.attributes["size"].unique())
        sets = {"centred": centred, "roaming": explain.roaming(centred, count)}
        result = {}
        for name, shapes in sets.items():
            predictions, maps = explain.predict_and_explain(model, shapes)
            result[name] = {
                place: explain.meet_objects(predictions, maps, shapes, place)
                for place in explain.PLACES
            }
            log(f"{name}: {len(shapes)} images")
        chosen = examples(shapes.attributes["size"])
        result["examples"] = {
            "indices": chosen.tolist(),
            "predictions": predictions[chosen].tolist(),
            "maps": {layer: [to_hex(m) for m in found[chosen]] for layer, found in maps.items()},
        }
        result["cascade"] = cascades(model, data.subset(centred, range(len(centred))[:RANDOMISED]))
        return [], result


def examples(sizes: Tensor) -> Tensor:
    """The first images of each size: their indices, the smallest size first."""
    return torch.cat([(sizes == size).nonzero()[:EXAMPLES, 0] for size in sizes.unique()])


def to_hex(values: Tensor) -> str:
    """A map (h, h), from 0 to 255 at its largest, row by row as two hexadecimal digits each."""
    scaled = values / values.max() if values.max() > 0 else values
    return bytes((255 * scaled).round().to(torch.uint8).flatten().tolist()).hex()


def from_hex(digits: str) -> Tensor:
    """What ``to_hex`` wrote: (h, h), from 0 to 1."""
    values = torch.tensor(list(bytes.fromhex(digits))) / 255
    return values.view(round(len(values) ** 0.5), -1)


def cascades(model: nn.Module, shapes: data.ImageSet) -> dict[str, dict[str, dict[str, Any]]]:
    """Part -> layer -> rank correlations over images and draws of random weights.

    Their mean, the mean of their absolute values, the 10 % and 90 % quantiles, and the share that
    is "undefined", since a map is constant.
    """
    device = next(model.parameters()).device
    images = normalize(shapes.images.to(device), shapes.mean, shapes.std)
    layers = explain.STAGES[:3]  # C5 has four cells here, too few for ranks
    draws = [explain.cascade(model, images, layers, seed) for seed in range(DRAWS)]
    summary: dict[str, dict[str, dict[str, Any]]] = {}
    for part in draws[0]:
        summary[part] = {}
        for layer in layers:
            values = torch.cat([draw[part][layer] for draw in draws]).cpu()
            defined = values[~values.isnan()]
            edges = torch.tensor([0.1, 0.9], dtype=torch.double)
            low, high = defined.quantile(edges).tolist() if len(defined) else (None, None)
            summary[part][layer] = {
                "mean": defined.mean().item() if len(defined) else None,
                "absolute": defined.abs().mean().item() if len(defined) else None,
                "low": low,
                "high": high,
                "undefined": 1 - len(defined) / len(values),
            }
    return summary
