# SPDX-License-Identifier: Apache-2.0
"""The counters of all workers, added up so that a total never goes down.

Each worker counts from zero when it starts, and says of its request series only what changed. `Totals` keeps the last word of
every living worker and the sum of the last words of the dead ones and of the series that were given up; a worker that does not
answer counts with what it said last. Gauges are no sums: they stay per worker and die with it.

What is over is kept by labels and not by key, because keys name pods' identities, of which every rollout brings new ones: there
are as many label sets as workloads that ever called each other. Of those that are over for long, MAX_PAST are kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from acmgproxy.metrics.labels import Identities, request_labels
from acmgproxy.stats import Series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from acmgproxy.stats import SeriesKey, SeriesValue, WorkerStats

__all__ = ["Totals"]

Labels = tuple[str, ...]

MAX_PAST = 10_000
"""Label sets kept of series that are over: as many as a worker holds. Jobs, say, bring new workload names for ever."""


class Totals:
    """Sums over workers, by worker number.

    Attributes:
        identities: who the keys of series speak of.
        observe: told of what each report changes: a series, what the worker said of it before (None: nothing), what it says now.
    """

    def __init__(self) -> None:
        self.identities = Identities()
        self.observe: Callable[[SeriesKey, SeriesValue | None, SeriesValue], None] | None = None
        self._series: dict[int, dict[SeriesKey, SeriesValue]] = {}
        self._counters: dict[int, dict[str, float]] = {}
        self._gauges: dict[int, dict[str, float]] = {}
        self._requests: dict[int, int] = {}
        self._leaving: set[int] = set()
        self._past_series: dict[Labels, Series] = {}
        self._past_counters: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Totals alive={sorted(self._counters)} past_series={len(self._past_series)}>"

    def update(self, worker: int, stats: WorkerStats) -> None:
        """Take the end of a worker's newest report."""
        self._counters[worker], self._gauges[worker] = stats.counters, stats.gauges
        self.take(worker, stats.series)
        series = self._series[worker]
        for key in stats.given_up:
            self._end(series.pop(key))

    def take(self, worker: int, values: Iterable[SeriesValue]) -> None:
        """Take a part of a worker's newest report: series that have changed."""
        series = self._series.setdefault(worker, {})
        requests = self._requests.get(worker, 0)
        for value in values:
            before = series.get(value.key)
            if self.observe is not None:
                self.observe(value.key, before, value)
            requests += value.count - (before.count if before is not None else 0)
            series[value.key] = value
        self._requests[worker] = requests

    def retire(self, worker: int) -> None:
        """Note that a worker died: what it counted stays."""
        for value in self._series.pop(worker, {}).values():
            self._end(value)
        _add_counters(self._past_counters, self._counters.pop(worker, {}))
        self._gauges.pop(worker, None)
        self._requests.pop(worker, None)
        self._leaving.discard(worker)

    def move(self, worker: int, number: int) -> None:
        """Note that another process is this worker now: the one so far counts on under `number`, and its gauges are not shown."""
        self._leaving.add(number)
        by_worker: tuple[dict[int, Any], ...] = (self._series, self._counters, self._gauges, self._requests)
        for kept in by_worker:
            if worker in kept:
                kept[number] = kept.pop(worker)

    def requests(self, worker: int) -> int:
        """Return how many requests a worker has had since it was started, as far as it has told."""
        return self._requests.get(worker, 0)

    def series(self) -> dict[Labels, Series]:
        """Return request series over all workers by the values of REQUEST_LABELS."""
        return self.snapshot()()

    def snapshot(self) -> Callable[[], dict[Labels, Series]]:
        """Return what adds the series up as they are now, at leisure and in another thread."""
        past = list(self._past_series.items())
        present = [list(series.values()) for series in self._series.values()]
        return lambda: _sum(past, present, self.identities)

    def counters(self) -> dict[str, float]:
        """Return counters over all workers."""
        total = dict(self._past_counters)
        for counters in self._counters.values():
            _add_counters(total, counters)
        return total

    def gauges(self) -> dict[str, dict[int, float]]:
        """Return the living workers' gauges, by name and worker."""
        by_name: dict[str, dict[int, float]] = {}
        for worker, gauges in self._gauges.items():
            if worker in self._leaving:
                continue
            for name, value in gauges.items():
                by_name.setdefault(name, {})[worker] = value
        return by_name

    def _end(self, value: SeriesValue) -> None:
        """Keep what a series has counted. What is kept is replaced and not changed: a snapshot may be looking at it."""
        labels = request_labels(value.key, self.identities)
        series = Series()
        series.add(value)
        before = self._past_series.pop(labels, None)
        if before is not None:
            series.add(before)
        self._past_series[labels] = series
        if len(self._past_series) > MAX_PAST:
            self._forget_past()

    def _forget_past(self) -> None:
        """Forget those that ended first and count no more.

        One that still counts is kept: its total would fall, which Prometheus takes for a restart and adds what is left once more.
        """
        present = {request_labels(key, self.identities) for series in self._series.values() for key in series}
        over = [labels for labels in self._past_series if labels not in present]
        for labels in over[: MAX_PAST // 10]:
            del self._past_series[labels]


def _sum(
    past: Iterable[tuple[Labels, Series]], present: Iterable[Iterable[SeriesValue]], identities: Identities
) -> dict[Labels, Series]:
    total: dict[Labels, Series] = {}
    for labels, series in past:
        _add(total, labels, series)
    for values in present:
        for value in values:
            _add(total, request_labels(value.key, identities), value)
    return total


def _add(total: dict[Labels, Series], labels: Labels, value: Series | SeriesValue) -> None:
    series = total.get(labels)
    if series is None:
        series = total[labels] = Series()
    series.add(value)


def _add_counters(total: dict[str, float], counters: dict[str, float]) -> None:
    for name, value in counters.items():
        total[name] = total.get(name, 0.0) + value
