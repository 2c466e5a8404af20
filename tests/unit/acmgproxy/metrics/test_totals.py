# SPDX-License-Identifier: Apache-2.0
"""Facts about totals over workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from acmgproxy.metrics import totals as module
from acmgproxy.metrics.labels import REQUEST_LABELS
from acmgproxy.metrics.totals import Totals
from acmgproxy.stats import Distribution, SeriesKey, SeriesValue, WorkerStats
from routing.specs import IdentitySpec

if TYPE_CHECKING:
    import pytest

KEY = SeriesKey("", "", "s", "s", "n", "c", 200, "-")


def value(key: SeriesKey, count: int) -> SeriesValue:
    durations = Distribution.empty()
    for _ in range(count):
        durations.observe(2.0)
    return SeriesValue(key, count, durations, Distribution.empty(), Distribution.empty())


def stats(count: int, *, gauge: float = 1.0, key: SeriesKey = KEY) -> WorkerStats:
    return WorkerStats(0, [value(key, count)], {"retries": float(count)}, {"open": gauge})


def test_workers_are_added_up_and_the_newest_word_of_each_counts() -> None:
    totals = Totals()
    totals.update(0, stats(1))
    totals.update(0, stats(2))
    totals.update(1, stats(5))
    (series,) = totals.series().values()
    assert (series.count, series.durations_ms.sum, sum(series.durations_ms.buckets)) == (7, 14.0, 7)
    assert totals.counters() == {"retries": 7.0}
    assert totals.gauges() == {"open": {0: 1.0, 1: 1.0}}


def test_a_series_that_did_not_change_is_not_said_again_and_counts_nevertheless() -> None:
    totals = Totals()
    totals.update(0, stats(2))
    totals.update(0, WorkerStats(0, [], {"retries": 2.0}, {}))
    (series,) = totals.series().values()
    assert series.count == 2


def test_what_dead_workers_counted_stays_and_their_gauges_go() -> None:
    totals = Totals()
    for _ in range(3):
        totals.update(0, stats(2))
        totals.retire(0)
        totals.retire(0)
    totals.update(0, stats(1))
    (series,) = totals.series().values()
    assert series.count == 7
    assert totals.counters() == {"retries": 7.0}
    totals.retire(0)
    assert totals.gauges() == {}
    assert repr(totals) == "<Totals alive=[] past_series=1>"


def test_a_series_that_was_given_up_counts_and_begins_anew() -> None:
    totals = Totals()
    totals.update(0, stats(2))
    totals.update(0, WorkerStats(0, [], {"retries": 2.0}, {}, [KEY]))
    assert next(iter(totals.series().values())).count == 2
    totals.update(0, stats(1))
    assert next(iter(totals.series().values())).count == 3


def test_adding_up_does_not_change_what_is_added() -> None:
    totals = Totals()
    totals.update(0, stats(1))
    totals.retire(0)
    totals.update(0, stats(1))
    assert [next(iter(totals.series().values())).count for _ in range(3)] == [2, 2, 2]


def test_a_hundred_rollouts_of_one_workload_are_one_series_in_the_end() -> None:
    totals = Totals()
    for rollout in range(100):
        pod = IdentitySpec(namespace="shop", workload="cart", labels={"pod-template-hash": str(rollout)})
        totals.identities.update({f"cart/{rollout}": pod})
        one = SeriesKey("", f"cart/{rollout}", "s", "s", "n", "c", 200, "-")
        totals.update(0, stats(1, key=one))
        totals.update(0, WorkerStats(0, [], {}, {}, [one]))
    ((labels, series),) = totals.series().items()
    assert dict(zip(REQUEST_LABELS, labels, strict=True))["destination_workload"] == "cart"
    assert series.count == 100
    assert repr(totals) == "<Totals alive=[0] past_series=1>"


def test_a_report_may_come_in_parts() -> None:
    totals = Totals()
    other = SeriesKey("", "", "s", "s", "n", "c", 503, "UH")
    totals.take(0, [value(KEY, 2)])
    totals.take(0, [value(other, 1)])
    totals.update(0, WorkerStats(0, [], {"retries": 2.0}, {}))
    assert sorted(series.count for series in totals.series().values()) == [1, 2]
    assert totals.requests(0) == 3


def test_a_snapshot_is_of_its_moment() -> None:
    totals = Totals()
    totals.update(0, stats(1))
    totals.retire(0)
    totals.update(0, stats(2))
    sum_up = totals.snapshot()
    totals.update(0, stats(7))
    totals.retire(0)
    assert [series.count for series in sum_up().values()] == [3]
    assert [series.count for series in totals.series().values()] == [8]


def test_what_is_over_is_bounded_and_what_still_counts_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PAST", 20)
    totals = Totals()
    totals.update(0, stats(5))
    totals.retire(0)
    totals.update(0, stats(3))
    for job in range(100):
        one = SeriesKey("", "", f"job-{job}", "s", "n", "c", 200, "-")
        totals.update(1, WorkerStats(1, [value(one, 1)], {}, {}))
        totals.update(1, WorkerStats(1, [], {}, {}, [one]))
    total = totals.series()
    assert len(total) <= 21
    place = REQUEST_LABELS.index("destination_service")
    by_service = {values[place]: series.count for values, series in total.items()}
    assert by_service["s"] == 8, "a total never falls"
    assert by_service["job-99"] == 1
    assert "job-0" not in by_service
