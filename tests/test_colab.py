"""Chapters in a stand-in for Colab: an environment of links to what Colab ships, and no more.

A fork's git repository on the disk stands for its public home, and pip is kept offline: it could
install nothing else. ``COLAB_ALL=1`` runs every chapter, which takes as long as the chapters do.
"""

import os
import shutil
import subprocess
import sys
import venv
from importlib.metadata import PackageNotFoundError, distribution

import pytest
from notebooks import ROOT, chapters
from packaging.requirements import Requirement

# Of what Colab ships: what the chapters and tools/in_colab.py can meet there.
SHIPPED = ("torch", "torchvision", "numpy", "matplotlib", "tqdm", "safetensors", "pillow", "pip",
           "ipython", "ipykernel", "nbclient", "nbformat", "psutil", "pyyaml", "scipy")  # fmt: skip
BUILDER = ("hatchling",)  # pip fetches it into a place of its own, which takes the network
# These chapters fetch what Colab lacks by themselves, which takes the network too.
FETCHED = {"18_into_use": ("onnx", "onnxscript", "onnxruntime"), "19_keras": ("keras",)}
ALWAYS = ("01_introduction", "07_bottleneck")
WHOLE = bool(os.environ.get("COLAB_ALL"))
IN_REPOSITORY = ("resnet_lib", "book/results", "pyproject.toml", "hatch_build.py", "README.md",
                 "LICENSE")  # fmt: skip
FAKE = "class drive:\n    def mount(folder):\n        raise ValueError('no Drive in a test')\n"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix" or not shutil.which("git"), reason="needs links and git"),
]


def closure(names):
    """The distributions of these names and all that they need, as {name: Distribution}."""
    found, seen, waiting = {}, set(), [Requirement(name) for name in names]
    while waiting:
        wanted = waiting.pop()
        name, extras = wanted.name.lower().replace("_", "-"), ("", *sorted(wanted.extras))
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:  # for another system, or optional
            continue
        for each in map(Requirement, found[name].requires or ()):
            if not each.marker or any(each.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(each)
    return found


def link(site, names):
    """Links to these distributions and what they need; ``google`` stays a folder of its own."""
    for each in closure(names).values():
        for file in each.files or ():
            parts = file.parts[: 2 if file.parts[0] == "google" else 1]
            if parts[0] in ("..", "__pycache__", "resnet_lib"):
                continue
            target = site.joinpath(*parts)
            target.parent.mkdir(exist_ok=True)
            if not target.is_symlink():
                target.symlink_to(each.locate_file("/".join(parts)))


def machine(folder, *more):
    """The Python of a fresh machine of Colab's."""
    venv.create(folder, with_pip=False)
    (site,) = folder.rglob("site-packages")
    link(site, [*SHIPPED, *BUILDER, *more])
    (site / "google" / "colab").mkdir(parents=True)
    (site / "google" / "colab" / "__init__.py").write_text(FAKE)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """The address of a fork, as git sees it, with the code of this checkout."""
    folder = tmp_path_factory.mktemp("fork")
    for name in IN_REPOSITORY:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    who = ["-c", "user.name=fork", "-c", "user.email=fork@example.org"]
    for line in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "Fork"]):
        subprocess.run(["git", "-C", folder, *line], check=True)
    return folder.as_uri()


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_NO_BUILD_ISOLATION", "0")  # this variable means its opposite
    monkeypatch.setenv("PYTHONNOUSERSITE", "1")
    for name in ("PYTHONPATH", "RESNET_LIB_SOURCE"):
        monkeypatch.delenv(name, raising=False)


def run(python, repository, path, folder):
    command = [python, ROOT / "tools" / "in_colab.py", "--repository", repository, path]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_stand_in_has_what_colab_has_and_no_more(tmp_path):
    python = machine(tmp_path / "colab")
    absent = ["resnet_lib", "pytest", "sklearn", "nbval", "onnx", "keras", "ruff", "playwright"]
    present = ["torch", "torchvision", "matplotlib", "IPython", "google.colab"]
    code = "import sys\nfrom importlib.util import find_spec\n"
    code += "print([name for name in sys.argv[1:] if find_spec(name)])"
    done = subprocess.run(
        [python, "-c", code, *absent, *present], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.strip() == str(present), done.stderr


@pytest.mark.parametrize(
    "path", [p for p in chapters() if WHOLE or p.stem in ALWAYS], ids=lambda path: path.stem
)
def test_a_chapter_runs_from_the_notebook_alone(path, repository, offline, tmp_path):
    python = machine(tmp_path / "colab", *FETCHED.get(path.stem, ()))
    alone = tmp_path / "content" / path.name
    alone.parent.mkdir()
    shutil.copy(path, alone)
    done = run(python, repository, alone, alone.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not Colab" not in done.stdout
    print(done.stdout, file=sys.stderr)


@pytest.mark.parametrize(
    "cells, words",
    [
        (["# SETUP", "1 / 0"], "code cell 2 fails"),
        (["# SETUP", "open('left', 'w').close()"], "leaves left in the working folder"),
        (["# SETUP", "import sklearn"], "No module named 'sklearn'"),
        (
            [
                "# SETUP",
                "import pathlib, sysconfig\nsite = pathlib.Path(sysconfig.get_path('purelib'))\n"
                "(info,) = site.glob('tqdm-*.dist-info')\ninfo.unlink()",
            ],
            "changed tqdm",
        ),
    ],
    ids=["error", "file", "package", "version"],
)
def test_what_does_not_work_in_colab_is_told(cells, words, repository, offline, tmp_path):
    import nbformat

    cells = [nbformat.v4.new_code_cell(source) for source in cells]
    path = tmp_path / "01_bad.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    done = run(machine(tmp_path / "colab"), repository, path, tmp_path)
    assert done.returncode == 1 and words in done.stdout, done.stdout + done.stderr
