"""What the grader writes: marks, history, feedback, and files for learning platforms."""

import csv
import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import commands
import grading_cases as cases
import pytest

from resnet_lib import UserError, assignments, cli
from resnet_lib.grading import feedback, lms
from resnet_lib.grading.grade import Grader
from resnet_lib.grading.marks import FAILED, Cell, Mark, Marks, Result, harmless, settings_in
from resnet_lib.grading.notebook import Submission
from resnet_lib.grading.settings import Options, choose_settings

TOY = assignments.find(str(cases.TOY / "assignment.py")).with_hidden(cases.TOY)
NASTY = "<b>x</b> `y` | *z* <script>alert(1)</script>"


def result(name="ann", points=(3, 4, 1, 0), status="ok", **more):
    marks = tuple(
        Mark(item.name, item.title, given, item.points, f"because {NASTY}", item.hidden)
        for item, given in zip(TOY.items, points, strict=True)
    )
    return Result(name, status, 1.25, marks, key="k", date="2026-01-02T03:04:05+00:00", **more)


def rows(path):
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file))


# Marks


def test_each_row_is_there_as_soon_as_it_is_known(tmp_path):
    marks = Marks.open(tmp_path / "marks", TOY, {"assignment": "toy", "seed": 5})
    marks.begin([result("zoe")])
    marks.add(result("ann", (1 / 3, 0, 0, 0)))
    header = [
        "submission",
        "status",
        "seconds",
        "total",
        "max",
        "scaled",
        "stride",
        "field",
        "ones",
    ]
    assert rows(tmp_path / "marks" / "marks.csv") == [
        header,
        ["zoe", "ok", "1.2", "8", "12", "3", "4", "1", "0"],
        ["ann", "ok", "1.2", "0.33", "12", "0.33", "0", "0", "0"],
    ]
    marks.finish([result("zoe"), result("ann")])
    assert [row[0] for row in rows(tmp_path / "marks" / "marks.csv")[1:]] == ["ann", "zoe"]
    assert settings_in(tmp_path / "marks") == {"assignment": "toy", "seed": 5}


def test_history_survives_an_interruption(tmp_path):
    marks = Marks.open(tmp_path, TOY, {})
    marks.begin([])
    cell = (Cell(2, "x = 1", "raised KeyError"),)
    first, second = result("ann", errors=cell, flags=("uses timm",)), result("ann", (3, 4, 3, 2))
    marks.add(first)
    marks.add(second)
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('{"submission": "bo", "stat')
    again = Marks.open(tmp_path, TOY, {})
    assert again.latest == {"ann": second} and again.earlier == {"ann": [first]}


@pytest.mark.parametrize(
    "name", ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t=1", "=cmd|' /C calc'!A0", "a\n=1"]
)
def test_no_name_is_a_formula(tmp_path, name):
    marks = Marks.open(tmp_path, TOY, {})
    marks.begin([])
    marks.add(result(name, flags=("=1+1",)))
    marks.finish([result(name, flags=("=1+1",))])
    for file in ("marks.csv", "flags.csv"):
        for row in rows(tmp_path / file):
            for value in row:
                assert value.lstrip()[:1] not in set("=+-@"), value
                assert "\n" not in value and "\t" not in value
    assert harmless("Ann-Lee") == "Ann-Lee"


def test_teacher_sees_what_could_not_be_judged(tmp_path):
    marks = Marks.open(tmp_path, TOY, {})
    bad = result(status=FAILED, reason="Stopped: died")
    bad = replace(bad, marks=(replace(bad.marks[0], trouble="KeyError: 'y'"), *bad.marks[1:]))
    marks.finish([bad])
    assert rows(tmp_path / "flags.csv")[1:] == [
        ["ann", "scaled could not be judged: KeyError: 'y'"],
        ["ann", "Stopped: died"],
    ]


def options(out, **more):
    return Options(str(cases.TOY / "assignment.py"), out, coursework=cases.TOY, **more)


def test_seed_is_secret_and_kept(tmp_path):
    seeds = {choose_settings(options(tmp_path), TOY)["seed"] for _ in range(3)}
    assert len(seeds) == 3
    Marks.open(tmp_path, TOY, choose_settings(options(tmp_path, seed=9), TOY))
    assert choose_settings(options(tmp_path), TOY)["seed"] == 9
    assert choose_settings(options(tmp_path, seed=9), TOY)["seed"] == 9
    with pytest.raises(UserError, match="seed must be from 0 to"):
        choose_settings(options(tmp_path, seed=2**40), TOY)


