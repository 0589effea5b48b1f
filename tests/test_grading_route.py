"""The whole route as a teacher walks it, with the assignments of the book.

Make the sheets of a year, collect thirty submissions, grade them, open the marks in a spreadsheet,
fill a platform's table, and grade once more after an appeal.
"""

import copy
import csv
import json
import resource
from pathlib import Path

import grading_cases as cases
import homework
import pytest
from test_grading_submissions import walled

from resnet_lib import assignments, cli
from resnet_lib.authoring import files

pytestmark = [pytest.mark.slow, walled]

YEAR = 19  # the variant; a2 has an answer in other words for it
FLAG = "lines of the book's own solution"


class Sheet:
    """What the teacher has made for an assignment: the students' notebook, and the solved one."""

    def __init__(self, name, folder):
        self.name, master = name, homework.folders()[name] / "master.ipynb"
        paths = [folder / f"{name}.ipynb", folder / f"{name}_solved.ipynb"]
        line = ["author", master, paths[0], "--variant", YEAR, "--solution", paths[1]]
        assert cli.main(list(map(str, line))) == 0
        self.student, self.solved = (json.loads(path.read_text("utf-8")) for path in paths)

    def filled(self, *more, without=(), instead=None):
        """A student's notebook with right answers in its cells, and more cells behind them.

        ``without``: starts of cells that the student deleted; ``instead``: {old text: new text}.
        """
        found = copy.deepcopy(self.student)
        kept = []
        for cell, answer in zip(found["cells"], self.solved["cells"], strict=False):
            cell["source"] = "".join(answer["source"])
            for old, new in (instead or {}).items():
                cell["source"] = cell["source"].replace(old, new)
            if not cell["source"].startswith(tuple(without) or "\0"):
                kept.append(cell)
        found["cells"] = kept + [cases.cell(source) for source in more]
        return json.dumps(found)

    def wrong(self, answer):
        """Right answers, and behind them one of those in the folder ``wrong``."""
        path = homework.folders()[self.name] / "wrong" / f"{answer}.py"
        return self.filled(path.read_text("utf-8"))

    def code(self):
        cells = json.loads(self.filled())["cells"]
        return [cell["source"] for cell in cells if cell["cell_type"] == "code"]


ALL = {}  # no item is lost


