# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import msgspec
import pytest

from acmgproxy.stats import BUCKETS_MS, Series, SeriesKey, SeriesValue, WorkerStats

KEY = SeriesKey("caller", "called", "web.default.svc.cluster.local", "web", "default", "web", 200, "-")


@pytest.mark.parametrize(
    ("duration_ms", "bucket"), [(0.0, 0), (0.5, 0), (0.51, 1), (1.0, 1), (60_000.0, 14), (3_600_000.0, 18), (1e9, 19)]
)
def test_a_duration_belongs_to_the_first_bucket_that_reaches_it(duration_ms: float, bucket: int) -> None:
    series = Series()
    series.observe(duration_ms)
    assert [index for index, count in enumerate(series.buckets) if count] == [bucket]
    assert len(series.buckets) == len(BUCKETS_MS) + 1


def test_a_series_counts_and_adds_up() -> None:
    series = Series()
    assert repr(series) == "Series(count=0, mean_ms=0.000)"
    for duration_ms in (1.0, 2.0, 6.0):
        series.observe(duration_ms)
    assert (series.count, series.duration_sum_ms, sum(series.buckets)) == (3, 9.0, 3)
    assert repr(series) == "Series(count=3, mean_ms=3.000)"


def test_keys_are_equal_by_value_and_can_be_sent() -> None:
    stats = WorkerStats(3, [SeriesValue(KEY, 1, 2.0, [1, 0])], {"a": 1.0}, {"b": 2.0})
    sent = msgspec.msgpack.decode(msgspec.msgpack.encode(stats), type=WorkerStats)
    assert sent == stats
    assert sent.series[0].key in {KEY: 1}