def test_marks_of_another_assignment_are_not_mixed_in(tmp_path):
    Marks.open(tmp_path, TOY, {"assignment": "a1"})
    with pytest.raises(UserError, match="holds the marks of a1: choose another --out for toy"):
        choose_settings(options(tmp_path), TOY)


def test_key_changes_with_everything_that_matters(tmp_path):
    path = tmp_path / "a.ipynb"
    path.write_text("x")
    entry = Submission("a", path)

    def key(seed=1, **more):
        return Grader(options(tmp_path, **more), TOY, seed).key(entry, seed)

    first = key()
    assert first == key()
    others = [key(seed=2), key(variant=1), key(seconds=5), key(gigabytes=1), key(cell_seconds=1)]
    path.write_text("y")
    assert len({first, *others, key()}) == 7


def test_fault_of_the_grader_touches_no_other(tmp_path, monkeypatch):
    grader = Grader(options(tmp_path), TOY, 1)

    def one(submission):
        if submission.name == "bad":
            raise RuntimeError("broken\nbadly")
        return result(submission.name)

    monkeypatch.setattr(grader, "_one", one)
    monkeypatch.setattr(grader.judge, "start", lambda: None)
    (tmp_path / "x").write_text("x")
    found = list(grader.all([Submission(name, tmp_path / "x") for name in ("ann", "bad", "zoe")]))
    assert [(each.submission, each.status, each.total) for each in found] == [
        ("ann", "ok", 8),
        ("bad", FAILED, 0),
        ("zoe", "ok", 8),
    ]
    assert "broken" in found[1].reason and found[1].most == 12
    marks = Marks.open(tmp_path / "marks", TOY, {})
    marks.remember(found[0]), marks.remember(found[1])
    assert grader.kept(Submission("ann", tmp_path / "x"), marks) == found[0]
    assert grader.kept(Submission("bad", tmp_path / "x"), marks) is None, "is graded again"


# Feedback


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


def full(**more):
    cells = {
        "left_out": (Cell(4, "while True: `pass`", "took longer than its 3 seconds"),),
        "errors": (Cell(2, NASTY, f"raised ValueError: {NASTY}"),),
    }
    return result(NASTY, **cells | more)


def test_page_shows_words_as_words():
    page = Tags(feedback.page(full(), TOY))
    assert not {"script", "b", "img", "link"} & set(page.tags)
    assert (
        page.text.count("<script>alert(1)</script>") == 7
    )  # title, name, 3 reasons, cell and error
    assert "8 of 12 points" in page.text and "https:" not in feedback.page(full(), TOY)
    assert page.tags.count("tr") == 5 and "main" in page.tags


def test_markdown_shows_words_as_words():
    text = feedback.markdown(full(), TOY)
    assert "<" not in text.replace("`" + NASTY.replace("`", "'") + "`", "")
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 6
    assert all(line.replace("\\|", "").count("|") == 4 for line in table)
    assert "- Code cell 4, which starts `while True: 'pass'`: took longer" in text


def test_hidden_items_are_told_by_their_points_only():
    for points, words in ((0, feedback.NOT_PASSED), (1, "passed in part"), (2, "Passed.")):
        for text in (
            feedback.markdown(result(points=(3, 4, 1, points)), TOY),
            feedback.page(result(points=(3, 4, 1, points)), TOY),
        ):
            assert words in text and "SECRET" not in text and text.count("because") == 3


def test_unreadable_and_ungraded_notebooks_are_explained():
    text = feedback.markdown(result(reason="the file is empty", status="empty"), TOY)
    assert "Nothing could be run: the file is empty." in text
    text = feedback.markdown(result(reason="KeyError: x", status=FAILED), TOY)
    assert feedback.SORRY in text and "KeyError" not in text


def test_file_names_are_safe_and_differ():
    names = ["ann", "a/b", "a_b", "../../x", "..", "con", "é", "x" * 300, "x" * 301, "a b", "a\tb"]
    found = [feedback.file_name(name) for name in names]
    assert len(set(found)) == len(names) and found[0] == "ann"
    for name in found:
        assert "/" not in name and not name.startswith(".") and 0 < len(name) < 100


# Canvas, Moodle, Gradescope

