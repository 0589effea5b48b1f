"""The maintainers' tools: executing chapters, the set-up cell, the build of the book."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import build_book
import nbformat
import notebooks
import pytest
from notebooks import ROOT, ChapterError

POSIX = os.name == "posix"


def notebook(*sources, **metadata):
    cells = [nbformat.v4.new_code_cell(source, metadata=metadata) for source in sources]
    return nbformat.v4.new_notebook(cells=cells)


def save(folder, *sources, name="01_chapter"):
    path = folder / f"{name}.ipynb"
    nbformat.write(notebook(*sources), path)
    return path


# Execution.


def test_executing_twice_gives_the_same_bytes(tmp_path):
    figure = "import matplotlib.pyplot as plt\nfig, ax = plt.subplots()\nplt.close(fig)\nfig"
    progress = "from tqdm import tqdm\nfor i in tqdm(range(3)):\n    print(i, flush=True)"
    path = save(tmp_path, figure, progress, "print(hash('a'), {'b', 'a', 'c'})", name="06_x")
    notebooks.execute(path)
    first = path.read_bytes()
    notebooks.execute(path)
    assert path.read_bytes() == first
    executed = notebooks.read(path)
    assert [cell.execution_count for cell in executed.cells] == [1, 2, 3]
    assert "image/png" in executed.cells[0].outputs[0].data
    # One stream, joined, and no progress bar beside it.
    assert [output.text for output in executed.cells[1].outputs] == ["0\n1\n2\n"]
    assert set(executed.metadata) == {"kernelspec", "language_info", notebooks.EXECUTED_WITH}


def measurement(path, **edits):
    """Execute a chapter that prints the time, and what its measuring cell then shows."""
    chapter = notebooks.read(path)
    for index, source in edits.items():
        chapter.cells[int(index[1:])].source = source
    nbformat.write(chapter, path)
    notebooks.execute(path)
    return notebooks.read(path).cells[1].outputs[0].text


def test_a_measurement_stays_while_nothing_changes_and_goes_with_any_change(tmp_path, monkeypatch):
    path = save(tmp_path, "x = 1", "import time; print(x, time.time_ns())", "print(x)")
    chapter = notebooks.read(path)
    chapter.cells[1].metadata["tags"] = ["nbval-ignore-output"]
    nbformat.write(chapter, path)
    first = measurement(path)
    before = path.read_bytes()
    assert measurement(path) == first and path.read_bytes() == before
    notebooks.main(["execute", "--fresh", str(path)])
    first, old = measurement(path), first
    assert first != old
    copy = tmp_path / "copy.ipynb"
    notebooks.execute(path, copy)
    assert notebooks.read(copy).cells[1].outputs[0].text != first
    edited = measurement(path, _0="x = 2")
    assert edited.startswith("2 ")
    assert measurement(path, _2="print(x, x)").split() != edited.split()
    latest = measurement(path)
    monkeypatch.setattr(notebooks, "surroundings", lambda: "another version of the package")
    assert measurement(path) != latest


def test_what_nbval_compares_is_always_the_new_output(tmp_path):
    path = save(tmp_path, "x = 1", "import time; print(x, time.time_ns())")
    assert measurement(path) != measurement(path)


def test_ids_change_only_with_their_cell():
    before = notebooks.normalise(notebook("a = 1", "b = 2", "b = 2"))
    after = notebooks.normalise(notebook("new = 0", "a = 3", "b = 2", "b = 2"))
    ids = [cell.id for cell in before.cells]
    assert len(set(ids)) == 3
    assert [cell.id for cell in after.cells][2:] == ids[1:]
    assert ids[0] not in {cell.id for cell in after.cells}


def test_old_outputs_do_not_survive(tmp_path):
    path = save(tmp_path, "x = 1")
    old = notebooks.read(path)
    old.cells[0].outputs = [nbformat.v4.new_output("stream", text="old")]
    nbformat.write(old, path)
    notebooks.execute(path)
    assert notebooks.read(path).cells[0].outputs == []


def test_peak_memory_is_that_of_the_kernel():
    small = notebooks.run(notebook("x = 1"), "small")[1]
    large = notebooks.run(notebook("x = bytearray(b'1') * 2**28; import time; time.sleep(1)"), "l")[
        1
    ]
    assert 0 < small < 2**28
    # The kernel itself takes somewhat more or less from run to run.
    assert 0.8 * 2**28 < large - small < 1.5 * 2**28


def test_chapter_runs_in_this_interpreter():
    made = notebook("import sys; print(sys.executable)")
    notebooks.run(made, "x")
    assert made.cells[0].outputs[0].text.strip() == sys.executable


@pytest.mark.parametrize(
    "source, reason",
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("x = = 1", "SyntaxError"),
        pytest.param(
            "import os; os.kill(os.getpid(), 9)",
            "The kernel died",
            marks=pytest.mark.skipif(not POSIX, reason="needs signals"),
        ),
    ],
)
def test_failing_cell_stops_and_is_shown(tmp_path, capsys, source, reason):
    path = save(tmp_path, "good = 1", source, "never = 1")
    before = path.read_bytes()
    with pytest.raises(ChapterError) as error:
        notebooks.execute(path)
    assert str(error.value).startswith("01_chapter, code cell 2 fails:")
    assert source in str(error.value)
    assert reason in str(error.value)
    assert "FAILED" in capsys.readouterr().out
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_endless_cell_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks, "CELL_TIMEOUT", 2)
    with pytest.raises(ChapterError, match="did not end within 2 seconds"):
        notebooks.run(notebook("while True: pass"), "endless")


def test_announced_errors_are_outputs():
    made = notebook("1 / 0", tags=["raises-exception"])
    notebooks.run(made, "x")
    assert made.cells[0].outputs[0].ename == "ZeroDivisionError"


def test_files_left_behind_are_an_error():
    with pytest.raises(ChapterError, match=r"x leaves last\.pt in the working folder"):
        notebooks.run(notebook("open('last.pt', 'w').close()"), "x")


def test_command_line_ends_with_an_error_code(tmp_path):
    path = save(tmp_path, "1 / 0")
    command = [sys.executable, ROOT / "tools" / "notebooks.py", "execute", path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "01_chapter, code cell 1 fails" in done.stderr
    assert "Traceback (most recent call last)" not in done.stderr.split("code cell 1")[0]


# The set-up cell.


@pytest.fixture
def home(tmp_path):
    """A folder with a copy of the book's configuration."""
    shutil.copy(ROOT / "_config.yml", tmp_path)
    return tmp_path


