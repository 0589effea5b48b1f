"""The files around the code: metadata, licences, workflows, documents, and the design's rules."""

import ast
import fnmatch
import graphlib
import hashlib
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import resnet_lib

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "resnet_lib"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
DOCUMENTS = ("README.md", "CONTRIBUTING.md")

# Colab comes with these. A dependency outside the list would be installed there before the first
# cell can run, and an upper bound could replace a version that Colab's other packages need.
IN_COLAB = {"torch", "torchvision", "numpy", "matplotlib", "tqdm", "safetensors", "pillow"}
NAMED_IN_REQUIREMENTS = ("jupyter-book", "torch", "torchvision", "matplotlib", "nbval", "numpy")

# The design's arrows that matter most: what each of these may import from the package.
MAY_IMPORT = {
    "blocks": set(),
    "models": {"blocks", "pretrained"},
    "pretrained": set(),
    "data": {"batches", "folders", "scaled_shapes", "shards", "splits"},
    "batches": {"splits"},
    "shards": {"folders", "shard_file", "splits"},
    "shard_file": {"folders"},
    "leakage": set(),
    "folders": {"splits"},
    "scaled_shapes": set(),
    "metrics": set(),
    "plots": set(),
    "records": set(),
    "compare": set(),
    "pyramid": {"blocks"},
    "signals": {"blocks"},
    "cifar": {"blocks", "models"},
}
DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc"}
LONGEST_MODULE = 350  # lines

# Written so that neither pattern matches this file.
MACHINE_PATH = re.compile(r"(?<![\w.:/~-])/(?:tmp|work|root|home|Users)/")
REGISTRY = re.compile(r"\b(?:pypi|pythonhosted|npmjs|anaconda)\.(?:org|com)|download\.pytorch\.")

# SHA-256 of the plain-text legal code as Creative Commons publishes it.
CC_BY_4 = "fd3a263fe19ed8faa9068b43abaebafc02c77897b0c6fc09abc04bb592e5f16e"


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def run(*arguments):
    """A module of this interpreter, run at the root: its exit code and everything it said."""
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def tracked():
    """The files under version control; outside a checkout, all that .gitignore doesn't name."""
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    names = [name for name in listing.stdout.split("\0") if name]
    if names:
        return [path for path in map(ROOT.joinpath, names) if path.is_file()]
    ignored = [line.strip().rstrip("/") for line in read(".gitignore").splitlines()] + [".git"]

    def is_ignored(path):
        parts = path.relative_to(ROOT).parts
        return any(fnmatch.fnmatch(part, pattern) for part in parts for pattern in ignored)

    return [path for path in ROOT.rglob("*") if path.is_file() and not is_ignored(path)]


def code_in(markdown):
    """What a Markdown text shows as code: fenced blocks and inline spans."""
    fences = re.findall(r"^```\w*\n(.*?)^```", markdown, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```.*?^```", "", markdown, flags=re.MULTILINE | re.DOTALL)
    return "\n".join([*fences, *re.findall(r"`([^`\n]+)`", rest)])


def commands(*names):
    """The lines of code in these documents, and of the workflows' steps."""
    lines = [line for name in names for line in code_in(read(name)).splitlines()]
    steps = (step for job in jobs().values() for step in job["steps"])
    return lines + [line for step in steps for line in step.get("run", "").splitlines()]


def jobs():
    """All workflows' jobs, as {"file/job": job}."""
    found = {}
    for path in WORKFLOWS:
        workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
        found |= {f"{path.name}/{name}": job for name, job in workflow["jobs"].items()}
    return found


def make_targets():
    return set(re.findall(r"^([a-z][\w-]*):(?!=)", read("Makefile"), re.MULTILINE))


def project():
    return tomllib.loads(read("pyproject.toml"))["project"]


def requirements(*extras):
    """The package's requirements and those of the extras, as {name: Requirement}."""
    metadata = project()
    lines = list(metadata["dependencies"])
    for extra in extras:
        lines += metadata["optional-dependencies"][extra]
    return {requirement.name: requirement for requirement in map(Requirement, lines)}


# Metadata


def test_requirements_file_installs_the_package_with_its_extras():
    lines = [line for line in read("requirements.txt").splitlines() if line[:1] not in ("", "#")]
    assert len(lines) == 1
    name, extras = re.fullmatch(r"-e (\.)\[([\w,]+)\]", lines[0]).groups()
    assert name == "." and {"book", "test"} <= set(extras.split(","))
    declared = requirements(*extras.split(","))
    for package in NAMED_IN_REQUIREMENTS:
        assert package in declared, f"{package} is not in pyproject.toml"
        assert re.search(rf"(?<![\w-]){package}(?![\w-])", read("requirements.txt")), package


def test_colab_needs_nothing_new():
    for name, requirement in requirements().items():
        assert name in IN_COLAB, f"Colab does not ship {name}"
        bounds = {specifier.operator for specifier in requirement.specifier}
        assert bounds <= {">=", "!="}, f"{requirement} has an upper bound"


def test_package_declares_what_it_imports():
    imported = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.partition(".")[0])
    distributions = packages_distributions()
    foreign = imported - set(sys.stdlib_module_names) - {"resnet_lib"}
    needed = {name.lower() for module in foreign for name in distributions.get(module, [module])}
    assert {"torch", "torchvision"} <= needed
    # Graders and readers of shards need more than students' machines have, and are told so.
    declared = set(requirements("coursework", "shards", "export", "keras"))
    assert needed <= declared, "imported, but not in pyproject.toml"


