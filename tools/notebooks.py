"""Execute the book's notebooks and keep their set-up cells identical.

    python tools/notebooks.py execute [--fresh] [FILE ...]
    python tools/notebooks.py setup [--repository ADDRESS] [--check] [FILE ...]

Without files: every chapter, in the order of ``_toc.yml``.
"""

import argparse
import hashlib
import json
import os
import re
import sys
import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path

import nbformat
import psutil
import yaml
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

ROOT = Path(__file__).resolve().parent.parent
# What would make outputs differ between two runs, or fill them with progress bars.
ENVIRONMENT = {
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "PYTHONHASHSEED": "0",
    "TQDM_DISABLE": "1",
}
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
LANGUAGE = {"name": "python", "pygments_lexer": "ipython3"}
CELL_METADATA = ("mystnb", "tags")
EXECUTED_WITH = "executed_with"  # in the notebook's metadata: what its outputs depend on, hashed
# What a chapter's outputs depend on, besides its own text.
INPUTS = ("resnet_lib", "book/results", "tools/notebooks.py")
LIBRARIES = ("torch", "torchvision", "numpy", "matplotlib")
SETUP_METADATA = {
    "mystnb": {"code_prompt_hide": "Hide the set-up cell", "code_prompt_show": "Set-up cell"},
    "tags": ["hide-cell", "setup"],
}
CELL_TIMEOUT = 900  # seconds
MEMORY_INTERVAL = 0.05  # seconds between two readings of a kernel's memory


class ChapterError(Exception):
    """A chapter that cannot be executed; the message names chapter, cell and error."""


def chapters(root=ROOT):
    """The notebooks that ``_toc.yml`` lists, in its order."""
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    pages = [page["file"] for part in toc["parts"] for page in part["chapters"]]
    paths = [root / f"{page.removesuffix('.ipynb')}.ipynb" for page in pages]
    return [path for path in paths if path.exists()]


def read(path):
    """The notebook in that file."""
    return nbformat.read(path, as_version=4)


def write(notebook, path):
    """Write a normalised notebook; the old file stays until the new one is complete."""
    text = nbformat.writes(normalise(notebook)) + "\n"
    scratch = path.with_suffix(".partial")
    scratch.write_text(text, encoding="utf-8", newline="\n")
    scratch.replace(path)


def identities(notebook):
    """An id for each cell, made from its source, so that it changes only where the source does."""
    seen, found = {}, []
    for cell in notebook.cells:
        identity = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        seen[identity] = seen.get(identity, 0) + 1
        found.append(identity if seen[identity] == 1 else f"{identity}-{seen[identity]}")
    return found


def normalise(notebook):
    """Leave only what a reader or this tool needs in the metadata; give each cell a lasting id."""
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    stamp = {key: notebook.metadata[key] for key in (EXECUTED_WITH,) if key in notebook.metadata}
    metadata = {**stamp, "kernelspec": KERNEL, "language_info": LANGUAGE}
    notebook.metadata = nbformat.from_dict(metadata)
    for cell, identity in zip(notebook.cells, identities(notebook), strict=True):
        cell.id = identity
        kept = {key: cell.metadata[key] for key in CELL_METADATA if cell.metadata.get(key)}
        cell.metadata = nbformat.from_dict(kept)
    return notebook


def device():
    """The name of the device that the chapters will choose by themselves."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def digest(paths, *words):
    """A hash of words and of the files in folders, which notices every change."""
    sha = hashlib.sha256("\0".join(words).encode())
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts:
                sha.update(f"\0{file.relative_to(path)}\0".encode() + file.read_bytes())
    return sha.hexdigest()


def surroundings(root=ROOT):
    """A hash of all that a chapter's outputs depend on besides its own text."""
    libraries = (f"{library} {version(library)}" for library in LIBRARIES)
    return digest([root / name for name in INPUTS], sys.version, device(), *libraries)


def keep_measurements(notebook, before):
    """Put back the stored outputs of cells that measure the machine, where nothing has changed.

    A time differs in each run. So that a repeated execution leaves the same file, the first
    measurement stays as long as the code of the chapter and its surroundings do: no cell was edited
    (its id still fits its source), and the package and the libraries are the same.
    """
    same = notebook.metadata.get(EXECUTED_WITH) == before.metadata.get(EXECUTED_WITH)
    if not same or [cell.id for cell in before.cells] != identities(notebook):
        return
    for cell, old in zip(notebook.cells, before.cells, strict=True):
        if "nbval-ignore-output" in cell.metadata.get("tags", []) and old.outputs:
            cell.outputs = old.outputs


