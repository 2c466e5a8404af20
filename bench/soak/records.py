# SPDX-License-Identifier: Apache-2.0
"""What passes between the processes of a soak and stays as its result. Times are monotonic seconds, the same in all processes."""

from __future__ import annotations

import msgspec

__all__ = ["Failure", "Fault", "Plan", "Process", "Result", "Sample", "Site", "Tally"]

KEPT = 200
"""Failures of one tally that are told in full."""


class Site(msgspec.Struct, kw_only=True):
    """Where clients find the Services: gateway ports by name."""

    address: str
    ports: dict[str, int]


class Failure(msgspec.Struct, kw_only=True):
    """A request that did not end as it should.

    Args:
        kind: of client.
        reason: what was seen.
        connection: port of the client's end, 0 if there was none.
        connected_at, failed_at: the time in which what ends a connection must lie.
    """

    kind: str
    reason: str
    connection: int
    connected_at: float
    failed_at: float


class Tally(msgspec.Struct, kw_only=True):
    """What clients have done since the last tally.

    Args:
        at: when it was made.
        done: requests (messages of WebSockets) that ended as they should, by kind of client.
        p50_ms, p99_ms: latency of the plain requests on kept connections.
        failures: the first ones; `failed` counts all.
    """

    at: float
    done: dict[str, int]
    p50_ms: float
    p99_ms: float
    failures: list[Failure]
    failed: int


class Fault(msgspec.Struct, kw_only=True):
    """Something that was done to the system.

    Args:
        at: when.
        name: what.
        connections: client ports of the connections that it explains the loss of: all of a killed worker's, of a worker that
            is replaced those of tunnels only, which `kinds` says.
        kinds: of clients that may lose them; none for all.
        until: when it was over.
    """

    at: float
    name: str
    connections: list[int] = []
    kinds: list[str] = []
    until: float = 0.0


class Process(msgspec.Struct, kw_only=True):
    """One process at one moment."""

    pid: int
    role: str
    rss: int
    descriptors: int


class Sample(msgspec.Struct, kw_only=True):
    """The gateway at one moment: its processes, the oldest first, and gauges of each worker by name (not in every sample)."""

    at: float = 0.0
    processes: list[Process] = []
    gauges: dict[str, dict[str, float]] = {}


class Plan(msgspec.Struct, kw_only=True):
    """What was asked for."""

    seconds: float
    workers: int
    seed: int


class Result(msgspec.Struct, kw_only=True):
    """Everything that is known at the end.

    Args:
        began_at: monotonic seconds that all times count from.
        is_partial: it was interrupted.
        before: the gateway before the first client came.
        at_rest: the same after the last one had left.
        changes: made at the API server, by what changed.
    """

    date: str
    plan: Plan
    machine: dict[str, object]
    versions: dict[str, str]
    began_at: float
    ended_at: float
    is_partial: bool
    tallies: list[Tally]
    faults: list[Fault]
    samples: list[Sample]
    before: Sample
    at_rest: Sample
    changes: dict[str, int]
    visits: int
    problems: list[str]
