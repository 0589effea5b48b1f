"""Real and hostile submissions: each gets the mark it deserves, in a sandbox where there is one."""

import csv
import os
import re
import socket
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import grading_cases as cases
import pytest
from grading_cases import notebook, perfect_but

from resnet_lib import UserError, cli
from resnet_lib.grading import feedback, sandbox
from resnet_lib.grading.marks import Marks, settings_in

VARIABLE = "TEACHERS_SECRET_VARIABLE"
ASSIGNMENT = str(cases.TOY / "assignment.py")


def why_no_sandbox():
    try:
        sandbox.probe()
    except UserError as error:
        return str(error)
    return ""


NO_SANDBOX = why_no_sandbox()
walled = pytest.mark.skipif(bool(NO_SANDBOX), reason=NO_SANDBOX or "there is a sandbox")

# name: (text of the file, points for scaled, stride, field, ones; words of the status)
ORDINARY = {
    "perfect": (notebook(cases.PERFECT), (3, 4, 3, 2), "ok"),
    "wrong-stride": (perfect_but((cases.BLOCK, cases.WRONG_BLOCK)), (3, 0, 3, 2), "ok"),
    "endless-loop": (perfect_but(before=["while True: pass"]), (3, 4, 3, 2), "time limit"),
    "two-thirds": (
        perfect_but((cases.FIELD, "def receptive_field(kernels): return sum(kernels)")),
        (3, 4, 1, 0),
        "ok",
    ),
}
MANY = ORDINARY | {
    "empty": (notebook(["raise NotImplementedError('scaled')", "VARIANT = 0"]), (0,) * 4, "errors"),
    "raises": (
        perfect_but((cases.BLOCK, "import nothing_of_that_name\n" + cases.BLOCK)),
        (3, 0, 3, 2),
        "errors",
    ),
    "cuda": (
        perfect_but((cases.BLOCK, cases.BLOCK + "\nBottleneck(8, 2, 1).cuda()")),
        (3, 4, 3, 2),
        "errors",
    ),
    "endless-answer": (
        perfect_but((cases.SCALED, "def scaled(x):\n    while True: pass"), (cases.CHECKS, "")),
        (0, 4, 3, 2),
        "time limit",
    ),
    "swallows-interrupts": (perfect_but(after=[cases.ENDLESS]), (3, 4, 3, 2), "time limit"),
    "hog": (perfect_but(after=[cases.HOG, cases.SHARED_HOG]), (3, 4, 3, 2), "memory limit"),
    "fork-bomb": (perfect_but(before=[cases.FORK_BOMB]), (3, 4, 3, 2), "limit"),
    "duplicated": (
        notebook([*cases.PERFECT, cases.WRONG_SCALED, *cases.PERFECT]), (3, 4, 3, 2), "ok",
    ),
    "retyped": (
        cases.version3(["import torch\nfrom torch import nn\n" + "\n\n".join(cases.PERFECT[2:])]),
        (3, 4, 3, 2),
        "ok",
    ),
    "colab-kept": (
        cases.colab([*cases.PERFECT, cases.WRONG_BLOCK, cases.WARNINGS], True), (3, 0, 3, 2), "ok",
    ),
    "colab-stripped": (cases.colab([*cases.PERFECT, cases.WRONG_BLOCK], False), (3, 0, 3, 2), "ok"),
    "output": (perfect_but(before=[cases.OUTPUT], after=[cases.DISK]), (3, 4, 3, 2), "ok"),
    "not-a-notebook": ("These are my answers.", (0,) * 4, "not a notebook"),
    "nothing": ("", (0,) * 4, "empty"),
    "renamed": (
        perfect_but((cases.BLOCK, cases.BLOCK.replace("Bottleneck", "BottleNeck"))),
        (3, 0, 3, 2),
        "ok",
    ),
    "wrapped": (perfect_but((cases.BLOCK, cases.WRAPPED)), (3, 4, 3, 2), "flagged"),
    "overwrites": (
        notebook([cases.CONFIGURATION, cases.OVERWRITE, cases.WRONG_SCALED, cases.WRONG_BLOCK]),
        (0,) * 4,
        "flagged",
    ),
    "json": (notebook([*cases.ONLY_SCALED, cases.DUMPS]), (3, 0, 0, 0), "flagged"),
    "fakes-replies": (notebook([*cases.ONLY_SCALED, cases.FAKE]), (3, 0, 0, 0), "flagged"),
    "closes-channel": (notebook([*cases.ONLY_SCALED, cases.CLOSE]), (3, 0, 0, 0), "flagged"),
    "floods-channel": (notebook([*cases.ONLY_SCALED, cases.FLOOD]), (3, 0, 0, 0), "flagged"),
    "kills": (notebook([*cases.ONLY_SCALED, cases.ORPHAN, cases.KILL]), (3, 0, 0, 0), "stopped"),
    "tells-inputs": (perfect_but((cases.FIELD, cases.SECRET_INPUTS)), (3, 4, 0, 0), "ok"),
}  # fmt: skip