def test_versions_and_dates_agree():
    citation = yaml.safe_load(read("CITATION.cff"))
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (\S+)$", read("CHANGELOG.md"), re.MULTILINE)
    version, date = released[0]
    assert version == resnet_lib.__version__ == citation["version"]
    assert date == str(citation["date-released"])
    assert sorted(released, key=lambda entry: entry[1], reverse=True) == released
    headings = re.findall(r"^## \[(.+?)\]", read("CHANGELOG.md"), re.MULTILINE)
    assert headings[0] == "Unreleased"


def test_citation_is_valid():
    schema = "vendor.citation-file-format"
    code, output = run("check_jsonschema", "--builtin-schema", schema, "CITATION.cff")
    assert code == 0, output


def test_licences():
    assert project()["license"] == "MIT" and read("LICENSE").startswith("MIT License\n")
    text = (ROOT / "LICENSE-TEXT").read_bytes()
    assert hashlib.sha256(text).hexdigest() == CC_BY_4, "the legal text must stay as published"
    for name in project()["license-files"]:
        assert (ROOT / name).stat().st_size > 0, name
    citation, page = yaml.safe_load(read("CITATION.cff")), read("book/cite.md")
    year = str(citation["date-released"])[:4]
    title = citation["title"].partition(":")[0]
    assert f"*{title}* by {citation['authors'][0]['name']}, {year}, CC BY 4.0" in page
    for name in ("LICENSE-TEXT", *project()["license-files"]):
        assert f"`{name}`" in page


# Workflows


def test_workflows_are_valid():
    assert WORKFLOWS
    files = [str(path) for path in WORKFLOWS]
    code, output = run("check_jsonschema", "--builtin-schema", "vendor.github-workflows", *files)
    assert code == 0, output


def test_workflow_check_can_fail(tmp_path):
    text = WORKFLOWS[0].read_text(encoding="utf-8")
    broken = tmp_path / "broken.yml"
    broken.write_text(text.replace("runs-on:", "run-on:"), encoding="utf-8")
    code, output = run(
        "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(broken)
    )
    assert code == 1 and "run-on" in output


def test_workflow_jobs_fit_together():
    # The schema knows the words, not what they refer to.
    found = jobs()
    for name, job in found.items():
        needs = job.get("needs", [])
        for other in [needs] if isinstance(needs, str) else needs:
            assert f"{name.partition('/')[0]}/{other}" in found, f"{name} needs {other}"
        assert job["timeout-minutes"] <= 60, name
        identities = {step.get("id") for step in job["steps"]}
        for used in re.findall(r"\bsteps\.([\w-]+)\.", yaml.safe_dump(job)):
            assert used in identities, f"{name} has no step {used}"
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step), name
            if "uses" in step:
                assert re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"]), step["uses"]
            # An expression in a script would be pasted into it before the shell quotes anything.
            assert "${{" not in step.get("run", ""), name


def test_workflows_may_do_no_more_than_they_must():
    for path in WORKFLOWS:
        workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert workflow["permissions"] == {"contents": "read"}, path.name
        assert "concurrency" in workflow, path.name
    writers = {
        (name, scope)
        for name, job in jobs().items()
        for scope, level in job.get("permissions", {}).items()
        if level == "write"
    }
    assert writers == {
        ("pages.yml/colab", "contents"),
        ("pages.yml/deploy", "pages"),
        ("pages.yml/deploy", "id-token"),
    }


def test_workflow_tests_run_on_the_supported_pythons():
    versions = jobs()["tests.yml/test"]["strategy"]["matrix"]["python"]
    supported = SpecifierSet(project()["requires-python"])
    assert versions == sorted(versions, key=lambda version: int(version.partition(".")[2]))
    assert all(version in supported for version in versions)
    major, minor = map(int, versions[0].split("."))
    assert f"{major}.{minor - 1}" not in supported, "the oldest supported version is not tested"


# Documents


def test_documents_name_real_make_targets():
    lines = commands(*DOCUMENTS)
    named = {name for line in lines for name in re.findall(r"\bmake ([a-z][\w-]*)", line)}
    assert {"book", "test", "html"} <= named
    assert named <= make_targets()
    variables = {name for line in lines for name in re.findall(r"\bmake .*?\b([A-Z_]{4,})=", line)}
    assert all(name in read("Makefile") for name in variables)


