# SPDX-License-Identifier: Apache-2.0
"""Counting: phases, percentiles, and what is called a problem."""

from __future__ import annotations

import asyncio
from array import array
from collections import Counter

import pytest
from aiohttp import web

from acmgproxy.demo.scenario import find_problems
from acmgproxy.demo.traffic import PhaseCount, Tally, Traffic, percentile


def _phase(v1: int, v2: int, weights: tuple[int, int] = (90, 10)) -> PhaseCount:
    return PhaseCount("split", weights, Counter(v1=v1, v2=v2))


def test_request_counts_towards_the_phase_it_was_sent_in() -> None:
    tally = Tally()
    first = tally.begin_phase("first", (90, 10))
    tally.answered(first, "v1", 1.0)
    tally.end_phase()
    second = tally.begin_phase("second", (50, 50))
    tally.answered(first, "v2", 2.0)
    tally.answered(None, "v2", 3.0)
    tally.failed_with(second, "reset")
    assert (first.counts, first.failed) == ((1, 1), 0)
    assert (second.counts, second.failed) == ((0, 0), 1)
    assert (tally.requests, tally.failed, tally.failures) == (4, 1, ["reset"])
    assert list(tally.latencies_ms) == [1.0, 2.0, 3.0]


def test_only_the_first_failures_are_kept() -> None:
    tally = Tally()
    for number in range(100):
        tally.failed_with(None, str(number))
    assert tally.failed == 100
    assert tally.failures == ["0", "1", "2", "3", "4"]


def test_observed_shares_are_percentages() -> None:
    assert _phase(3, 1).observed == (75.0, 25.0)
    assert _phase(0, 0).observed == (0.0, 0.0)


def test_percentiles() -> None:
    values = array("d", range(100, 0, -1))
    assert percentile(values, 50) == 51
    assert percentile(values, 99) == 100
    assert percentile(values, 100) == 100
    assert percentile(array("d"), 50) == 0


def test_split_that_chance_explains_is_no_problem() -> None:
    assert find_problems([_phase(905, 95), _phase(505, 495, (50, 50))]) == []


@pytest.mark.parametrize(("phase", "message"), [(_phase(500, 500), "standard deviations"), (_phase(0, 0), "no answers")])
def test_split_that_chance_does_not_explain_is_a_problem(phase: PhaseCount, message: str) -> None:
    (problem,) = find_problems([phase])
    assert message in problem


async def test_every_answer_is_counted_by_version_and_the_rest_as_failures() -> None:
    hosts = set()
    answers = iter(["Hello version: v1, instance: a\n", "Hello version: v2, instance: b\n", "Hello version: v3, instance: c\n"])

    async def hello(request: web.Request) -> web.Response:
        hosts.add(request.host)
        text = next(answers, None)
        return web.Response(text=text) if text else web.Response(status=503, text="no healthy upstream")

    app = web.Application()
    app.router.add_get("/hello", hello)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    tally = Tally()
    phase = tally.begin_phase("split", (50, 50))
    async with Traffic(f"http://{host}:{port}/hello", host="helloworld:5000", tally=tally):
        while tally.requests < 8:
            await asyncio.sleep(0)
    await runner.cleanup()
    assert hosts == {"helloworld:5000"}
    assert phase.counts == (1, 1)
    assert tally.failed == phase.failed == tally.requests - 2
    assert {failure.partition(" ")[0] for failure in tally.failures} == {"200", "503"}


async def test_refused_connections_are_failures() -> None:
    tally = Tally()
    async with Traffic("http://127.0.0.1:1/hello", host="helloworld:5000", tally=tally):
        while not tally.failed:
            await asyncio.sleep(0)
    assert "ClientConnectorError" in tally.failures[0]