class PeakMemory(threading.Thread):
    """Watches the resident memory of a process and its children; ``peak`` is in bytes."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.process, self.peak, self.finished = psutil.Process(pid), 0, threading.Event()

    def run(self):
        while not self.finished.wait(MEMORY_INTERVAL):
            try:
                family = [self.process, *self.process.children(recursive=True)]
                self.peak = max(self.peak, sum(process.memory_info().rss for process in family))
            except psutil.Error:  # a process ended while it was being read
                continue


class Client(NotebookClient):
    """Runs a notebook in this interpreter's kernel and watches the kernel's memory."""

    memory = None

    def create_kernel_manager(self):
        # Without folders to search, only the kernel of the running interpreter is found: a kernel
        # that the user installed under the same name belongs to another environment.
        specs = KernelSpecManager(kernel_dirs=[])
        self.km = AsyncKernelManager(kernel_name=KERNEL["name"], kernel_spec_manager=specs)
        return self.km

    async def async_start_new_kernel(self, **options):
        await super().async_start_new_kernel(**options)
        self.memory = PeakMemory(self.km.provisioner.pid)
        self.memory.start()


def run(notebook, name, **hooks):
    """Fill in the outputs, from a fresh kernel in an empty folder: (seconds, peak bytes).

    hooks: nbclient's, such as ``on_cell_executed``.

    Raises ChapterError with the cell and its error.
    """
    position = []
    started = time.perf_counter()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    with tempfile.TemporaryDirectory() as folder:
        client = Client(
            notebook,
            timeout=CELL_TIMEOUT,
            record_timing=False,
            coalesce_streams=True,
            extra_arguments=["--IPKernelApp.log_level=40"],  # errors only
            store_widget_state=False,
            resources={"metadata": {"path": folder}},
            on_cell_start=lambda cell, cell_index: position.append(cell_index),
            **hooks,
        )
        try:
            client.execute(env={**os.environ, **ENVIRONMENT})
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            raise ChapterError(describe(notebook, name, position[-1], error)) from None
        finally:
            if client.memory is not None:
                client.memory.finished.set()
        left = sorted(path.name for path in Path(folder).iterdir())
    if left:
        raise ChapterError(f"{name} leaves {', '.join(left)} in the working folder; use tempfile")
    return time.perf_counter() - started, client.memory.peak


def describe(notebook, name, index, error):
    """The chapter, the cell's number among the code cells, its source and what went wrong."""
    number = sum(cell.cell_type == "code" for cell in notebook.cells[: index + 1])
    if isinstance(error, CellExecutionError):
        outputs = notebook.cells[index].outputs
        reason = "\n".join(outputs[-1].traceback) if outputs else f"{error.ename}: {error.evalue}"
    elif isinstance(error, CellTimeoutError):
        reason = f"The cell did not end within {CELL_TIMEOUT} seconds."
    else:
        reason = "The kernel died; most often the machine ran out of memory."
    if not sys.stdout.isatty():
        reason = re.sub(r"\x1b\[[0-9;]*m", "", reason)
    source = notebook.cells[index].source
    return f"{name}, code cell {number} fails:\n\n{source}\n\n{reason}"


def execute(path, target=None, fresh=False):
    """Execute the notebook into ``target`` (in place without one), with one line of report.

    In place, measurements stay where nothing has changed, unless ``fresh``.
    """
    print(f"{path.stem:<32}", end="", flush=True)
    notebook, before = read(path), read(path)
    try:
        seconds, peak = run(notebook, path.stem)
    except ChapterError:
        print("FAILED", flush=True)
        raise
    notebook.metadata[EXECUTED_WITH] = surroundings()[:16]
    if target is None and not fresh:
        keep_measurements(notebook, before)
    write(notebook, target or path)
    print(f"{seconds:6.1f} s {peak / 2**30:6.2f} GiB", flush=True)


def repository(root=ROOT):
    """The address of the book's public home in ``_config.yml``; empty while it has none."""
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    return config["repository"]["url"].rstrip("/")


def set_repository(address, root=ROOT):
    """Put the address into ``_config.yml``, its only home, and touch nothing else there."""
    path = root / "_config.yml"
    text = path.read_text(encoding="utf-8")
    pattern = r"(?m)(^repository:\n(?:[ #].*\n)*?  url:) [^#\n]*?( *#.*)?$"
    text, count = re.subn(pattern, lambda m: f'{m[1]} "{address.rstrip("/")}"{m[2] or ""}', text)
    if count != 1:
        raise SystemExit("_config.yml needs one line '  url: \"\"' under 'repository:'")
    path.write_text(text, encoding="utf-8")


def setup_source(address):
    """The set-up cell's text for a package that is installed from that git address."""
    template = (Path(__file__).parent / "setup_cell.py").read_text(encoding="utf-8").strip()
    return template.replace('""', json.dumps(f"git+{address}" if address else ""))


def is_setup(cell):
    """Whether this is the set-up cell, or the mark that stands for it in a draft."""
    is_code = cell.cell_type == "code"
    return is_code and (
        cell.source.strip() == "# SETUP" or "setup" in cell.metadata.get("tags", [])
    )


def setup(path, source, check=False):
    """Write the set-up cell into the notebook; True where it already was right."""
    notebook = read(path)
    cells = [cell for cell in notebook.cells if is_setup(cell)]
    if len(cells) != 1:
        raise ChapterError(f"{path.name} has {len(cells)} cells tagged 'setup' or '# SETUP', not 1")
    right = cells[0].source == source and cells[0].metadata == SETUP_METADATA
    if not right and not check:
        cells[0].source = source
        cells[0].metadata = nbformat.from_dict(SETUP_METADATA)
        write(notebook, path)
    return right


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("execute", help="run chapters from top to bottom, in place")
    command.add_argument("files", nargs="*", type=Path, help="notebooks; without any, all chapters")
    command.add_argument("--fresh", action="store_true", help="also measure the machine anew")
    command = commands.add_parser("setup", help="write the one set-up cell into the chapters")
    command.add_argument("--repository", metavar="ADDRESS", help="the book's new home, from now on")
    command.add_argument("--check", action="store_true", help="write nothing; fail on a difference")
    command.add_argument("files", nargs="*", type=Path, help="notebooks; without any, all chapters")
    options = parser.parse_args(arguments)
    try:
        if options.command == "execute":
            for path in options.files or chapters():
                execute(path, fresh=options.fresh)
            return
        if options.repository is not None:
            set_repository(options.repository)
        source = setup_source(repository())
        wrong = [p for p in options.files or chapters() if not setup(p, source, options.check)]
    except ChapterError as error:
        raise SystemExit(f"\n{error}") from None
    verb = "differs in" if options.check else "written to"
    for path in wrong:
        print(f"set-up cell {verb} {path.name}")
    if wrong and options.check:
        raise SystemExit("run: python tools/notebooks.py setup")


if __name__ == "__main__":
    main()