def test_repository_has_one_home(home):
    before = (home / "_config.yml").read_text(encoding="utf-8")
    notebooks.set_repository("https://example.org/a/b/", home)
    assert notebooks.repository(home) == "https://example.org/a/b"
    notebooks.set_repository(notebooks.repository(ROOT), home)
    assert (home / "_config.yml").read_text(encoding="utf-8") == before


def test_setup_cell_is_written_and_checked(tmp_path, capsys):
    source = notebooks.setup_source("https://example.org/a/b")
    path = save(tmp_path, "# SETUP", "x = 1")
    assert not notebooks.setup(path, source, check=True)
    assert notebooks.read(path).cells[0].source == "# SETUP"
    assert not notebooks.setup(path, source)
    assert notebooks.setup(path, source, check=True)
    cell = notebooks.read(path).cells[0]
    assert cell.source == source
    assert '"git+https://example.org/a/b"' in source
    # Another address replaces the old cell, found by its tag.
    assert not notebooks.setup(path, notebooks.setup_source(""))
    assert "example.org" not in path.read_text(encoding="utf-8")


def test_setup_needs_exactly_one_cell(tmp_path):
    with pytest.raises(ChapterError, match="has 0 cells"):
        notebooks.setup(save(tmp_path, "x = 1"), "source")
    with pytest.raises(ChapterError, match="has 2 cells"):
        notebooks.setup(save(tmp_path, "# SETUP", "# SETUP"), "source")


def test_setup_check_of_the_command_line(tmp_path):
    path = save(tmp_path, "# SETUP")
    with pytest.raises(SystemExit, match=r"run: python tools/notebooks\.py setup"):
        notebooks.main(["setup", "--check", str(path)])
    notebooks.main(["setup", str(path)])
    notebooks.main(["setup", "--check", str(path)])


def test_every_chapter_has_the_setup_cell():
    notebooks.main(["setup", "--check"])