CANVAS = """\
Student,ID,SIS User ID,SIS Login ID,Section,A toy: blocks (77),Other (5)
    Points Possible,,,,,12,3
"Li, Ann",101,s1,ali,S,,2
"O'Hara, Bo",102,s2,bohara,S,5,
"Weiß, Zoë",103,s3,zweiss,S,,
"""


def test_canvas_with_the_exported_gradebook(tmp_path):
    (tmp_path / "roster.csv").write_text(CANVAS, encoding="utf-8")
    results = [
        result("liann_101_9001_work", (3, 0, 0, 0)),
        result("liann_LATE_101_9002_work-1", (3, 4, 0, 0)),
        result("zweiss"),
        result("stranger_999_1_work"),
        result("bohara", status=FAILED),
    ]
    lost = lms.canvas(results, TOY, tmp_path, tmp_path / "roster.csv")
    assert lost == ["stranger_999_1_work"]
    assert rows(tmp_path / "canvas.csv") == [
        ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "A toy: blocks (77)"],
        ["    Points Possible", "", "", "", "", "12"],
        ["Li, Ann", "101", "s1", "ali", "S", "7"],
        ["Weiß, Zoë", "103", "s3", "zweiss", "S", "8"],
    ]


ASKED = f"{TOY.name}_LI_ANN"  # as the sheet asks for it


@pytest.mark.parametrize(
    "name", ["Ann Li", "Li, Ann", "ann_li", "s1", "liann_101_5_x", ASKED, f"{TOY.name}_Ann-Li"]
)
def test_canvas_knows_a_student_by_several_names(tmp_path, name):
    (tmp_path / "roster.csv").write_text(CANVAS, encoding="utf-8")
    assert lms.canvas([result(name)], TOY, tmp_path, tmp_path / "roster.csv") == []
    assert rows(tmp_path / "canvas.csv")[2][0] == "Li, Ann"


def test_two_students_of_one_name_are_not_mixed_up(tmp_path):
    twin = '"Li, Ann",104,s4,ali2,S,,\n'
    (tmp_path / "roster.csv").write_text(CANVAS + twin, encoding="utf-8")
    results = [result("Ann Li", (3, 0, 0, 0)), result("liann_104_5_x", (3, 4, 3, 2))]
    assert lms.canvas(results, TOY, tmp_path, tmp_path / "roster.csv") == ["Ann Li"]
    assert lms.canvas([result(ASKED)], TOY, tmp_path, tmp_path / "roster.csv") == [ASKED]
    lms.canvas(results, TOY, tmp_path, tmp_path / "roster.csv")
    assert [row[1::4] for row in rows(tmp_path / "canvas.csv")[2:]] == [["104", "12"]]


def test_canvas_without_a_roster(tmp_path):
    lms.canvas([result("liann_101_9001_work"), result("=1+1")], TOY, tmp_path)
    assert rows(tmp_path / "canvas.csv") == [
        ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "A toy: blocks"],
        ["    Points Possible", "", "", "", "", "12"],
        ["liann", "101", "", "", "", "8"],
        ["'=1+1", "", "", "", "", "8"],
    ]


def test_moodle_with_the_grading_worksheet(tmp_path):
    (tmp_path / "roster.csv").write_text(
        "Identifier,Full name,Email address,Status,Grade,Maximum Grade\n"
        "Participant 11,Ann Li,ann@x.org,Submitted,,12.00\n"
        "Participant 12,Bo Li,bo@x.org,No submission,,12.00\n",
        encoding="utf-8",
    )
    folder = "Ann Li_11_assignsubmission_file_/work"
    assert lms.moodle([result(ASKED)], TOY, tmp_path, tmp_path / "roster.csv") == []
    assert rows(tmp_path / "moodle.csv")[1][4] == "8"
    assert lms.moodle([result(folder)], TOY, tmp_path, tmp_path / "roster.csv") == []
    table = rows(tmp_path / "moodle.csv")
    assert table[0][-1] == "Feedback comments" and table[0][:6] == [
        "Identifier", "Full name", "Email address", "Status", "Grade", "Maximum Grade",
    ]  # fmt: skip
    assert table[1][4] == "8" and "Hidden item 1: 0 of 2" in table[1][6]
    assert table[2][4] == "" and "SECRET" not in str(table)
    lms.moodle([result(folder)], TOY, tmp_path)
    assert rows(tmp_path / "moodle.csv")[1][:4] == ["Participant 11", "Ann Li", "8", "12"]


