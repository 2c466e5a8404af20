# SPDX-License-Identifier: Apache-2.0
"""Time limits of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.protocol.world import (
    CHUNKED,
    World,
    answer,
    local,
    relayed,
    request,
)
from tests.unit.routing.table_kit import forward, rule

if TYPE_CHECKING:
    from collections.abc import Callable


class TestTimeouts:
    def test_the_route_s_timeout(self, make_world: Callable[..., World]) -> None:
        world = make_world(rule("all", action=forward("web", timeout_s=2.0)))
        client = world.client().send(request())
        world.advance(1.99)
        assert client.take() == b""
        world.advance(0.03)
        assert client.take() == local("504 Gateway Timeout", b"upstream request timeout")
        assert not client.ended
        assert world.upstream().aborted
        assert world.counted() == {(504, "UT"): 1}
        client.send(request())
        world.upstream().feed(answer())
        assert client.take() == relayed()

    def test_it_begins_with_the_whole_request(self, make_world: Callable[..., World]) -> None:
        world = make_world(rule("all", action=forward("web", timeout_s=2.0)))
        client = world.client().send(request("POST", "/", "Content-Length: 3", body=b"a"))
        world.advance(10.0)
        client.send(b"bc")
        world.advance(1.9)
        assert client.take() == b""
        world.advance(0.2)
        assert client.take() == local("504 Gateway Timeout", b"upstream request timeout")

    def test_while_connecting(self, make_world: Callable[..., World]) -> None:
        world = make_world(rule("all", action=forward("web", timeout_s=2.0)), cluster_options={"connect_timeout_s": 0.0})
        _ = world.hold()
        client = world.client().send(request())
        world.advance(2.1)
        assert client.take() == local("504 Gateway Timeout", b"upstream request timeout")
        for task in world.cluster.endpoints[0].pool.connecting:
            task.cancel()
        world.loop.settle()
        assert world.loop.sockets[0].closed

    def test_in_the_middle_of_an_answer(self, make_world: Callable[..., World]) -> None:
        world = make_world(rule("all", action=forward("web", timeout_s=2.0)))
        client = world.client().send(request())
        world.upstream().feed(answer("200 OK", CHUNKED, body=b"3\r\nabc\r\n"))
        client.take()
        world.advance(2.1)
        assert client.take() == b""
        assert client.transport.lost
        assert world.counted() == {(200, "UT"): 1}

    def test_the_next_request_gets_its_turn(self, make_world: Callable[..., World]) -> None:
        world = make_world(rule("all", action=forward("web", timeout_s=2.0)))
        client = world.client().send(request() * 2)
        world.advance(2.1)
        world.advance(2.1)
        assert client.take() == local("504 Gateway Timeout", b"upstream request timeout") * 2

    def test_an_exchange_in_which_nothing_moves(self, make_world: Callable[..., World]) -> None:
        world = make_world(stream_idle_timeout_s=10.0)
        client = world.client().send(request())
        world.advance(10.1)
        assert client.take() == local("504 Gateway Timeout", b"stream timeout")
        assert world.counted() == {(504, "SI"): 1}

    def test_bytes_of_the_answer_are_movement(self, make_world: Callable[..., World]) -> None:
        world = make_world(stream_idle_timeout_s=10.0)
        client = world.client().send(request())
        world.upstream().feed(answer("200 OK", "content-length: 100"))
        for _ in range(5):
            world.advance(9.0)
            world.upstream().feed(b"x")
        assert not client.transport.closing
        world.advance(10.1)
        assert client.transport.lost

    def test_bytes_of_the_request_are_movement(self, make_world: Callable[..., World]) -> None:
        world = make_world(stream_idle_timeout_s=10.0)
        client = world.client().send(request("POST", "/", "Content-Length: 100"))
        for _ in range(5):
            world.advance(9.0)
            client.send(b"x")
        assert client.take() == b""
        world.advance(10.1)
        assert client.take() == local("408 Request Timeout", b"stream timeout")
        assert not client.ended, "the rest of the body is small"
        world.advance(5.1)
        assert client.ended