def test_setup_cell_is_short():
    assert len(notebooks.setup_source("https://example.org/a/b").splitlines()) <= 12


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory):
    """A Python that finds this one's packages, but not resnet_lib: what Colab looks like."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False)
    python = folder / ("bin/python" if POSIX else "Scripts/python.exe")
    (site,) = folder.rglob("site-packages")
    # Packages by folder, without the .pth files that make this checkout's package importable.
    elsewhere = {path for path in map(Path, sys.path) if path.name == "site-packages"}
    (site / "borrowed.pth").write_text("".join(f"{path}\n" for path in sorted(elsewhere)))
    return python


def run_cell(python, source, folder, **variables):
    variables = {**os.environ, "PYTHONNOUSERSITE": "1", **variables}
    command = [python, "-c", f"{source}\nimport resnet_lib\nprint(resnet_lib.__file__)"]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)


def installed(python, folder):
    command = [python, "-m", "pip", "--disable-pip-version-check", "freeze", "--local"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.fixture
def offline(monkeypatch):
    """pip may neither ask an index nor set up a place to build in: nothing else is installed."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_NO_BUILD_ISOLATION", "0")  # this variable means its opposite
    monkeypatch.delenv("RESNET_LIB_SOURCE", raising=False)


def test_setup_cell_installs_the_package_and_nothing_else(bare_python, offline, tmp_path):
    source = notebooks.setup_source("")
    lost = run_cell(bare_python, source, tmp_path)
    assert lost.returncode == 1
    assert lost.stderr.splitlines()[-1] == (
        "RuntimeError: resnet_lib is missing: run 'pip install FOLDER_OF_THE_BOOK' first"
    )
    first = run_cell(bare_python, source, tmp_path, RESNET_LIB_SOURCE=str(ROOT))
    assert first.returncode == 0, first.stderr
    assert Path(first.stdout.strip()).is_relative_to(bare_python.parent.parent)
    assert first.stdout.count("\n") == 1, "pip is not quiet"
    assert first.stderr == ""
    (only,) = installed(bare_python, tmp_path)
    assert only.startswith("resnet_lib @ ")
    # It is there now, so where it could come from is not even looked at.
    again = run_cell(bare_python, source, tmp_path, RESNET_LIB_SOURCE=str(tmp_path / "nowhere"))
    assert (again.returncode, again.stdout) == (0, first.stdout)


def test_setup_cell_does_nothing_where_the_package_is(tmp_path):
    source = notebooks.setup_source("")
    done = run_cell(sys.executable, source, tmp_path, RESNET_LIB_SOURCE=str(tmp_path / "nowhere"))
    assert done.returncode == 0, done.stderr


