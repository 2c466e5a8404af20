# SPDX-License-Identifier: Apache-2.0
r"""What a worker leaves behind when it dies: the request it was working on, and its stack.

A file in memory that worker and supervisor share. The worker notes the head of a request before it parses and routes it, and
takes the note back when control returns to its event loop. faulthandler appends stacks: by itself when the process is about to
die of a fault, and whenever the supervisor asks by a signal, which works without the interpreter, so also when a C function never
returns. After the death the supervisor reads both; while the worker lives it looks at neither.

    0            1                              NOTE_BYTES - ROUTE_BYTES        NOTE_BYTES
    | progress   | listener \n head \r\n\r\n  ...  | route \n                    | stacks ...

A note costs half a microsecond and is made for a head that is new to its connection only: one that came before has been through
all of this and did no harm. What is noted is in place before `progress` says so, hence a note is whole or not there.
"""

from __future__ import annotations

import faulthandler
import mmap
import os
import signal
from typing import NamedTuple

__all__ = ["STACK_SIGNAL", "BlackBox", "Note", "Recorder"]

NOTE_BYTES = 128 * 1024
"""Room for the largest head that is accepted by default (60 KiB) and names; what is not written takes no memory."""

ROUTE_BYTES = 4096
_STACK_BYTES = 16 * 1024
"""As much of the stacks as is read: some two hundred calls."""

STACK_SIGNAL = signal.SIGUSR2
"""Makes a worker write its stack down."""

_NOTHING, _HEAD, _ROUTED = range(3)
_END_OF_HEAD = b"\r\n\r\n"


class Note(NamedTuple):
    """The request a worker was working on when it died. `route` is "" if none had been found yet."""

    listener: str
    head: bytes
    route: str


class Recorder:
    """The worker's side.

    Args:
        fd: the shared file; owned from here on.
    """

    __slots__ = ("_fd", "_map", "_note", "_route")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._map = memoryview(mmap.mmap(fd, NOTE_BYTES))
        self._note = self._map[1 : NOTE_BYTES - ROUTE_BYTES]
        self._route = self._map[NOTE_BYTES - ROUTE_BYTES :]

    def __repr__(self) -> str:
        return f"Recorder(fd={self._fd}, {('nothing', 'head', 'routed')[self._map[0]]})"

    def record_stacks(self) -> None:
        """Have stacks written down from now on."""
        faulthandler.enable(file=self._fd)
        faulthandler.register(STACK_SIGNAL, file=self._fd)

    def begin(self, listener: bytes, head: bytes) -> None:
        """Note a request head that is about to be worked on."""
        note = listener + b"\n" + head
        size = len(note)
        if size <= NOTE_BYTES - ROUTE_BYTES - 1:
            self._note[:size] = note
            self._map[0] = _HEAD

    def routed(self, route: str) -> None:
        """Add to the note which route it takes."""
        if self._map[0] == _HEAD:
            line = route.encode()[: ROUTE_BYTES - 1] + b"\n"
            self._route[: len(line)] = line
            self._map[0] = _ROUTED

    def end(self) -> None:
        """Take the note back: it did no harm."""
        self._map[0] = _NOTHING


class BlackBox:
    """The supervisor's side.

    Raises:
        OSError: there is no room for one more descriptor.
    """

    __slots__ = ("fd",)

    def __init__(self) -> None:
        self.fd = os.memfd_create("acmgproxy-worker")
        os.ftruncate(self.fd, NOTE_BYTES)
        os.lseek(self.fd, 0, os.SEEK_END)  # where stacks go: the position is shared with the worker's descriptor

    def __repr__(self) -> str:
        return f"<BlackBox fd={self.fd}>"

    def note(self) -> Note | None:
        """Return the request that was being worked on, None if there was none."""
        progress = os.pread(self.fd, 1, 0)[0]
        if progress == _NOTHING:
            return None
        listener, _, rest = os.pread(self.fd, NOTE_BYTES - ROUTE_BYTES - 1, 1).partition(b"\n")
        head, end, _ = rest.partition(_END_OF_HEAD)
        route = b""
        if progress == _ROUTED:
            route = os.pread(self.fd, ROUTE_BYTES, NOTE_BYTES - ROUTE_BYTES).partition(b"\n")[0]
        return Note(listener.decode("utf-8", "replace"), head + end, route.decode("utf-8", "replace"))

    def stacks(self) -> list[str]:
        """Return the lines that the worker has written about its stack."""
        text = os.pread(self.fd, _STACK_BYTES, NOTE_BYTES).decode("utf-8", "replace")
        return [line.strip() for line in text.splitlines() if line.strip()]

    def close(self) -> None:
        """Let go of it."""
        os.close(self.fd)
