# SPDX-License-Identifier: Apache-2.0
"""A run: start every peer, load them in turn, collect rows.

The order is rounds over shapes over peers, so that what the machine does meanwhile (frequency, neighbours, page cache) meets all
peers alike; the bursts of one peer and shape are added up. Load generator and upstream share one CPU, the peer under load has
another to itself: the others are running but idle.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench import machine, procfs
from bench.load import BODY, PATH, LoadError, Sample, Shape, burst, wrk_version
from bench.peers import PeerMissing, Site
from bench.upstream import start_upstream, upstream_addresses

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.peers import Peer, Running

__all__ = ["Result", "Row", "run"]

_WARM_UP = Shape(connections=16)
_WARM_UP_S = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one peer did with one shape. CPU and memory are those of all its processes (0 for the direct way)."""

    name: str
    connections: int
    headers: int
    rps: float
    p50_us: int
    p99_us: int
    cpu_us_per_request: float
    rss_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Everything a report needs.

    `missing` maps the peers that did not run to the reason; `rows_distinct` are the shapes in which every request has a head of
    its own.
    """

    machine: dict[str, object]
    versions: dict[str, str]
    missing: dict[str, str]
    rows: list[Row]
    rows_distinct: list[Row] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        """Return plain data for a JSON document."""
        return asdict(self)


def run(
    peers: Sequence[Peer], shapes: Sequence[Shape], *, rounds: int, seconds: float, progress: Callable[[str], None]
) -> Result:
    """Measure every peer with every shape, `rounds` bursts of `seconds` each; call `progress` with a line before each step.

    Raises:
        LoadError: a request failed or was not answered by 2xx, or wrk is missing.
        DaemonError: a server process did not start, or ended.
        PeerMissing: nginx, which is the upstream of all, is not installed.
    """
    versions = {"wrk": wrk_version()}
    missing: dict[str, str] = {}
    cpus = machine.split_cpus()
    described = machine.describe(cpus)
    before = os.sched_getaffinity(0)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="acmgproxy-bench-")))
        stack.callback(os.sched_setaffinity, 0, before)
        if cpus.load:
            os.sched_setaffinity(0, cpus.load)  # wrk inherits it
        site = Site(directory=directory, cpus=cpus.proxy, upstreams=upstream_addresses(), stack=stack)
        progress("starting the upstream and the peers")
        start_upstream(Site(directory=directory, cpus=cpus.load, upstreams=site.upstreams, stack=stack))
        started: dict[str, Running] = {}
        for peer in peers:
            try:
                versions[peer.name] = peer.version()
            except PeerMissing as reason:
                missing[peer.name] = str(reason)
            else:
                started[peer.name] = peer.start(site)
        samples = _measure(started, shapes, rounds=rounds, seconds=seconds, progress=progress)
    rows, rows_distinct = (
        [_row(name, shape, sample) for (name, shape), sample in samples.items() if shape.distinct is distinct]
        for distinct in (False, True)
    )
    return Result(machine=described, versions=versions, missing=missing, rows=rows, rows_distinct=rows_distinct)


def _measure(
    started: dict[str, Running], shapes: Sequence[Shape], *, rounds: int, seconds: float, progress: Callable[[str], None]
) -> dict[tuple[str, Shape], Sample]:
    for name, peer in started.items():
        progress(f"warming up {name}")
        for daemon in peer.daemons:
            daemon.wait_answer(peer.address, path=PATH, body=BODY)
        _burst(name, peer, _WARM_UP, _WARM_UP_S)
    samples = {(name, shape): Sample() for shape in shapes for name in started}
    for number in range(1, rounds + 1):
        for shape in shapes:
            for name, peer in started.items():
                progress(f"round {number} of {rounds}: {shape}: {name}")
                samples[name, shape].add(_burst(name, peer, shape, seconds))
    return samples


def _burst(name: str, peer: Running, shape: Shape, seconds: float) -> Sample:
    roots = [daemon.pid for daemon in peer.daemons]
    before = procfs.cpu_us(roots)
    try:
        sample = burst(peer.address, shape, seconds=seconds)
    except LoadError as exc:
        details = [str(daemon.error("its log ends with")) for daemon in peer.daemons]
        message = "\n".join([f"{name}, {shape}: {exc}", *details])
        raise LoadError(message) from exc
    sample.cpu_us = procfs.cpu_us(roots) - before
    sample.rss_bytes = procfs.rss_bytes(roots)
    return sample


def _row(name: str, shape: Shape, sample: Sample) -> Row:
    return Row(
        name=name,
        connections=shape.connections,
        headers=shape.headers,
        rps=round(sample.requests / sample.duration_us * 1e6, 1),
        p50_us=sample.percentile_us(50),
        p99_us=sample.percentile_us(99),
        cpu_us_per_request=round(sample.cpu_us / sample.requests, 2),
        rss_mb=round(sample.rss_bytes / 1e6, 1),
    )
