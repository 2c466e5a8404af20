# SPDX-License-Identifier: Apache-2.0
"""What a worker counts: plain numbers on the hot path, one serialisable snapshot for whoever asks.

A `Series` is one set of label values of Istio's request metrics. A request costs one dictionary look-up and a handful of
additions; names, label texts and the exposition format are the business of `acmgproxy.metrics`.
"""

from __future__ import annotations

from bisect import bisect_left

import msgspec

__all__ = ["BUCKETS_MS", "Series", "SeriesKey", "SeriesValue", "WorkerStats"]

BUCKETS_MS = (
    0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0, 30000.0, 60000.0, 300000.0,
    600000.0, 1800000.0, 3600000.0,
)  # fmt: skip
"""Upper bounds of the duration histogram in milliseconds (Envoy's defaults, as Istio uses them); the last bucket is +Inf."""


class SeriesKey(msgspec.Struct, frozen=True, gc=False):
    """The label values of one series, as keys of the configuration where it has them.

    Args:
        source, destination: keys of Specs.identities, "" when unknown.
        service: FQDN of the destination Service, "unknown" when no route was found.
        service_name, service_namespace: its parts.
        cluster: cluster name, "" without one.
        status: response code; 0 when the client left before the answer.
        flags: response flags, "-" for none.
    """

    source: str
    destination: str
    service: str
    service_name: str
    service_namespace: str
    cluster: str
    status: int
    flags: str


class Series:
    """Counts of the requests that share a SeriesKey."""

    __slots__ = ("buckets", "count", "duration_sum_ms")

    def __init__(self) -> None:
        self.count = 0
        self.duration_sum_ms = 0.0
        self.buckets = [0] * (len(BUCKETS_MS) + 1)

    def __repr__(self) -> str:
        return f"Series(count={self.count}, mean_ms={self.duration_sum_ms / max(1, self.count):.3f})"

    def observe(self, duration_ms: float) -> None:
        """Count one request."""
        self.count += 1
        self.duration_sum_ms += duration_ms
        self.buckets[bisect_left(BUCKETS_MS, duration_ms)] += 1


class SeriesValue(msgspec.Struct, gc=False):
    """A Series as it is sent. `buckets` are not cumulative."""

    key: SeriesKey
    count: int
    duration_sum_ms: float
    buckets: list[int]


class WorkerStats(msgspec.Struct):
    """Everything one worker has counted since it started.

    Args:
        worker: the worker's number.
        series: request metrics.
        counters: totals by name, e.g. `upstream_connect_failures`; only ever rising.
        gauges: present values by name, e.g. `downstream_connections`.
    """

    worker: int
    series: list[SeriesValue]
    counters: dict[str, float]
    gauges: dict[str, float]
