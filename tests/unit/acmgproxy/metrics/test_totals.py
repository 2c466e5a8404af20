# SPDX-License-Identifier: Apache-2.0
"""Facts about totals over workers."""

from __future__ import annotations

from acmgproxy.metrics.totals import Totals
from acmgproxy.stats import BUCKETS_MS, SeriesKey, SeriesValue, WorkerStats

KEY = SeriesKey("", "", "s", "s", "n", "c", 200, "-")
BUCKETS = [1] * (len(BUCKETS_MS) + 1)


def stats(count: int, *, gauge: float = 1.0) -> WorkerStats:
    return WorkerStats(0, [SeriesValue(KEY, count, 2.0 * count, list(BUCKETS))], {"retries": float(count)}, {"open": gauge})


def test_workers_are_added_up_and_the_newest_word_of_each_counts() -> None:
    totals = Totals()
    totals.update(0, stats(1))
    totals.update(0, stats(2))
    totals.update(1, stats(5))
    series = totals.series()[KEY]
    assert (series.count, series.duration_sum_ms, series.buckets) == (7, 14.0, [2] * len(BUCKETS))
    assert totals.counters() == {"retries": 7.0}
    assert totals.gauges() == {"open": {0: 1.0, 1: 1.0}}


def test_what_dead_workers_counted_stays_and_their_gauges_go() -> None:
    totals = Totals()
    for _ in range(3):
        totals.update(0, stats(2))
        totals.retire(0)
        totals.retire(0)
    totals.update(0, stats(1))
    assert totals.series()[KEY].count == 7
    assert totals.counters() == {"retries": 7.0}
    totals.retire(0)
    assert totals.gauges() == {}
    assert repr(totals) == "<Totals alive=[] dead_series=1>"


def test_adding_up_does_not_change_what_is_added() -> None:
    totals = Totals()
    totals.update(0, stats(1))
    totals.retire(0)
    totals.update(0, stats(1))
    assert [totals.series()[KEY].count for _ in range(3)] == [2, 2, 2]
