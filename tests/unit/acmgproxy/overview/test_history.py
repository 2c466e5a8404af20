# SPDX-License-Identifier: Apache-2.0
"""Facts about the recent past of traffic."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

import pytest

from acmgproxy.metrics.labels import REQUEST_LABELS
from acmgproxy.overview import history as history_module
from acmgproxy.overview.history import ALL, Cell
from acmgproxy.stats import BUCKETS
from tests.promql import histogram_quantile
from tests.unit.acmgproxy.overview.traffic import REVIEWS, WALL, Traffic, cluster

if TYPE_CHECKING:
    from acmgproxy.overview.history import Window

_SERVICE, _CODE = REQUEST_LABELS.index("destination_service"), REQUEST_LABELS.index("response_code")
_RATINGS = "ratings.shop.svc.cluster.local"


@pytest.fixture
def traffic() -> Traffic:
    return Traffic()


Scraped = dict[tuple[str, ...], tuple[int, list[int]]]


def scrape(traffic: Traffic) -> Scraped:
    """Return what /metrics would be made of, as of now."""
    return {labels: (one.count, list(one.durations_ms.buckets)) for labels, one in traffic.totals.series().items()}


def test_figures_are_those_of_the_window(traffic: Traffic) -> None:
    traffic.request(times=100)
    traffic.step()
    traffic.request(0.3, times=30)
    traffic.request(8.0, times=10, status=503, flags="UC")
    traffic.clock.now += 5.0
    traffic.report()
    window = traffic.history.window(5.0)
    assert (window.start, window.end, window.seconds) == (WALL + 1005.0, WALL + 1010.0, 5.0)
    figures = traffic.history.figures(REVIEWS, window)
    assert (figures.requests, figures.errors) == (40, 10)
    assert (figures.rate, figures.error_rate, figures.error_ratio) == (8.0, 2.0, 0.25)
    assert figures.p50_ms == pytest.approx(0.5 * 20 / 30)
    assert figures.p99_ms == pytest.approx(5.0 + 5.0 * 9.6 / 10)
    assert traffic.history.figures(ALL, window) == figures


def test_a_client_that_left_is_no_error(traffic: Traffic) -> None:
    traffic.request(status=0, flags="DC")
    traffic.request(status=404)
    traffic.request(status=599)
    traffic.report()
    traffic.clock.now += 1.0
    assert traffic.history.figures(REVIEWS, traffic.history.window()).errors == 1


def test_nothing_is_said_of_nothing(traffic: Traffic) -> None:
    window = traffic.history.window()
    assert window.seconds == 0.0
    for service in (ALL, REVIEWS):
        assert tuple(traffic.history.figures(service, window)) == (0, 0, 0.0, 0.0, None, None, None)
        assert traffic.history.curve(service) == []
    assert traffic.history.counts(REVIEWS, window).cells == {}


def test_cells_tell_where_requests_went_and_how_they_ended(traffic: Traffic) -> None:
    traffic.request(times=9, version="v1", subset="stable")
    traffic.request(times=1, version="v2", subset="canary", status=500)
    traffic.step()
    traffic.request(times=2, version="gone")
    traffic.report()
    counts = traffic.history.counts(REVIEWS, traffic.history.window(60.0))
    assert counts.cells == {
        Cell(cluster("stable"), "reviews-v1", "shop", "v1", 200, "-"): 9,
        Cell(cluster("canary"), "reviews-v2", "shop", "v2", 500, "-"): 1,
        Cell(cluster(), "unknown", "unknown", "unknown", 200, "-"): 2,
    }
    assert repr(counts) == "Counts(requests=12, errors=1)"


@pytest.mark.parametrize("seed", range(12))
def test_figures_equal_prometheus_whatever_happens(traffic: Traffic, seed: int) -> None:
    """Workers die and come back, series come and go: two scrapes and the history say the same of any window."""
    chance = random.Random(seed)
    scrapes = {0: scrape(traffic)}
    for step in range(1, 90):
        for _ in range(chance.randrange(6)):
            traffic.request(
                chance.lognormvariate(2, 2), times=chance.randrange(1, 20), worker=chance.randrange(2),
                version=chance.choice(("v1", "v2", "")), status=chance.choice((200, 200, 404, 503, 0)),
                source=chance.choice(("", "v1")), service=chance.choice((REVIEWS, _RATINGS)),
            )  # fmt: skip
        traffic.step(chance.choice((5.0, 5.0, 5.02, 6.5)))
        scrapes[step] = scrape(traffic)
        if chance.random() < 0.1 and len(traffic._tables) == 2:
            traffic.die(chance.randrange(2))
        if step < 3:
            continue
        window = traffic.history.window(chance.uniform(1, 400))
        compare(traffic, scrapes[window.step], scrapes[step], window)


def compare(traffic: Traffic, before: Scraped, after: Scraped, window: Window) -> None:
    nothing = (0, [0] * (len(BUCKETS) + 1))
    for service in (REVIEWS, _RATINGS, ALL):
        requests = errors = 0
        buckets = dict.fromkeys((*BUCKETS, math.inf), 0.0)
        for labels, (count, counted) in after.items():
            if service not in {labels[_SERVICE], ALL}:
                continue
            count_before, counted_before = before.get(labels, nothing)
            requests += count - count_before
            errors += (count - count_before) * labels[_CODE].startswith("5")
            running = 0
            for bound, now, then in zip(buckets, counted, counted_before, strict=True):
                running += now - then
                buckets[bound] += running
        figures = traffic.history.figures(service, window)
        assert (figures.requests, figures.errors) == (requests, errors)
        assert figures.rate == pytest.approx(requests / window.seconds)
        assert figures.error_rate == pytest.approx(errors / window.seconds)
        for q, ours in ((0.5, figures.p50_ms), (0.99, figures.p99_ms)):
            theirs = histogram_quantile(q, buckets)
            assert (ours is None and math.isnan(theirs)) or ours == pytest.approx(theirs)


def test_the_last_minute_can_be_asked_about_to_the_step(traffic: Traffic) -> None:
    for _ in range(100):
        traffic.request()
        traffic.step()
    for seconds in (5.0, 20.0, 60.0):
        traffic.clock.now += 2.0
        window = traffic.history.window(seconds)
        assert seconds <= window.seconds < seconds + 5.0
        assert traffic.history.figures(REVIEWS, window).requests == (WALL + 1500.0 - window.start) / 5


def test_older_steps_are_fewer_and_the_oldest_is_five_minutes_old(traffic: Traffic) -> None:
    for _ in range(200):
        traffic.request()
        traffic.step()
    window = traffic.history.window(200.0)
    assert 200.0 <= window.seconds <= 230.0
    assert traffic.history.figures(REVIEWS, window).rate == pytest.approx(0.2)
    window = traffic.history.window(9999.0)
    assert 300.0 <= window.seconds < 330.0
    assert traffic.history.figures(REVIEWS, window).requests == window.seconds / 5


def test_memory_does_not_grow_with_time(traffic: Traffic) -> None:
    def held() -> int:
        return len(traffic.history._pasts[REVIEWS].kept)

    for _ in range(100):
        traffic.request()
        traffic.step()
    assert held() <= 26
    assert 60 <= len(traffic.history.curve(REVIEWS)) < 66
    for _ in range(500):
        traffic.request()
        traffic.step()
        assert held() <= 26


def test_a_curve_has_a_point_for_each_step(traffic: Traffic) -> None:
    traffic.request(0.2, times=10)
    traffic.step()
    traffic.step()
    traffic.request(0.2, times=5, status=500)
    traffic.step(10.0)
    first, second, third = traffic.history.curve(REVIEWS)
    assert (first, second, third) == ((2.0, 0.0, 0.25, 0.495), None, (0.5, 0.5, 0.25, 0.495))
    assert list(traffic.history.times()) == [WALL + 1005, WALL + 1010, WALL + 1020]


def test_a_service_without_traffic_is_forgotten_and_counts_again_when_it_comes_back(traffic: Traffic) -> None:
    traffic.request(times=7)
    traffic.step()
    assert traffic.history.services() == {REVIEWS: ("shop", "reviews")}
    for _ in range(66):
        traffic.step()
    assert traffic.history.services() == {}
    traffic.request(times=3)
    traffic.step()
    assert traffic.history.figures(REVIEWS, traffic.history.window()).requests == 3
    assert traffic.history.figures(ALL, traffic.history.window()).requests == 3


def test_a_report_without_news_changes_nothing(traffic: Traffic) -> None:
    traffic.request()
    traffic.report()
    (value,) = traffic.totals._series[0].values()
    traffic.history.observe(value.key, value, value)
    assert traffic.history.counts(REVIEWS, traffic.history.window()).requests == 1


def test_too_many_services_are_in_the_sum_only(traffic: Traffic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "MAX_SERVICES", 2)
    for name in ("a", "b", "c", "d"):
        traffic.request(service=f"{name}.shop.svc.cluster.local")
    traffic.step()
    window = traffic.history.window()
    assert len(traffic.history.services()) == 2
    assert traffic.history.left_out == 2
    assert traffic.history.figures(ALL, window).requests == 4
    assert repr(traffic.history) == "<History services=2 steps=2>"
