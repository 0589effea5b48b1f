"""No line of a solution is in what students see: their sheets, the chapters, the package."""

import json
import re
import tarfile
import zipfile

import homework
import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder
from notebooks import ROOT

from resnet_lib.authoring import author, files, questions, solved

MASTERS = homework.masters()
VARIANTS = (0, 1, 7, 2027)
TEXTS = (".ipynb", ".md", ".py", ".js", ".html", ".json", ".txt", ".toml", ".yml")
TAUGHT = {  # lines of solutions that stand in what students see, and why they may
    "torch.manual_seed(0)": "says nothing",
    "optimizer.step()": "a step's last line in every loop; chapter 19 compares it with Keras'",
    "recipe = train.TrainConfig(": "opens a recipe, and says nothing of what is in it",
    "return self.relu(self.branch(x)) + self.downsample(x)": "a self-test asks what is wrong in it",
}


def plain(name, text):
    """Without blanks; of a notebook, all texts in it."""
    if name.endswith(".ipynb"):
        text = "\n".join(files.texts(json.loads(text)))
    return author.squeezed(text)


def of_folder(folder):
    paths = [path for path in sorted((ROOT / folder).rglob("*")) if path.suffix in TEXTS]
    kept = [path for path in paths if not {"results", "__pycache__"} & set(path.parts)]
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in kept}


@pytest.fixture(scope="module")
def sheets():
    """The notebooks that students get, in several variants."""
    return {
        f"{path.parent.name}, {variant}": author.squeezed(
            "\n".join(files.texts(questions(path, variant)))
        )
        for path in MASTERS
        for variant in VARIANTS
    }


@pytest.fixture(scope="module")
def book():
    """Chapters as they are downloaded, and what else the pages are made of."""
    found = of_folder("book") | {"README.md": (ROOT / "README.md").read_text(encoding="utf-8")}
    return {name: plain(name, text) for name, text in found.items()}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """What pip installs: every text in the wheel and in the source archive."""
    folder = tmp_path_factory.mktemp("dist")
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(folder))
    (source,) = SdistBuilder(str(ROOT)).build(directory=str(folder))
    found = {}
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith(TEXTS) and "/results/" not in name:
                found[f"wheel: {name}"] = archive.read(name).decode()
    with tarfile.open(source) as archive:
        for member in archive.getmembers():
            if member.name.endswith(TEXTS) and "/results/" not in member.name:
                found[f"sdist: {member.name}"] = archive.extractfile(member).read().decode()
    return {name: plain(name, text) for name, text in found.items()}


def test_what_is_searched_is_what_there_is(sheets, book, package):
    assert len(sheets) == len(MASTERS) * len(VARIANTS)
    assert {"book/06_residual_block.ipynb", "book/solutions/06_residual_block.md"} <= set(book)
    names = "\n".join(package)
    assert "wheel: resnet_lib/assignments/a3.py" in package and "resnet_lib/blocks.py" in names
    assert not re.search(r"coursework/a\d|solutions|master|hidden_|wrong/|right/", names)


def test_no_line_of_a_master_is_in_what_students_see(sheets, book, package):
    public, searched, leaks = sheets | book | package, 0, []
    known = {author.squeezed(line) for line in TAUGHT}
    for path in MASTERS:
        for line in author.telling_lines(path) - known:
            searched += 1
            leaks += [f"{path.parent.name}: {line} in {n}" for n, t in public.items() if line in t]
    assert searched > 200
    assert not leaks, "\n".join(leaks)


def test_no_right_answer_is_in_what_students_see(sheets, book, package):
    """These use common names, and the broken network of a3 is nearly right: so in runs of lines."""
    leaks, searched = [], 0
    for path in MASTERS:
        for answer in path.parent.glob("right/*.py"):
            lines = [author.squeezed(line) for line in answer.read_text("utf-8").splitlines()]
            lines = [line for line in lines if author.telling(line)]
            for run in zip(lines, lines[1:], lines[2:], strict=False):
                searched += 1
                leaks += [
                    f"{answer.name}: {run} in {name}"
                    for name, text in (sheets | book | package).items()
                    if "".join(run) in text and answer.stem != "mended_in_place"
                ]
    assert searched > 100
    assert not leaks, "\n".join(leaks)


def exercises():
    """{exercise: the telling lines of its solution in the book}"""
    found = {}
    for path in sorted((ROOT / "book" / "solutions").glob("*.md")):
        for part in path.read_text(encoding="utf-8").split("\n## ")[1:]:
            blocks = re.findall(r"```python\n(.*?)```", part, re.DOTALL)
            lines = [line for block in blocks for line in block.splitlines()]
            told = {author.telling(line) for line in lines} - {""}
            found[f"{path.stem}, {part.partition(chr(10))[0]}"] = told
    return found


def test_no_line_of_an_exercises_solution_is_in_a_chapters_text():
    """A chapter's own code is what it teaches, and solutions go on from it; its text is searched,
    and the outputs and the metadata of all its cells."""
    known, leaks = {author.squeezed(line) for line in TAUGHT}, []
    for path in sorted((ROOT / "book").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        rest = [dict(cell, source="") if cell["cell_type"] == "code" else cell for cell in cells]
        text = author.squeezed("\n".join(files.texts(rest)))
        for exercise, lines in exercises().items():
            leaks += [
                f"{exercise}: {line} in {path.name}" for line in lines - known if line in text
            ]
    assert not leaks, "\n".join(leaks)


def test_no_exercises_solution_is_in_code_that_students_see(sheets, book, package):
    """Single lines are common to both; most of a solution must not stand in one file."""
    code = sheets | package | {n: t for n, t in book.items() if n.endswith(".ipynb")}
    solutions = {name: lines for name, lines in exercises().items() if len(lines) >= 3}
    assert len(solutions) > 60
    for exercise, lines in solutions.items():
        for name, text in code.items():
            share = sum(line in text for line in lines) / len(lines)
            assert share < (0.65 if name.endswith(".ipynb") else 0.4), (exercise, name)


def test_the_search_for_leaks_can_find_one():
    lines = author.telling_lines(MASTERS[0])
    own = author.squeezed("\n".join(files.texts(solved(MASTERS[0], 2027))))
    assert lines and all(line in own for line in lines)
