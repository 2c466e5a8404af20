# SPDX-License-Identifier: Apache-2.0
"""Memory of the peers: at rest, before the first request, and at the peak under load."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench import procfs
from bench.load import HEADERS, Shape, burst
from bench.suite.table import Row

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.peers import Running
    from bench.suite.ground import Figures, Ground
    from bench.suite.plan import Plan

__all__ = ["at_rest", "under_load"]

_LOAD_S = 1.0


def at_rest(ground: Ground, plan: Plan, step: Callable[[str], None]) -> list[Row]:
    """What the peers hold before their first request."""
    del plan
    step("memory at rest")
    return [_row(name, "rest", running, procfs.resident_bytes) for name, running in ground.started.items() if running.daemons]


def under_load(ground: Ground, plan: Plan, step: Callable[[str], None]) -> list[Row]:
    """What the peers hold at the peak under load."""
    rows = []
    shape = Shape(connections=plan.loaded_connections, headers=len(HEADERS))
    for name, running in ground.started.items():
        if running.daemons:
            step(f"memory with {plan.loaded_connections} connections: {name}")
            for process in procfs.tree(running.pids):
                procfs.forget_peak(process.pid)
            burst(running.address, shape, seconds=_LOAD_S)
            rows.append(_row(name, f"{plan.loaded_connections} connections", running, procfs.peak_bytes))
    return rows


def _row(name: str, state: str, running: Running, resident: Callable[[int], int]) -> Row:
    """Return the memory of all processes, and of those that serve: a first process's children, or itself."""
    processes = procfs.tree(running.pids)
    serving = [process.pid for process in processes if process.pid not in running.pids] or running.pids
    figures: Figures = {
        "rss_mb": sum(resident(process.pid) for process in processes) / 1e6,
        "pss_mb": sum(procfs.pss_bytes(process.pid) for process in processes) / 1e6,
        "worker_rss_mb": sum(resident(pid) for pid in serving) / len(serving) / 1e6,
        "processes": len(processes),
    }
    row = Row(peer=name, labels={"state": state})
    row.add({metric: round(value, 1) for metric, value in figures.items()})
    return row
