# SPDX-License-Identifier: Apache-2.0
"""A worker's report of what it has counted, made in pieces between which traffic goes on.

Whoever scrapes must not be felt by those who send requests. All series of a large mesh take 20 ms to put together and encode, and
to look at 50,000 endpoints takes some more; a piece takes well under a millisecond. A series is always reported whole, so that
its count and its histograms agree; two series may be some milliseconds apart, as two counters read one after the other are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from acmgproxy.stats import WorkerStats

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from acmgproxy.dataplane import DataPlane
    from acmgproxy.stats import SeriesKey, SeriesTable, SeriesValue

__all__ = ["COUNTERS", "report", "whole"]

AT_ONCE = 2_000
"""Connections or endpoints looked at between two pauses: about 0.3 ms."""

COUNTERS = (
    "accept_pauses",
    "access_log_dropped",
    "downstream_connections_opened",
    "downstream_header_timeouts",
    "downstream_protocol_errors",
    "endpoint_ejections",
    "faults_aborted",
    "faults_delayed",
    "metrics_series_folded",
    "mirrors_dropped",
    "mirrors_sent",
    "mirrors_skipped",
    "overload_downstream_connections_closed",
    "overload_requests_shed",
    "overload_upstream_connections_closed",
    "overloads",
    "quarantined_requests",
    "request_timeouts",
    "tunnels_opened",
    "upstream_connect_failures",
    "upstream_connections_opened",
    "upstream_overflows",
    "upstream_per_try_timeouts",
    "upstream_replays",
    "upstream_resets",
    "upstream_retries",
    "upstream_retries_over_budget",
    "watchdog_mega_misses",
    "watchdog_misses",
)
"""All there are. Each is there from the start: what appears with its first count has no rate of it for Prometheus."""

Part = list["SeriesValue"] | WorkerStats


def report(plane: DataPlane, table: SeriesTable) -> Iterator[Part]:
    """Yield series that have changed since the last report, and in the end everything else. An empty part is only a pause."""
    yield from table.pieces(plane.clock())
    gauges: dict[str, float] = {}
    yield from _count_downstreams(plane, gauges)
    yield from _count_upstreams(plane, gauges)
    overload = plane.shedding.overload
    gauges |= {
        "tunnels": float(len(plane.tunnels)),
        "accepting": float(not plane.accepting.paused),
        "overload_level": float(overload.level),
        "metrics_series": float(len(table)),
        "deadlines": float(plane.deadlines.size),
        "clusters": float(len(plane.table.clusters)),
        **{f"overload_{name}_pressure": pressure for name, pressure in overload.pressures.items()},
    }
    given_up = table.give_up_idle(plane.clock())
    _forget_series(plane, given_up)
    counters = dict.fromkeys(COUNTERS, 0.0) | {name: float(count) for name, count in plane.counters.items()}
    if plane.access_log is not None:
        counters["access_log_dropped"] += plane.access_log.dropped
    counters["metrics_series_folded"] = float(table.folded)
    yield WorkerStats(plane.worker_id, [], counters, gauges, given_up)


def whole(parts: Iterable[Part]) -> WorkerStats:
    """Put a report together."""
    series: list[SeriesValue] = []
    for part in parts:
        if isinstance(part, WorkerStats):
            part.series = series
            return part
        series += part
    raise AssertionError("a report ends with everything else")


def _count_downstreams(plane: DataPlane, gauges: dict[str, float]) -> Iterator[Part]:
    downstreams = list(plane.downstreams)
    idle = active = 0
    for number, downstream in enumerate(downstreams, 1):
        idle += downstream.is_idle()
        active += downstream.exchange is not None
        if number % AT_ONCE == 0:
            yield []
    gauges["downstream_connections"] = float(len(downstreams))
    gauges["downstream_idle_connections"] = float(idle)
    gauges["active_requests"] = float(active)


def _count_upstreams(plane: DataPlane, gauges: dict[str, float]) -> Iterator[Part]:
    """Count connections to endpoints, requests that wait for one, retries under way, and endpoints that are ejected."""
    opened = idle = connecting = retries = ejected = looked_at = 0
    for cluster in list(plane.table.clusters.values()):
        retries += cluster.retry_budget.retries
        ejected += cluster.ejected
        for endpoint in cluster.endpoints:
            pool = endpoint.pool
            if pool is not None:
                opened += len(pool.open)
                idle += len(pool.idle)
                connecting += len(pool.connecting)
        looked_at += 1 + len(cluster.endpoints)
        if looked_at >= AT_ONCE:
            looked_at = 0
            yield []
    gauges["upstream_connections"] = float(opened)
    gauges["upstream_idle_connections"] = float(idle)
    gauges["upstream_connecting"] = float(connecting)
    gauges["upstream_pending_requests"] = float(plane.pending_requests)
    gauges["upstream_active_retries"] = float(retries)
    gauges["endpoints_ejected"] = float(ejected)


def _forget_series(plane: DataPlane, given_up: list[SeriesKey]) -> None:
    """Let endpoints look their series up again where some are no longer reported."""
    names = {key.cluster for key in given_up}
    clusters = plane.table.clusters
    found = clusters.values() if "" in names else [clusters[name] for name in names if name in clusters]
    for cluster in found:
        for endpoint in cluster.endpoints:
            endpoint.stats.clear()