def test_documents_name_real_subcommands(capsys):
    from resnet_lib import cli

    pattern = r"python -m resnet_lib (\w+)(.*)"
    named = [m.groups() for line in commands(*DOCUMENTS) for m in re.finditer(pattern, line)]
    assert {"train", "evaluate", "predict"} <= {subcommand for subcommand, _ in named}
    for subcommand, rest in named:
        with pytest.raises(SystemExit) as stop:
            cli.main([subcommand, "--help"])
        usage = capsys.readouterr().out
        assert stop.value.code == 0, subcommand
        for option in re.findall(r"--[a-z][\w-]*", rest):
            assert re.search(rf"{option}(?![\w-])", usage), f"{subcommand} has no {option}"


def test_documents_name_real_scripts():
    pattern = r"(?:python|bin/python) (tools/\w+\.py)(.*)"
    named = {m.groups() for line in commands(*DOCUMENTS) for m in re.finditer(pattern, line)}
    assert named
    for script, rest in named:
        source = read(script)
        words = re.findall(r"^ ([a-z]+)\b|(?<= )(--[a-z][\w-]*)", rest)
        for word in filter(None, (word for pair in words for word in pair)):
            assert f'"{word}"' in source, f"{script} has no {word}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_between_files_work(document):
    targets = re.findall(r"\]\(([^)\s]+)\)", read(document))
    assert targets
    for target in targets:
        if not target.startswith(("https://", "#")):
            assert (ROOT / target.partition("#")[0]).exists(), f"{document} links to {target}"


def test_readme_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"^```python\n(.*?)^```", read("README.md"), re.MULTILINE | re.DOTALL)
    assert len(examples) == 1
    short = re.sub(r"limit=\d+", "limit=20", examples[0])  # the same calls on fewer images
    assert short != examples[0]
    exec(compile(short, "README.md", "exec"), {})
    assert [path.suffix for path in tmp_path.iterdir()] == [".png"]


# The tree


@pytest.mark.parametrize("arguments", [["check"], ["format", "--check"]], ids=["lint", "format"])
def test_ruff(arguments):
    code, output = run("ruff", *arguments, ".")
    assert code == 0, output


def test_no_machine_in_committed_files():
    found, seen = [], 0
    for path in tracked():
        data = path.read_bytes()
        if b"\0" in data:
            continue
        seen += 1
        for number, line in enumerate(data.decode("utf-8").splitlines(), 1):
            # Pictures in notebooks are base64, in which any word can turn up.
            if '"image/png"' not in line and (MACHINE_PATH.search(line) or REGISTRY.search(line)):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert seen > 20
    assert not found, "\n".join(found)


# The package's shape


def modules():
    """{module's name: paths}; a folder with an __init__.py is one module."""
    found = {path.stem: [path] for path in PACKAGE.glob("*.py") if not path.stem.startswith("__")}
    for path in PACKAGE.glob("*/__init__.py"):
        found[path.parent.name] = sorted(path.parent.glob("*.py"))
    return found


def siblings(name):
    """The package's modules that this one imports."""
    known, found = set(modules()), set()
    for path in modules()[name]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{path.name}: import by the full name"
                targets = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            parts = [target.split(".") for target in targets]
            found |= {part[1] for part in parts if part[0] == "resnet_lib" and len(part) > 1}
    return (found & known) - {name}


def test_imports_point_down_only():
    graph = {name: siblings(name) for name in modules()}
    assert graph["models"] == {"blocks", "pretrained"}
    for name, allowed in MAY_IMPORT.items():
        assert graph[name] <= allowed, f"{name} imports {graph[name] - allowed}"
    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises on a circle
    assert order.index("blocks") < order.index("models") < order.index("cli")


def test_package_root_imports_nothing():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    assert not [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]


def imported_names(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_package_never_imports_the_book_or_its_tools():
    foreign = {"book", "tools", "tests", "coursework"}
    for path in PACKAGE.rglob("*.py"):
        assert not foreign & {name.partition(".")[0] for name in imported_names(path)}, path.name


def test_only_plots_imports_matplotlib():
    drawing = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if any(name.partition(".")[0] == "matplotlib" for name in imported_names(path))
    }
    assert drawing and {name.partition("/")[0] for name in drawing} == {"plots"}


def test_no_module_is_a_drawer():
    names = {path.stem for path in tracked() if path.suffix == ".py"}
    names |= {path.parent.name for path in tracked() if path.name == "__init__.py"}
    assert not names & DRAWERS


def test_no_module_is_long():
    for path in PACKAGE.rglob("*.py"):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= LONGEST_MODULE, f"{path.name} has {lines} lines"
