# SPDX-License-Identifier: Apache-2.0
"""What a worker counts: plain numbers on the hot path, one serialisable snapshot for whoever asks.

A `Series` is one set of label values of Istio's request metrics. A request costs one dictionary look-up and a handful of
additions; names, label texts and the exposition format are the business of `acmgproxy.metrics`.

`SeriesTable` holds a worker's series and keeps them few. A report names only those that have changed, so that asking an idle
worker costs nothing; one that has not changed for `IDLE_S` is given up, and whoever asks keeps what it counted; and beyond
`MAX_SERIES` new combinations are folded: first their callers and endpoints become unknown, then all that is known of them.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BUCKETS", "Distribution", "Series", "SeriesKey", "SeriesTable", "SeriesValue", "WorkerStats"]

BUCKETS = (
    0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0, 30000.0, 60000.0, 300000.0,
    600000.0, 1800000.0, 3600000.0,
)  # fmt: skip
"""Upper bounds of all histograms: Envoy's defaults, which Istio uses for milliseconds and bytes alike. The last one is +Inf."""

MAX_SERIES = 10_000
"""Series a worker holds: about 10 MB. Istio's own metrics of a mesh of 1,000 services with a few callers each stay below."""

MAX_FOLDED = 2_000
"""Series above MAX_SERIES that still name their Service."""

PIECE = 250
"""Series in a piece of a report. One is found, encoded and sent in 2 to 3 us, so that a piece takes less than a millisecond."""

IDLE_S = 3600.0
"""A series that has not changed for this long is given up: its pods are mostly gone. Monotonic seconds."""


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


class Distribution(msgspec.Struct, gc=False):
    """A histogram. `buckets` are not cumulative: each counts what is in it alone."""

    sum: float
    buckets: list[int]

    @classmethod
    def empty(cls) -> Distribution:
        """Return one of nothing."""
        return cls(0.0, [0] * (len(BUCKETS) + 1))

    def observe(self, value: float) -> None:
        """Count a value."""
        self.sum += value
        self.buckets[bisect_left(BUCKETS, value)] += 1

    def add(self, other: Distribution) -> None:
        """Add another one's counts."""
        self.sum += other.sum
        self.buckets = [mine + others for mine, others in zip(self.buckets, other.buckets, strict=True)]


class Series:
    """Counts of the requests that share a SeriesKey.

    Attributes:
        count: requests.
        durations_ms: from the head to the end of the answer.
        request_bytes, response_bytes: sizes of the bodies.
    """

    __slots__ = ("changed_at", "count", "durations_ms", "reported", "request_bytes", "response_bytes")

    def __init__(self) -> None:
        self.count = 0
        self.durations_ms = Distribution.empty()
        self.request_bytes = Distribution.empty()
        self.response_bytes = Distribution.empty()
        self.reported = 0
        self.changed_at = 0.0

    def __repr__(self) -> str:
        return f"Series(count={self.count}, mean_ms={self.durations_ms.sum / max(1, self.count):.3f})"

    def observe(self, duration_ms: float, request_bytes: int = 0, response_bytes: int = 0) -> None:
        """Count one request."""
        self.count += 1
        one = self.durations_ms
        one.sum += duration_ms
        one.buckets[bisect_left(BUCKETS, duration_ms)] += 1
        if request_bytes:
            self.request_bytes.observe(request_bytes)
        else:
            self.request_bytes.buckets[0] += 1
        one = self.response_bytes
        one.sum += response_bytes
        one.buckets[bisect_left(BUCKETS, response_bytes)] += 1

    def add(self, other: Series | SeriesValue) -> None:
        """Add the counts of another one."""
        self.count += other.count
        self.durations_ms.add(other.durations_ms)
        self.request_bytes.add(other.request_bytes)
        self.response_bytes.add(other.response_bytes)


class SeriesValue(msgspec.Struct, gc=False):
    """A Series as it is sent."""

    key: SeriesKey
    count: int
    durations_ms: Distribution
    request_bytes: Distribution
    response_bytes: Distribution


class SeriesTable:
    """A worker's series.

    Attributes:
        folded: how many combinations were folded because there are too many; one that comes again counts again.
    """

    def __init__(self) -> None:
        self._series: dict[SeriesKey, Series] = {}
        self.folded = 0

    def __repr__(self) -> str:
        return f"SeriesTable(series={len(self._series)}, folded={self.folded})"

    def __len__(self) -> int:
        return len(self._series)

    def at(self, key: SeriesKey) -> Series:
        """Return the series of a key, or the one that it is folded into."""
        return self._series.get(key) or self._add(key)

    def _add(self, key: SeriesKey) -> Series:
        if len(self._series) >= MAX_SERIES:
            self.folded += 1
            key = _of_anybody(key)
            if key not in self._series and len(self._series) >= MAX_SERIES + MAX_FOLDED:
                key = _of_anything(key)
        return self._series.setdefault(key, Series())

    def pieces(self, now: float) -> Iterator[list[SeriesValue]]:
        """Yield the series that have changed since the last time, each with all it has counted (shared, not copied).

        Between two pieces requests may be counted; what changes in a series that was yielded is for the next time.

        Args:
            now: monotonic seconds.
        """
        values: list[SeriesValue] = []
        for key, series in list(self._series.items()):
            if series.count != series.reported:
                series.reported = series.count
                series.changed_at = now
                values.append(SeriesValue(key, series.count, series.durations_ms, series.request_bytes, series.response_bytes))
                if len(values) == PIECE:
                    yield values
                    values = []
        if values:
            yield values

    def changed(self, now: float) -> list[SeriesValue]:
        """Return all pieces at once."""
        return [value for piece in self.pieces(now) for value in piece]

    def give_up_idle(self, now: float) -> list[SeriesKey]:
        """Drop and return the series that have not changed for long. Whoever holds one must not count in it any more.

        Args:
            now: monotonic seconds.
        """
        idle = [key for key, one in self._series.items() if one.count == one.reported and now - one.changed_at > IDLE_S]
        for key in idle:
            del self._series[key]
        return idle


def _of_anybody(key: SeriesKey) -> SeriesKey:
    """Return the key with caller and endpoint unknown."""
    return SeriesKey("", "", key.service, key.service_name, key.service_namespace, key.cluster, key.status, key.flags)


def _of_anything(key: SeriesKey) -> SeriesKey:
    """Return the key with all unknown but how the request ended: there are a few hundred of these at most."""
    return SeriesKey("", "", "unknown", "unknown", "unknown", "", key.status, key.flags)


class WorkerStats(msgspec.Struct):
    """What one worker has counted since it started.

    Args:
        worker: the worker's number.
        series: request metrics that have changed since the last report, each with all it has counted.
        counters: totals by name, e.g. `upstream_connect_failures`; only ever rising.
        gauges: present values by name, e.g. `downstream_connections`.
        given_up: series that the worker no longer has; what it said of them last is final.
    """

    worker: int
    series: list[SeriesValue]
    counters: dict[str, float]
    gauges: dict[str, float]
    given_up: list[SeriesKey] = []