def submissions(sheets):
    """{assignment: {name: (text, {item: points, where not all}, words of the status)}}"""
    a1, a2, a3, a4, a5 = (sheets[name] for name in ("a1", "a2", "a3", "a4", "a5"))
    own_words = homework.folders()["a2"] / "right" / f"variant_{YEAR}.py"
    renamed = {"class Block(": "class MyBlock(", "(Block,": "(MyBlock,"}
    lost = ("shapes", "parameters", "stride", "addition", "training", "edges")
    block = dict.fromkeys(lost, 0)
    nothing = {name: {item.name: 0 for item in homework.whole(name).items} for name in sheets}
    half_a1 = {"convolution": 0, "corners": 0}
    return {
        "a1": {
            "Ann Li_11_assignsubmission_file_/a1": (a1.filled(), ALL, "flagged"),
            "Bo Ek_12_assignsubmission_file_/a1": (json.dumps(a1.student), nothing["a1"], "ok"),
            "Cy Oz_13_assignsubmission_file_/a1": (a1.wrong("flipped_kernel"), half_a1, "flagged"),
            "Di Po_14_assignsubmission_file_/a1": (
                a1.wrong("never_evaluates"), {"running": 0}, "flagged",
            ),
            "Ed Ro_15_assignsubmission_file_/a1": (cases.colab(a1.code(), True), ALL, "flagged"),
            "Fu Sa_16_assignsubmission_file_/a1": (cases.colab(a1.code(), False), ALL, "flagged"),
            "Gi To_17_assignsubmission_file_/a1": (
                a1.wrong("field_without_strides"), {"field": 0}, "flagged",
            ),
        },
        "a2": {
            "own_words": (notebook_of(a2, own_words), ALL, "ok"),
            "stride": (a2.wrong("stride_on_the_1x1"), {"stride": 0, "edges": 0}, "flagged"),
            "relu": (
                a2.wrong("relu_before_the_addition"),
                {"stride": 0, "addition": 0, "training": 0, "edges": 0},
                "flagged",
            ),
            "duplicated": (a2.filled(*a2.code()), ALL, "flagged"),
            "no_checks": (a2.filled(without=["checks."]), ALL, "flagged"),
            "raises": (a2.filled("import nothing_of_that_name"), ALL, "flagged"),
            "endless": (a2.filled("while True: pass"), ALL, "time limit"),
            "pdf": ("%PDF-1.4 not a notebook", nothing["a2"], "not a notebook"),
            "renamed": (a2.filled(instead=renamed), block, "flagged"),
            "wrapped": (a2.filled(WRAPPED), ALL, "flagged"),
            "warns": (a2.filled(cases.WARNINGS), ALL, "flagged"),
        },
        "a3": {
            "perfect": (a3.filled(), ALL, "flagged"),
            "untouched": (json.dumps(a3.student), nothing["a3"], "ok"),
            "softmax": (
                a3.wrong("softmax_left"), {"mended_scores": 0, "mended_training": 0}, "flagged",
            ),
            "all_bugs": (a3.wrong("all_bugs"), {"list": 0, "bugs": 0}, "flagged"),
        },
        "a4": {
            "perfect": (a4.filled(), ALL, "flagged"),
            "untrained": (a4.wrong("never_trained"), {"accuracy": 0}, "flagged"),
        },
        "a5": {
            "perfect": (a5.filled(), ALL, "flagged"),
            "hopeful": (a5.wrong("hoped_for_verdict"), {"record": 2}, "flagged"),
            "sorted": (a5.wrong("sorted_values"), {"adjusted": 0}, "flagged"),
            "retyped": (cases.version3(a5.code()), ALL, "flagged"),
            "observed": (a5.wrong("observed_left_out"), {"flips": 0, "ties": 0}, "flagged"),
            "four": (a5.wrong("four_seeds"), {"record": 0}, "flagged"),
        },
    }  # fmt: skip


WRAPPED = """\
import torchvision
def Block(in_channels, width, stride=1):
    inner = torchvision.models.resnet.Bottleneck
    kind = type("Block", (inner,), {"expansion": ASKED["expansion"]})
    wide, path = kind.expansion * width, None
    if stride > 1 or in_channels != wide:
        path = nn.Sequential(nn.Conv2d(in_channels, wide, 1, stride, bias=False),
                             nn.BatchNorm2d(wide))
    block = kind(in_channels, width, stride, path)
    block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    return block"""


def notebook_of(sheet, answer):
    """The sheet with one cell of answers in the student's own words."""
    found = copy.deepcopy(sheet.student)
    found["cells"].append(cases.cell(answer.read_text("utf-8")))
    return json.dumps(found)


def table(path):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return {row["submission"]: row for row in csv.DictReader(file)}


class Course:
    """A teacher's folder: sheets, what was handed in, and the marks."""

    def __init__(self, folder):
        self.folder = folder
        self.sheets = {name: Sheet(name, folder / "sheets") for name in assignments.names()}
        self.submissions = submissions(self.sheets)
        for name, handed_in in self.submissions.items():
            for student, (text, _, _) in handed_in.items():
                self.hand_in(name, student, text)

    def hand_in(self, name, student, text):
        path = self.folder / name / f"{student}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def grade(self, name, *more):
        line = ["grade", str(self.folder / name), "--assignment", name, "--variant", str(YEAR),
                "--out", str(self.marks(name)), *map(str, more)]  # fmt: skip
        assert cli.main(line) == 0
        return table(self.marks(name) / "marks.csv")

    def marks(self, name):
        return self.folder / f"marks_{name}"


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    made = Course(tmp_path_factory.mktemp("course"))
    quick = {"a2": ("--cell-time", 5)}  # an endless loop needs no twenty seconds
    made.tables, made.seconds = {}, {}
    for name in made.submissions:
        before = seconds_of_children()
        made.tables[name] = made.grade(name, *quick.get(name, ()))
        made.seconds[name] = seconds_of_children() - before
    return made


