"""Finding submissions, reading whatever was handed in, and looking at its syntax."""

import json
import os

import grading_cases as cases
import homework
import pytest

from resnet_lib import UserError
from resnet_lib.assignments.items import FOREIGN
from resnet_lib.authoring import author
from resnet_lib.grading import notebook
from resnet_lib.grading.flags import COPIED, flags, of_origins, of_solution


def names(folder):
    found, others = notebook.submissions(folder)
    return [entry.name for entry in found], others


def make(folder, *paths):
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("x")


def test_a_flat_folder(tmp_path):
    make(tmp_path, "b.ipynb", "a.ipynb", "c.py", "notes.txt", ".ipynb_checkpoints/a.ipynb",
         "__MACOSX/._a.ipynb", "._b.ipynb")  # fmt: skip
    assert names(tmp_path) == (["a", "b", "c"], ["notes.txt"])


def test_a_folder_for_each_student(tmp_path):
    make(tmp_path, "Ann/work.ipynb", "Ann/module.py", "Bo/work.py", "Bo/data/x.csv")
    assert names(tmp_path) == (["Ann/work", "Bo/work"], ["Ann/module.py", "Bo/data/x.csv"])


def test_two_files_of_one_name_are_told_apart(tmp_path):
    make(tmp_path, "a.ipynb", "a.py", "b.ipynb")
    assert names(tmp_path)[0] == ["a.ipynb", "a.py", "b"]


def test_one_file(tmp_path):
    make(tmp_path, "a.ipynb")
    assert names(tmp_path / "a.ipynb") == (["a"], [])


def test_strange_file_names(tmp_path):
    name = b"caf\xe9 =1+1.ipynb"  # no UTF-8
    (tmp_path / os.fsdecode(name)).write_text("x")
    (found,) = names(tmp_path)[0]
    assert found == "caf? =1+1"


def test_no_folder_and_no_notebook(tmp_path):
    with pytest.raises(UserError, match=r"no folder .*: name the one with the students' notebooks"):
        notebook.submissions(tmp_path / "nothing")
    make(tmp_path, "notes.txt")
    with pytest.raises(UserError, match="no notebook"):
        notebook.submissions(tmp_path)


