# SPDX-License-Identifier: Apache-2.0
"""CPU time and memory of process trees, from /proc (Linux).

A tree's CPU time is the sum over its live processes of utime + stime (all threads) and cutime + cstime (children that ended and
were waited for). When a process ends, its time moves from the first pair to its parent's second pair, so the sum never falls and
nothing is counted twice. The resolution is one clock tick (10 ms on most machines) per process: intervals must be much longer.
Of processes that all live on, the kernel also tells the CPU time to the nanosecond (`busy_us`).
"""

from __future__ import annotations

import ctypes
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Process", "busy_us", "cpu_us", "forget_peak", "peak_bytes", "pss_bytes", "resident_bytes", "rss_bytes", "tree"]

_LIBC = ctypes.CDLL(None)

_TICK_US = 1_000_000 // os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One line of /proc/<pid>/stat: identity, CPU time and resident memory."""

    pid: int
    parent: int
    cpu_us: int
    rss_bytes: int


def tree(roots: Iterable[int]) -> list[Process]:
    """Return the live processes of `roots` and all their descendants.

    Raises:
        ProcessLookupError: one of `roots` is gone: its numbers would silently be missing from the sum.
    """
    processes = _all_processes()
    children: dict[int, list[int]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process.pid)
    found: dict[int, Process] = {}
    todo = list(roots)
    for root in todo:
        if root not in processes:
            msg = f"process {root} has ended"
            raise ProcessLookupError(msg)
    while todo:
        pid = todo.pop()
        if pid not in found:
            found[pid] = processes[pid]
            todo.extend(children.get(pid, ()))
    return list(found.values())


def cpu_us(roots: Iterable[int]) -> int:
    """Return user + system CPU time in microseconds that the trees of `roots` have used so far."""
    return sum(process.cpu_us for process in tree(roots))


def busy_us(pids: Iterable[int]) -> int:
    """Return the CPU time of these processes alone, exactly (man 3 clock_getcpuclockid).

    Raises:
        ProcessLookupError: one of them is gone.
    """
    total = 0
    for pid in pids:
        clock = ctypes.c_int()
        if _LIBC.clock_getcpuclockid(pid, ctypes.byref(clock)):
            msg = f"process {pid} has ended"
            raise ProcessLookupError(msg)
        total += time.clock_gettime_ns(clock.value)
    return total // 1000


def resident_bytes(pid: int) -> int:
    """Return the resident memory of one process."""
    return _kib(pid, "status", "VmRSS:")


def peak_bytes(pid: int) -> int:
    """Return the largest resident memory that one process has had since `forget_peak`."""
    return _kib(pid, "status", "VmHWM:")


def pss_bytes(pid: int) -> int:
    """Return the memory of one process, of pages that several share its part."""
    return _kib(pid, "smaps_rollup", "Pss:")


def forget_peak(pid: int) -> int:
    """Begin a new peak; return what the process holds now (man 5 proc: clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
    return resident_bytes(pid)


def _kib(pid: int, file: str, name: str) -> int:
    for line in Path(f"/proc/{pid}/{file}").read_text(encoding="utf-8").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    msg = f"process {pid} has no {name}"
    raise ProcessLookupError(msg)


def rss_bytes(roots: Iterable[int]) -> int:
    """Return the resident memory of the trees of `roots`; pages that processes share count once for each."""
    return sum(process.rss_bytes for process in tree(roots))


def _all_processes() -> dict[int, Process]:
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                text = Path("/proc", entry, "stat").read_text(encoding="utf-8", errors="replace")
            except (FileNotFoundError, ProcessLookupError):  # ended between the listing and here
                continue
            found[int(entry)] = _parse(text)
    return found


def _parse(text: str) -> Process:
    """Parse a stat line. The command name may hold blanks and parentheses; fields are counted after the last `)` (man 5 proc)."""
    pid, rest = text.split(" ", 1)
    fields = rest[rest.rindex(")") + 2 :].split()
    utime, stime, cutime, cstime = fields[11:15]
    return Process(
        pid=int(pid),
        parent=int(fields[1]),
        cpu_us=(int(utime) + int(stime) + int(cutime) + int(cstime)) * _TICK_US,
        rss_bytes=int(fields[21]) * _PAGE_BYTES,
    )
