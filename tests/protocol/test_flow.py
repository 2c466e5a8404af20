# SPDX-License-Identifier: Apache-2.0
"""Whoever does not keep up is waited for, within bounds, and nothing stays stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from routing.specs import DirectResponseSpec
from tests.protocol.world import CHUNKED, World, answer, forwarded, local, relayed, request
from tests.unit.routing.table_kit import forward, rule

if TYPE_CHECKING:
    from collections.abc import Callable

MUCH = b"x" * 70_000


class TestSlowClients:
    def test_the_endpoint_waits_while_the_client_does_not_read(self, world: World) -> None:
        client = world.client().send(request())
        upstream = world.upstream()
        client.transport.clog()
        upstream.feed(answer("200 OK", "content-length: 140000", body=MUCH))
        assert not upstream.is_reading()
        upstream.feed(MUCH)
        assert len(upstream.arriving) == 1, "left in the socket"
        client.transport.unclog()
        assert upstream.is_reading()
        assert client.take() == relayed(framing="content-length: 140000", body=MUCH * 2)
        assert world.idle() == 1

    def test_an_answer_that_filled_the_buffer_at_its_end(self, world: World) -> None:
        client = world.client().send(request())
        client.transport.clog()
        world.upstream().feed(answer(body=MUCH))
        assert world.idle() == 1
        assert world.upstream().is_reading(), "the endpoint's connection is free for others"
        other = world.client().send(request())
        world.upstream().feed(answer())
        assert other.take() == relayed()
        client.transport.unclog()
        assert client.take() == relayed(body=MUCH)
        client.send(request())
        world.upstream().feed(answer())
        assert client.take() == relayed()

    def test_a_chunked_answer_that_filled_it_at_its_end(self, world: World) -> None:
        client = world.client().send(request())
        world.upstream().feed(answer("200 OK", CHUNKED))
        client.transport.clog()
        world.upstream().feed(b"11170\r\n" + MUCH + b"\r\n0\r\n\r\n")
        assert world.upstream().is_reading()
        client.transport.unclog()
        assert client.take().endswith(b"x\r\n0\r\n\r\n")

    def test_no_further_request_is_served_before_the_client_reads(self, world: World) -> None:
        client = world.client().send(request())
        client.transport.clog()
        world.upstream().feed(answer(body=MUCH))
        world.upstream().take()
        client.send(request("GET", "/2"), request("GET", "/3"))
        assert world.upstream().take() == b""
        assert not client.transport.is_reading()
        client.transport.unclog()
        assert world.upstream().take() == forwarded("GET", "/2")
        world.upstream().feed(answer(body=b"2"))
        world.upstream().feed(answer(body=b"3"))
        assert client.take() == relayed(body=MUCH) + relayed(body=b"2") + relayed(body=b"3")
        assert client.transport.is_reading()

    def test_nor_by_the_gateway_itself(self, make_world: Callable[..., World]) -> None:
        world = make_world(rule("local", action=DirectResponseSpec(status=200, body=MUCH)))
        client = world.client()
        client.transport.clog()
        client.send(request() * 4)
        assert len(client.transport.unsent) < 2 * len(MUCH)
        client.transport.unclog()
        assert client.take() == local("200 OK", MUCH) * 4

    def test_pipelined_requests_wait_too(self, world: World) -> None:
        client = world.client().send(request("GET", "/1") + request("GET", "/2"))
        client.transport.clog()
        world.upstream().take()
        world.upstream().feed(answer(body=MUCH))
        assert world.upstream().take() == b""
        client.transport.unclog()
        assert world.upstream().take() == forwarded("GET", "/2")

    def test_and_are_answered_after_a_half_close(self, world: World) -> None:
        client = world.client().send(request("GET", "/1") + request("GET", "/2"))
        client.transport.feed_eof()
        client.transport.clog()
        world.upstream().feed(answer(body=MUCH))
        client.transport.unclog()
        world.upstream().feed(answer())
        assert client.take() == relayed(body=MUCH) + relayed(end="close")
        assert client.transport.lost

    def test_a_half_closed_one_ends_when_all_is_read(self, world: World) -> None:
        client = world.client().send(request("GET", "/1") + request("GET", "/2")[:10])
        client.transport.feed_eof()
        client.transport.clog()
        world.upstream().feed(answer(body=MUCH))
        client.transport.unclog()
        assert client.take() == relayed(body=MUCH)
        assert client.transport.lost

    def test_one_that_reads_again_is_no_longer_idle(self, make_world: Callable[..., World]) -> None:
        world = make_world(stream_idle_timeout_s=10.0)
        client = world.client().send(request())
        client.transport.clog()
        world.upstream().feed(answer("200 OK", "content-length: 140000", body=MUCH))
        world.advance(9.0)
        client.transport.unclog()
        world.advance(9.0)
        assert not client.transport.closing

    def test_one_that_never_reads_is_let_go(self, make_world: Callable[..., World]) -> None:
        world = make_world(stream_idle_timeout_s=10.0)
        client = world.client().send(request())
        client.transport.clog()
        world.upstream().feed(answer("200 OK", "content-length: 140000", body=MUCH))
        world.advance(10.1)
        assert world.upstream().aborted
        assert client.transport.closing
        assert not client.ended, "there is something to read yet"
        world.advance(5.1)
        assert client.transport.lost
        assert world.counted() == {(200, "SI"): 1}

    def test_also_after_a_whole_answer(self, make_world: Callable[..., World]) -> None:
        world = make_world(stream_idle_timeout_s=10.0)
        client = world.client().send(request())
        client.transport.clog()
        world.upstream().feed(answer(body=MUCH))
        world.advance(16.0)
        assert client.transport.aborted

    def test_also_after_a_last_answer(self, world: World) -> None:
        client = world.client().send(request("GET", "/", "Connection: close"))
        client.transport.clog()
        world.upstream().feed(answer(body=MUCH))
        assert client.transport.closing
        world.advance(5.1)
        assert client.transport.aborted

    def test_one_that_reads_slowly_gets_everything(self, world: World) -> None:
        client = world.client().send(request("GET", "/", "Connection: close"))
        client.transport.clog()
        world.upstream().feed(answer(body=MUCH))
        for _ in range(5):
            client.transport.sent += client.transport.unsent[:10_000]
            client.transport.unsent = client.transport.unsent[10_000:]
            world.advance(5.1)
        client.transport.unclog()
        assert client.take() == relayed(end="close", body=MUCH)
        assert client.ended

    def test_one_that_leaves_without_reading(self, world: World) -> None:
        client = world.client().send(request())
        client.transport.clog()
        world.upstream().feed(answer(body=MUCH))
        client.transport.reset()
        assert client.transport.lost

    def test_one_that_asks_for_the_end_without_reading(self, world: World) -> None:
        client = world.client().send(request() + request())
        client.transport.clog()
        world.upstream().feed(answer(body=b"x" * 100))
        world.upstream().feed(answer(body=b"x" * 100))
        client.transport.feed_eof()
        assert not client.transport.lost
        world.advance(5.1)
        assert client.transport.lost

    def test_drain_does_not_wait_for_it_for_ever(self, world: World) -> None:
        client = world.client().send(request())
        client.transport.clog()
        world.upstream().feed(answer(body=b"x" * 100))
        task = world.loop.start(world.plane.drain())
        world.advance(5.1)
        assert client.transport.lost
        assert task.done()

    def test_a_drained_one_that_reads_at_last(self, world: World) -> None:
        client = world.client().send(request())
        client.transport.clog()
        world.upstream().feed(answer(body=MUCH))
        task = world.loop.start(world.plane.drain())
        client.transport.unclog()
        assert client.ended
        assert task.done()


class TestSlowEndpoints:
    def test_the_client_waits_while_the_endpoint_does_not_read(self, world: World) -> None:
        client = world.client().send(request("POST", "/", "Content-Length: 210000"))
        upstream = world.upstream()
        upstream.take()
        upstream.clog()
        client.send(MUCH)
        assert not client.transport.is_reading()
        client.send(MUCH)
        assert len(client.transport.arriving) == 1
        upstream.unclog()
        assert client.transport.is_reading()
        client.send(MUCH)
        assert upstream.take() == MUCH * 3
        upstream.feed(answer())
        assert client.take() == relayed()
        assert world.idle() == 1

    def test_nothing_is_buffered_without_bounds_while_connecting(self, world: World) -> None:
        connection = world.hold()
        client = world.client().send(request("POST", "/", "Content-Length: 210000", body=MUCH))
        assert not client.transport.is_reading()
        client.send(MUCH, MUCH)
        connection.set_result(None)
        world.loop.settle()
        assert world.upstream().take().endswith(MUCH * 3)
        assert client.transport.is_reading()

    def test_a_client_that_waits_for_a_connection_that_fails(self, make_world: Callable[..., World]) -> None:
        world = make_world()
        connection = world.hold()
        client = world.client().send(request("POST", "/", "Content-Length: 210000", body=MUCH))
        connection.set_exception(ConnectionRefusedError())
        world.loop.settle()
        assert client.take().startswith(b"HTTP/1.1 503 ")
        assert client.transport.is_reading(), "what comes is dropped"
        client.send(MUCH)
        assert client.ended

    def test_a_body_stopped_by_an_endpoint_that_fails(self, make_world: Callable[..., World]) -> None:
        world = make_world(write_high_bytes=1000)
        client = world.client().send(request("POST", "/", "Content-Length: 5000"))
        world.upstream().clog()
        client.send(b"x" * 2000)
        assert not client.transport.is_reading()
        world.upstream().reset()
        assert client.take().startswith(b"HTTP/1.1 503 ")
        assert client.transport.is_reading()
        client.send(b"x" * 3000, request())
        assert len(world.accepted) == 2, "the connection goes on"

    def test_a_pipelined_body_waits_for_both_reasons_in_turn(self, world: World) -> None:
        client = world.client().send(request("POST", "/", body=b"x" * 10))
        world.upstream().clog()
        client.send(request("POST", "/", body=MUCH)[:-1])
        assert not client.transport.is_reading(), "too much to hold while another is served"
        world.upstream().feed(answer())
        assert client.take() == relayed()
        assert not client.transport.is_reading(), "the endpoint does not take it"
        world.upstream().unclog()
        client.send(b"x")
        world.upstream().feed(answer())
        assert client.take() == relayed()

    def test_an_answer_before_the_endpoint_has_taken_the_request(self, world: World) -> None:
        client = world.client().send(request("POST", "/", "Content-Length: 70000"))
        world.upstream().clog()
        client.send(MUCH)
        world.upstream().feed(answer())
        assert client.take() == relayed()
        assert world.idle() == 0, "what it has not taken stands before the next request"
        assert not client.ended

    def test_a_client_that_leaves_while_it_waits(self, world: World) -> None:
        client = world.client().send(request("POST", "/", "Content-Length: 210000"))
        world.upstream().clog()
        client.send(MUCH)
        client.transport.reset()
        assert world.upstream().aborted

    def test_an_idle_connection_is_not_anybody_s(self, world: World) -> None:
        world.client().send(request())
        world.upstream().feed(answer())
        world.upstream().protocol.pause_writing()
        world.upstream().protocol.resume_writing()


@pytest.mark.parametrize("framing", ["Content-Length: 300000", CHUNKED])
def test_a_large_body_keeps_nothing_here(make_world: Callable[..., World], framing: str) -> None:
    world = make_world(rule("all", action=forward("web")))
    client = world.client().send(request("POST", "/", framing))
    pieces = [b"x" * 1000] * 300
    for piece in pieces:
        client.send(b"3e8\r\n" + piece + b"\r\n" if framing == CHUNKED else piece)
    exchange = world.exchanges()[0]
    assert exchange.received_bytes == 300_000
    assert not exchange.replay
    client.transport.reset()