def read(tmp_path, text, name="a.ipynb"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return notebook.read(path)


SOURCES = ["x = 1\ny = 2", "z = 3"]


@pytest.mark.parametrize(
    "text",
    [
        cases.notebook(SOURCES),
        cases.colab(SOURCES, True),
        cases.colab(SOURCES, False),
        cases.version3(SOURCES),
        "\ufeff" + cases.notebook(SOURCES),
        json.dumps({"cells": [cases.cell(SOURCES[0]), None, 3, {"cell_type": "code", "source": 7},
                              {"cell_type": "code", "source": [SOURCES[1], 8]}]}),
    ],
    ids=["plain", "colab", "colab stripped", "version 3", "byte order mark", "damaged cells"],
)  # fmt: skip
def test_cells_are_found_in_every_format(tmp_path, text):
    assert read(tmp_path, text).cells == tuple(SOURCES)


def test_python_file(tmp_path):
    assert read(tmp_path, "a = 1\nb = 2\n", "a.py").cells == ("a = 1\nb = 2\n",)
    cells = read(tmp_path, "a = 1\n# %% [markdown]\n# text\n# %%\nb = 2\n", "a.py").cells
    assert [cell.strip() for cell in cells] == ["a = 1", "# text", "b = 2"]


@pytest.mark.parametrize(
    "text, problem",
    [
        ("", "empty"), ("  \n", "empty"), (cases.notebook([]), "empty"),
        (cases.notebook(["", "  "]), "empty"), ("{}", "not a notebook"), ("[1]", "not a notebook"),
        ("{" * 100_000, "not a notebook"), ("[" * 100_000, "not a notebook"),
        ('{"cells": 3}', "not a notebook"), (b"%PDF-1.4\xff\xfe\0", "not a notebook"),
        ('{"cells": [{"cell_type": "code", "source": ' + "9" * 9999 + "}]}", "not a notebook"),
        (b"\0" * 100, "empty"),
    ],
)  # fmt: skip
def test_what_is_no_notebook(tmp_path, text, problem):
    found = read(tmp_path, text)
    assert (found.problem, found.cells) == (problem, ()) and found.reason


def test_half_a_character_is_no_reason_to_fail(tmp_path):
    text = cases.notebook(["x = 1"]).replace("x = 1", "x = '\\ud800'")
    assert read(tmp_path, text).cells == ("x = '?'",)


def test_large_file_is_not_read(tmp_path):
    path = tmp_path / "large.ipynb"
    with path.open("wb") as file:
        file.truncate(notebook.LARGEST + 1)
    found = notebook.read(path)
    assert found.problem == "too large" and "clear the outputs" in found.reason


def test_links_and_devices_are_not_followed(tmp_path):
    make(tmp_path, "secret.txt")
    (tmp_path / "link.ipynb").symlink_to(tmp_path / "secret.txt")
    os.mkfifo(tmp_path / "pipe.ipynb")
    for name in ("link", "pipe"):
        assert notebook.read(tmp_path / f"{name}.ipynb").problem == "not a notebook"


# Flags


def test_ordinary_submissions_are_not_flagged():
    assert flags(cases.PERFECT, 0, FOREIGN) == []
    usual = [
        "import torchvision\nfrom torchvision import transforms\nx = torchvision.datasets.MNIST",
        "import gc, os, sys\nimport matplotlib.pyplot as plt\nplt.rcParams['x'] = 1",
        "import torch\ntorch.backends.cudnn.benchmark = True\ntorch.manual_seed(0)\nmodel.eval()",
        "%%time\nx = !ls\nfiles = %who\nmodel = 3\nself.conv = 3\nmodel.fc.weight = 3",
        "from resnet_lib import checks, data\nchecks.check_a2_stride(3)\nthis is no Python",
        "from resnet_lib.checks import check_a2_stride",
    ]
    assert flags(usual, 0, FOREIGN) == []


@pytest.mark.parametrize(
    "cell, words",
    [
        ("from torchvision.models import resnet50", "uses torchvision.models"),
        ("import torchvision.models.resnet as r", "uses torchvision.models"),
        ("from torchvision import models", "uses torchvision.models"),
        ("import torchvision as tv\nx = tv.models.resnet.Bottleneck", "uses torchvision.models"),
        ("import timm", "uses timm"),
        ("from timm.models.resnet import Bottleneck", "uses timm"),
        ("import resnet_lib.blocks", "uses resnet_lib.blocks"),
        ("from resnet_lib.blocks import *", "uses resnet_lib.blocks"),
        ("from resnet_lib import models as m\nm.build", "uses resnet_lib.models"),
        ("from resnet_lib.assignments import a2", "uses resnet_lib.assignments"),
        ("from resnet_lib.checks.verdict import Verdict", "uses resnet_lib.checks"),
        ("import resnet_lib\nb = resnet_lib.blocks.Bottleneck", "uses resnet_lib.blocks"),
        ("def f():\n    from timm import x", "uses timm"),
        ("%matplotlib inline\nimport timm\n!ls", "uses timm"),
        ("import json\njson.dumps = print", "replaces json.dumps"),
        ("from resnet_lib import checks\nchecks.check_x = 3", "replaces resnet_lib.checks.check_x"),
        ("exec('import timm')", "calls exec"),
        ("__import__('timm')", "calls __import__"),
        ("import importlib\nimportlib.import_module('x')", "uses importlib.import_module"),
        ("import torch\ntorch.hub.load('x')", "uses torch.hub"),
        ("VARIANT = 0\nVARIANT = 3", "answers variant 3, graded as variant 0"),
    ],
)
def test_flag(cell, words):
    assert flags([cell], 0, FOREIGN) == [words]


def test_alias_of_an_earlier_cell():
    assert flags(["import torchvision as tv", "x = tv.models"], 0, FOREIGN) == [
        "uses torchvision.models"
    ]


def test_an_assignment_may_allow_more():
    assert flags(["from resnet_lib import blocks"], 0, ("timm",)) == []
    assert of_origins(["torchvision.models.resnet", "torch.nn"], FOREIGN) == [
        "an answer comes from torchvision.models.resnet"
    ]


def test_flags_survive_any_source():
    for cell in ("(" * 5000, "\0", "x = " + "-" * 100_000 + "1", "é" * 10, "!" * 99, "a.b.c = 1"):
        assert flags([cell], 0, FOREIGN) == []


def test_the_books_own_solution_is_flagged():
    published = frozenset(f"value{n}=first{n}+second{n}" for n in range(50))
    lines = [f"    value{n} = first{n} + second{n}" for n in range(50)]
    few = int(COPIED * 50) - 1
    assert of_solution(["\n".join(lines[:few])], published) == []
    assert of_solution(["x = 1", *lines[:20], *lines[:20]], published) == [
        "has 20 of the 50 lines of the book's own solution"
    ]
    assert of_solution(lines, frozenset()) == []


@pytest.mark.parametrize("name", homework.folders())
def test_own_answers_are_not_taken_for_the_books(name):
    published = author.telling_lines(homework.folders()[name] / "master.ipynb")
    assert len(published) > 20
    for answer in homework.answers(name, "right"):
        assert of_solution([answer.path.read_text(encoding="utf-8")], published) == []
    assert of_solution(homework.solution_code(name, 2027), published)
