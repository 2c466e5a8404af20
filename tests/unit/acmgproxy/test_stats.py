# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from bisect import bisect_left

import msgspec
import pytest

from acmgproxy import stats as module
from acmgproxy.stats import BUCKETS, Distribution, Series, SeriesKey, SeriesTable, SeriesValue, WorkerStats


def key(source: str = "caller", *, destination: str = "called", service: str = "web", status: int = 200) -> SeriesKey:
    return SeriesKey(source, destination, f"{service}.default.svc", service, "default", service, status, "-")


class TestSeries:
    @pytest.mark.parametrize(
        ("value", "bucket"), [(0.0, 0), (0.5, 0), (0.51, 1), (1.0, 1), (60_000.0, 14), (3_600_000.0, 18), (1e9, 19)]
    )
    def test_a_value_belongs_to_the_first_bucket_that_reaches_it(self, value: float, bucket: int) -> None:
        distribution = Distribution.empty()
        distribution.observe(value)
        assert [index for index, count in enumerate(distribution.buckets) if count] == [bucket]
        assert len(distribution.buckets) == len(BUCKETS) + 1

    def test_a_request_counts_in_each_distribution(self) -> None:
        series = Series()
        assert repr(series) == "Series(count=0, mean_ms=0.000)"
        observed = [(1.0, 0, 130), (2.0, 700, 0), (6.0, 0, 10_000_000)]
        for request in observed:
            series.observe(*request)
        assert repr(series) == "Series(count=3, mean_ms=3.000)"
        for position, distribution in enumerate((series.durations_ms, series.request_bytes, series.response_bytes)):
            values = [request[position] for request in observed]
            buckets = [0] * (len(BUCKETS) + 1)
            for value in values:
                buckets[bisect_left(BUCKETS, value)] += 1
            assert (distribution.sum, distribution.buckets) == (sum(values), buckets)

    def test_series_add_up(self) -> None:
        one, other = Series(), Series()
        one.observe(1.0, 2, 3)
        other.observe(100.0, 0, 30)
        one.add(other)
        assert (one.count, one.durations_ms.sum, one.request_bytes.sum, one.response_bytes.sum) == (2, 101.0, 2.0, 33.0)
        assert sum(one.response_bytes.buckets) == 2


class TestSeriesTable:
    def test_a_key_has_one_series(self) -> None:
        table = SeriesTable()
        assert table.at(key()) is table.at(key())
        assert table.at(key()) is not table.at(key(status=404))
        assert (len(table), repr(table)) == (2, "SeriesTable(series=2, folded=0)")

    def test_only_what_has_changed_is_reported_and_with_all_it_has_counted(self) -> None:
        table = SeriesTable()
        table.at(key("a")).observe(1.0)
        table.at(key("b")).observe(1.0)
        assert [(value.key.source, value.count) for value in table.changed(0.0)] == [("a", 1), ("b", 1)]
        assert table.changed(0.0) == []
        table.at(key("b")).observe(3.0, 10, 20)
        (value,) = table.changed(1.0)
        assert (value.key.source, value.count, value.durations_ms.sum, value.response_bytes.sum) == ("b", 2, 4.0, 20.0)

    def test_a_report_comes_in_pieces_between_which_requests_may_be_counted(self) -> None:
        table = SeriesTable()
        for number in range(module.PIECE + 5):
            table.at(key(str(number))).observe(1.0)
        pieces = table.pieces(0.0)
        first = next(pieces)
        assert len(first) == module.PIECE
        for source in ("0", str(module.PIECE), "new"):
            table.at(key(source)).observe(1.0)
        assert {value.key.source: value.count for value in next(pieces)}[str(module.PIECE)] == 2
        assert next(pieces, None) is None
        assert {value.key.source: value.count for value in table.changed(1.0)} == {"0": 2, "new": 1}

    def test_a_series_that_rests_for_long_is_given_up_once_it_is_reported(self) -> None:
        table = SeriesTable()
        resting, busy = table.at(key("resting")), table.at(key("busy"))
        resting.observe(1.0)
        busy.observe(1.0)
        assert table.give_up_idle(10 * module.IDLE_S) == []
        table.changed(100.0)
        busy.observe(1.0)
        assert table.give_up_idle(100.0 + module.IDLE_S) == []
        assert table.give_up_idle(101.0 + module.IDLE_S) == [key("resting")]
        assert len(table) == 1
        assert table.at(key("resting")) is not resting

    def test_too_many_are_folded_into_ever_less_detail(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MAX_SERIES", 3)
        monkeypatch.setattr(module, "MAX_FOLDED", 2)
        table = SeriesTable()
        for number in range(3):
            table.at(key(str(number)))
        for source, service, status in [("x", "web", 200), ("y", "web", 200), ("x", "api", 200), ("x", "new", 200)]:
            table.at(key(source, service=service, status=status)).observe(1.0)
        table.at(key("z", service="more", status=503)).observe(1.0)
        table.at(key("1")).observe(1.0)
        counts = {(one.key.source, one.key.service, one.key.status): one.count for one in table.changed(0.0)}
        assert counts == {
            ("", "web.default.svc", 200): 2,
            ("", "api.default.svc", 200): 1,
            ("", "unknown", 200): 1,
            ("", "unknown", 503): 1,
            ("1", "web.default.svc", 200): 1,
        }
        assert table.folded == 5

    def test_five_thousand_routes_called_by_everybody_stay_within_bounds(self) -> None:
        table = SeriesTable()
        for caller in range(5):
            for service in range(5_000):
                for status in (200, 503):
                    table.at(key(str(caller), service=str(service), status=status)).observe(1.0)
        assert len(table) <= module.MAX_SERIES + module.MAX_FOLDED + 2
        assert sum(value.count for value in table.changed(0.0)) == 50_000


def test_stats_can_be_sent() -> None:
    table = SeriesTable()
    table.at(key()).observe(1.0, 2, 3)
    stats = WorkerStats(3, table.changed(0.0), {"a": 1.0}, {"b": 2.0}, [key("gone")])
    sent = msgspec.msgpack.decode(msgspec.msgpack.encode(stats), type=WorkerStats)
    assert sent == stats
    assert isinstance(sent.series[0], SeriesValue)
    assert sent.series[0].key in {key(): 1}
