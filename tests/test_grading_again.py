"""A second run into one folder of marks: nothing is lost, and nothing is graded otherwise."""

import json

import grading_cases as cases
import homework
import pytest
from test_grading_files import TOY, result, rows

from resnet_lib import UserError, authoring, cli
from resnet_lib.authoring import author, files
from resnet_lib.grading import flags, lms, settings
from resnet_lib.grading import grade as grading
from resnet_lib.grading.collecting import Answer, Collected
from resnet_lib.grading.judging import Judge

TOY_FILE = str(cases.TOY / "assignment.py")


@pytest.fixture
def handed_in(tmp_path, monkeypatch):
    """A folder with three notebooks, and a grader that only notes variant and seed."""
    seen = []

    def one(grader, submission):
        seen.append((submission.name, grader.options.variant, grader.seed))
        return result(submission.name)

    monkeypatch.setattr(grading.Grader, "_one", one)
    monkeypatch.setattr(Judge, "start", lambda judge: None)
    for name in ("ann", "bob", "zoe"):
        write(tmp_path / "in" / f"{name}.ipynb", [f"x = {name!r}"])
    return tmp_path / "in", tmp_path / "marks", seen


def write(path, sources):
    path.parent.mkdir(exist_ok=True)
    cells = [cases.cell(source) for source in sources]
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4}), "utf-8")


def grade(folder, out, **more):
    chosen = settings.Options(TOY_FILE, out, trusting=True, **more)
    said = []
    grading.grade(folder, chosen, report=said.append)
    return said


def test_variant_and_seed_are_those_of_the_folder(handed_in):
    folder, out, seen = handed_in
    grade(folder, out, variant=7, seed=5)
    assert seen == [(name, 7, 5) for name in ("ann", "bob", "zoe")]
    seen.clear()
    grade(folder, out, again=("bob",))
    assert seen == [("bob", 7, 5)]
    with pytest.raises(UserError, match="holds marks of variant 7, and you asked for 0"):
        grade(folder, out, variant=0)
    with pytest.raises(UserError, match=r"holds marks with seed 5: another .* --again"):
        grade(folder, out, seed=6)
    assert len(seen) == 1


def test_another_seed_is_for_those_graded_again_and_lasts(handed_in):
    folder, out, seen = handed_in
    grade(folder, out, variant=7, seed=5)
    seen.clear()
    grade(folder, out, again=("bob",), seed=6)
    assert seen == [("bob", 7, 6)]
    grade(folder, out)
    assert len(seen) == 1, "the appeal stays"
    write(folder / "bob.ipynb", ["x = 'new'"])
    grade(folder, out)
    assert seen[1:] == [("bob", 7, 5)]


def test_rows_stay_when_another_folder_is_graded(handed_in, tmp_path):
    folder, out, seen = handed_in
    grade(folder, out)
    write(tmp_path / "late" / "eve.ipynb", ["x = 1"])
    said = grade(tmp_path / "late", out)
    assert [row[0] for row in rows(out / "marks.csv")[1:]] == ["ann", "bob", "eve", "zoe"]
    assert any("3 graded earlier are not in" in line and "ann, bob, zoe" in line for line in said)
    assert [name for name, _, _ in seen] == ["ann", "bob", "zoe", "eve"]


def test_two_alike_are_flagged_and_the_sheet_and_short_answers_are_not():
    sheet = frozenset(f"given_by_the_sheet({i})" for i in range(50))
    long = frozenset(f"answer_of_ann({i})" for i in range(20))
    others = [f"an_answer_of_zoe({i})" for i in range(20)]
    notebooks = {
        "ann": flags.telling_lines(["\n".join([*sheet, *long])], sheet),
        "bob": flags.telling_lines(
            ["\n".join([*sorted(long)[:18], "another_line_that_is_of_bob_alone()"])], sheet
        ),
        "eve": flags.telling_lines(["\n".join(sorted(long)[:11])], sheet),
        "zoe": flags.telling_lines(["\n".join([*sheet, *others[1:]])], sheet),
    }
    assert flags.alike(notebooks) == {
        "ann": "shares 18 of its 20 own lines with bob",
        "bob": "shares 18 of its 19 own lines with ann",
    }
    assert flags.telling_lines(["\n".join(long)], None) == frozenset()  # no sheet, no judgement


