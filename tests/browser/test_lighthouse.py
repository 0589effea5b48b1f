"""Lighthouse's judgement of the pages, on a desktop and on a slow phone, as it supposes.

Runs where the program ``lighthouse`` is installed (``npm install --global lighthouse``), or where
the variable LIGHTHOUSE names it.
"""

import json
import os
import shutil
import subprocess

import pytest
from browsing import CHROMIUM
from test_whole_book import KINDS

LIGHTHOUSE = os.environ.get("LIGHTHOUSE") or shutil.which("lighthouse")
SCREENS = ("phone", "desktop")
LEAST = {"performance": 95, "accessibility": 100, "best-practices": 100, "seo": 100}
# The reference is the longest page: a phone, a fourth as fast as this machine, lays it out in half
# a second.
LONGEST = {("book/api.html", "phone"): {"performance": 85}}
TRIES = 3  # other programs on this machine cost points too

pytestmark = pytest.mark.skipif(not (LIGHTHOUSE and CHROMIUM), reason="needs lighthouse")


def judged(address, screen, folder):
    """({category: points of 100}, the audits that cost some) for a page."""
    path = folder / "report.json"
    command = [LIGHTHOUSE, address, "--quiet", "--output=json", f"--output-path={path}"]
    command += [f"--only-categories={','.join(LEAST)}"]
    command += ["--preset=desktop"] if screen == "desktop" else []
    command += ["--chrome-flags=--headless=new --no-sandbox --disable-dev-shm-usage"]
    environment = os.environ | {"CHROME_PATH": CHROMIUM}
    subprocess.run(command, env=environment, check=True, timeout=300)
    report = json.loads(path.read_text(encoding="utf-8"))
    points = {name: round(100 * one["score"]) for name, one in report["categories"].items()}
    lacking = [
        report["audits"][audit["id"]]["title"]
        for category in report["categories"].values()
        for audit in category["auditRefs"]
        if audit["weight"] and (report["audits"][audit["id"]]["score"] or 0) < 0.9
    ]
    return points, lacking


@pytest.mark.slow
@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "search.html"])
def test_lighthouse_is_content(served, tmp_path, kind, screen):
    least = LEAST | LONGEST.get((kind, screen), {})
    for _ in range(TRIES):
        points, lacking = judged(f"{served}/{kind}", screen, tmp_path)
        assert points.keys() == least.keys()
        if all(points[name] >= wanted for name, wanted in least.items()):
            return
    pytest.fail(f"{points}, {lacking}")
