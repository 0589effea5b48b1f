"""The program in the sandbox: runs a notebook's cells, then calls what they defined.

Everything here is in the hands of the student's code as soon as its first cell runs: nothing that
this process says is believed. It reads requests from stdin and knows nothing else: no seed, no
expected answer, no hidden item before it is asked to collect it.
"""

import contextlib
import difflib
import linecache
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from resnet_lib import assignments
from resnet_lib.assignments.items import gather
from resnet_lib.checks.verdict import short
from resnet_lib.grading import channel

# Their effects are for a person in front of a screen, or need what is not here.
WITHOUT_EFFECT = {"matplotlib", "pylab", "gui", "pip", "conda", "mamba", "micromamba", "uv"}
SHELL_CELLS = {"bash", "sh", "script", "shell", "perl", "ruby", "html", "javascript", "js", "svg"}
LONGEST_LINE = 120  # characters of a line of code that are shown


class Shell(InteractiveShell):
    """Executes cells as Jupyter does, silently, and without commands of the operating system."""

    def showtraceback(self, *args, **options):
        """Nobody looks: the error itself is in the result of the cell."""

    showsyntaxerror = showindentationerror = showtraceback

    def enable_gui(self, gui=None):
        """No windows."""

    def system(self, command):
        """Installed packages are what they are; a line of a shell changes nothing."""

    system_raw = system_piped = system

    def getoutput(self, command, split=True, depth=0):
        """Nothing ran, so nothing was printed."""
        return [] if split else ""

    def run_line_magic(self, name, line, _stack_depth=1):
        """Jupyter's commands, except those without effect here and those that are unknown."""
        if name in WITHOUT_EFFECT or self.find_line_magic(name) is None:
            return None
        return super().run_line_magic(name, line, _stack_depth + 1)

    def run_cell_magic(self, name, line, cell):
        """The same for a whole cell."""
        if name in SHELL_CELLS or self.find_cell_magic(name) is None:
            return None
        return super().run_cell_magic(name, line, cell)


def make_shell() -> Shell:
    """A shell whose names are those of a new module ``__main__``."""
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.cache_size = 0
    config.InteractiveShell.ast_node_interactivity = "none"  # no repr of what nobody reads
    return Shell.instance(config=config, user_module=module)


def limit(numbers: dict[str, int]) -> None:
    """Limits of the operating system for this process, by the names of ``resource``."""
    try:
        import resource
    except ImportError:  # Windows
        return
    for name, value in numbers.items():
        kind = getattr(resource, name, None)
        if kind is not None:
            _, hard = resource.getrlimit(kind)
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(kind, (value, value))
    # Where memory runs out in spite of all, the system should choose this process.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def describe(error: BaseException | None, names: dict[str, Any]) -> str:
    """A cell's error in one line; ``names`` are the notebook's, whose innermost line is shown."""
    if error is None:
        return ""
    text, place, trace = f"{type(error).__name__}: {short(error)}", "", error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals is names:
            line = linecache.getline(trace.tb_frame.f_code.co_filename, trace.tb_lineno).strip()
            place = f', at the line "{line[:LONGEST_LINE]}"' if line else place
        trace = trace.tb_next
    return text + place


class Runner:
    """What is asked of a student's process: run a cell, collect an item."""

    def __init__(self):
        self.shell = make_shell()
        self.assignment = None
        self.hidden: dict[str, Any] = {}

    def answer(self, head: dict, body: bytes) -> tuple[dict, bytes]:
        """The reply to a request."""
        return getattr(self, head["do"])(head, body)

    def start(self, head: dict, body: bytes) -> tuple[dict, bytes]:
        """Load the visible items, and set the limits."""
        self.assignment = assignments.find(head["assignment"])
        limit(head["limits"])
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)  # until here, stderr tells the grader why nothing starts
        return {}, b""

    def run(self, head: dict, body: bytes) -> tuple[dict, bytes]:
        """Run a cell; the reply has its error, if there was one."""
        result = self.shell.run_cell(body.decode(), store_history=True)
        error = result.error_before_exec or result.error_in_exec
        return {"error": describe(error, self.shell.user_ns)}, b""

    def reveal(self, head: dict, body: bytes) -> tuple[dict, bytes]:
        """Load the collecting half of the hidden items."""
        names: dict[str, Any] = {"__name__": "hidden_collect"}
        exec(compile(body, "hidden_collect", "exec"), names)
        self.hidden = names
        return {}, b""

    def collect(self, head: dict, body: bytes) -> tuple[dict, bytes]:
        """Call the student's object; the reply has its outputs, or why there are none."""
        name, names = head["answer"], self.shell.user_ns
        if name not in names:
            return {"missing": similar(name, self.shell.user_ns)}, b""
        outputs, failure = gather(self.function(head), names[name], body)
        return {"failure": failure, "from": origin(names[name])}, outputs

    def function(self, head: dict) -> Callable:
        """The collecting half of a visible or hidden item."""
        if "hidden" in head:
            return self.hidden[head["hidden"]]
        return self.assignment.item(head["item"]).collect


def similar(name: str, names: dict[str, Any]) -> list[str]:
    """Names of the notebook that could be meant: BottleNeck, MyBottleneck, bottleneck_block."""
    ours = [each for each in names if not each.startswith("_") and each.lower() not in BUILT_IN]
    plain = {each: each.replace("_", "").lower() for each in ours}
    wanted = name.replace("_", "").lower()
    close = set(difflib.get_close_matches(wanted, plain.values(), n=5, cutoff=0.75))
    return [each for each in ours if plain[each] in close or wanted in plain[each]][:5]


BUILT_IN = {"in", "out", "exit", "quit", "get_ipython", "open"}


def origin(answer: Any) -> list[str]:
    """The modules that define the answer's class and its bases, the notebook itself aside."""
    kind = answer if isinstance(answer, type) else type(answer)
    owners = [getattr(answer, "__module__", None), *(base.__module__ for base in kind.__mro__)]
    return sorted({str(owner) for owner in owners if owner not in (None, "__main__", "builtins")})


def main() -> None:
    """Serve until the grader closes the pipe."""
    runner = Runner()
    channel.serve(runner.answer)
    os._exit(0)  # without waiting for threads or for anything that was registered for the end


if __name__ == "__main__":
    main()
