# SPDX-License-Identifier: Apache-2.0
"""Judges a soak: which failures nobody can explain, and what grew that must not. Plain functions of the result.

A failure is explained by a fault only if its connection was one of those that the fault is known to have ended, and the fault
lies within that connection's life. Growth of memory is a slope (Theil and Sen: the median of all slopes, which a few odd samples
do not move) over the time after a process has warmed up. Descriptors are compared without those of connections, which come and
go.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.soak.records import Failure, Fault, Result, Sample

__all__ = ["Growth", "Judged", "Third", "drift", "explain", "judge", "memory_growth", "other_descriptors", "slope"]

MIB = 1024 * 1024

WARM_UP_S = 120.0
"""After a process has started, its memory is not looked at for so long, or a quarter of the run if that is shorter: the heap's
arenas grow and caches fill."""

SHORTEST_S = 60.0
"""Processes that were looked at for a shorter time say nothing about growth."""

GROWTH_FLOOR_BYTES = 6 * MIB
"""What resident memory may differ by without meaning anything: the buffers of a few big bodies under way, half a heap arena."""

GROWTH_PER_HOUR_BYTES = 6 * MIB
"""What it may grow by in an hour besides: below it, a worker of 40 MiB takes a day to reach 200 MiB, and limits replace it."""

DESCRIPTORS = 12
"""What the number of descriptors besides connections may differ by: what is being opened or closed while they are counted."""

DRIFT_RATIO, DRIFT_MS = 1.5, 10.0
"""What the p99 of the last third may be, in terms of the first: so many times it and so many milliseconds more."""

SHORT_S = 900.0
SHORT_DRIFT_RATIO, SHORT_DRIFT_MS = 4.0, 50.0
"""The same for runs shorter than SHORT_S, in which one neighbour on the machine makes a third of the time."""

HEARD_S = 35.0
"""How long after a fault its consequences may be noticed: the clients' patience and a little more."""

_RESTING = (
    "active_requests", "downstream_connections", "tunnels", "upstream_active_retries", "upstream_connecting",
    "upstream_pending_requests",
)  # fmt: skip
"""Gauges of a worker that must be 0 when nobody asks for anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """How a process's memory developed.

    Args:
        pid, role: of the process.
        seconds: how long it was looked at.
        per_hour: slope in bytes an hour; `grown` over the time it was looked at, `allowed` of that.
    """

    pid: int
    role: str
    seconds: float
    per_hour: float
    grown: float
    allowed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Third:
    """The p99 of a third of the run: the median of those of its tallies."""

    first_ms: float
    last_ms: float
    allowed_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The verdict: `problems` are why it failed, none if it passed."""

    problems: list[str]
    requests: int
    explained: dict[str, int]
    unexplained: list[Failure]
    growth: list[Growth]
    descriptors: tuple[float, float]
    p99: Third


def judge(result: Result) -> Judged:
    """Judge a run."""
    explained: dict[str, int] = {}
    unexplained: list[Failure] = []
    untold = 0
    for tally in result.tallies:
        untold += tally.failed - len(tally.failures)
        for failure in tally.failures:
            fault = explain(failure, result.faults)
            if fault is None:
                unexplained.append(failure)
            else:
                explained[fault.name] = explained.get(fault.name, 0) + 1
    problems = list(result.problems)
    if unexplained:
        problems.append(f"{len(unexplained)} failures that nothing explains, the first: {_text(unexplained[0], result)}")
    if untold:
        problems.append(f"{untold} failures more than could be told")
    requests = sum(sum(tally.done.values()) for tally in result.tallies)
    if not requests:
        problems.append("no request was answered")
    growth = [found for found in memory_growth(result) if found.seconds >= SHORTEST_S]
    problems += [
        f"memory of the {one.role} {one.pid} grew by {one.grown / MIB:.1f} MiB in {one.seconds:.0f} s, "
        f"allowed are {one.allowed / MIB:.1f}"
        for one in growth
        if one.grown > one.allowed
    ]
    descriptors = other_descriptors(result)
    if descriptors[1] > descriptors[0] + DESCRIPTORS:
        problems.append(f"descriptors besides connections grew from {descriptors[0]:.0f} to {descriptors[1]:.0f}")
    p99 = drift(result)
    if p99.last_ms > p99.allowed_ms:
        problems.append(f"p99 drifted from {p99.first_ms:.1f} ms to {p99.last_ms:.1f} ms, allowed are {p99.allowed_ms:.1f}")
    return Judged(
        problems=problems + _left_over(result), requests=requests, explained=explained, unexplained=unexplained,
        growth=growth, descriptors=descriptors, p99=p99,
    )  # fmt: skip


