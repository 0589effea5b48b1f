"""The processes of this machine, as /proc tells of them; nothing where there is no /proc."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def all_of_them() -> Iterator[tuple[int, list[str]]]:
    """(pid, fields of its stat from the state on) of all processes; nothing without /proc."""
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError, ValueError):  # it has ended meanwhile
                    text = Path("/proc", name, "stat").read_bytes().decode("ascii", "replace")
                    yield int(name), text[text.rindex(")") + 2 :].split()


def descendants(root: int) -> list[dict[str, int]]:
    """The process and all below it: pid, threads, and bytes of memory."""
    children: dict[int, list[int]] = {}
    numbers = {}
    page = os.sysconf("SC_PAGE_SIZE")
    for pid, fields in all_of_them():
        children.setdefault(int(fields[1]), []).append(pid)
        numbers[pid] = {"pid": pid, "threads": int(fields[17]), "rss": int(fields[21]) * page}
    found, queue = [], [root]
    while queue:
        pid = queue.pop()
        if pid in numbers:
            found.append(numbers[pid])
        queue += children.get(pid, [])
    return found


def threads_of_user() -> int:
    """Threads that the grader's user runs already, which an older kernel counts in."""
    total, own = 0, os.getuid() if hasattr(os, "getuid") else 0
    for pid, fields in all_of_them():
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}").stat().st_uid == own:
                total += int(fields[17])
    return total


def exceeds(family: list[dict[str, int]], most: float) -> bool:
    """Whether the processes together hold more bytes than that.

    Memory that copies of a process share is counted once, where the system tells.
    """
    if sum(member["rss"] for member in family) <= most:
        return False
    return sum(share(member) for member in family) > most


def share(member: dict[str, int]) -> int:
    """Bytes of a process, a page that n processes share counted as 1/n."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{member['pid']}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
        return 0  # it has ended
    return member["rss"]


def waited(pid: int) -> float | None:
    """Seconds in which the process was ready to run while others had the processor."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    return None
