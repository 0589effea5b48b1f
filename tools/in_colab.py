"""Run chapters as Colab does: each alone, in an environment that lacks the package.

    python tools/in_colab.py --repository ADDRESS [FILE ...]

The set-up cell installs the package from that git address, all cells run in an empty folder, and
nothing else in the environment may have changed. Without files: every chapter. For Colab's
published runtime image, or an environment that holds what Colab ships.
"""

import argparse
import json
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import notebooks
from notebooks import ChapterError

PACKAGE = "resnet_lib"
LONGEST_SETUP = 30  # seconds, with the start of the kernel
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]


def versions():
    """{name: version} of all that is installed, as pip sees it."""
    listing = subprocess.run([*PIP, "list", "--format=json"], capture_output=True, check=True)
    return {each["name"].replace("-", "_"): each["version"] for each in json.loads(listing.stdout)}


def run(path, address):
    """Run one chapter: (seconds of the set-up cell, of all). Raises ChapterError."""
    before = versions()
    if PACKAGE in before:
        raise ChapterError(f"{PACKAGE} is installed already: take an environment without it")
    source, notebook = notebooks.setup_source(address), notebooks.read(path)
    for cell in filter(notebooks.is_setup, notebook.cells):
        cell.source = source
    started, ended = time.perf_counter(), []
    try:
        seconds, _ = notebooks.run(
            notebook,
            path.stem,
            on_cell_executed=lambda **_: ended.append(time.perf_counter()),
        )
        judge(path.stem, ended[0] - started, before, source)
    finally:
        subprocess.run([*PIP, "uninstall", "-qq", "--yes", PACKAGE], check=True)
    return ended[0] - started, seconds


def judge(name, seconds, before, source):
    """Raise ChapterError unless the set-up cell did what it had to, and that alone."""
    after = versions()
    if PACKAGE not in after:
        raise ChapterError(f"{name} did not install {PACKAGE}")
    # A chapter may add what it needs and Colab lacks; what was there must stay as it was.
    changed = {key: (value, after.get(key)) for key, value in before.items()}
    changed = [f"{key} {a} to {b}" for key, (a, b) in changed.items() if a != b]
    if changed:
        raise ChapterError(f"{name} changed {', '.join(changed)}")
    if seconds > LONGEST_SETUP:
        raise ChapterError(f"{name}: the set-up cell took {seconds:.0f} s, over {LONGEST_SETUP}")
    again = f"import subprocess\nsubprocess.run = None  # an attempt would fail\n{source}"
    if subprocess.run([sys.executable, "-c", again], check=False).returncode:
        raise ChapterError(f"{name}: run a second time, the set-up cell does something")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repository", metavar="ADDRESS", required=True, help="git's address")
    parser.add_argument("files", nargs="*", type=Path, help="notebooks; without any, all chapters")
    options = parser.parse_args(arguments)
    if find_spec("google.colab") is None:
        print("There is no google.colab here: this is not Colab, whatever comes out.")
    failed = []
    for path in options.files or notebooks.chapters():
        print(f"{path.stem:<32}", end="", flush=True)
        try:
            setup, whole = run(path, options.repository)
        except ChapterError as error:
            failed.append(path.stem)
            print(f"FAILED\n{error}", flush=True)
        else:
            print(f"set-up {setup:4.1f} s, all {whole:6.1f} s", flush=True)
    if failed:
        raise SystemExit(f"\nfailed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