def numbered(first, after):
    return frozenset(f"own_line({i})" for i in range(first, after))


def test_both_are_flagged_and_many_give_one_flag():
    ann, padded = numbered(0, 20), numbered(0, 60)
    assert flags.alike({"ann": ann, "bob": padded}) == {
        "ann": "shares 20 of its 20 own lines with bob",
        "bob": "shares 20 of its 60 own lines with ann",
    }
    others = {name: numbered(0, size) for name, size in (("eve", 17), ("gus", 18), ("zoe", 16))}
    found = flags.alike({"ann": ann, **others})
    assert found["ann"] == "shares 18 of its 20 own lines with gus and many with 2 more"
    assert set(found) == {"ann", *others}


@pytest.mark.parametrize(
    ("shared", "own", "told"), [(11, 11, False), (12, 12, True), (16, 20, True), (15, 20, False)]
)
def test_few_lines_and_a_low_share_are_no_reason(shared, own, told):
    pair = {"ann": numbered(0, own), "bob": numbered(own - shared, 2 * own - shared)}
    assert bool(flags.alike(pair)) == told


@pytest.mark.parametrize("name", homework.folders())
def test_right_answers_in_other_words_are_not_alike(name):
    folder = homework.folders()[name]
    sheet = grading.sheet_lines(folder, 0, name)
    texts = {
        each.path.stem: each.path.read_text("utf-8") for each in homework.answers(name, "right")
    }
    texts["master"] = "\n".join(homework.solution_code(name))
    own = {title: flags.telling_lines([text], sheet) for title, text in texts.items()}
    assert len(own) > 1 and flags.alike(own) == {}


def test_later_ones_are_compared_with_those_of_another_folder(handed_in, tmp_path, monkeypatch):
    folder, out, _ = handed_in
    lines = [f"an_answer_of_ones_own({i})" for i in range(15)]
    write(folder / "ann.ipynb", ["\n".join(lines)])
    monkeypatch.setattr(grading, "sheet_lines", lambda *of_what: frozenset())
    grade(folder, out)
    write(tmp_path / "late" / "eve.ipynb", ["\n".join(lines[1:])])
    said = grade(tmp_path / "late", out)
    assert any("shares 14 of its 14 own lines with ann" in text for text in said)
    told = [["ann", "shares 14 of its 15 own lines with eve"],
            ["eve", "shares 14 of its 14 own lines with ann"]]  # fmt: skip
    assert rows(out / "flags.csv")[1:] == told
    write(tmp_path / "later" / "kim.ipynb", ["x = 1"])
    grade(tmp_path / "later", out)
    assert rows(out / "flags.csv")[1:] == told  # of two that are not here
    assert {row[0]: row[1] for row in rows(out / "marks.csv")[1:]} == {
        "ann": "flagged", "bob": "ok", "eve": "flagged", "kim": "ok", "zoe": "ok",
    }  # fmt: skip


def test_a_file_that_is_gone_when_it_is_compared_costs_no_marks(handed_in, monkeypatch):
    folder, out, _ = handed_in

    def read(path):
        raise PermissionError(path)

    monkeypatch.setattr(grading.notebook, "read", read)
    grade(folder, out)
    assert [row[0] for row in rows(out / "marks.csv")[1:]] == ["ann", "bob", "zoe"]


def test_the_flag_reaches_the_marks_and_no_history(handed_in, monkeypatch):
    folder, out, _ = handed_in
    lines = [f"an_answer_of_ones_own({i})" for i in range(15)]
    for name in ("ann", "zoe"):
        write(folder / f"{name}.ipynb", ["\n".join(lines)])
    monkeypatch.setattr(grading, "sheet_lines", lambda *of_what: frozenset())
    grade(folder, out)
    marked = {row[0]: row[1] for row in rows(out / "marks.csv")[1:]}
    assert marked == {"ann": "flagged", "bob": "ok", "zoe": "flagged"}
    assert ["ann", "shares 15 of its 15 own lines with zoe"] in rows(out / "flags.csv")
    write(folder / "zoe.ipynb", ["x = 1"])
    grade(folder, out)
    assert {row[1] for row in rows(out / "marks.csv")[1:]} == {"ok"}


