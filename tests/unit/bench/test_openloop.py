# SPDX-License-Identifier: Apache-2.0
"""The client of fixed rates: nothing that was due is left out, and what is wrong is said."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from bench.load import BODY, LoadError
from bench.openloop import Offering, offer
from tests.interop.upstream import Upstream

if TYPE_CHECKING:
    from tests.interop.upstream import Exchange


def _answer(exchange: Exchange) -> None:
    exchange.answer(200, BODY)


def test_every_request_that_was_due_is_sent_and_answered() -> None:
    with Upstream() as upstream:
        upstream.on("/hello", _answer)
        offered = offer(upstream.address, Offering(rate=200, connections=8), seconds=0.5)
    assert offered.sample.requests == offered.sample.latencies_us.total() == 100
    assert offered.client_cpu_us > 0


def test_requests_that_wait_for_a_stalled_server_count_from_when_they_were_due() -> None:
    """One connection, whose first answer takes 0.4 s: a closed loop would see one slow request, but many were due."""
    stall = threading.Event()
    is_first = threading.Semaphore(1)

    def answer(exchange: Exchange) -> None:
        if is_first.acquire(blocking=False):
            stall.wait(0.4)
        exchange.answer(200, BODY)

    with Upstream() as upstream:
        upstream.on("/hello", answer)
        offered = offer(upstream.address, Offering(rate=100, connections=1), seconds=0.5)
    sample = offered.sample
    slow = sum(count for value, count in sample.latencies_us.items() if value > 100_000)
    assert sample.requests == 50
    assert slow >= 25  # those due in the first 0.3 s had to wait for 0.1 s at least
    assert offered.waited >= 25
    assert sample.percentile_us(100) >= 400_000


@pytest.mark.parametrize(("status", "body"), [(503, BODY), (200, b"another body")])
def test_a_wrong_answer_fails_the_run(status: int, body: bytes) -> None:
    with Upstream() as upstream:
        upstream.on("/hello", lambda exchange: exchange.answer(status, body, headers=[("Connection", "close")]))
        with pytest.raises(LoadError, match="an answer was"):
            offer(upstream.address, Offering(rate=50, connections=2), seconds=0.2)


def test_something_is_done_meanwhile() -> None:
    done: list[bool] = []
    with Upstream() as upstream:
        upstream.on("/hello", _answer)
        offer(upstream.address, Offering(rate=50, connections=2), seconds=0.1, meanwhile=lambda: done.append(True))
    assert done == [True]
