# SPDX-License-Identifier: Apache-2.0
"""What the system says about memory and file descriptors: used and limit, a few microseconds a reading (Linux).

Memory has up to three limits and the tightest counts: a setting for the resident memory of the process; the cgroups (v2) the
process is in, from its own up to the root it can see; and RLIMIT_AS and RLIMIT_DATA. What counts of a cgroup is its working set
as the kubelet calculates it, memory.current less the file cache that the kernel drops when it needs room (`inactive_file`).
Limits are read anew each time, because a pod can be resized in place.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CgroupMemory", "Descriptors", "Memory", "shrink_heap"]

_PAGE_BYTES = resource.getpagesize()
_CGROUPS = Path("/sys/fs/cgroup")

_CACHE_MATTERS = 0.85
"""Below this share of its limit a cgroup's cache is not looked at: on large machines memory.stat takes the kernel a while."""

_RESERVED_DESCRIPTORS = 16
"""Kept for what is neither client nor endpoint: log files, the way to the supervisor, sockets that take up accepting again."""

_LISTING_STANDS_S = 10.0

_NO_DESCRIPTOR = frozenset({errno.EMFILE, errno.ENFILE})


class CgroupMemory:
    """The memory of the cgroups that a process is in.

    Args:
        root: where cgroups are mounted.
        membership: text of /proc/self/cgroup.
    """

    def __init__(self, root: Path, membership: str) -> None:
        self._groups = _groups_with_limit(root, membership)

    def __repr__(self) -> str:
        return f"CgroupMemory({', '.join(map(str, self._groups)) or 'none'})"

    @classmethod
    def of_this_process(cls) -> CgroupMemory:
        """Return those of this process; without cgroups v2 there are none."""
        try:
            membership = Path("/proc/self/cgroup").read_text(encoding="utf-8")
        except OSError:
            membership = ""
        return cls(_CGROUPS, membership)

    def pressure(self) -> float:
        """Return the highest share that a group uses of its limit."""
        return max(map(_pressure_of, self._groups), default=0.0)

    @property
    def is_limited(self) -> bool:
        """Whether any group could have a limit."""
        return bool(self._groups)


class Memory:
    """Memory pressure of this process.

    Args:
        max_bytes: limit of the resident memory, 0 for none.
        cgroups: see CgroupMemory.
    """

    def __init__(self, max_bytes: int, cgroups: CgroupMemory | None = None) -> None:
        self._max_bytes = max_bytes
        self._cgroups = cgroups if cgroups is not None else CgroupMemory.of_this_process()
        self._latest: float | None = None

    def __repr__(self) -> str:
        return f"Memory(max_bytes={self._max_bytes}, {self._cgroups!r})"

    def pressure(self) -> float | None:
        """Return the highest share that is used of any limit, None when there is no limit.

        Reading takes a descriptor. When there is none, the latest reading stands.
        """
        with suppress(OSError):
            self._latest = self._read()
        return self._latest

    def _read(self) -> float | None:
        found = [self._cgroups.pressure()] if self._cgroups.is_limited else []
        address_space = _soft_limit(resource.RLIMIT_AS)
        data = _soft_limit(resource.RLIMIT_DATA)
        if self._max_bytes or address_space or data:
            pages = Path("/proc/self/statm").read_bytes().split()
            for limit, index in ((address_space, 0), (self._max_bytes, 1), (data, 5)):
                if limit:
                    found.append(int(pages[index]) * _PAGE_BYTES / limit)
        return max(found, default=None)


class Descriptors:
    """File descriptors of this process.

    Linux tells their number since 6.2. Before, they have to be listed, which takes milliseconds when there are thousands; then a
    count stands for a while, and until the next each new client counts for two.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._listed_at = float("-inf")
        self._listed = self._clients_then = 0

    def __repr__(self) -> str:
        return f"Descriptors(limit={self.limit()})"

    @staticmethod
    def limit() -> int:
        """Return how many may be used, 0 for any number. A few are kept back."""
        soft = _soft_limit(resource.RLIMIT_NOFILE)
        return max(1, soft - _RESERVED_DESCRIPTORS) if soft else 0

    def used(self, clients: int) -> int:
        """Return how many are in use, or a little more.

        Args:
            clients: connections of clients.
        """
        exact = _descriptors_told()
        if exact:
            return exact
        estimate = self._listed + 2 * max(0, clients - self._clients_then)
        now = self._clock()
        limit = self.limit()
        if now - self._listed_at < _LISTING_STANDS_S and not (limit and estimate > 0.8 * limit):
            return estimate
        try:
            self._listed = _descriptors_listed()
        except OSError:
            return max(estimate, limit)  # not even one is left to list them with
        self._listed_at, self._clients_then = now, clients
        return self._listed


def shrink_heap() -> None:
    """Give memory that malloc keeps for later back to the system, where the C library can (glibc)."""
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _descriptors_told() -> int:
    """Return how many descriptors are open, 0 when the kernel is too old to tell."""
    return os.stat("/proc/self/fd").st_size


def _descriptors_listed() -> int:
    return len(os.listdir("/proc/self/fd"))


def _soft_limit(which: int) -> int:
    soft, _ = resource.getrlimit(which)
    return 0 if soft == resource.RLIM_INFINITY else soft


def _groups_with_limit(root: Path, membership: str) -> tuple[Path, ...]:
    """Find the unified hierarchy's groups of a process that have the memory controller, innermost first."""
    for line in membership.splitlines():
        hierarchy, _, path = line.split(":", 2)
        if hierarchy == "0":
            inner = root / path.lstrip("/")
            lineage = (inner, *(parent for parent in inner.parents if parent.is_relative_to(root)))
            return tuple(group for group in lineage if (group / "memory.max").exists())
    return ()


def _pressure_of(group: Path) -> float:
    try:
        text = (group / "memory.max").read_text(encoding="ascii").strip()
        if text == "max":
            return 0.0
        limit = max(1, int(text))
        used = int((group / "memory.current").read_text(encoding="ascii"))
        if used > _CACHE_MATTERS * limit:
            used -= _inactive_file(group)
    except OSError as error:
        if error.errno in _NO_DESCRIPTOR:
            raise
        return 0.0  # the group has gone
    except ValueError:  # it says what it never said
        return 0.0
    return used / limit


def _inactive_file(group: Path) -> int:
    for line in (group / "memory.stat").read_text(encoding="ascii").splitlines():
        if line.startswith("inactive_file "):
            return int(line.split()[1])
    return 0
