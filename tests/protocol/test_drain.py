# SPDX-License-Identifier: Apache-2.0
"""Clients are let go without losing a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.protocol.world import CHUNKED, World, answer, local, relayed, request

if TYPE_CHECKING:
    from collections.abc import Callable


class TestDrain:
    def test_nothing_to_do(self, world: World) -> None:
        world.loop.run(world.plane.drain())

    def test_answers_say_close_and_drain_waits_for_them(self, world: World) -> None:
        idle, busy = world.client().send(request()), world.client()
        world.upstream().feed(answer())
        idle.take()
        busy.send(request())
        waiting = world.client()
        task = world.loop.start(world.plane.drain())
        assert idle.ended, "a kept connection without a request"
        assert not task.done()
        late = world.client().send(request())
        world.upstream(0).feed(answer())
        world.upstream(1).feed(answer())
        assert busy.take() == relayed(end="close")
        assert late.take() == relayed(end="close")
        waiting.send(request())
        world.upstream(1).feed(answer())
        assert waiting.take() == relayed(end="close"), "a new connection's request was on its way"
        assert not task.done()
        for client in (busy, late, waiting):
            client.transport.feed_eof()
        assert task.done()

    def test_a_new_connection_that_does_not_ask(self, world: World) -> None:
        before = world.client()
        task = world.loop.start(world.plane.drain())
        after = world.client()
        world.advance(5.1)
        assert before.ended
        assert after.ended
        assert task.done()

    def test_there_is_a_limit(self, world: World) -> None:
        client = world.client().send(request())
        task = world.loop.start(world.plane.drain())
        world.advance(24.9)
        assert not task.done()
        world.advance(0.2)
        assert task.done()
        assert not client.ended

    def test_a_head_under_way_is_still_served(self, world: World) -> None:
        client = world.client().send(request()[:10])
        _ = world.loop.start(world.plane.drain())
        client.send(request()[10:])
        world.upstream().feed(answer())
        assert client.take() == relayed(end="close")

    def test_pipelined_requests_end_with_the_first_answer(self, world: World) -> None:
        client = world.client().send(request("GET", "/1") + request("GET", "/2"))
        _ = world.loop.start(world.plane.drain())
        world.upstream().feed(answer())
        assert client.take() == relayed(end="close")
        assert client.ended
        assert not client.transport.closing, "a reset would meet the answer"
        client.transport.feed_eof()
        assert client.transport.lost

    def test_an_answer_that_promised_more_keeps_its_word(self, make_world: Callable[..., World]) -> None:
        world = make_world(endpoints=0)
        client = world.client().send(request("POST", "/", "Content-Length: 6", body=b"abc"))
        _ = world.loop.start(world.plane.drain())
        client.send(b"def" + request("POST", "/", body=b"abc"))
        reply = local("503 Service Unavailable", b"no healthy upstream")
        assert client.take() == reply + local("503 Service Unavailable", b"no healthy upstream", end="close")

    def test_an_answer_that_promised_more_with_nothing_behind(self, make_world: Callable[..., World]) -> None:
        world = make_world(endpoints=0)
        client = world.client().send(request("POST", "/", "Content-Length: 6", body=b"abc"))
        task = world.loop.start(world.plane.drain())
        client.send(b"def")
        assert client.ended
        assert task.done()

    def test_a_streamed_answer_that_began_before(self, world: World) -> None:
        client = world.client().send(request())
        world.upstream().feed(answer("200 OK", CHUNKED, body=b"3\r\nabc\r\n"))
        task = world.loop.start(world.plane.drain())
        world.upstream().feed(b"0\r\n\r\n")
        assert client.take() == relayed(framing=CHUNKED, body=b"3\r\nabc\r\n0\r\n\r\n")
        assert client.transport.lost
        assert task.done()


class TestWhileStillAccepting:
    """From `begin_drain` on until `drain`."""

    def test_a_kept_connection_is_closed_by_its_next_answer_only(self, world: World) -> None:
        kept = world.client().send(request())
        world.upstream().feed(answer())
        assert kept.take() == relayed()
        world.plane.begin_drain()
        world.advance(60)
        assert not kept.ended, "its client may be sending"
        kept.send(request())
        world.upstream().feed(answer())
        assert kept.take() == relayed(end="close")
        assert kept.ended

    def test_new_connections_are_served_and_closed(self, world: World) -> None:
        world.plane.begin_drain()
        new = world.client()
        world.advance(6)
        assert not new.ended
        new.send(request())
        world.upstream().feed(answer())
        assert new.take() == relayed(end="close")

    def test_an_answer_that_promised_more_leaves_the_connection_open(self, make_world: Callable[..., World]) -> None:
        world = make_world(endpoints=0)
        client = world.client().send(request("POST", "/", "Content-Length: 6", body=b"abc"))
        world.plane.begin_drain()
        client.send(b"def")
        assert client.take() == local("503 Service Unavailable", b"no healthy upstream")
        assert not client.ended
        client.send(request())
        assert client.take() == local("503 Service Unavailable", b"no healthy upstream", end="close")

    def test_load_that_comes_and_goes_does_not_change_that(self, world: World) -> None:
        world.plane.begin_drain()
        world.plane.shedding.poll()
        client = world.client().send(request())
        world.upstream().feed(answer())
        assert client.take() == relayed(end="close")

    def test_what_comes_just_before_idle_connections_end_is_served(self, world: World) -> None:
        kept, silent = world.client().send(request()), world.client().send(request())
        for upstream in (0, 1):
            world.upstream(upstream).feed(answer())
        assert kept.take() == silent.take() == relayed()
        world.plane.begin_drain()
        task = world.loop.create_task(world.plane.drain())
        world.loop.call_soon(kept.protocol.data_received, request())
        world.loop.settle()
        assert silent.ended
        assert not kept.ended
        world.upstream(1).feed(answer())
        assert kept.take() == relayed(end="close")
        kept.transport.feed_eof()
        assert task.done()
