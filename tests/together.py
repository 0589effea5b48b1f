"""What the processes of a test do; torchrun starts it, with a folder for what they found."""

import json
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path

from toys import make_images, make_model

from resnet_lib import data, distributed, train
from resnet_lib.augment import Augment

CONFIG = train.TrainConfig(
    epochs=3, batch_size=16, lr=0.05, warmup_epochs=0.5, precision="float32",
    augment=Augment(crop_padding=1),
)  # fmt: skip
CASES = {
    # 53 images in batches of 16: the last has 5, which two processes share as 3 and 2.
    "uneven": {"freeze_norms": True},
    "parts": {"freeze_norms": True, "accumulate": 2},
    "average": {"freeze_norms": True, "average": 0.9, "label_smoothing": 0.1},
    "norms": {},
}
READ = []  # the indices of the images that this process was given, batch by batch


@dataclass(frozen=True, eq=False)
class Noted(data.ImageSet):
    """Images that note who reads them."""

    def read(self, indices):
        READ.append(indices.tolist())
        return super().read(indices)


def noted(images):
    return Noted(**{field.name: getattr(images, field.name) for field in fields(images)})


def run(device, options, out=None):
    """One short training run, as plain data."""
    READ.clear()
    lines, model = [], make_model()
    history = train.fit(
        model, noted(make_images(53)), make_images(21, seed=1, split="val"),
        replace(CONFIG, device=device, **options), out, log=lines.append,
    )  # fmt: skip
    return {
        "steps": history.steps,
        "epochs": [{**epoch, "seconds": 0} for epoch in history.epochs],
        "weights": model.fc.weight.flatten().tolist(),
        "statistics": model.bn1.running_mean.tolist(),
        "read": list(READ),
        "lines": lines,
        "norm": type(model.bn1).__name__,
    }


def main(folder, device):
    with distributed.joined(device) as place:
        found = {}
        for name, options in CASES.items():
            found[name] = run(place, options, folder / name)
        (folder / f"{distributed.rank()}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
