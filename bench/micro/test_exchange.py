# SPDX-License-Identifier: Apache-2.0
"""What a whole request costs without the system calls: parsed, routed, sent on, answered and counted, on connections in memory.

This is the part of the CPU time per request that Python code decides; reading and writing four times is the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from acmgproxy.io.downstream import Downstream
from bench.load import BODY
from bench.micro import kit

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture


@pytest.mark.parametrize("headers", [0, 10])
def test_a_request_and_its_answer(benchmark: BenchmarkFixture, headers: int) -> None:
    """Kept connections on both sides, one small answer."""
    with kit.data_plane() as plane, kit.listening(plane) as listening, kit.idle_upstreams(plane):
        downstream = Downstream(plane, listening)
        client = kit.transport()
        downstream.connection_made(client)
        request = kit.request(headers)

        def once() -> None:
            downstream.data_received(request)
            exchange = downstream.exchange
            assert exchange is not None
            assert exchange.upstream is not None
            exchange.upstream.data_received(kit.ANSWER)

        benchmark(once)
    assert cast("kit.Transport", client).written.endswith(BODY)
    assert downstream.exchange is None


def test_a_request_whose_head_is_new(benchmark: BenchmarkFixture) -> None:
    """The same when every head differs from the one before, so that nothing is recognised."""
    with kit.data_plane() as plane, kit.listening(plane) as listening, kit.idle_upstreams(plane):
        downstream = Downstream(plane, listening)
        downstream.connection_made(kit.transport())
        heads = [kit.request()[:-2] + b"X-Request-Id: 5b3f0a2c-%d\r\n\r\n" % number for number in range(2)]
        turn = 0

        def once() -> None:
            nonlocal turn
            turn ^= 1
            downstream.data_received(heads[turn])
            exchange = downstream.exchange
            assert exchange is not None
            assert exchange.upstream is not None
            exchange.upstream.data_received(kit.ANSWER)

        benchmark(once)


def test_a_connection_comes_and_goes(benchmark: BenchmarkFixture) -> None:
    """What accepting a connection costs, with finding out who calls, and its end."""
    with kit.data_plane() as plane, kit.listening(plane) as listening:
        client = kit.transport()

        def once() -> None:
            downstream = Downstream(plane, listening)
            downstream.connection_made(client)
            downstream.connection_lost(None)

        benchmark(once)
        assert not plane.downstreams
        assert not plane.deadlines._buckets  # noqa: SLF001 - nothing may be left behind
