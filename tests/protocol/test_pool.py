# SPDX-License-Identifier: Apache-2.0
"""Connections between requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.protocol.world import World, answer, relayed, request
from tests.unit.routing.table_kit import endpoint

if TYPE_CHECKING:
    from collections.abc import Callable


def test_the_last_one_given_back_is_taken_first(world: World) -> None:
    clients = [world.client().send(request()) for _ in range(3)]
    for index in (2, 0, 1):
        world.upstream(index).feed(answer())
        world.upstream(index).take()
    assert repr(world.cluster.endpoints[0].pool) == "Pool(10.0.0.1:8080, open=3, idle=3)"
    clients[0].send(request())
    assert [bool(transport.take()) for transport in world.accepted] == [False, True, False]


def test_idle_ones_are_closed_before_common_servers_close_them(world: World) -> None:
    client = world.client().send(request())
    world.advance(10.0)
    world.upstream().feed(answer())
    world.advance(3.9)
    assert not world.upstream().closing
    client.send(request())
    world.upstream().feed(answer())
    world.advance(3.9)
    assert not world.upstream().closing
    world.advance(0.2)
    assert world.upstream().lost
    client.send(request())
    assert len(world.accepted) == 2


def test_a_busy_one_has_no_idle_limit(world: World) -> None:
    client = world.client().send(request())
    world.upstream().feed(answer())
    world.advance(1.0)
    client.send(request())
    world.advance(60.0)
    world.upstream().feed(answer())
    assert client.take() == relayed() + relayed(ms=60_000)
    assert world.idle() == 1


@pytest.mark.parametrize("surplus", [b"x", answer()])
@pytest.mark.parametrize(
    "whole",
    [
        answer(body=b"abc"),
        answer("200 OK", "transfer-encoding: chunked", body=b"3\r\nabc\r\n0\r\n\r\n"),
        answer("204 No Content"),
    ],
)
def test_bytes_behind_an_answer_condemn(world: World, whole: bytes, surplus: bytes) -> None:
    client = world.client().send(request())
    world.upstream().feed(whole + surplus)
    once = client.take()
    assert once.count(b"HTTP/1.1") == 1
    assert world.upstream().lost
    assert world.idle() == 0
    client.send(request())
    assert len(world.accepted) == 2


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        (answer("200 OK", "content-length: 3", body=b"a"), b"bcX"),
        (answer("200 OK", "transfer-encoding: chunked", body=b"1\r\na\r\n"), b"2\r\nbc\r\n0\r\n\r\nX"),
    ],
)
def test_bytes_behind_the_last_piece_condemn(world: World, begin: bytes, end: bytes) -> None:
    client = world.client().send(request())
    world.upstream().feed(begin)
    world.upstream().feed(end)
    assert b"X" not in client.take()
    assert world.upstream().lost


@pytest.mark.parametrize("what", [b"x", answer(), None])
def test_anything_on_an_idle_one_condemns(world: World, what: bytes | None) -> None:
    client = world.client().send(request())
    world.upstream().feed(answer())
    client.take()
    if what is None:
        world.upstream().feed_eof()
    else:
        world.upstream().feed(what)
    assert world.upstream().lost
    assert world.idle() == 0
    client.send(request())
    world.upstream(1).feed(answer())
    assert client.take() == relayed()


def test_one_that_is_closing_is_not_taken(world: World) -> None:
    client = world.client().send(request())
    world.upstream().feed(answer())
    world.upstream().feed_eof_now()
    client.send(request())
    assert len(world.accepted) == 2


def test_requests_per_connection_may_be_limited(make_world: Callable[..., World]) -> None:
    world = make_world(cluster_options={"max_requests_per_connection": 2})
    client = world.client()
    for _ in range(4):
        client.send(request())
        world.upstream().feed(answer())
    assert len(world.accepted) == 2
    assert all(transport.lost for transport in world.accepted)


def test_ipv6_endpoints(make_world: Callable[..., World]) -> None:
    world = make_world(endpoints=0)
    world.apply(endpoints={"web": (endpoint("fd00::1"),)})
    client = world.client().send(request())
    world.upstream().feed(answer())
    assert client.take() == relayed()
    assert world.loop.connects == [("fd00::1", 8080)]


def test_what_they_say_of_themselves(world: World) -> None:
    world.client().send(request())
    upstream = world.upstream().protocol
    assert repr(upstream) == "Upstream(10.0.0.1:8080, busy, requests=1)"
    world.upstream().feed(answer())
    assert repr(upstream) == "Upstream(10.0.0.1:8080, idle, requests=1)"
    world.upstream().feed(b"x")
    assert repr(upstream) == "Upstream(10.0.0.1:8080, closing, requests=1)"


def test_tries_and_failures_of_an_endpoint_are_counted(world: World) -> None:
    client = world.client()
    for status in ("200 OK", "500 Internal Server Error", "404 Not Found"):
        client.send(request("POST"))
        world.upstream().feed(answer(status))
    pool = world.cluster.endpoints[0].pool
    assert (pool.requests, pool.failures) == (3, 1)
    client.send(request("POST"))
    world.upstream().reset()
    assert (pool.requests, pool.failures, len(pool.open)) == (4, 2, 0), "also once its connection has ended"
