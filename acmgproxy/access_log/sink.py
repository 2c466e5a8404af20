# SPDX-License-Identifier: Apache-2.0
"""Where access log lines go: a thread that writes what the event loop hands it.

The loop only appends to a deque. The thread gathers for `_GATHER_S` before it writes, so that it wakes a few times a second,
however many lines come; when more than `_MAX_WAITING` lines wait, new ones are dropped and counted. A file that somebody has
renamed (log rotation) is left for a new one of the old name.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque

__all__ = ["Sink", "check_sink"]

_MAX_WAITING = 10_000
"""Lines held for a sink that does not keep up: about 4 MB."""

_GATHER_S = 0.05
"""How long the thread gathers lines before it writes them."""

_AT_ONCE = 256
"""Lines joined for one write: about 100 kB, so that the thread never holds the interpreter for long."""

_OPEN_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
"""Opening must not wait, as it would for the reader of a pipe; writing may."""


def check_sink(name: str) -> None:
    """Find out whether there can be lines at "-" or a path.

    Raises:
        OSError: they cannot.
    """
    if name != "-":
        os.close(_open(name))


class Sink:
    """Writes lines.

    Args:
        fd: file descriptor to write to; lines are written whole, so several workers may share a file opened for appending.
        path: name of the file that is opened anew when it is no longer there under this name; "" for a descriptor that stays.

    Attributes:
        name: what it was opened as, "" for a descriptor.
        dropped: lines lost because the sink did not keep up, or could not be written.
    """

    def __init__(self, fd: int, path: str = "", name: str = "") -> None:
        self._fd = fd
        self.name = name
        self._path = path
        self._lines: deque[str] = deque()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"Sink({self._path or self._fd!r}, waiting={len(self._lines)}, dropped={self.dropped})"

    @classmethod
    def open(cls, name: str) -> Sink:
        """Open standard output ("-") or a file to append to.

        Raises:
            OSError: the file cannot be opened.
        """
        if name == "-":
            return cls(os.dup(sys.stdout.fileno()), name=name)
        return cls(_open(name), name, name)

    def put(self, line: str) -> None:
        """Take a line, its newline included; never blocks."""
        if len(self._lines) >= _MAX_WAITING:
            self.dropped += 1
            return
        self._lines.append(line)
        if not self._wake.is_set():
            self._wake.set()

    def retire(self) -> None:
        """Have what waits written and stop, without waiting for it."""
        self._stopping.set()
        self._wake.set()

    def close(self) -> None:
        """Write what waits and stop; a sink that takes nothing is left after two seconds."""
        self.retire()
        self._thread.join(timeout=2.0)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._stopping.wait(_GATHER_S)
            self._wake.clear()
            is_last = self._stopping.is_set()
            self._follow_rotation()
            while self._lines:
                batch = [self._lines.popleft() for _ in range(min(_AT_ONCE, len(self._lines)))]
                self._write(batch)
            if is_last:
                os.close(self._fd)
                return

    def _follow_rotation(self) -> None:
        """Open the file anew if its name means another file now, or none."""
        if not self._path:
            return
        try:
            is_same = os.path.samestat(os.stat(self._path), os.fstat(self._fd))
        except FileNotFoundError:
            is_same = False
        except OSError:
            return  # whatever this is, the open file still takes lines
        if is_same:
            return
        try:
            fd = _open(self._path)
        except OSError:
            return
        os.close(self._fd)
        self._fd = fd

    def _write(self, lines: list[str]) -> None:
        data = "".join(lines).encode("utf-8", "backslashreplace")
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError:
            self.dropped += data.count(b"\n")


def _open(path: str) -> int:
    fd = os.open(path, _OPEN_FLAGS, 0o644)
    os.set_blocking(fd, True)
    return fd