def explain(failure: Failure, faults: Sequence[Fault]) -> Fault | None:
    """Return the fault that ended a failed request's connection, None if there is none."""
    for fault in faults:
        if (
            failure.connection in fault.connections
            and (not fault.kinds or failure.kind in fault.kinds)
            and failure.connected_at <= fault.until
            and fault.at <= failure.failed_at <= fault.until + HEARD_S
        ):
            return fault
    return None


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the median slope of all pairs of points, 0 for fewer than two. Of many points some are taken, evenly."""
    thinned = points[:: max(1, len(points) // 150)]
    slopes = [
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for number, earlier in enumerate(thinned)
        for later in thinned[number + 1 :]
        if later[0] > earlier[0]
    ]
    return median(slopes) if slopes else 0.0


def memory_growth(result: Result) -> list[Growth]:
    """Return how the memory of each process developed after its warm-up."""
    seen: dict[int, list[tuple[float, float]]] = {}
    roles: dict[int, str] = {}
    for sample in result.samples:
        for process in sample.processes:
            if process.role != "other":
                seen.setdefault(process.pid, []).append((sample.at, process.rss))
                roles[process.pid] = process.role
    warm_up_s = min(WARM_UP_S, (result.ended_at - result.began_at) / 4)
    found = []
    for pid, points in seen.items():
        kept = [point for point in points if point[0] >= points[0][0] + warm_up_s]
        seconds = kept[-1][0] - kept[0][0] if kept else 0.0
        per_s = slope(kept)
        found.append(
            Growth(
                pid=pid,
                role=roles[pid],
                seconds=seconds,
                per_hour=per_s * 3600,
                grown=per_s * seconds,
                allowed=GROWTH_FLOOR_BYTES + GROWTH_PER_HOUR_BYTES * seconds / 3600,
            )
        )
    return found


def other_descriptors(result: Result) -> tuple[float, float]:
    """Return how many descriptors all processes had besides those of connections: before the load, and after it."""
    return _without_connections(result.before), _without_connections(result.at_rest)


def drift(result: Result) -> Third:
    """Compare the p99 of the first and the last third of the run."""
    whole = [tally for tally in result.tallies if tally.p99_ms]
    size = max(1, len(whole) // 3)
    first, last = (median([tally.p99_ms for tally in part] or [0.0]) for part in (whole[:size], whole[-size:]))
    is_short = result.ended_at - result.began_at < SHORT_S
    ratio, more = (SHORT_DRIFT_RATIO, SHORT_DRIFT_MS) if is_short else (DRIFT_RATIO, DRIFT_MS)
    return Third(first_ms=first, last_ms=last, allowed_ms=first * ratio + more)


def _left_over(result: Result) -> list[str]:
    """What a worker still holds though nobody asks for anything."""
    gauges, before = result.at_rest.gauges, result.before.gauges
    found = [
        f"worker {worker} at rest has {name} {value:g}"
        for name in _RESTING
        for worker, value in gauges.get(name, {}).items()
        if value
    ]
    # Guests may be there at the end, and one that is just leaving: each has a cluster.
    found += [
        f"worker {worker} at rest has {value:g} clusters, before the load it had {before.get('clusters', {}).get(worker, 0):g}"
        for worker, value in gauges.get("clusters", {}).items()
        if value > before.get("clusters", {}).get(worker, 0) + 2
    ]
    pooled = gauges.get("upstream_connections", {})
    found += [
        f"worker {worker} at rest watches {value:g} deadlines for {pooled.get(worker, 0):g} connections"
        for worker, value in gauges.get("deadlines", {}).items()
        if value > pooled.get(worker, 0) + 4
    ]
    return found


def _without_connections(sample: Sample) -> float:
    connections = sum(sample.gauges.get("upstream_connections", {}).values())
    return sum(process.descriptors for process in sample.processes) - connections


def _text(failure: Failure, result: Result) -> str:
    return f"{failure.kind} at {failure.failed_at - result.began_at:.1f} s: {failure.reason}"
