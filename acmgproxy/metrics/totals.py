# SPDX-License-Identifier: Apache-2.0
"""The counters of all workers, added up so that a total never goes down.

Each worker counts from zero when it starts. `Totals` keeps the last snapshot of every living worker and the sum of the last
snapshots of the dead ones; a worker that does not answer counts with what it said last. Gauges are no sums: they stay per worker
and die with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from acmgproxy.stats import Series

if TYPE_CHECKING:
    from acmgproxy.stats import SeriesKey, WorkerStats

__all__ = ["Totals"]


class Totals:
    """Sums over workers, by worker number."""

    def __init__(self) -> None:
        self._alive: dict[int, WorkerStats] = {}
        self._dead_series: dict[SeriesKey, Series] = {}
        self._dead_counters: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Totals alive={sorted(self._alive)} dead_series={len(self._dead_series)}>"

    def update(self, worker: int, stats: WorkerStats) -> None:
        """Take a worker's newest snapshot."""
        self._alive[worker] = stats

    def retire(self, worker: int) -> None:
        """Note that a worker died: what it counted stays."""
        stats = self._alive.pop(worker, None)
        if stats is not None:
            _add_series(self._dead_series, stats)
            _add_counters(self._dead_counters, stats)

    def series(self) -> dict[SeriesKey, Series]:
        """Return request series over all workers."""
        total: dict[SeriesKey, Series] = {}
        for key, series in self._dead_series.items():
            _add(total, key, series.count, series.duration_sum_ms, series.buckets)
        for stats in self._alive.values():
            _add_series(total, stats)
        return total

    def counters(self) -> dict[str, float]:
        """Return counters over all workers."""
        total = dict(self._dead_counters)
        for stats in self._alive.values():
            _add_counters(total, stats)
        return total

    def gauges(self) -> dict[str, dict[int, float]]:
        """Return the living workers' gauges, by name and worker."""
        gauges: dict[str, dict[int, float]] = {}
        for worker, stats in self._alive.items():
            for name, value in stats.gauges.items():
                gauges.setdefault(name, {})[worker] = value
        return gauges


def _add_series(total: dict[SeriesKey, Series], stats: WorkerStats) -> None:
    for value in stats.series:
        _add(total, value.key, value.count, value.duration_sum_ms, value.buckets)


def _add_counters(total: dict[str, float], stats: WorkerStats) -> None:
    for name, value in stats.counters.items():
        total[name] = total.get(name, 0.0) + value


def _add(total: dict[SeriesKey, Series], key: SeriesKey, count: int, duration_sum_ms: float, buckets: list[int]) -> None:
    series = total.get(key)
    if series is None:
        series = total[key] = Series()
    series.count += count
    series.duration_sum_ms += duration_sum_ms
    series.buckets = [mine + others for mine, others in zip(series.buckets, buckets, strict=True)]