def seconds_of_children():
    """Of the processor, for all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_there_are_thirty_submissions(course):
    assert sum(map(len, course.submissions.values())) == 30
    for name, handed_in in course.submissions.items():
        assert set(course.tables[name]) == set(handed_in)


@pytest.mark.parametrize("name", assignments.names())
def test_each_submission_has_its_mark(course, name):
    points = {item.name: item.points for item in homework.whole(name).items}
    for student, (_, lost, status) in course.submissions[name].items():
        row, expected = course.tables[name][student], points | lost
        assert {item: float(row[item]) for item in points} == expected, student
        assert float(row["total"]) == sum(expected.values()), student
        assert float(row["max"]) == sum(points.values())
        assert status in row["status"] and "grader error" not in row["status"], row


@pytest.mark.parametrize("name", ["a1", "a3", "a5"])
def test_an_ordinary_submission_takes_at_most_four_seconds(course, name):
    # Of the processor, so that it doesn't matter what else runs; the judge is counted, too.
    assert 0.1 < course.seconds[name] / len(course.submissions[name]) < 4


def test_teacher_is_told_who_has_the_books_solution(course):
    for name, handed_in in course.submissions.items():
        with (course.marks(name) / "flags.csv").open(encoding="utf-8-sig", newline="") as file:
            told = {row[0] for row in csv.reader(file) if FLAG in row[1]}
        copied = {student for student, (text, _, _) in handed_in.items() if "ASKED" in text}
        assert told == copied and copied


def test_wrapper_of_a_library_is_flagged(course):
    with (course.marks("a2") / "flags.csv").open(encoding="utf-8-sig", newline="") as file:
        assert ["wrapped", "uses torchvision.models"] in list(csv.reader(file))


def test_platforms_get_the_marks(course):
    roster = course.folder / "worksheet.csv"
    students = [student.split("_")[:2] for student in course.submissions["a1"]]
    lines = [f"Participant {number},{who},,13.00" for who, number in students]
    roster.write_text("\n".join(["Identifier,Full name,Grade,Maximum Grade", *lines]), "utf-8")
    before = course.tables["a1"]
    assert course.grade("a1", "--format", "moodle", "--roster", roster) == before
    with (course.marks("a1") / "moodle.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["Full name"]: row for row in csv.DictReader(file)}
    assert len(rows) == 7
    for student, row in before.items():
        assert rows[student.split("_")[0]]["Grade"] == row["total"]


def test_an_appeal_changes_one_mark(course, capsys):
    """The student corrects a name; only that notebook is graded again."""
    before = course.tables["a2"]
    course.hand_in("a2", "renamed", course.sheets["a2"].filled())
    capsys.readouterr()
    after = course.grade("a2", "--cell-time", 5)
    output = capsys.readouterr().out
    assert "10 of 11 unchanged" in output and "11 submissions, 1 graded now" in output
    assert {name for name in after if after[name] != before[name]} == {"renamed"}
    assert float(before["renamed"]["total"]) == 2 and float(after["renamed"]["total"]) == 12
    history = (course.marks("a2") / "history.jsonl").read_text("utf-8").splitlines()
    assert len(history) == 12 and len(before) == 11


def test_no_student_got_a_solution(course):
    for name, sheet in course.sheets.items():
        texts = "".join(files.texts(sheet.student["cells"]))
        assert "ASKED" not in texts and "BEGIN" not in texts and f"VARIANT = {YEAR}" in texts, name
        assert Path(course.folder / "sheets" / f"{name}.ipynb").exists()
