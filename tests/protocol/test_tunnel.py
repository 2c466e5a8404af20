# SPDX-License-Identifier: Apache-2.0
"""Upgrades: who gets one, what goes through it, how it ends; and that nobody else's bytes ever mix with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from acmgproxy.access_log import AccessLog, AccessLogOptions
from routing.specs import ClusterRef, FaultSpec, HeaderOps
from tests.protocol.world import BEFORE_HEADERS, Client, World, answer, forwarded, local, relayed, request
from tests.unit.routing.table_kit import forward, rule

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.protocol.mocks import MockTransport

ASK = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: k")
SWITCH = answer("101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: a").replace(
    b"content-length: 0\r\n", b""
)
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n"
PROTOCOL_ERROR = local("502 Bad Gateway", BEFORE_HEADERS + b"protocol error")


def asked(*lines: str) -> bytes:
    """Write what the endpoint gets for an upgrade request."""
    return forwarded("GET", "/", *(lines or ASK[2:]))[:-2] + b"connection: Upgrade\r\nupgrade: websocket\r\n\r\n"


def open_tunnel(world: World) -> tuple[Client, MockTransport]:
    client = world.client().send(request("GET", "/", *ASK))
    upstream = world.upstream()
    upstream.take()
    upstream.feed(SWITCH)
    assert client.take() == SWITCHED
    assert len(world.plane.tunnels) == 1
    return client, upstream


def is_lost(client: Client) -> bool:
    return client.transport.lost


class TestAsking:
    def test_bytes_go_through_both_ways(self, world: World) -> None:
        client = world.client().send(request("GET", "/", *ASK))
        assert world.upstream().take() == asked()
        world.upstream().feed(SWITCH)
        assert client.take() == SWITCHED
        client.send(b"\x00GET / HTTP/1.1\r\n\r\n")
        assert world.upstream().take() == b"\x00GET / HTTP/1.1\r\n\r\n"
        world.upstream().feed(b"HTTP/1.1 200 OK\r\n\r\n\xff")
        assert client.take() == b"HTTP/1.1 200 OK\r\n\r\n\xff"

    @pytest.mark.parametrize("lines", [("connection: keep-alive, UPGRADE", "UPGRADE: WebSocket"), ("Upgrade: websocket", ASK[0])])
    def test_names_have_no_case(self, world: World, lines: tuple[str, ...]) -> None:
        world.client().send(request("GET", "/", *lines, ASK[2]))
        assert world.upstream().take() == asked()
        world.upstream().feed(SWITCH.replace(b"websocket", b"WEBSOCKET").replace(b": Upgrade", b": upgrade"))
        assert len(world.plane.tunnels) == 1

    @pytest.mark.parametrize(
        ("method", "minor", "lines"),
        [
            ("GET", 1, ("Upgrade: websocket",)),
            ("GET", 0, ("Connection: Upgrade, keep-alive", "Upgrade: websocket")),
            ("POST", 1, ASK[:2]),
            ("HEAD", 1, ASK[:2]),
            ("GET", 1, ("Connection: Upgrade", "Upgrade: foo")),
            ("GET", 1, ("Connection: Upgrade", "Upgrade: websocket, foo")),
            ("GET", 1, ("Connection: Upgrade",)),
            ("GET", 1, ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")),
        ],
    )
    def test_anything_else_is_an_ordinary_request(self, world: World, method: str, minor: int, lines: tuple[str, ...]) -> None:
        client = world.client().send(request(method, "/", *lines, minor=minor))
        sent = world.upstream().take()
        framing = "content-length: 0" if method == "POST" else ""
        assert sent == forwarded(method, framing=framing)
        world.upstream().feed(answer())
        assert client.take().startswith(b"HTTP/1.1 200 OK\r\n")
        assert world.idle() == 1
        assert not world.plane.tunnels

    @pytest.mark.parametrize("protocol", ["websocket", "foo", "h2c"])
    @pytest.mark.parametrize(
        ("framing", "sent", "expected"),
        [
            ("Content-Length: 23", b"GET /evil HTTP/1.1\r\n\r\nx", b"GET /evil HTTP/1.1\r\n\r\nx"),
            ("Transfer-Encoding: chunked", b"5\r\nGET /\r\n0\r\n\r\n", b"5\r\nGET /\r\n0\r\n\r\n"),
        ],
    )
    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_a_body_is_never_taken_for_another_request(
        self, world: World, method: str, protocol: str, framing: str, sent: bytes, expected: bytes
    ) -> None:
        message = request(method, "/", "Connection: Upgrade", f"Upgrade: {protocol}", framing) + sent
        client = world.client().send(message + request("GET", "/next"))
        assert world.upstream().take() == forwarded(method, framing=framing.lower(), body=expected)
        world.upstream().feed(answer())
        assert world.upstream().take() == forwarded("GET", "/next")
        world.upstream().feed(answer())
        assert client.take() == relayed() * 2

    def test_a_body_that_comes_during_a_delay_is_no_upgrade_either(self, make_world: Callable[..., World]) -> None:
        world = make_world(rule("all", action=forward("web"), fault=FaultSpec(delay_s=1.0, delay_percent=100.0)))
        client = world.client().send(request("GET", "/", *ASK, body=b"abc"))
        world.advance(1.1)
        assert world.upstream().take() == forwarded("GET", "/", ASK[2], framing="content-length: 3", body=b"abc")
        world.upstream().feed(SWITCH)
        assert client.take() == PROTOCOL_ERROR


class TestTheAnswer:
    @pytest.mark.parametrize(
        "head",
        [
            SWITCH.replace(b"Upgrade: websocket", b"Upgrade: foo"),
            SWITCH.replace(b"Connection: Upgrade", b"X: y"),
            SWITCH.replace(b"Upgrade: websocket\r\n", b""),
        ],
    )
    def test_a_switch_to_something_else_is_an_error(self, world: World, head: bytes) -> None:
        client = world.client().send(request("GET", "/", *ASK))
        world.upstream().feed(head + b"secret")
        assert client.take() == PROTOCOL_ERROR
        assert world.upstream().aborted
        client.send(request())
        world.upstream().feed(answer())
        assert client.take() == relayed()

    @pytest.mark.parametrize("lines", [(), ("Upgrade: h2c", "Connection: Upgrade"), ("Upgrade: websocket",)])
    def test_an_unasked_switch_is_an_error(self, world: World, lines: tuple[str, ...]) -> None:
        client = world.client().send(request("GET", "/", *lines))
        world.upstream().feed(SWITCH)
        assert client.take() == PROTOCOL_ERROR
        assert world.counted() == {(502, "UPE"): 1}

    def test_a_switch_has_no_body(self, world: World) -> None:
        client = world.client().send(request("GET", "/", *ASK))
        world.upstream().feed(SWITCH[:-2] + b"Content-Length: 3\r\n\r\nabc")
        assert client.take() == SWITCHED + b"abc"

    def test_what_comes_behind_it_is_the_tunnel_s(self, world: World) -> None:
        client = world.client().send(request("GET", "/", *ASK))
        world.upstream().feed(answer("103 Early Hints", "link: x").replace(b"content-length: 0\r\n", b"") + SWITCH + b"hello")
        assert client.take() == b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + SWITCHED + b"hello"

    def test_byte_by_byte(self, world: World) -> None:
        client = world.client()
        for byte in request("GET", "/", *ASK):
            client.send(bytes([byte]))
        for byte in SWITCH + b"hello":
            world.upstream().feed(bytes([byte]))
        assert client.take() == SWITCHED + b"hello"

    def test_header_operations_of_the_route(self, make_world: Callable[..., World]) -> None:
        ops = HeaderOps(remove=("sec-websocket-accept",), set=(("x-by", "us"),))
        world = make_world(rule("all", action=forward(ClusterRef(cluster="web", response_headers=ops))))
        client = world.client().send(request("GET", "/", *ASK))
        world.upstream().feed(SWITCH)
        assert client.take() == SWITCHED.replace(b"Sec-WebSocket-Accept: a", b"x-by: us")
        adding = HeaderOps(add=(("x-more", "1"),))
        world.set_rules(rule("all", action=forward(ClusterRef(cluster="web", response_headers=adding))))
        client = world.client().send(request("GET", "/", *ASK))
        world.upstream().feed(SWITCH)
        assert client.take() == SWITCHED.replace(b"accept: a", b"").replace(b"connection", b"x-more: 1\r\nconnection")

    @pytest.mark.parametrize("status", ["200 OK", "403 Forbidden", "426 Upgrade Required"])
    def test_a_refusal_is_an_ordinary_answer(self, world: World, status: str) -> None:
        client = world.client().send(request("GET", "/", *ASK))
        world.upstream().feed(answer(status, body=b"no"))
        assert client.take() == relayed(status, body=b"no")
        assert world.idle() == 1
        client.send(request())
        world.upstream().feed(answer())
        assert client.take() == relayed()
        assert len(world.accepted) == 1

    def test_early_frames_wait_for_the_switch(self, world: World) -> None:
        client = world.client().send(request("GET", "/", *ASK), b"\x81\x85early")
        assert world.upstream().take() == asked()
        world.upstream().feed(SWITCH)
        assert world.upstream().take() == b"\x81\x85early"
        assert client.take() == SWITCHED

    def test_early_frames_are_lost_with_a_refusal(self, world: World) -> None:
        client = world.client().send(request("GET", "/", *ASK), b"\x81\x85early\r\n\r\n")
        world.upstream().take()
        world.upstream().feed(answer("403 Forbidden"))
        assert client.take().startswith(relayed("403 Forbidden") + b"HTTP/1.1 400 ")
        assert client.ended
        assert world.upstream().take() == b""
        world.client().send(request("GET", "/other"))
        assert world.upstream().take() == forwarded("GET", "/other")

    def test_many_early_frames_are_left_in_the_socket(self, make_world: Callable[..., World]) -> None:
        world = make_world(pipeline_bytes=100)
        client = world.client().send(request("GET", "/", *ASK), bytes(101))
        assert not client.transport.is_reading()
        client.send(b"rest")
        world.upstream().take()
        world.upstream().feed(SWITCH)
        assert world.upstream().take() == bytes(101) + b"rest"
        assert client.transport.is_reading()

    def test_no_time_limit_of_a_request_holds_for_a_tunnel(self, make_world: Callable[..., World]) -> None:
        world = make_world(rule("all", action=forward("web", timeout_s=1.0)), stream_idle_timeout_s=5.0)
        client = world.client().send(request("GET", "/", *ASK))
        world.upstream().feed(SWITCH)
        client.take()
        world.advance(1000.0)
        client.send(b"x")
        assert world.upstream().take().endswith(b"x")

    def test_the_route_s_timeout_holds_until_then(self, make_world: Callable[..., World]) -> None:
        world = make_world(rule("all", action=forward("web", timeout_s=1.0)))
        client = world.client().send(request("GET", "/", *ASK))
        world.advance(1.1)
        assert client.take() == local("504 Gateway Timeout", b"upstream request timeout")


class TestFlow:
    def test_a_slow_endpoint_holds_the_client_back(self, world: World) -> None:
        client, upstream = open_tunnel(world)
        upstream.clog()
        client.send(bytes(70_000))
        assert not client.transport.is_reading()
        client.send(b"rest")
        assert upstream.unsent == bytes(70_000)
        upstream.unclog()
        assert client.transport.is_reading()
        assert upstream.take() == bytes(70_000) + b"rest"

    def test_a_slow_client_holds_the_endpoint_back(self, world: World) -> None:
        client, upstream = open_tunnel(world)
        client.transport.clog()
        upstream.feed(bytes(70_000))
        assert not upstream.is_reading()
        client.send(b"other way")
        assert upstream.take() == b"other way"
        client.transport.unclog()
        assert upstream.is_reading()
        assert client.take() == bytes(70_000)

    def test_a_client_that_was_slow_before(self, world: World) -> None:
        client = world.client().send(request("GET", "/", *ASK))
        client.transport.clog()
        client.transport.high = 10
        world.upstream().feed(SWITCH)
        assert not world.upstream().is_reading()
        client.transport.unclog()
        assert world.upstream().is_reading()

    def test_an_endpoint_that_was_slow_before(self, world: World) -> None:
        def clog(transport: MockTransport) -> None:
            transport.clog()
            transport.high = 10

        world.loop.on_accept = clog
        client = world.client().send(request("GET", "/", *ASK))
        assert world.upstream().writing_paused
        world.upstream().feed(SWITCH)
        assert client.take() == SWITCHED
        assert not client.transport.is_reading()
        world.upstream().unclog()
        assert client.transport.is_reading()


class TestEnd:
    def test_the_client_ends_its_half_first(self, world: World) -> None:
        client, upstream = open_tunnel(world)
        client.send(b"bye")
        client.transport.feed_eof()
        assert upstream.take() == b"bye"
        assert upstream.eof_written
        upstream.feed(b"last words")
        assert client.take() == b"last words"
        upstream.feed_eof()
        assert client.ended
        assert upstream.ended
        assert not world.plane.tunnels
        assert world.counted() == {(101, "-"): 1}

    def test_the_endpoint_ends_its_half_first(self, world: World) -> None:
        client, upstream = open_tunnel(world)
        upstream.feed(b"bye")
        upstream.feed_eof()
        assert client.take() == b"bye"
        assert client.ended
        client.send(b"last words")
        assert upstream.take() == b"last words"
        client.transport.feed_eof()
        assert upstream.ended
        assert not world.plane.tunnels

    def test_an_end_that_is_told_twice(self, world: World) -> None:
        client, upstream = open_tunnel(world)
        client.transport.feed_eof()
        assert client.transport.protocol.eof_received()
        assert not upstream.lost

    def test_a_client_that_has_ended_its_half_before_the_switch(self, world: World) -> None:
        client = world.client().send(request("GET", "/", *ASK), b"early")
        client.transport.feed_eof()
        world.upstream().take()
        world.upstream().feed(SWITCH)
        assert world.upstream().take() == b"early"
        assert world.upstream().eof_written
        world.upstream().feed(b"hello")
        assert client.take() == SWITCHED + b"hello"

    def test_a_side_that_cannot_be_half_closed(self, world: World) -> None:
        client, upstream = open_tunnel(world)
        upstream.extra["sslcontext"] = "TLS"
        client.transport.feed_eof()
        assert upstream.lost
        assert client.transport.lost

    @pytest.mark.parametrize("by_client", [True, False])
    def test_a_reset_ends_the_other_side_at_once(self, world: World, *, by_client: bool) -> None:
        client, upstream = open_tunnel(world)
        one, other = (client.transport, upstream) if by_client else (upstream, client.transport)
        other.clog()
        one.feed(b"never taken")
        one.reset()
        assert other.lost
        assert other.aborted
        assert not world.plane.tunnels
        assert not world.plane.downstreams
        assert world.idle() == 0

    @pytest.mark.parametrize("by_client", [True, False])
    def test_an_orderly_end_lets_the_other_side_read_the_rest(self, world: World, *, by_client: bool) -> None:
        client, upstream = open_tunnel(world)
        one, other = (client.transport, upstream) if by_client else (upstream, client.transport)
        other.clog()
        one.feed(b"rest")
        one.close()
        world.loop.settle()
        assert other.closing
        assert not other.lost
        other.unclog()
        assert other.take() == b"rest"
        assert other.ended

    def test_what_one_side_still_says_when_the_other_is_closing(self, world: World) -> None:
        client, upstream = open_tunnel(world)
        upstream.closing = True
        client.send(b"x")
        client.transport.feed_eof()
        assert upstream.take() == b""
        upstream.closing = False

    def test_its_connections_serve_nobody_else(self, world: World) -> None:
        client, upstream = open_tunnel(world)
        client.transport.feed_eof()
        upstream.feed_eof()
        assert world.idle() == 0
        world.client().send(request())
        assert len(world.accepted) == 2

    def test_silence(self, make_world: Callable[..., World]) -> None:
        world = make_world(tunnel_idle_timeout_s=10.0)
        client, upstream = open_tunnel(world)
        world.advance(9.0)
        client.send(b"x")
        world.advance(9.0)
        upstream.feed(b"x")
        world.advance(9.9)
        assert len(world.plane.tunnels) == 1
        world.advance(0.2)
        assert client.ended
        assert upstream.ended
        assert world.counted() == {(101, "SI"): 1}

    def test_a_reader_that_has_stopped_does_not_hold_up_the_end(self, make_world: Callable[..., World]) -> None:
        world = make_world(tunnel_idle_timeout_s=10.0)
        client, upstream = open_tunnel(world)
        client.transport.clog()
        upstream.feed(bytes(1000))
        world.advance(10.1)
        assert upstream.lost
        assert not is_lost(client)
        client.transport.unsent = client.transport.unsent[:500]
        world.advance(5.1)
        assert not is_lost(client), "it reads, if slowly"
        world.advance(5.1)
        assert is_lost(client)
        assert client.transport.aborted

    def test_an_endpoint_that_goes_does_not_wait_for_such_a_reader_either(self, world: World) -> None:
        client, upstream = open_tunnel(world)
        client.transport.clog()
        upstream.feed(bytes(1000))
        upstream.close()
        world.advance(4.9)
        assert not is_lost(client)
        world.advance(0.3)
        assert is_lost(client)

    def test_a_drain_lets_tunnels_live_as_long_as_requests(self, make_world: Callable[..., World]) -> None:
        world = make_world(drain_timeout_s=10.0)
        client, upstream = open_tunnel(world)
        task = world.loop.start(world.plane.drain())
        world.advance(9.9)
        client.send(b"x")
        assert upstream.take() == b"x"
        world.advance(0.2)
        assert client.ended
        assert upstream.ended
        assert task.done()
        assert world.counted() == {(101, "-"): 1}

    def test_a_drain_is_over_when_the_last_tunnel_is(self, world: World) -> None:
        client, upstream = open_tunnel(world)
        task = world.loop.start(world.plane.drain())
        client.transport.feed_eof()
        upstream.feed_eof()
        assert task.done()

    def test_a_drain_does_not_wait_for_a_reader_that_has_stopped(self, make_world: Callable[..., World]) -> None:
        world = make_world(drain_timeout_s=10.0)
        client, upstream = open_tunnel(world)
        client.transport.clog()
        upstream.feed(b"x")
        task = world.loop.start(world.plane.drain())
        world.advance(10.1)
        assert not task.done()
        world.advance(1.0)
        assert task.done()

    def test_an_endpoint_that_leaves_the_service_keeps_its_tunnels(self, world: World) -> None:
        client, upstream = open_tunnel(world)
        world.set_endpoints(2)
        client.send(b"x")
        assert upstream.take() == b"x"


def test_what_is_counted_and_logged(make_world: Callable[..., World], tmp_path: Path) -> None:
    world = make_world()
    world.plane.access_log = log = AccessLog.open(AccessLogOptions(sink=str(tmp_path / "log")), lambda: 0.0)
    assert log is not None
    client, upstream = open_tunnel(world)
    gauges = world.plane.stats().gauges
    assert (gauges["tunnels"], gauges["active_requests"], gauges["upstream_connections"]) == (1.0, 0.0, 1.0)
    assert world.cluster.active == 1
    assert repr(next(iter(world.plane.tunnels))).endswith(", 0 bytes up, 0 bytes down)")
    assert "TUNNEL" in repr(client.protocol)
    client.send(b"four")
    world.advance(2.5)
    upstream.feed(b"seven..")
    client.transport.feed_eof()
    upstream.feed_eof()
    assert world.plane.counters["tunnels_opened"] == 1
    assert world.counted() == {(101, "-"): 1}
    ((_, series),) = world.series().items()
    assert (series.durations_ms.sum, series.request_bytes.sum, series.response_bytes.sum) == (2500.0, 4.0, 7.0)
    log.close()
    line = (tmp_path / "log").read_text()
    assert '"GET / HTTP/1.1" 101 - via_upstream - "-" 4 7 2500 0 ' in line
    world.plane.access_log = None
