"""Submissions to the toy assignment: what students hand in, and what some try."""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOY = ROOT / "tests" / "toy_assignment"

SETUP = (ROOT / "tools" / "setup_cell.py").read_text(encoding="utf-8")
CONFIGURATION = """\
%matplotlib inline
import torch
from torch import nn
from resnet_lib import checks
VARIANT = 0
!pip install something
%pip install -q something
%unknown_magic of another service"""
SCALED = "def scaled(x):\n    return 2 * x"
WRONG_SCALED = "def scaled(x):\n    return 3 * x"
FIELD = "def receptive_field(kernels):\n    return 1 + sum(k - 1 for k in kernels)"
BLOCK = """\
class Bottleneck(nn.Module):
    def __init__(self, channels, width, stride):
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width))
        self.path = nn.Sequential(
            nn.Conv2d(channels, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width))

    def forward(self, x):
        return torch.relu(self.branch(x) + self.path(x))"""
WRONG_BLOCK = BLOCK.replace("width, 1, bias", "width, 1, stride, bias", 1).replace(
    "width, 3, stride, 1", "width, 3, 1, 1"
)
CHECKS = "assert scaled(1) == 2\nscaled(torch.ones(2))"
PERFECT = [SETUP, CONFIGURATION, SCALED, CHECKS, BLOCK, FIELD]
ONLY_SCALED = [CONFIGURATION, SCALED, WRONG_BLOCK]  # 3 points

ENDLESS = """\
import signal
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
while True:
    try:
        while True:
            pass
    except BaseException:
        pass"""
HOG = "blocks = [bytearray(2**28) for _ in range(100)]"
SHARED_HOG = """\
import mmap
memory = mmap.mmap(-1, 2**33)  # shared pages, which no limit of a process counts
while memory.tell() < 2**33:
    memory.write(b"x" * 2**22)"""
FORK_BOMB = "import os\nwhile True:\n    os.fork()"
OUTPUT = """\
import os, sys
for _ in range(200):
    print("x" * 10**6)
for _ in range(50):
    os.write(2, b"x" * 10**6)"""
DISK = """\
written = 0
for number in range(100):
    with open(f"file{number}", "wb") as file:
        for _ in range(64):
            written += file.write(b"x" * 2**20)"""
WARNINGS = "import sys, warnings\nwarnings.warn('deprecated')\nprint('careful', file=sys.stderr)"
WRAPPED = """\
import torchvision
def Bottleneck(channels, width, stride):
    shortcut = nn.Sequential(nn.Conv2d(channels, 4 * width, 1, stride, bias=False),
                             nn.BatchNorm2d(4 * width))
    return torchvision.models.resnet.Bottleneck(channels, width, stride, shortcut)"""
OVERWRITE = """\
import builtins, json, os, sys, torch.testing
import resnet_lib.assignments.items as items
import resnet_lib.grading.channel as channel
from resnet_lib.checks import answers, verdict
print("total 12 of 12\\nscaled,3\\nstride,4")
items.judge = lambda *a: items.Judgement(1.0, "all right")
answers.same_tensor = answers.same_number = lambda *a, **k: None
torch.testing.assert_close = torch.equal = torch.allclose = lambda *a, **k: True
verdict.Mismatch.__init__ = lambda *a: None
old = channel.write_frame
def write_frame(file, head, body=b""):
    head = {**head, "failure": "", "found": {"share": 1.0, "text": "all right"}, "share": 1.0}
    head.pop("missing", None)
    old(file, head, body or items.pack({"y": torch.zeros(5), "field": 10**400, "share": 1.0}))
channel.write_frame = write_frame"""
DUMPS = "import json\njson.dumps = lambda *a, **k: 'garbage'\njson.loads = lambda *a: [1]"
PIPES = """\
import os, stat
from resnet_lib.assignments.sending import pack
from resnet_lib.grading.channel import HEADER, MAGIC, write_frame
pipes = []
for number in range(3, 100):
    try:
        if stat.S_ISFIFO(os.fstat(number).st_mode):
            pipes.append(number)
    except OSError:
        pass
assert len(pipes) == 2  # the requests and the replies
"""
FAKE = (
    PIPES
    + """\
good = pack({"y": 2 * torch.ones(5, dtype=torch.float64), "field": 1})
for pipe in pipes:
    for _ in range(9):
        try:
            with os.fdopen(os.dup(pipe), "wb") as file:
                write_frame(file, {"failure": "", "number": "0" * 32}, good)
        except OSError:
            pass"""
)
CLOSE = PIPES + "for pipe in pipes:\n    os.close(pipe)"
FLOOD = (
    PIPES
    + """\
for pipe in pipes:
    try:
        for _ in range(10**6):
            os.write(pipe, MAGIC * 2**16)
    except OSError:
        pass"""
)
KILL = """\
import os, signal
for pid in (1, os.getppid()):
    os.kill(pid, signal.SIGKILL)
os._exit(0)"""
SECRET_INPUTS = "def receptive_field(kernels):\n    raise ValueError(f'inputs {kernels}')"
ORPHAN = """\
import subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "orphan-of-a-test"],
                 start_new_session=True)"""


def spy(paths, port, variable):
    """Cells that look for files, variables and a server, and report what they find as an error."""
    return [
        f"""\
import os, pathlib, socket
found = []
for path in {[str(path) for path in paths]}:
    try:
        found.append(("read", path, len(os.listdir(path)) if os.path.isdir(path) else open(path)))
    except OSError:
        pass
for path in {[str(path.parent / "written") for path in paths]}:
    try:
        open(path, "w").write("x")
        found.append(("wrote", path))
    except OSError:
        pass
for pid in [each for each in os.listdir("/proc") if each.isdigit()]:
    try:
        if {variable!r} in open(f"/proc/{{pid}}/environ").read():
            found.append(("variable", pid))
    except OSError:
        pass
try:
    socket.create_connection(("127.0.0.1", {port}), 2).sendall(b"hello")
    found.append("connected")
except OSError:
    pass
beside = sorted(name for name in os.listdir() if not name.startswith("."))
raise RuntimeError(f"found {{found}} beside {{beside}}")""",
    ]


def cell(source, **more):
    lines = source.splitlines(keepends=True)
    return {"cell_type": "code", "source": lines, "metadata": {}, "outputs": [],
            "execution_count": None, **more}  # fmt: skip


def notebook(sources, **more):
    """A notebook's text."""
    text = {"cell_type": "markdown", "metadata": {}, "source": ["# Assignment"]}
    cells = [text, *(cell(source) for source in sources)]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5} | more)


def colab(sources, kept):
    """What Colab saves: sources as one text, its own metadata or none at all."""
    metadata = {"colab": {"provenance": [], "authorship_tag": "x"}, "accelerator": "GPU"}
    cells = [
        {"cell_type": "code", "source": source}
        | ({"metadata": {"id": f"x{n}", "executionInfo": {"status": "ok"}}} if kept else {})
        for n, source in enumerate(sources)
    ]
    return json.dumps({"nbformat": 4, "nbformat_minor": 0, "cells": cells}
                      | ({"metadata": metadata} if kept else {}))  # fmt: skip


def version3(sources):
    """The format of before 2015."""
    cells = [{"cell_type": "code", "input": source, "language": "python"} for source in sources]
    return json.dumps({"nbformat": 3, "metadata": {}, "worksheets": [{"cells": cells}]})


def perfect_but(*changes, before=(), after=()):
    """The perfect notebook with cells replaced, or more of them."""
    sources = list(PERFECT)
    for old, new in changes:
        sources[sources.index(old)] = new
    return notebook([*before, *sources, *after])
