# SPDX-License-Identifier: Apache-2.0
"""How many processors this process may use: those it may run on, or fewer if its cgroups (v2) give it less time than that.

A pod with a limit of two processors on a machine with 64 may run on all 64, but not for long: with 64 workers it would be out of
time within 3 ms of every 100.
"""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

__all__ = ["usable_processors"]

_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


def usable_processors(root: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> int:
    """Return the number of processors, at least 1; a fraction of one counts as one, as in Go's runtime.

    Args:
        root: where cgroups are mounted.
        membership: which of them this process is in, as in /proc/self/cgroup.
    """
    allowed = len(os.sched_getaffinity(0))
    limits = [limit for group in _lineage(root, membership) if (limit := _limit(group)) is not None]
    return max(1, min(allowed, *(math.ceil(limit) for limit in limits), allowed))


def _lineage(root: Path, membership: Path) -> list[Path]:
    """Return the group of this process and those around it, as far as they can be seen."""
    with suppress(OSError):
        for line in membership.read_text(encoding="utf-8").splitlines():
            if line.startswith("0::/"):
                inner = root / line.removeprefix("0::/")
                return [inner, *(parent for parent in inner.parents if parent.is_relative_to(root))]
    return []


def _limit(group: Path) -> float | None:
    """Return how many processors' time a group has, None for any."""
    try:
        quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # no such file at the root, or "max"
        return None
