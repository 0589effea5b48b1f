"""The page of a run in a browser: nothing is loaded, and all can read it."""

import pytest
import torch
from browsing import DESKTOP, PHONE, opened

from resnet_lib import metrics, report, train
from resnet_lib.cli import figures

CLASSES = ("a class with a long name", "Sandal", "Ankle boot")


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The page of a run that nobody trained, with every part that a page can have."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    logits = torch.randn(60, 3, generator=generator) + 2 * torch.eye(3)[labels]
    pictures = torch.randint(0, 256, (3, 3, 16, 16), generator=generator, dtype=torch.uint8)
    evaluation = train.Evaluation(logits, labels)
    row = {"train_loss": 1.0, "val_loss": 1.1, "train_accuracy": 0.6, "val_accuracy": 0.5}
    content = report.page(
        report.Report(
            title="resnet50 on a data set",
            facts={"network": "resnet50", "commit": 40 * "a"},
            history=[{"epoch": epoch, **row} for epoch in (1, 2, 3)],
            config={"lr": 0.1, "spec": {"width": 16}},
            environment={"torch": "2", "cuda": None},
            command="python -m resnet_lib train --data " + 90 * "x",
            measured=report.Measured(
                "test",
                figures.measure(evaluation, CLASSES),
                metrics.reliability(logits, labels),
                [report.Mistake(p, "x/y.png", *CLASSES[:2], 0.9) for p in pictures],
            ),
            notes=["Something is missing."],
        )
    )
    path = tmp_path_factory.mktemp("run") / "report.html"
    path.write_text(content, encoding="utf-8")
    return path.as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_no_accessibility_violation_and_nothing_to_scroll_sideways(chromium, address, scheme, size):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    with opened(chromium, address, size, color_scheme=scheme) as page:
        violations = axe.Axe().run(page, options={"preload": False}).response["violations"]
        assert not [(each["id"], each["nodes"][0]["html"][:200]) for each in violations]
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        shown = page.evaluate("[...document.images].map(i => i.complete && i.naturalWidth)")
        assert len(shown) == 6 and all(shown)
        back = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (back == "rgb(255, 255, 255)") == (scheme == "light")