@dataclass
class Graded:
    """A folder that was graded, and what was there to be stolen."""

    folder: Path
    marks: Path
    rows: dict
    results: dict
    connections: list
    line: list
    output: str

    def feedback(self, name):
        return (self.marks / "feedback" / f"{feedback.file_name(name)}.md").read_text("utf-8")


def grade(tmp, submissions, capsys=None, *options, spied=False):
    """Grade these texts as a teacher would."""
    folder, marks = tmp / "submissions", tmp / "marks"
    folder.mkdir()
    for name, (text, _, _) in submissions.items():
        (folder / f"{name}.ipynb").write_text(text, encoding="utf-8")
    server, connections = socket.create_server(("127.0.0.1", 0)), []

    def accept():
        while True:
            try:
                connections.append(server.accept())
            except OSError:
                return

    threading.Thread(target=accept, daemon=True).start()
    if spied:
        (tmp / "host").mkdir()
        (tmp / "host" / "secret").write_text("secret")
        paths = [tmp / "host" / "secret", folder / "perfect.ipynb", cases.TOY / "hidden_judge.py",
                 cases.ROOT / "README.md", Path("/etc/passwd"), Path.home() / "anything",
                 Path(sandbox.INSIDE) / "resnet_lib" / "blocks.py"]  # fmt: skip
        cells = cases.spy(paths, server.getsockname()[1], VARIABLE)
        (folder / "spy.ipynb").write_text(notebook([*cases.ONLY_SCALED, *cells]))
    line = ["grade", str(folder), "--assignment", ASSIGNMENT, "--out", str(marks),
            "--coursework", str(cases.TOY), *options]  # fmt: skip
    os.environ[VARIABLE] = VARIABLE
    try:
        assert cli.main(line) == 0
    finally:
        del os.environ[VARIABLE]
        server.close()
    with (marks / "marks.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = {row["submission"]: row for row in csv.DictReader(file)}
    opened = Marks.open(marks, sandboxed_assignment(), settings_in(marks))
    output = capsys.readouterr().out if capsys else ""
    return Graded(folder, marks, rows, opened.latest, connections, line, output)


def sandboxed_assignment():
    from resnet_lib import assignments

    return assignments.find(ASSIGNMENT).with_hidden(cases.TOY)


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    return grade(tmp_path_factory.mktemp("walled"), MANY, spied=True)


def agrees(row, points, status):
    found = [float(row[name]) for name in ("scaled", "stride", "field", "ones")]
    assert found == list(map(float, points)), row
    assert float(row["total"]) == sum(points) and float(row["max"]) == 12
    assert status in row["status"], row


def processes_with(word):
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if word in text:
            found.append(text)
    return found


@walled
@pytest.mark.parametrize("name", MANY)
def test_mark(graded, name):
    _, points, status = MANY[name]
    agrees(graded.rows[name], points, status)


@walled
def test_no_submission_is_missing_and_none_was_graded_twice(graded):
    assert set(graded.rows) == {*MANY, "spy"}
    history = (graded.marks / "history.jsonl").read_text().splitlines()
    assert len(history) == len(graded.rows)
    assert "grader error" not in {row["status"] for row in graded.rows.values()}


@walled
def test_spy_finds_nothing(graded):
    errors = graded.results["spy"].errors
    assert len(errors) == 1
    # Its own package is there to be read, and nothing else.
    readable = f"('read', '{sandbox.INSIDE}/resnet_lib/blocks.py'"
    # Where the repository lies among temporary files, its path can be written in the sandbox's own.
    own = rf"(, )?\('wrote', '{re.escape(tempfile.gettempdir())}/[^']*'\)"
    text = re.sub(own, "", errors[0].reason)
    assert "found [" in text and text.count("('") == text.count(readable) == 1, text
    assert "beside ['notebook.ipynb']" in text
    assert not graded.connections
    assert not list(graded.folder.parent.rglob("written"))
    assert not (cases.TOY / "written").exists() and not (cases.ROOT / "written").exists()
    agrees(graded.rows["spy"], (3, 0, 0, 0), "errors")


@walled
@pytest.mark.parametrize("name", ["overwrites", "wrapped", "duplicated", "retyped", "perfect"])
def test_cells_ran_as_they_were_meant(graded, name):
    assert graded.results[name].errors == graded.results[name].left_out == ()


@walled
def test_nothing_runs_on(graded):
    assert not processes_with("resnet_lib.grading")
    assert not processes_with("orphan-of-a-test")


@walled
def test_hidden_items_stay_hidden(graded):
    """Neither their names and messages nor their inputs reach a student."""
    told = graded.feedback("tells-inputs")
    assert "inputs \\[" in told, "the test must be able to see an input"
    for name in graded.rows:
        for ending in (".md", ".html"):
            path = graded.marks / "feedback" / f"{feedback.file_name(name)}{ending}"
            text = path.read_text(encoding="utf-8")
            assert "SECRET" not in text and "1, 1, 1, 1" not in text, name
            assert "Hidden item 1" in text
    mark = next(mark for mark in graded.results["tells-inputs"].marks if mark.item == "ones")
    assert "1, 1, 1, 1" in mark.text, "the teacher can look it up"


@walled
@pytest.mark.parametrize(
    "name, words",
    [
        ("perfect", "equal to the reference"),
        ("perfect", "Passed."),
        ("wrong-stride", "the block's output differs from the reference"),
        ("two-thirds", "a kernel of 3 adds 2 pixels, not 3"),
        ("two-thirds", feedback.NOT_PASSED),
        ("raises", "ModuleNotFoundError: No module named 'nothing"),
        ("endless-loop", "`while True: pass`: took longer than its 4 seconds."),
        ("endless-answer", "your code took longer than its 4 seconds"),
        ("hog", "MemoryError"),
        ("hog", "`import mmap`: took more than the 1.5 GB of memory"),
        ("output", "No space left on device"),
        ("renamed", "your notebook defines no Bottleneck; it has BottleNeck"),
        ("empty", "your notebook defines no scaled |"),
        ("not-a-notebook", "the file can't be read as a notebook"),
        ("nothing", "the file is empty"),
        ("json", "disturbed the messages to the grader"),
        ("fakes-replies", "`import os, stat`: disturbed the messages to the grader."),
        ("closes-channel", "`import os, stat`: ended the process."),
        ("floods-channel", "`import os, stat`: disturbed the messages to the grader."),
        ("kills", "`import os, signal`: ended the process."),
    ],
)
def test_feedback_says_why(graded, name, words):
    assert words in graded.feedback(name)


@walled
@pytest.mark.parametrize(
    "name, words",
    [
        ("wrapped", "uses torchvision.models"),
        ("overwrites", "uses resnet_lib.grading"),
        ("overwrites", "replaces torch.testing.assert_close"),
        ("json", "replaces json.dumps"),
        ("fakes-replies", "disturbed the messages to the grader"),
        ("floods-channel", "disturbed the messages to the grader"),
    ],
)
def test_teacher_learns_what_to_look_at(graded, name, words):
    assert words in graded.results[name].flags
    assert words not in graded.feedback(name) or words.startswith("disturbed")
    with (graded.marks / "flags.csv").open(encoding="utf-8-sig", newline="") as file:
        assert [name, words] in list(csv.reader(file))


@walled
def test_second_run_grades_what_changed_and_an_appeal(graded, tmp_path, capsys):
    """Shares the marks of the fixture: it only adds to them."""
    path = graded.folder / "wrong-stride.ipynb"
    path.write_text(notebook(cases.PERFECT), encoding="utf-8")
    assert cli.main([*graded.line, "--again", "two-thirds"]) == 0
    output = capsys.readouterr().out
    assert f"{len(graded.rows) - 2} of {len(graded.rows)} unchanged" in output
    assert "wrong-stride: 12 of 12, ok" in output and "(was 8 of 12, graded 20" in output
    assert "two-thirds: 8 of 12" in output
    opened = Marks.open(graded.marks, sandboxed_assignment(), settings_in(graded.marks))
    assert [result.total for result in opened.earlier["wrong-stride"]] == [8]
    assert opened.latest["wrong-stride"].total == 12
    assert [result.total for result in opened.earlier["two-thirds"]] == [8]
    with (graded.marks / "marks.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["submission"] for row in rows] == sorted(graded.rows)
    assert {row["submission"]: row["total"] for row in rows}["wrong-stride"] == "12"


def test_without_a_sandbox(tmp_path, capsys):
    chosen = {name: ORDINARY[name] for name in ("wrong-stride", "endless-loop")}
    chosen["orphan"] = (
        notebook([*cases.ONLY_SCALED, cases.ORPHAN]), (3, 0, 0, 0), "ok",
    )  # fmt: skip
    done = grade(tmp_path, chosen, capsys, "--no-sandbox", "--jobs", "2", "--variant", "0")
    assert "without a sandbox: the notebooks can read" in done.output
    for name, (_, points, status) in chosen.items():
        agrees(done.rows[name], points, status)
    if Path("/proc/self/stat").exists():
        assert not processes_with("orphan-of-a-test")
