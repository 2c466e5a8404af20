# SPDX-License-Identifier: Apache-2.0
"""What the parts cost that every request passes beside parsing and routing: pool, counting, log line, outbox, deadlines."""

from __future__ import annotations

import asyncio
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from acmgproxy.access_log import AccessLog, AccessLogOptions
from acmgproxy.access_log.lines import json_line, text_line
from acmgproxy.io.deadlines import TICK_S, Deadlines
from acmgproxy.io.downstream import Downstream
from acmgproxy.io.outbox import AT_ONCE, Outbox
from acmgproxy.stats import Series
from bench.micro import kit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_benchmark.fixture import BenchmarkFixture

    from acmgproxy.dataplane import DataPlane
    from acmgproxy.io.exchange import Exchange


@pytest.fixture
def plane() -> Iterator[DataPlane]:
    """A data plane that routes as the gateway of the comparison does."""
    with kit.data_plane() as plane:
        yield plane


@pytest.fixture
def exchange(plane: DataPlane) -> Iterator[Exchange]:
    """A request under way to an endpoint, with its answer's figures."""
    with kit.listening(plane) as listening, kit.idle_upstreams(plane):
        downstream = Downstream(plane, listening)
        downstream.connection_made(kit.transport())
        downstream.data_received(kit.request())
        assert downstream.exchange is not None
        downstream.exchange.status = 200
        yield downstream.exchange


@pytest.mark.parametrize("must_be_alive", [False, True])
@pytest.mark.parametrize("idle", [1, 1_000])
def test_pool_take_and_give_back(benchmark: BenchmarkFixture, plane: DataPlane, idle: int, must_be_alive: bool) -> None:
    """The connection that was used last, however many lie idle; a request that cannot be repeated has its socket looked at."""
    with kit.idle_upstreams(plane, idle) as upstreams:
        pool = upstreams[0].pool

        def once() -> None:
            upstream = pool.take(must_be_alive=must_be_alive)
            assert upstream is not None
            pool.give_back(upstream)

        benchmark(once)
        assert len(pool.idle) == idle


def test_series_observe(benchmark: BenchmarkFixture) -> None:
    """One request in its series: three histograms."""
    series = Series()
    benchmark(series.observe, 1.7, 0, 130)
    assert series.count


def test_record(benchmark: BenchmarkFixture, plane: DataPlane, exchange: Exchange) -> None:
    """Finding the series, too."""
    benchmark(plane.record, exchange)


@pytest.mark.parametrize("line", [text_line, json_line])
def test_access_log_line(benchmark: BenchmarkFixture, exchange: Exchange, line: Callable[[Exchange, float], str]) -> None:
    """Making a line, without writing it."""
    assert benchmark(line, exchange, monotonic()).endswith("\n")


def test_access_log_not_chosen(benchmark: BenchmarkFixture, exchange: Exchange) -> None:
    """A log of errors only, and a request that is none."""
    log = AccessLog.open(AccessLogOptions(sink="/dev/null", min_status=500), lambda: 0.5)
    assert log is not None
    benchmark(log.write, exchange, monotonic())
    log.close()


def test_outbox_at_once(benchmark: BenchmarkFixture) -> None:
    """The only message of its turn."""
    client = kit.transport()

    def once() -> None:
        outbox = Outbox(lambda _: None)
        for _ in range(AT_ONCE):
            outbox.send(client, kit.ANSWER)

    benchmark(once)


def test_outbox_gathered(benchmark: BenchmarkFixture) -> None:
    """As many messages of one turn, written at its end."""
    client = kit.transport()
    outbox = Outbox(lambda _: None)
    for _ in range(AT_ONCE):
        outbox.send(client, kit.ANSWER)

    def once() -> None:
        for _ in range(AT_ONCE):
            outbox.send(client, kit.ANSWER)
        outbox.flush()

    benchmark(once)
    assert not outbox.waiting


class _Timed:
    """Something with a limit that moves on."""

    wake = inf

    def on_wake(self, now: float) -> float:
        """Never due."""
        return now + 10.0


@pytest.fixture
def deadlines() -> Iterator[Deadlines]:
    """Deadlines whose clock stands still."""
    loop = asyncio.new_event_loop()
    deadlines = Deadlines(loop, lambda: 1000.0)
    yield deadlines
    deadlines.stop()
    loop.close()


def test_deadline_that_lies_behind_the_wake(benchmark: BenchmarkFixture, deadlines: Deadlines) -> None:
    """The usual case: the connection is asked before then anyway."""
    item = _Timed()
    deadlines.wake_by(item, 1001.0)
    benchmark(deadlines.wake_by, item, 1010.0)
    assert item.wake <= 1001.0 + 2 * TICK_S


def test_deadline_set_and_forgotten(benchmark: BenchmarkFixture, deadlines: Deadlines) -> None:
    """An item that comes and goes."""
    item = _Timed()

    def once() -> None:
        deadlines.wake_by(item, 1010.0)
        deadlines.forget(item)

    benchmark(once)
    assert item.wake == inf
