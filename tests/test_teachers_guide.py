"""The teacher's guide: its points, times, chapters and commands are those of the book."""

import itertools
import re
from pathlib import Path

import chapters
import nbformat
import pytest

from resnet_lib import assignments
from resnet_lib.cli import make_parser
from resnet_lib.grading import grade, marks

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "coursework" / "README.md").read_text(encoding="utf-8")
LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")
FOLDERS = {path.name.partition("_")[0]: path for path in (ROOT / "coursework").glob("a*_*")}
KNOWN = {chapter.number: chapter for chapter in chapters.collect(ROOT)}
# Of the plans that leave something out: sheets, and chapters whose contents the students know.
SHORT = "Four weeks, for those who know convolutional networks"
SHEETS, TAKEN_AS_KNOWN = {SHORT: ["a2", "a4", "a5"]}, {SHORT: (3, 4, 9)}


def rows(header, text=GUIDE):
    """The cells of each row of the table that starts with that header."""
    start = text.index(f"| {header} |")
    lines = text[start:].partition("\n\n")[0].splitlines()[2:]
    plain = [LINK.sub(r"\1", line).strip("|").split("|") for line in lines]
    return [[cell.strip() for cell in line] for line in plain]


def opening(path):
    return nbformat.read(path, 4).cells[0].source


@pytest.mark.parametrize("row", rows("sheet"), ids=lambda row: row[0])
def test_an_assignment_is_what_the_guide_says(row):
    name, title, chapters, hours, points, by_hand = row
    assignment = assignments.find(name).with_hidden(FOLDERS[name])
    assert sum(item.points for item in assignment.items) == int(points)
    first = opening(FOLDERS[name] / "master.ipynb")
    assert title.lower() == assignment.title.lower()
    assert f"about {hours} hours" in first
    for chapter in re.findall(r"\d+", chapters):
        assert re.search(rf"\b{chapter}\b", first)
    assert bool(by_hand) == (FOLDERS[name] / "rubric.md").exists()
    assert not by_hand or f"{by_hand} more for the" in " ".join(first.split())


def test_every_assignment_is_in_the_guide():
    assert [row[0] for row in rows("sheet")] == assignments.names()


def test_every_chapter_is_in_the_guide_with_its_time():
    listed = {}
    for chapter, minutes, _ in rows("chapter"):
        number, _, title = chapter.partition(" ")
        listed[number] = title, minutes
    for path in sorted((ROOT / "book").glob("[0-9]*.ipynb")):
        first = opening(path)
        number, title = re.match(r"# (\d+)\. (.*)", first).groups()
        short, minutes = listed.pop(number)
        assert title.startswith(short)
        assert f"about {minutes} minutes" in first
    assert not listed


def test_the_misconceptions_point_to_chapters_that_exist():
    numbers = {int(path.name[:2]) for path in (ROOT / "book").glob("[0-9]*.ipynb")}
    found = [int(row[2]) for row in rows("misconception")]
    assert len(found) >= 12 and set(found) <= numbers


@pytest.mark.parametrize("line", re.findall(r"^python -m resnet_lib (.*)$", GUIDE, re.MULTILINE))
def test_its_commands_are_understood(line):
    arguments = make_parser().parse_args(line.split())
    assert arguments.command in ("author", "grade")
    if arguments.command == "author":
        assert (ROOT / line.split()[1]).exists()


@pytest.mark.parametrize("option", sorted(set(re.findall(r"`(--[a-z-]+)", GUIDE))))
def test_its_options_exist(option):
    actions = make_parser()._subparsers._group_actions[0].choices
    known = {text for name in ("author", "grade") for text in actions[name]._option_string_actions}
    assert option in known


def plans():
    """{heading: the rows of the plan of weeks below it}"""
    found = {}
    for part in GUIDE.split("\n## ")[1:]:
        for section in re.split(r"\n### ", part):
            if "| week |" in section:
                found[section.partition("\n")[0]] = rows("week", section)
    return found


def numbers(text):
    """The chapters that a cell of a plan names, in order: "chapters 3, 5 and 7 to 9"."""
    found = []
    for group in re.findall(r"chapters? (\d+(?:(?:,| and| to) \d+)*)", text):
        for first, last in re.findall(r"(\d+)(?: to (\d+))?", group):
            found += range(int(first), int(last or first) + 1)
    return found


def exercise_minutes(number):
    """The time that an exercise of a chapter states."""
    (path,) = (ROOT / "book").glob(f"{int(number.partition('.')[0]):02}_*.ipynb")
    (cell,) = [
        cell.source
        for cell in nbformat.read(path, 4).cells
        if cell.source.startswith(f"### Exercise {number}:")
    ]
    return int(re.search(r"about (\d+)\s+minutes", cell)[1])


def own_minutes(read, work):
    """What a week asks of the students' own time, by the chapters, exercises and sheets in it."""
    minutes = sum(KNOWN[number].minutes for number in read)
    for group in re.findall(r"exercises? (\d+\.\d+(?:(?:,| and) \d+\.\d+)*)", work):
        minutes += sum(map(exercise_minutes, re.findall(r"\d+\.\d+", group)))
    for name in re.findall(r"\*\*(a\d)\*\*", work):
        minutes += 60 * int(next(row[3] for row in rows("sheet") if row[0] == name))
    return minutes + 60 * sum(map(int, re.findall(r"(\d+) hours", work)))