def test_installed_package_brings_its_data(bare_python, offline, tmp_path):
    source = notebooks.setup_source("")
    run_cell(bare_python, source, tmp_path, RESNET_LIB_SOURCE=str(ROOT))
    use = "from resnet_lib import checkpoint, data, records\n"
    use += "print(len(data.load('fashion', 'test')), len(records.load('shipped')))\n"
    use += "print(checkpoint.restore_model()[0].fc.out_features)"
    done = subprocess.run([bare_python, "-c", use], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == ["2000", "1", "10"], done.stderr


# The build with executed chapters.


@pytest.fixture
def small_tree(tmp_path, monkeypatch):
    """A root with one package, two chapters and what their outputs depend on."""
    monkeypatch.setattr(notebooks, "device", lambda: "cpu")
    for folder in ("book/results", "resnet_lib", "tools"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "resnet_lib" / "one.py").write_text("x = 1\n")
    (tmp_path / "book" / "results" / "run.json").write_text("{}")
    shutil.copy(ROOT / "tools" / "notebooks.py", tmp_path / "tools")
    chapters = "".join(f"      - file: book/{name}\n" for name in ("02_b", "01_a"))
    toc = f"format: jb-book\nroot: book/index\nparts:\n  - caption: All\n    chapters:\n{chapters}"
    (tmp_path / "_toc.yml").write_text(toc)
    for name in ("01_a", "02_b"):
        save(tmp_path / "book", f"print('{name}')", name=name)
    return tmp_path


def ran(root, capsys):
    """The chapters that a build executes, in their order."""
    build_book.execute(root, root / "_build")
    lines = capsys.readouterr().out.splitlines()
    return [line.split()[0] for line in lines if "unchanged" not in line]


def test_chapters_run_in_the_order_of_the_contents_and_only_when_needed(small_tree, capsys):
    before = {p: p.read_bytes() for p in small_tree.rglob("*") if p.is_file()}
    assert ran(small_tree, capsys) == ["02_b", "01_a"]
    # The tree is as it was; the outputs are in the copies.
    assert {p: p.read_bytes() for p in before} == before
    added = {p.relative_to(small_tree).parts[0] for p in small_tree.rglob("*")} - {"_build"}
    assert added == {p.relative_to(small_tree).parts[0] for p in before}
    copies = build_book.execute(small_tree, small_tree / "_build")
    capsys.readouterr()
    assert [notebooks.read(copy).cells[0].outputs[0].text for copy in copies.values()] == [
        "02_b\n",
        "01_a\n",
    ]
    assert ran(small_tree, capsys) == []


@pytest.mark.parametrize(
    "change, again",
    [
        (lambda root, patch: save(root / "book", "print(3)", name="01_a"), ["01_a"]),
        (lambda root, patch: (root / "resnet_lib" / "one.py").write_text("x = 2\n"), 2),
        (lambda root, patch: (root / "resnet_lib" / "two.py").write_text(""), 2),
        (lambda root, patch: (root / "book" / "results" / "run.json").write_text("[]"), 2),
        (lambda root, patch: patch.setattr(notebooks, "version", lambda name: "99"), 2),
        (lambda root, patch: patch.setattr(notebooks, "device", lambda: "a GPU"), 2),
        (lambda root, patch: (root / "_build" / "executed" / "02_b.ipynb").unlink(), ["02_b"]),
        (lambda root, patch: (root / "unrelated.txt").write_text("x"), []),
    ],
    ids=["chapter", "package", "new module", "record", "torch", "device", "copy", "nothing"],
)
def test_what_makes_a_chapter_run_again(small_tree, capsys, monkeypatch, change, again):
    ran(small_tree, capsys)
    change(small_tree, monkeypatch)
    assert ran(small_tree, capsys) == (["02_b", "01_a"] if again == 2 else again)


def test_failing_chapter_stops_the_build_and_runs_again(small_tree, capsys):
    save(small_tree / "book", "1 / 0", name="02_b")
    for _ in range(2):
        with pytest.raises(ChapterError, match="02_b, code cell 1 fails"):
            build_book.execute(small_tree, small_tree / "_build")
        out = capsys.readouterr().out
        assert out.startswith("02_b")
        assert "01_a" not in out


def test_pages_that_cannot_be_built_keep_the_old_ones(small_tree):
    build = small_tree / "_build"
    (build / "book").mkdir(parents=True)
    (build / "book" / "index.html").write_text("old")
    (small_tree / "_config.yml").write_text("title: x\n")
    (small_tree / "CHANGELOG.md").write_text("# Changes\n")
    (small_tree / "CITATION.cff").write_text("title: Small\n")
    (small_tree / "genindex.md").write_text("# Index\n")
    (small_tree / "coursework").mkdir()
    with pytest.raises(ChapterError, match=r"book/index"):  # the front page is missing
        build_book.render_copies({}, small_tree, build)
    assert (build / "book" / "index.html").read_text() == "old"


def test_pages_are_built_from_the_copies_and_only_when_needed(small_tree, monkeypatch):
    def jupyter_book(source, output):
        built.append((source / "book" / "01_a.ipynb").read_text())
        (output / "_build" / "html").mkdir(parents=True)
        (output / "_build" / "html" / "index.html").write_text(str(len(built)))
        return output / "_build" / "html"

    built, build = [], small_tree / "_build"
    monkeypatch.setattr(build_book, "jupyter_book", jupyter_book)
    (small_tree / "_config.yml").write_text("title: x\n")
    (small_tree / "CHANGELOG.md").write_text("# Changes\n")
    (small_tree / "CITATION.cff").write_text("title: Small\n")
    (small_tree / "genindex.md").write_text("# Index\n")
    (small_tree / "coursework").mkdir()
    copy = small_tree / "copy.ipynb"
    copy.write_text("executed")
    for _ in range(2):
        pages = build_book.render_copies({small_tree / "book/01_a.ipynb": copy}, small_tree, build)
    assert built == ["executed"]
    (small_tree / "CHANGELOG.md").write_text("# More changes\n")
    build_book.render_copies({small_tree / "book/01_a.ipynb": copy}, small_tree, build)
    assert (pages / "index.html").read_text() == "2"
    monkeypatch.setattr(build_book.shutil, "which", lambda name: f"/new/{name}")
    build_book.render_copies({small_tree / "book/01_a.ipynb": copy}, small_tree, build)
    assert (pages / "index.html").read_text() == "3"


# The Makefile, with a stand-in for Python that only writes down what it is asked to do.

needs_make = pytest.mark.skipif(shutil.which("make") is None or not POSIX, reason="needs make")
STAND_IN = """#!/bin/sh
echo "$@" >> "{folder}/calls"
case "$*" in
  "-m venv .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
  "-c import sys"*)
    exec "{python}" -c "import sys; sys.version_info = {version}; exec(sys.argv[1])" "$2" ;;
  "-c import venv"*) exit {no_venv} ;;
esac
"""


@pytest.fixture
def make(tmp_path):
    """Runs make in a copy of the root's top files: (exit code, stdout, stderr, Python's calls)."""
    for name in ("Makefile", "pyproject.toml", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path)

    def run(*arguments, version=(3, 10, 0), no_venv=0):
        python, calls = tmp_path / "python", tmp_path / "calls"
        values = {"folder": tmp_path, "python": sys.executable}
        python.write_text(STAND_IN.format(version=version, no_venv=no_venv, **values))
        python.chmod(0o755)
        calls.write_text("")
        variables = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
        done = subprocess.run(
            ["make", "PYTHON=./python", *arguments],
            cwd=tmp_path,
            env=variables,
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout, done.stderr, calls.read_text().splitlines()

    return run


@needs_make
def test_make_alone_tells_what_there_is(make):
    code, out, _, calls = make()
    assert (code, calls) == (0, [])
    for target in ("book", "test", "html", "notebooks", "clean", "env"):
        assert f"make {target} " in out


@needs_make
def test_environment_is_made_once_and_again_when_the_requirements_change(make, tmp_path):
    code, _, err, calls = make("env")
    assert code == 0, err
    assert "-m venv .venv" in calls
    assert any(call.endswith("--requirement requirements.txt") for call in calls)
    assert make("env")[3] == []
    later = (tmp_path / ".venv" / "installed").stat().st_mtime + 10
    os.utime(tmp_path / "pyproject.toml", (later, later))
    assert "-m venv .venv" in make("env")[3]


@needs_make
@pytest.mark.parametrize(
    "target, call",
    [
        ("book", "tools/build_book.py --execute"),
        ("html", "tools/build_book.py"),
        ("notebooks", "tools/notebooks.py execute"),
        ("test", "-m pytest"),
    ],
)
def test_targets_install_first_then_run(make, target, call):
    calls = make(target)[3]
    assert "-m venv .venv" in calls
    assert calls[-1] == call
    assert make(target)[3] == [call]


@needs_make
def test_torch_index_comes_first_and_only_when_given(make, tmp_path):
    assert not any("index-url" in call for call in make("env")[3])
    shutil.rmtree(tmp_path / ".venv")
    calls = make("env", "TORCH_INDEX=https://example.org/cpu")[3]
    installs = [call for call in calls if " install " in call]
    assert installs[0].endswith("--index-url https://example.org/cpu torch torchvision")
    assert installs[1].endswith("--requirement requirements.txt")
    assert len(installs) == 2


@needs_make
@pytest.mark.parametrize(
    "arguments, settings, line",
    [
        ([], {"version": (3, 9, 7)}, "Python 3.10 or newer is needed, this is 3.9: "),
        ([], {"no_venv": 1}, "Python's venv is missing: "),
        (["PYTHON=no-such-python"], {}, "no-such-python is not there: "),
    ],
)
def test_unfit_python_is_told_in_one_line(make, tmp_path, arguments, settings, line):
    code, _, err, _ = make("env", *arguments, **settings)
    assert code
    assert err.startswith(line)
    assert "Traceback" not in err
    assert not (tmp_path / ".venv").exists()


@needs_make
def test_clean_keeps_the_environment(make, tmp_path):
    make("env")
    (tmp_path / "_build").mkdir()
    (tmp_path / "book" / "__pycache__").mkdir(parents=True)
    assert make("clean")[0] == 0
    assert not (tmp_path / "_build").exists()
    assert not (tmp_path / "book" / "__pycache__").exists()
    assert (tmp_path / ".venv" / "installed").exists()


@needs_make
@pytest.mark.parametrize("failing", [None, "test", "html"])
def test_ci_runs_the_tests_then_the_pages_and_stops_at_a_failure(tmp_path, failing):
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci")
    stand_in = tmp_path / "make"
    stand_in.write_text(f'#!/bin/sh\necho "make $1" >> calls\n[ "$1" != "{failing}" ]\n')
    stand_in.chmod(0o755)
    variables = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", ".ci/run"], cwd=tmp_path, env=variables, capture_output=True)
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == (["make test"] if failing == "test" else ["make test", "make html"])
    assert bool(done.returncode) == bool(failing)