def test_the_sheets_lines_come_from_its_master():
    folder = homework.folders()["a2"]
    lines = grading.sheet_lines(folder, 7, "a2")
    student = "\n".join(files.texts(authoring.questions(folder / "master.ipynb", 7)))
    assert lines and flags.telling_lines([student], lines) == frozenset()
    assert not lines & author.telling_lines(folder / "master.ipynb")
    assert grading.sheet_lines(None, 0, "a2") is None
    assert grading.sheet_lines(cases.TOY, 0, "toy") is None


@pytest.mark.parametrize("maximum", ["100", "100,00", "12.5"])
def test_a_roster_with_another_maximum_is_refused(tmp_path, maximum):
    roster = tmp_path / "moodle.csv"
    header = "Identifier,Full name,Grade,Maximum Grade"
    roster.write_text(f'{header}\nParticipant 1,Ann,,"{maximum}"\n', "utf-8")
    with pytest.raises(UserError, match="set the maximum to 12 in Moodle"):
        lms.moodle([result("Ann_1_assignsubmission_file")], TOY, tmp_path, roster)
    assert not (tmp_path / "moodle.csv.part").exists()


def test_another_maximum_is_refused_before_anything_is_graded(handed_in, tmp_path, capsys):
    folder, out, seen = handed_in
    line = ["grade", folder, "--assignment", TOY_FILE, "--coursework", cases.TOY, "--out", out,
            "--no-sandbox", "--format", "moodle", "--roster", tmp_path / "roster.csv"]  # fmt: skip
    roster = "Identifier,Full name,Grade,Maximum Grade\nParticipant 1,Ann,,{}\n"
    (tmp_path / "roster.csv").write_text(roster.format(100), "utf-8")
    assert cli.main(list(map(str, line))) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and not seen and not out.exists()
    assert "a maximum grade of 100, and toy has 12 points: set the maximum to 12" in error
    (tmp_path / "roster.csv").write_text(roster.format("12,00").replace("12,00", '"12,00"'))
    assert cli.main(list(map(str, line))) == 0 and len(seen) == 3


def test_the_command_line_asks_for_the_variant_of_the_folder(handed_in):
    folder, out, seen = handed_in
    line = ["grade", folder, "--assignment", TOY_FILE, "--no-hidden", "--out", out, "--no-sandbox"]
    assert cli.main([*map(str, line), "--variant", "2027"]) == 0
    assert cli.main([*map(str, line), "--again", "ann"]) == 0
    assert [variant for _, variant, _ in seen] == [2027] * 4


def test_the_status_tells_of_an_error_in_a_cell_with_an_answer():
    cells = ["import torch", "class Block:\n    pass\nBlock().cuda()", "Block().cuda()", "f = g()"]
    answering = flags.answering(cells, {"Block", "f"})
    assert answering == {1, 3}
    answered, missing = {"x": Answer(b"1")}, {"x": Answer(failure="your notebook defines no f")}

    def status(number, answers):
        collected = Collected(answers, errors={number: "RuntimeError: no GPU"})
        return grading.status(collected, [], answering)

    assert status(1, answered) == status(2, missing) == "errors"
    assert status(2, answered) == "ok"  # a test of the student's own
    collected = Collected(answered, errors={1: "no GPU"}, causes=["time"])
    assert grading.status(collected, ["a flag"], answering) == "time limit; errors; flagged"


def test_a_platforms_table_has_those_of_another_folder(handed_in, tmp_path):
    folder, out, _ = handed_in
    grade(folder, out)
    write(tmp_path / "late" / "eve.ipynb", ["x = 1"])
    line = ["grade", tmp_path / "late", "--assignment", TOY_FILE, "--no-hidden", "--out", out,
            "--no-sandbox", "--format", "moodle"]  # fmt: skip
    assert cli.main(list(map(str, line))) == 0
    assert sorted(row[1] for row in rows(out / "moodle.csv")[1:]) == ["ann", "bob", "eve", "zoe"]
