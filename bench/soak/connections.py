# SPDX-License-Identifier: Apache-2.0
"""Which connections a process holds, from /proc (Linux): so that the loss of exactly those is explained when it is killed."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

__all__ = ["kill_and_tell", "peer_ports"]

_ESTABLISHED = "01"
_STOP_S = 5.0


def peer_ports(pid: int, ports: range | frozenset[int]) -> list[int]:
    """Return the ports of the other ends of a process's connections at its own `ports`.

    Connections that wait in a queue belong to no process yet, and so are not among them.
    """
    inodes = set()
    for entry in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{entry}")
        except FileNotFoundError:  # closed meanwhile
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = []
    for line in Path(f"/proc/{pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        _, local, remote, _state, *rest = line.split()
        if rest[5] in inodes and int(local.partition(":")[2], 16) in ports and (port := int(remote.partition(":")[2], 16)):
            found.append(port)
    return sorted(found)


def kill_and_tell(pid: int, ports: range | frozenset[int]) -> list[int]:
    """Stop a process, look which connections it holds, kill it; return their other ends' ports."""
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + _STOP_S
    while not _is_stopped(pid) and time.monotonic() < deadline:
        os.sched_yield()
    found = peer_ports(pid, ports)
    os.kill(pid, signal.SIGKILL)
    return found


def _is_stopped(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    return stat.rpartition(") ")[2][0] == "T"