def clock(text):
    hours, minutes = text.split(":")
    return 60 * int(hours) + int(minutes)


@pytest.mark.parametrize("heading", plans())
def test_a_plan_has_the_chapters_before_what_needs_them(heading):
    read, handed_in = set(TAKEN_AS_KNOWN.get(heading, ())), []
    for at, (week, before, meetings, work, _) in enumerate(plans()[heading], 1):
        assert int(week) == at
        needed = chapters.needs(list(KNOWN.values()))
        new = numbers(before)
        read |= set(new)
        for number in new:
            assert set(needed[number]) <= read, f"chapter {number}"
        assert set(numbers(meetings)) <= read, "talked about before it is read"
        for name in re.findall(r"\*\*(a\d)\*\*", work):
            after = next(row[2] for row in rows("sheet") if row[0] == name)
            assert set(map(int, re.findall(r"\d+", after))) <= read, name
            handed_in.append(name)
    assert handed_in == SHEETS.get(heading, assignments.names())


@pytest.mark.parametrize("heading", plans())
def test_a_plan_adds_up_what_chapters_exercises_and_sheets_state(heading):
    for _, before, _, work, stated in plans()[heading]:
        assert int(stated.split(":")[0]) < 8
        assert max(own_minutes(read, work) for read in choices(before)) == clock(stated), before


def choices(before):
    """The chapters of a week that says "two of chapters …", for each choice; else all of them."""
    named = numbers(before)
    if not before.startswith("two of"):
        return [named]
    pairs = itertools.combinations(named, 2)
    return [pair for pair in pairs if 18 not in pair or 16 in pair]


def test_twelve_weeks_go_through_all_chapters_and_say_what_they_take():
    weeks = plans()["Twelve weeks"]
    assert len(weeks) == 12
    assert sorted(number for row in weeks for number in numbers(row[1])) == sorted(KNOWN)
    minutes = [clock(row[4]) for row in weeks]
    ends = minutes.index(min(minutes)), minutes.index(max(minutes))
    assert ends == (4, 9) and (minutes[4], minutes[9]) == (90, 420)
    assert round(sum(minutes) / 60) == 50


def test_the_project_has_as_many_points_as_the_guide_says():
    by_grader = sum(int(row[4]) for row in rows("sheet"))
    by_hand = sum(int(row[5] or 0) for row in rows("sheet"))
    assert f"{by_grader} points by the grader and {by_hand} by you" in GUIDE
    assert 2 * len(rows("project")) == 10
    assert by_grader + by_hand + 20 == pytest.approx(5 * 20, abs=2)  # a fifth


@pytest.mark.parametrize("page", ["coursework/README.md", "book/index.md", "book/part_start.md"])
def test_what_one_must_know_before_is_said_in_one_way(page):
    text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    needed = "what a PyTorch tensor is, and to have seen a small neural network train."
    assert f"Python with functions and classes, {needed}" in text


def test_its_lines_are_short():
    assert all(len(line) <= 100 for line in GUIDE.splitlines() if not line.startswith("|"))


@pytest.mark.parametrize("folder", [f for f in FOLDERS.values() if (f / "rubric.md").exists()])
def test_a_rubric_has_levels_and_a_marked_example(folder):
    text = (folder / "rubric.md").read_text(encoding="utf-8")
    tables = [part for part in text.split("\n\n") if part.startswith("| question")]
    levels, example = ([line.split("|")[1:-1] for line in each.splitlines()[2:]] for each in tables)
    assert len(levels) == len(example) == 5 and all(len(row) == 4 for row in levels)
    points = [int(row[1]) for row in example]
    assert set(points) <= {0, 1, 2} and len(set(points)) > 1
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    assert f"{words[sum(points)].capitalize()} points." in text
    assert "\n> " in text


def test_the_guide_names_every_status_that_a_submission_can_have():
    told = {word for row in rows("status") for word in re.findall(r"`([^`]+)`", row[0])}
    source = (ROOT / "resnet_lib" / "grading" / "notebook.py").read_text(encoding="utf-8")
    unread = set(re.findall(r'problem="([^"]+)"', source))
    assert unread and told >= {"ok", "errors", "flagged", marks.FAILED, *unread}
    assert told >= set(grade.STATUS.values())


def test_its_links_lead_to_files_and_numbers_to_their_chapters():
    found = LINK.findall(GUIDE)
    assert len(found) > 60
    for text, target in found:
        file, _, anchor = target.partition("#")
        assert (ROOT / "coursework" / file).exists(), target
        if not file:
            headings = re.findall(r"^#+ (.*)$", GUIDE, re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings]
        chapter = re.fullmatch(r"\.\./book/(\d\d)_\w+\.ipynb", target)
        number = re.match(r"(?:chapter )?(\d+)\b", text)
        if chapter and number:
            assert int(chapter[1]) == int(number[1]), text
    # A link to what is no page of the book would be broken there.
    for path in re.findall(r"`(coursework/\S+)`", GUIDE):
        assert (ROOT / path).exists(), path
