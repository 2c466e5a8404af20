# SPDX-License-Identifier: Apache-2.0
"""A client's connection: kept or closed, one request after the other, good-byes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from acmgproxy.h1.limits import Limits
from routing.specs import DirectResponseSpec, MatchSpec
from tests.protocol.world import CHUNKED, World, answer, forwarded, local, relayed, request
from tests.unit.routing.table_kit import forward, path, rule

if TYPE_CHECKING:
    from collections.abc import Callable


class TestKeepAlive:
    @pytest.mark.parametrize(
        ("minor", "connection", "kept", "said"),
        [
            (1, "X-None: 1", True, ""),
            (1, "Connection: keep-alive", True, ""),
            (1, "Connection: close", False, "close"),
            (0, "X-None: 1", False, "close"),
            (0, "Connection: keep-alive", True, "keep-alive"),
            (0, "Connection: close", False, "close"),
        ],
    )
    def test_the_client_decides(self, world: World, minor: int, connection: str, kept: bool, said: str) -> None:
        client = world.client().send(request("GET", "/", connection, minor=minor))
        world.upstream().feed(answer())
        assert client.take() == relayed(end=said)
        assert client.ended is not kept
        assert world.idle() == 1, "the endpoint's connection is kept in any case"

    @pytest.mark.parametrize(
        ("minor", "lines", "kept"),
        [(1, [], True), (1, ["Connection: close"], False), (0, [], False), (0, ["Connection: keep-alive"], True)],
    )
    def test_the_endpoint_decides_for_its_own(self, world: World, minor: int, lines: list[str], kept: bool) -> None:
        client = world.client().send(request())
        world.upstream().feed(answer("200 OK", *lines, minor=minor))
        assert client.take() == relayed()
        assert not client.ended
        assert world.idle() == kept
        assert world.upstream().lost is not kept

    def test_an_idle_client_is_let_go_after_the_idle_timeout(self, world: World) -> None:
        client = world.client().send(request())
        world.upstream().feed(answer())
        world.advance(3599)
        assert not client.ended
        world.advance(2)
        assert client.ended

    def test_a_client_that_never_asks(self, make_world: Callable[..., World]) -> None:
        world = make_world(keepalive_idle_timeout_s=10.0)
        client = world.client()
        world.advance(10.1)
        assert client.ended
        assert world.counted() == {}

    def test_a_client_that_comes_and_goes(self, world: World) -> None:
        client = world.client()
        client.transport.feed_eof()
        assert client.ended
        unknown = world.client()
        unknown.transport.reset()
        assert "HEAD" in repr(client.protocol) or "LINGER" in repr(client.protocol)


class TestPipelining:
    def test_answers_come_in_order_and_requests_one_at_a_time(self, world: World) -> None:
        client = world.client().send(request("GET", "/1") + request("POST", "/2", body=b"abc") + request("GET", "/3"))
        upstream = world.upstream()
        assert upstream.take() == forwarded("GET", "/1")
        upstream.feed(answer(body=b"1"))
        assert upstream.take() == forwarded("POST", "/2", framing="content-length: 3", body=b"abc")
        upstream.feed(answer(body=b"2"))
        assert upstream.take() == forwarded("GET", "/3")
        client.send(request("GET", "/4"))
        upstream.feed(answer(body=b"3"))
        assert upstream.take() == forwarded("GET", "/4")
        upstream.feed(answer(body=b"4"))
        assert client.take() == relayed(body=b"1") + relayed(body=b"2") + relayed(body=b"3") + relayed(body=b"4")
        assert len(world.accepted) == 1

    def test_local_answers_among_them(self, make_world: Callable[..., World]) -> None:
        world = make_world(
            rule("local", MatchSpec(path=path("prefix", "/local")), action=DirectResponseSpec(status=200, body=b"x")),
            rule("rest", action=forward("web")),
        )
        here = request("POST", "/local", body=b"abc")
        client = world.client().send(here + here + request("GET", "/far") + here + here)
        assert client.take() == local("200 OK", b"x") * 2
        world.upstream().feed(answer(body=b"far"))
        assert client.take() == relayed(body=b"far") + local("200 OK", b"x") * 2

    def test_thousands_of_local_answers_need_no_stack(self, make_world: Callable[..., World]) -> None:
        world = make_world(rule("local", action=DirectResponseSpec(status=200)))
        client = world.client().send(request() * 3000)
        assert client.take() == local("200 OK") * 3000

    def test_what_waits_is_bounded(self, make_world: Callable[..., World]) -> None:
        world = make_world(pipeline_bytes=1000)
        client = world.client().send(request())
        ahead = 1000 // len(request()) + 1
        for _ in range(ahead):
            client.send(request())
        assert not client.transport.is_reading()
        client.send(request())
        assert len(client.transport.arriving) == 1, "left in the socket"
        for _ in range(ahead + 2):
            world.upstream().feed(answer())
        assert client.take() == relayed() * (ahead + 2)
        assert client.transport.is_reading()

    def test_nothing_is_served_after_a_close(self, world: World) -> None:
        client = world.client().send(request("GET", "/", "Connection: close") + request("GET", "/2"))
        world.upstream().feed(answer())
        assert client.take() == relayed(end="close")
        assert client.ended
        assert world.upstream().take() == forwarded()

    def test_a_bad_one_is_refused_in_its_turn(self, world: World) -> None:
        client = world.client().send(request() + b"GET / HTTP/1.1\r\n\r\n" + request())
        assert client.take() == b""
        world.upstream().feed(answer())
        refusal = (
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 12\r\nconnection: close\r\n\r\nmissing Host"
        )
        assert client.take() == relayed() + refusal
        assert client.ended
        assert world.counted() == {(200, "-"): 1, (400, "DPE"): 1}


class TestBadRequests:
    def test_a_refusal_is_read_before_the_connection_goes(self, world: World) -> None:
        client = world.client().send(b"GET  / HTTP/1.1\r\n\r\n")
        assert client.take().startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert client.ended
        assert not client.transport.closing, "it may still be sending"
        client.send(b"more and more")
        world.advance(5.1)
        assert client.transport.lost
        assert client.take() == b""

    def test_a_client_that_closes_is_not_waited_for(self, world: World) -> None:
        client = world.client().send(b"GET  / HTTP/1.1\r\n\r\n")
        client.transport.feed_eof()
        assert client.transport.lost

    def test_limits_hold_for_whole_and_cut_heads(self, make_world: Callable[..., World]) -> None:
        world = make_world(limits=Limits(max_head_bytes=300))
        large = request("GET", "/", f"x: {'y' * 200}")
        for pieces in ([large], [large[:150], large[150:]], [large[:-2]]):
            client = world.client().send(*pieces)
            assert client.take().startswith(b"HTTP/1.1 431 ")
        assert world.counted() == {(431, "DPE"): 3}

    def test_one_empty_line_before_a_head_is_skipped(self, world: World) -> None:
        client = world.client().send(b"\r\n" + request())
        world.upstream().feed(answer())
        assert client.take() == relayed()

    def test_a_broken_body_ends_both_connections(self, world: World) -> None:
        client = world.client().send(request("POST", "/", CHUNKED, body=b"3\r\nabc\r\n"))
        client.send(b"oops\r\n")
        assert client.take().startswith(b"HTTP/1.1 400 ")
        assert client.ended
        assert world.upstream().aborted
        assert world.counted() == {(400, "DPE"): 1}

    def test_a_body_broken_from_the_start(self, world: World) -> None:
        client = world.client().send(request("POST", "/", CHUNKED, body=b"oops\r\n"))
        assert client.take().startswith(b"HTTP/1.1 400 ")
        assert world.counted() == {(400, "DPE"): 1}
        assert world.idle() == 1, "the connection that came too late is kept"

    def test_a_body_broken_while_its_answer_comes(self, world: World) -> None:
        client = world.client().send(request("POST", "/", CHUNKED, body=b"3\r\nabc\r\n"))
        world.upstream().feed(answer("200 OK", CHUNKED, body=b"3\r\nabc\r\n"))
        sent = client.take()
        client.send(b"oops\r\n")
        assert sent.endswith(b"\r\n\r\n3\r\nabc\r\n")
        assert client.take() == b"", "no second answer, no final chunk"
        assert client.ended
        assert world.counted() == {(200, "DPE"): 1}

    def test_a_body_broken_after_a_local_answer(self, make_world: Callable[..., World]) -> None:
        world = make_world(endpoints=0)
        client = world.client().send(request("POST", "/", CHUNKED, body=b"3\r\nabc\r\n"), b"oops\r\n")
        assert client.take() == local("503 Service Unavailable", b"no healthy upstream", end="close")

    def test_a_slow_head_is_408(self, world: World) -> None:
        client = world.client().send(request()[:20])
        world.advance(9.9)
        client.send(request()[20:30])
        assert client.take() == b""
        world.advance(0.2)
        assert client.take().startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert client.ended
        assert world.plane.counters["downstream_header_timeouts"] == 1
        assert world.counted() == {(408, "SI"): 1}
        world.advance(5.1)
        assert client.transport.lost

    def test_a_head_in_time_is_not(self, world: World) -> None:
        client = world.client().send(request()[:20])
        world.advance(9.9)
        client.send(request()[20:])
        world.advance(60.0)
        world.upstream().feed(answer())
        assert client.take() == relayed(ms=60000)


class TestHalfClose:
    def test_a_complete_request_is_answered(self, world: World) -> None:
        client = world.client().send(request())
        client.transport.feed_eof()
        world.upstream().feed(answer())
        assert client.take() == relayed(end="close")
        assert client.transport.lost

    def test_all_complete_requests_are_answered(self, world: World) -> None:
        client = world.client().send(request() * 3)
        client.transport.feed_eof()
        for _ in range(3):
            world.upstream().feed(answer())
        assert client.take() == relayed() * 2 + relayed(end="close")
        assert client.transport.lost

    @pytest.mark.parametrize("part", [request()[:20], request("POST", "/", body=b"abc")[:-1]])
    def test_an_incomplete_one_after_it_is_not(self, world: World, part: bytes) -> None:
        client = world.client().send(request() + part)
        client.transport.feed_eof()
        world.upstream().feed(answer())
        assert client.take() == relayed()
        assert client.transport.lost
        assert world.idle() == 1 if part.startswith(b"GET") else world.upstream().aborted

    def test_an_answer_under_way_is_completed(self, world: World) -> None:
        client = world.client().send(request())
        world.upstream().feed(answer("200 OK", "content-length: 6", body=b"abc"))
        client.transport.feed_eof()
        world.upstream().feed(b"def")
        assert client.take() == relayed(framing="content-length: 6", body=b"abcdef")
        assert client.transport.lost, "nothing more can come"

    def test_half_a_body_is_not_answered(self, world: World) -> None:
        client = world.client().send(request("POST", "/", "Content-Length: 6", body=b"abc"))
        client.transport.feed_eof()
        assert client.transport.lost
        assert client.take() == b""
        assert world.upstream().aborted
        assert world.counted() == {(0, "DC"): 1}

    def test_the_rest_of_a_body_that_is_dropped_anyway(self, make_world: Callable[..., World]) -> None:
        world = make_world(endpoints=0)
        client = world.client().send(request("POST", "/", "Content-Length: 6", body=b"abc"))
        client.transport.feed_eof()
        assert client.take() == local("503 Service Unavailable", b"no healthy upstream")
        assert client.transport.lost


class TestEarlyAnswers:
    def test_a_small_rest_is_read_and_the_connection_kept(self, make_world: Callable[..., World]) -> None:
        world = make_world(endpoints=0)
        client = world.client().send(request("POST", "/", "Content-Length: 6", body=b"abc"))
        reply = local("503 Service Unavailable", b"no healthy upstream")
        assert client.take() == reply
        client.send(b"def" + request("GET", "/next"))
        assert client.take() == reply
        client.send(request("POST", "/", body=b"abc") + request())
        assert client.take() == reply * 2
        assert not client.ended

    def test_a_small_rest_that_does_not_come(self, make_world: Callable[..., World]) -> None:
        world = make_world(endpoints=0)
        client = world.client().send(request("POST", "/", "Content-Length: 6", body=b"abc"))
        client.take()
        world.advance(5.1)
        assert client.ended

    @pytest.mark.parametrize("framing", ["Content-Length: 100000", CHUNKED])
    def test_a_large_rest_is_not_read(self, make_world: Callable[..., World], framing: str) -> None:
        world = make_world(endpoints=0)
        client = world.client().send(request("POST", "/", framing))
        assert client.take() == local("503 Service Unavailable", b"no healthy upstream", end="close")
        assert client.ended
        client.send(b"x" * 1000)
        assert not client.transport.closing

    def test_an_endpoint_s_413_is_delivered_while_the_body_comes(self, world: World) -> None:
        client = world.client().send(request("POST", "/", "Content-Length: 100000", body=b"x" * 1000))
        world.upstream().feed(answer("413 Content Too Large", body=b"no"))
        assert client.take() == relayed("413 Content Too Large", body=b"no", end="close")
        assert world.upstream().aborted
        client.send(b"x" * 1000, b"x" * 1000)
        assert client.ended
        assert not client.transport.closing, "the client gets to read it"
        world.advance(5.1)
        assert client.transport.lost
        assert world.counted() == {(413, "-"): 1}

    def test_an_early_answer_of_some_length(self, world: World) -> None:
        client = world.client().send(request("POST", "/", "Content-Length: 6", body=b"abc"))
        world.upstream().feed(answer("200 OK", CHUNKED, body=b"1\r\na\r\n"))
        client.send(b"def")
        assert world.upstream().take().endswith(b"abcdef"), "the request goes on meanwhile"
        world.upstream().feed(b"0\r\n\r\n")
        assert client.take() == relayed(framing=CHUNKED, end="close", body=b"1\r\na\r\n0\r\n\r\n")
        assert world.idle() == 1, "both were read to their ends"

    def test_a_413_behind_a_reset_is_found(self, world: World) -> None:
        client = world.client().send(request("POST", "/", "Content-Length: 100000", body=b"x" * 1000))
        world.loop.sockets[0].readable = answer("413 Content Too Large", body=b"no")
        world.upstream().reset()
        assert client.take() == relayed("413 Content Too Large", body=b"no", end="close")


class TestOldClients:
    def test_a_chunked_answer_is_unchunked_and_ends_with_the_connection(self, world: World) -> None:
        client = world.client().send(request("GET", "/", "Connection: keep-alive", minor=0))
        world.upstream().feed(answer("200 OK", CHUNKED, body=b"3\r\nabc\r\n"))
        world.upstream().feed(b"3\r\ndef\r\n0\r\n\r\n")
        assert client.take() == relayed(framing="none", end="close", body=b"abcdef")
        assert client.ended
        client.transport.feed_eof()
        assert client.transport.lost

    def test_an_answer_that_ends_with_the_connection(self, world: World) -> None:
        client = world.client().send(request(minor=0))
        world.upstream().feed(answer("200 OK", "content-length: 0", minor=0).replace(b"content-length: 0\r\n", b"") + b"abc")
        world.upstream().feed_eof()
        assert client.take() == relayed(framing="none", end="close", body=b"abc")
        assert client.transport.lost

    @pytest.mark.parametrize("framing", [CHUNKED, "content-length: 9"])
    def test_an_answer_cut_short_is_no_orderly_end(self, world: World, framing: str) -> None:
        client = world.client().send(request(minor=0))
        world.upstream().feed(answer("200 OK", framing, body=b"3\r\nabc\r\n"[: 5 if "length" in framing else None]))
        world.upstream().feed_eof()
        assert client.transport.aborted
        assert not client.ended
        assert world.counted() == {(200, "UC"): 1}
