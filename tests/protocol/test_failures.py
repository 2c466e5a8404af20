# SPDX-License-Identifier: Apache-2.0
"""Endpoints and clients that fail: what the other side gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from routing.specs import RetrySpec
from tests.protocol.world import (
    BEFORE_HEADERS,
    CHUNKED,
    World,
    answer,
    attempt_of,
    forwarded,
    local,
    relayed,
    request,
    retrying,
)
from tests.unit.routing.table_kit import cluster, endpoint, forward, rule

if TYPE_CHECKING:
    from collections.abc import Callable

NO_RETRY = RetrySpec(attempts=0)


class TestLocalReplies:
    def test_no_route(self, world: World) -> None:
        world.apply(virtual_hosts={}, removed={"virtual_hosts": tuple(world.plane.table._virtual_hosts)})
        client = world.client().send(request())
        assert client.take() == local("404 Not Found")
        assert world.counted() == {(404, "NR"): 1}
        assert {key.service for key in world.series_keys()} == {"unknown"}

    def test_no_cluster(self, make_world: Callable[..., World]) -> None:
        world = make_world(rule("all", action=forward("nowhere")))
        assert world.client().send(request()).take() == local("503 Service Unavailable")
        assert world.counted() == {(503, "NC"): 1}

    def test_no_endpoint(self, make_world: Callable[..., World]) -> None:
        world = make_world(endpoints=0)
        assert world.client().send(request("HEAD")).take() == local(
            "503 Service Unavailable", b"no healthy upstream", is_head=True
        )
        assert world.counted() == {(503, "UH"): 1}

    def test_nobody_listens(self, make_world: Callable[..., World]) -> None:
        world = make_world(rule("all", action=forward("web", retry=NO_RETRY)))
        world.refuse()
        client = world.client().send(request())
        assert client.take() == local("503 Service Unavailable", BEFORE_HEADERS + b"connection failure")
        assert world.counted() == {(503, "UF"): 1}
        assert world.plane.counters["upstream_connect_failures"] == 1
        assert world.loop.sockets[0].closed

    def test_nobody_answers_the_connect(self, make_world: Callable[..., World]) -> None:
        world = make_world(rule("all", action=forward("web", retry=NO_RETRY)), cluster_options={"connect_timeout_s": 2.0})
        _ = world.hold()
        client = world.client().send(request())
        world.advance(1.9)
        assert client.take() == b""
        world.advance(0.2)
        assert client.take() == local("503 Service Unavailable", BEFORE_HEADERS + b"connection failure")
        assert world.loop.sockets[0].closed

    def test_no_socket_is_left(self, make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> None:
        world = make_world(rule("all", action=forward("web", retry=NO_RETRY)))

        def fail(*_: object) -> None:
            raise OSError(24, "Too many open files")

        monkeypatch.setattr("acmgproxy.io.pool.socket.socket", fail)
        client = world.client().send(request())
        assert client.take() == local("503 Service Unavailable", BEFORE_HEADERS + b"connection failure")

    @pytest.mark.parametrize("part", [b"", b"HTTP/1.1 200", b"HTTP/1.1 100 Continue\r\n\r\n"])
    @pytest.mark.parametrize("how", ["feed_eof", "reset"])
    def test_the_endpoint_leaves_before_an_answer(self, world: World, part: bytes, how: str) -> None:
        client = world.client().send(request())
        if part:
            world.upstream().feed(part)
        getattr(world.upstream(), how)()
        assert client.take() == local("503 Service Unavailable", BEFORE_HEADERS + b"connection termination")
        assert not client.ended
        assert world.counted() == {(503, "UC"): 1}

    def test_the_endpoint_closes_but_does_not_read(self, world: World) -> None:
        client = world.client().send(request("POST", "/", "Content-Length: 100000"))
        world.upstream().clog()
        client.send(b"x" * 50_000)
        world.upstream().feed_eof()
        expected = local("503 Service Unavailable", BEFORE_HEADERS + b"connection termination", end="close")
        assert client.take() == expected, "waiting until it reads might be for ever"

    def test_an_endpoint_that_accepts_and_closes(self, make_world: Callable[..., World]) -> None:
        world = make_world(rule("all", action=forward("web", retry=NO_RETRY)))
        world.loop.on_accept = lambda transport: transport.feed_eof_now()
        client = world.client().send(request("POST", "/", body=b"abc"))
        assert client.take() == local("503 Service Unavailable", BEFORE_HEADERS + b"connection failure")
        assert world.upstream().take() == b""

    @pytest.mark.parametrize(
        "nonsense",
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"SSH-2.0-OpenSSH\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000,
            b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000 + b"\r\n\r\n",
            b"\x00",
        ],
    )
    def test_what_is_no_http_is_502(self, world: World, nonsense: bytes) -> None:
        client = world.client().send(request())
        world.upstream().feed(nonsense)
        assert client.take() == local("502 Bad Gateway", BEFORE_HEADERS + b"protocol error")
        assert world.upstream().aborted
        assert world.counted() == {(502, "UPE"): 1}


class TestTruncation:
    @pytest.mark.parametrize("how", ["feed_eof", "reset"])
    @pytest.mark.parametrize(("framing", "part"), [(CHUNKED, b"3\r\nabc\r\n"), ("content-length: 10", b"abc")])
    def test_an_answer_cut_short_is_never_completed(self, world: World, how: str, framing: str, part: bytes) -> None:
        client = world.client().send(request())
        world.upstream().feed(answer("200 OK", framing, body=part))
        sent = client.take()
        getattr(world.upstream(), how)()
        assert sent == relayed(framing=framing, body=part)
        assert client.take() == b""
        assert client.transport.lost
        assert world.counted() == {(200, "UC"): 1}

    def test_nor_one_that_turns_to_nonsense(self, world: World) -> None:
        client = world.client().send(request())
        world.upstream().feed(answer("200 OK", CHUNKED, body=b"3\r\nabc\r\n"))
        client.take()
        world.upstream().feed(b"oops\r\n")
        assert client.take() == b""
        assert client.transport.lost
        assert world.upstream().aborted
        assert world.counted() == {(200, "UPE"): 1}

    def test_a_reset_is_no_end_of_a_close_delimited_body(self, world: World) -> None:
        client = world.client().send(request())
        world.upstream().feed(b"HTTP/1.0 200 OK\r\n\r\nabc")
        client.take()
        world.upstream().reset()
        assert client.take() == b""
        assert client.transport.lost


class TestClientGone:
    def test_while_waiting_for_the_answer(self, world: World) -> None:
        client = world.client().send(request())
        client.transport.reset()
        assert world.upstream().aborted
        assert world.counted() == {(0, "DC"): 1}

    def test_while_the_answer_comes(self, world: World) -> None:
        client = world.client().send(request())
        world.upstream().feed(answer("200 OK", "content-length: 10", body=b"abc"))
        client.transport.reset()
        assert world.upstream().aborted
        assert world.counted() == {(200, "DC"): 1}

    def test_while_connecting(self, world: World) -> None:
        connection = world.hold()
        world.client().send(request()).transport.reset()
        assert world.counted() == {(0, "DC"): 1}
        connection.set_result(None)
        world.loop.settle()
        assert world.idle() == 1, "the next may have the connection"
        assert world.upstream().take() == b""
        world.client().send(request())
        assert world.upstream().take() == forwarded()

    def test_while_failing_to_connect(self, world: World) -> None:
        connection = world.hold()
        world.client().send(request()).transport.reset()
        connection.set_exception(ConnectionRefusedError())
        world.loop.settle()
        assert world.counted() == {(0, "DC"): 1}
        assert len(world.loop.connects) == 1

    def test_while_waiting_to_try_again(self, make_world: Callable[..., World]) -> None:
        world = make_world(retrying(retry_on=("5xx",)))
        client = world.client().send(request())
        world.upstream().feed(answer("503 No"))
        client.transport.reset()
        world.advance(1.0)
        assert world.counted() == {(0, "DC"): 1}
        assert len(world.accepted) == 1

    def test_with_requests_waiting(self, world: World) -> None:
        client = world.client().send(request() * 3)
        client.transport.reset()
        assert world.counted() == {(0, "DC"): 1}


class TestChange:
    def test_a_request_keeps_what_it_began_with(self, world: World) -> None:
        client = world.client().send(request())
        world.apply(
            clusters={"other": cluster("other")}, endpoints={"other": (endpoint("10.0.9.9"),)}, removed={"clusters": ("web",)}
        )
        world.upstream().feed(answer())
        assert client.take() == relayed()
        assert world.upstream().lost, "its endpoint has left"
        assert client.send(request()).take() == local("503 Service Unavailable")

    def test_an_endpoint_that_leaves(self, make_world: Callable[..., World]) -> None:
        world = make_world(endpoints=2)
        first, second = world.client().send(request()), world.client().send(request())
        pairs = {address: transport for (address, _), transport in zip(world.loop.connects, world.accepted, strict=True)}
        idle, busy = pairs["10.0.0.1"], pairs["10.0.0.2"]
        idle.feed(answer())
        world.set_endpoints()
        assert idle.lost, "at once: the address may soon be another's"
        assert not busy.closing
        busy.feed(answer())
        assert busy.lost
        assert first.take() + second.take() == relayed() * 2

    def test_one_that_comes_back_has_a_new_pool(self, world: World) -> None:
        world.client().send(request())
        world.upstream().feed(answer())
        world.set_endpoints()
        world.set_endpoints(1)
        world.client().send(request())
        assert len(world.accepted) == 2

    def test_one_that_leaves_while_it_is_connected_to(self, world: World) -> None:
        connection = world.hold()
        client = world.client().send(request())
        world.set_endpoints()
        connection.set_result(None)
        world.loop.settle()
        assert world.upstream().take() == b"", "its address may be somebody else's by now"
        assert world.upstream().lost
        assert client.take() == local("503 Service Unavailable", b"no healthy upstream")

    def test_one_that_leaves_while_it_is_connected_to_and_another_is_there(self, world: World) -> None:
        connection = world.hold()
        client = world.client().send(request())
        world.set_endpoints(2)
        connection.set_result(None)
        world.loop.settle()
        assert world.upstream(0).lost
        assert attempt_of(world.upstream(1)) == b"1"
        world.upstream(1).feed(answer())
        assert client.take() == relayed()

    def test_one_that_leaves_unconnected_and_unwanted(self, world: World) -> None:
        connection = world.hold()
        world.client().send(request()).transport.reset()
        world.set_endpoints()
        connection.set_result(None)
        world.loop.settle()
        assert world.upstream().lost
