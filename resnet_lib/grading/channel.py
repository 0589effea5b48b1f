"""Requests and replies between two processes, over pipes, of which one side may lie.

A frame is a fixed header, a small JSON dictionary and bytes. Each request carries a number drawn at
random, which its reply has to repeat, so that a reply written in advance is told from a real one.
"""

import contextlib
import json
import os
import queue
import secrets
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any, BinaryIO

from resnet_lib.assignments.sending import LARGEST

MAGIC = b"RLB1"
HEADER = struct.Struct(">4sII")
LARGEST_HEAD = 64 * 1024
LARGEST_COMPLAINT = 4096  # bytes of stderr that are kept
PATIENCE = 10  # how many times longer a request may take by the clock on the wall


class Broken(Exception):
    """The other side sent something that is no frame, or a reply to another request."""


class Ended(Exception):
    """The other side is gone."""


class TimeUp(Exception):
    """No reply within the time."""


def write_frame(file: BinaryIO, head: dict[str, Any], body: bytes = b"") -> None:
    """One frame, flushed."""
    text = json.dumps(head).encode()
    file.write(HEADER.pack(MAGIC, len(text), len(body)) + text + body)
    file.flush()


def read_frame(file: BinaryIO) -> tuple[dict[str, Any], bytes]:
    """One frame; Ended at the end of the file, Broken for anything that isn't one."""
    start = file.read(HEADER.size)
    if not start:
        raise Ended
    if len(start) < HEADER.size:
        raise Broken
    magic, head_size, body_size = HEADER.unpack(start)
    if magic != MAGIC or head_size > LARGEST_HEAD or body_size > LARGEST:
        raise Broken
    text, body = file.read(head_size), file.read(body_size)
    if len(text) < head_size or len(body) < body_size:
        raise Broken
    try:
        head = json.loads(text)
    except (ValueError, RecursionError):
        raise Broken from None
    if not isinstance(head, dict):
        raise Broken
    return head, body


def serve(answer: Callable[[dict, bytes], tuple[dict, bytes]]) -> None:
    """Answer requests on stdin until it ends; replies go to what was stdout.

    Both become the null device, so that nothing else reads or writes there.
    """
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    while True:
        try:
            head, body = read_frame(requests)
        except Ended:
            return
        reply, payload = answer(head, body)
        write_frame(replies, reply | {"number": head["number"]}, payload)


class Peer:
    """A process that serves requests, watched over from here."""

    def __init__(self, command: list[str], **options: Any):
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )
        self.complaint = b""  # the start of its stderr
        # At most one reply is waited for: more than that is a flood, and stays in the pipe.
        self._replies: queue.Queue = queue.Queue(maxsize=2)
        self._requests: queue.Queue = queue.Queue()
        self._closed = threading.Event()
        for work in (self._read, self._write, self._drain):
            threading.Thread(target=work, daemon=True).start()

    def _read(self) -> None:
        while not self._closed.is_set():
            try:
                found = read_frame(self.process.stdout)
            except (Broken, Ended) as error:
                found = error
            except (OSError, ValueError):  # closed meanwhile
                found = Ended()
            while not self._closed.is_set():
                with contextlib.suppress(queue.Full):
                    self._replies.put(found, timeout=1)
                    break
            if isinstance(found, Exception):
                return

    def _write(self) -> None:
        while True:
            frame = self._requests.get()
            if frame is None:
                return
            with contextlib.suppress(OSError, ValueError):  # gone: the reader notices
                write_frame(self.process.stdin, *frame)

    def _drain(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while piece := self.process.stderr.read1(65536):
                self.complaint += piece[: LARGEST_COMPLAINT - len(self.complaint)]

    def request(
        self,
        head: dict[str, Any],
        body: bytes = b"",
        seconds: float = 60,
        clock: Callable[[], float] = time.monotonic,
    ) -> tuple[dict[str, Any], bytes]:
        """The reply to a request; Ended, Broken or TimeUp where there is none.

        ``clock`` counts the seconds. It may run slower than the one on the wall, but not for ever.
        """
        number, end = secrets.token_hex(16), clock() + seconds
        last = time.monotonic() + PATIENCE * seconds
        self._requests.put((head | {"number": number}, body))
        reply = None
        while reply is None:
            left = min(end - clock(), last - time.monotonic())
            try:
                reply = self._replies.get(timeout=max(left, 0.001))
            except queue.Empty:
                if left <= 0:
                    raise TimeUp from None
        if isinstance(reply, Exception):
            raise reply
        if reply[0].get("number") != number:
            raise Broken
        return reply

    def kill(self) -> None:
        """End the process."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            self.process.kill()

    def close(self) -> None:
        """End the process and let go of everything that belongs to it."""
        self._closed.set()
        self._requests.put(None)
        self.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=10)
        # Our ends of the pipes stay open where a thread still uses them; a daemon's copy of the
        # other end could make closing wait.
        threading.Thread(target=self._close_pipes, daemon=True).start()

    def _close_pipes(self) -> None:
        for file in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(OSError, ValueError):
                file.close()