def test_rosters_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="cannot read the roster"):
        lms.canvas([result()], TOY, tmp_path, tmp_path / "nothing.csv")
    (tmp_path / "roster.csv").write_text("Name,Mark\n")
    for write, column in ((lms.canvas, "ID"), (lms.moodle, "Identifier")):
        with pytest.raises(UserError, match=f"has no column '{column}'"):
            write([result()], TOY, tmp_path, tmp_path / "roster.csv")


def test_gradescope_results(tmp_path):
    lms.gradescope([result("a", (0, 0, 0, 0)), full()], tmp_path)
    report = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert report["score"] == sum(test["score"] for test in report["tests"]) == 8
    assert [test["max_score"] for test in report["tests"]] == [3, 4, 3, 2]
    assert report["tests"][3]["name"] == "Hidden item 1"
    assert report["tests"][3]["output"] == feedback.NOT_PASSED
    assert "took longer than its 3 seconds" in report["output"]
    assert "SECRET" not in json.dumps(report) and report["stdout_visibility"] == "hidden"


def test_gradescope_zip(tmp_path):
    lms.autograder(tmp_path / "a.zip", TOY, 3, 77, cases.TOY)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        names = set(archive.namelist())
        setup, run = (archive.read(name).decode() for name in ("setup.sh", "run_autograder"))
        modes = [archive.getinfo(n).external_attr >> 16 for n in ("setup.sh", "run_autograder")]
        archive.extractall(tmp_path / "zip")
    assert modes == [0o755, 0o755]
    assert {"resnet_lib/grading/runner.py", "coursework/hidden_judge.py"} <= names
    assert not [name for name in names if "__pycache__" in name or "ipynb" in name]
    assert "torch" in setup and "ipython" in setup
    line = run.split("resnet_lib ", 1)[1].partition("\ncp ")[0].replace("\\\n", " ").split()
    args = cli.make_parser().parse_args(line)
    assert (args.assignment, args.variant, args.seed) == ("toy", 3, 77)
    assert args.no_sandbox and args.as_user == "student" and args.format == ["gradescope"]
    for script in ("setup.sh", "run_autograder"):
        done = subprocess.run(["bash", "-n", tmp_path / "zip" / script], capture_output=True)
        assert done.returncode == 0, done.stderr
    code = "import resnet_lib.grading.notebook as n; print(n.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "zip", capture_output=True)
    assert str(tmp_path / "zip").encode() in done.stdout


# The command line's mistakes


def fails(capsys, *line):
    return commands.fails(capsys, "grade", *line)


def test_mistakes_get_one_line(tmp_path, capsys, monkeypatch):
    toy = ["--assignment", cases.TOY / "assignment.py", "--coursework", cases.TOY]
    out = ["--out", tmp_path / "marks"]
    trusting = [*toy, *out, "--no-sandbox"]
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "a.ipynb").write_text(cases.notebook(["x = 1"]))
    work = tmp_path / "work"
    assert "assignment must be one of" in fails(capsys, work, *out, "--assignment", "b7")
    assert "name the folder of the notebooks" in fails(capsys, *toy)
    assert "no folder" in fails(capsys, tmp_path / "nothing", *trusting)
    assert "no notebook (.ipynb) in" in fails(capsys, tmp_path / "empty", *trusting)
    assert "no submission is called bo" in fails(capsys, work, *trusting, "--again", "bo")
    bad = fails(capsys, work, *toy, "--no-sandbox", "--out", tmp_path / "file" / "marks")
    assert "cannot write to" in bad
    own = toy[:2]
    assert "the hidden items of toy do not come" in fails(capsys, work, *own, *out)
    assert "are not in" in fails(capsys, work, *own, *out, "--coursework", tmp_path)
    assert "no folder" in fails(capsys, work, *own, *out, "--coursework", tmp_path / "x")
    assert "--roster goes with --format" in fails(capsys, work, *trusting, "--roster", "x.csv")
    assert "--as-user goes with --no-sandbox" in fails(capsys, work, *toy, *out, "--as-user", "x")
    assert "invalid number above 0 value" in fails(capsys, work, *trusting, "--time", "0")
    assert "invalid choice" in fails(capsys, work, *trusting, "--format", "word")
    zipped = fails(capsys, *toy, "--autograder", tmp_path / "a.zip")
    assert "made for assignments of the package only" in zipped
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "grading needs IPython" in fails(capsys, work, *trusting)
