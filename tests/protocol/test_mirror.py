# SPDX-License-Identifier: Apache-2.0
"""Copies of requests: complete, to where they belong, and without a trace in what the client gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from routing.specs import ClusterRef, FaultSpec, HashSpec, HeaderOps, MirrorSpec, RetrySpec
from tests.protocol.world import CHUNKED, World, answer, attempt_of, forwarded, local, relayed, request
from tests.unit.routing.table_kit import cluster, endpoint, forward, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.protocol.mocks import MockTransport

COPY = ("10.0.1.1", 8080)
SECOND = ("10.0.2.1", 8080)


def mirroring(*mirrors: MirrorSpec, **action: Any) -> Any:
    return rule("all", action=forward("web", mirrors=mirrors or (MirrorSpec(cluster="copy"),), **action))


@pytest.fixture
def make_mirrored(make_world: Callable[..., World]) -> Callable[..., World]:
    def make(
        *mirrors: MirrorSpec, options: dict[str, Any] | None = None, action: dict[str, Any] | None = None, **more: Any
    ) -> World:
        world = make_world(mirroring(*mirrors, **(action or {})), **more)
        world.apply(
            clusters={"copy": cluster("copy", **(options or {})), "second": cluster("second")},
            endpoints={"copy": (endpoint(COPY[0]),), "second": (endpoint(SECOND[0]),)},
        )
        return world

    return make


def to(world: World, address: tuple[str, int]) -> list[MockTransport]:
    return [transport for transport in world.accepted if transport.peer == address or transport.peer is None]


def test_the_copy_is_like_the_request(make_mirrored: Callable[..., World]) -> None:
    world = make_mirrored()
    client = world.client().send(request("POST", "/x?y", "X-A: 1", body=b"abc"))
    sent = forwarded("POST", "/x?y", "X-A: 1", framing="content-length: 3", body=b"abc")
    real, copy = world.accepted
    assert (real.peer, copy.peer) == (("10.0.0.1", 8080), COPY)
    assert real.take() == sent
    assert copy.take() == sent
    assert repr(world.copies[0]).startswith("Mirrored(RequestHead(b'POST' b'/x?y'")
    copy.feed(answer("500 Internal Server Error", body=b"dropped"))
    assert client.take() == b""
    real.feed(answer(body=b"kept"))
    assert client.take() == relayed(body=b"kept")
    assert world.counted() == {(200, "-"): 1}
    assert world.plane.counters["mirrors_sent"] == 1


def test_it_has_what_the_route_does_to_the_request(make_mirrored: Callable[..., World]) -> None:
    ops = HeaderOps(set=(("x-by", "us"),))
    world = make_mirrored()
    action = forward(ClusterRef(cluster="web", host_rewrite="other", request_headers=ops), mirrors=(MirrorSpec(cluster="copy"),))
    world.set_rules(rule("all", action=action))
    world.client().send(request())
    assert world.upstream(1).take() == forwarded(host="other")[:-2] + b"x-by: us\r\n\r\n"


def test_a_chunked_body(make_mirrored: Callable[..., World]) -> None:
    world = make_mirrored()
    client = world.client().send(request("POST", "/", CHUNKED), b"3\r\nabc\r\n")
    assert len(world.accepted) == 1, "only complete requests are copied"
    client.send(b"2;x=y\r\nde\r\n0\r\nt: u\r\n\r\n")
    body = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    assert world.upstream(0).take() == forwarded("POST", framing=CHUNKED, body=body)
    assert world.upstream(1).take() == forwarded("POST", framing=CHUNKED, body=body)


def test_a_body_that_is_whole_before_there_is_a_connection(make_mirrored: Callable[..., World]) -> None:
    world = make_mirrored()
    waiting = world.hold()
    client = world.client().send(request("POST", "/", "Content-Length: 6", body=b"abc"), b"def")
    assert not world.accepted
    waiting.set_result(None)
    world.loop.settle()
    assert world.upstream(1).take() == forwarded("POST", framing="content-length: 6", body=b"abcdef")
    world.upstream(0).feed(answer())
    assert client.take() == relayed()


def test_a_large_body_is_not_copied(make_mirrored: Callable[..., World]) -> None:
    world = make_mirrored()
    world.client().send(request("POST", "/", body=bytes(70_000)))
    assert len(world.accepted) == 1
    assert world.plane.counters["mirrors_skipped"] == 1
    assert world.plane.counters["mirrors_sent"] == 0


def test_an_upgrade_is_not_copied(make_mirrored: Callable[..., World]) -> None:
    world = make_mirrored()
    world.client().send(request("GET", "/", "Connection: Upgrade", "Upgrade: websocket"))
    assert len(world.accepted) == 1
    assert world.plane.counters["mirrors_skipped"] == 1


def test_a_share_of_the_requests(make_mirrored: Callable[..., World]) -> None:
    world = make_mirrored(MirrorSpec(cluster="copy", percent=30.0), MirrorSpec(cluster="second", percent=0.0))
    client = world.client()
    for _ in range(300):
        client.send(request())
        for transport in world.accepted:
            if transport.take():
                transport.feed(answer())
    assert client.take() == relayed() * 300
    assert 65 < world.plane.counters["mirrors_sent"] < 115
    assert not to(world, SECOND)
    assert len(world.accepted) == 2, "copies reuse connections"
    assert world.idle() == 2


def test_several_mirrors_and_an_unknown_one(make_mirrored: Callable[..., World]) -> None:
    world = make_mirrored(MirrorSpec(cluster="copy"), MirrorSpec(cluster="nobody"), MirrorSpec(cluster="second"))
    world.client().send(request())
    assert [transport.peer for transport in world.accepted[1:]] == [COPY, SECOND]
    assert world.plane.counters["mirrors_sent"] == 2


@pytest.mark.parametrize(
    "reply",
    [
        answer(body=b"abc"),
        answer("200 OK", CHUNKED, body=b"3\r\nabc\r\n0\r\n\r\n"),
        answer("204 No Content"),
        answer("103 Early Hints").replace(b"content-length: 0\r\n", b"") + answer(),
    ],
)
def test_answers_are_read_to_their_end(make_mirrored: Callable[..., World], reply: bytes) -> None:
    world = make_mirrored()
    world.client().send(request())
    copy = world.upstream(1)
    for byte in reply:
        assert not copy.lost
        copy.feed(bytes([byte]))
    assert world.idle() == 1
    assert not world.copies_under_way()


def test_an_answer_that_ends_with_its_connection(make_mirrored: Callable[..., World]) -> None:
    world = make_mirrored()
    world.client().send(request())
    copy = world.upstream(1)
    copy.feed(b"HTTP/1.1 200 OK\r\n\r\nabc")
    copy.feed_eof()
    assert copy.lost
    assert not world.copies_under_way()
    assert world.plane.counters["mirrors_dropped"] == 0


class TestFailures:
    def check(self, world: World, *, dropped: int = 1) -> None:
        """The client gets its answer as if there were no mirror."""
        client = next(iter(world.plane.downstreams))
        world.upstream(0).feed(answer())
        assert client.transport.take() == relayed()  # type: ignore[attr-defined]
        assert world.plane.counters["mirrors_dropped"] == dropped
        assert not world.copies_under_way()
        assert world.counted() == {(200, "-"): 1}

    def test_no_connection(self, make_mirrored: Callable[..., World]) -> None:
        world = make_mirrored()
        world.loop.outcomes[COPY] = ConnectionRefusedError(111, "refused")
        world.client().send(request())
        self.check(world)

    def test_no_endpoint(self, make_mirrored: Callable[..., World]) -> None:
        world = make_mirrored()
        world.apply(endpoints={"copy": ()})
        world.client().send(request())
        self.check(world)

    def test_a_reset(self, make_mirrored: Callable[..., World]) -> None:
        world = make_mirrored()
        world.client().send(request())
        world.upstream(1).reset()
        self.check(world)

    def test_what_is_no_http(self, make_mirrored: Callable[..., World]) -> None:
        world = make_mirrored()
        world.client().send(request())
        world.upstream(1).feed(b"nonsense\r\n\r\n")
        self.check(world)

    def test_an_unasked_switch(self, make_mirrored: Callable[..., World]) -> None:
        world = make_mirrored()
        world.client().send(request())
        world.upstream(1).feed(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
        self.check(world)

    def test_silence(self, make_mirrored: Callable[..., World]) -> None:
        world = make_mirrored()
        world.plane.stream_idle_s = 10.0
        client = world.client().send(request())
        world.upstream(0).feed(answer())
        assert client.take() == relayed()
        world.advance(9.9)
        assert world.copies_under_way()
        world.advance(0.2)
        assert not world.copies_under_way()
        assert world.plane.counters["mirrors_dropped"] == 1
        assert world.upstream(1).lost

    def test_silence_and_no_idle_limit(self, make_mirrored: Callable[..., World]) -> None:
        world = make_mirrored(options={"idle_timeout_s": 0.0})
        world.client().send(request())
        world.advance(300.1)
        assert not world.copies_under_way()

    def test_an_endpoint_that_reads_slowly(self, make_mirrored: Callable[..., World]) -> None:
        world = make_mirrored()

        def clog(transport: MockTransport) -> None:
            if transport.peer == COPY:
                transport.clog()
                transport.high = 10

        world.loop.on_accept = clog
        client = world.client().send(request("POST", "/", body=bytes(30_000)))
        assert client.transport.is_reading()
        world.upstream(1).unclog()
        world.upstream(1).feed(answer())
        self.check(world, dropped=0)


def test_a_client_that_leaves_does_not_take_the_copy_along(make_mirrored: Callable[..., World]) -> None:
    world = make_mirrored()
    client = world.client().send(request())
    client.transport.reset()
    assert len(world.copies_under_way()) == 1
    world.upstream(1).feed(answer())
    assert world.idle() == 1


def test_one_copy_however_often_the_request_is_tried(make_mirrored: Callable[..., World]) -> None:
    retry = RetrySpec(retry_on=("5xx",), backoff_base_s=0.0)
    world = make_mirrored(action={"retry": retry})
    world.client().send(request())
    world.upstream(0).feed(answer("503 Service Unavailable"))
    world.advance(0.1)
    assert attempt_of(world.upstream(0)) is not None
    assert world.plane.counters["upstream_retries"] == 1
    assert world.plane.counters["mirrors_sent"] == 1


def test_one_copy_of_a_request_that_is_replayed(make_mirrored: Callable[..., World]) -> None:
    world = make_mirrored()
    client = world.client().send(request())
    world.upstream(0).feed(answer())
    world.upstream(1).feed(answer())
    client.send(request())
    world.upstream(0).reset()
    world.upstream(2).feed(answer())
    assert client.take() == relayed() * 2
    assert world.plane.counters["upstream_replays"] == 1
    assert world.plane.counters["mirrors_sent"] == 2


def test_a_request_whose_body_was_complete_only_at_its_second_try(make_mirrored: Callable[..., World]) -> None:
    world = make_mirrored(action={"retry": RetrySpec(retry_on=("reset",), backoff_base_s=1.0)})
    client = world.client().send(request("POST", "/", "Content-Length: 6", body=b"abc"))
    world.upstream(0).reset()
    client.send(b"def")
    world.advance(10.0)
    sent = forwarded("POST", framing="content-length: 6", body=b"abcdef", attempt=2)
    assert [transport.take() for transport in world.accepted[1:]] == [sent, sent]


def test_a_delayed_request(make_mirrored: Callable[..., World]) -> None:
    world = make_mirrored()
    fault = FaultSpec(delay_s=1.0, delay_percent=100.0)
    world.set_rules(rule("all", action=forward("web", mirrors=(MirrorSpec(cluster="copy"),)), fault=fault))
    world.client().send(request())
    assert not world.copies
    world.advance(1.1)
    assert len(world.copies) == 1


def test_a_request_that_fails_before_it_is_sent_is_not_copied(make_mirrored: Callable[..., World]) -> None:
    world = make_mirrored(endpoints=0)
    client = world.client().send(request())
    assert client.take() == local("503 Service Unavailable", b"no healthy upstream")
    assert not world.copies


def test_its_connections_idle_no_longer_than_others(make_mirrored: Callable[..., World]) -> None:
    world = make_mirrored()
    world.client().send(request())
    world.upstream(1).feed(answer())
    world.advance(3.9)
    assert not world.upstream(1).lost
    world.advance(0.2)
    assert world.upstream(1).lost


def test_a_copy_may_take_longer_than_connections_may_idle(make_mirrored: Callable[..., World]) -> None:
    world = make_mirrored()
    world.client().send(request())
    world.advance(60.0)
    assert not world.upstream(1).lost
    world.upstream(1).feed(answer())
    world.advance(4.1)
    assert world.upstream(1).lost


class TestLimits:
    def test_copies_take_connections_within_the_limit(self, make_mirrored: Callable[..., World]) -> None:
        world = make_mirrored(options={"max_connections": 1})
        one, two = world.client().send(request()), world.client().send(request())
        assert len(to(world, COPY)) == 1
        assert world.plane.counters["mirrors_dropped"] == 1
        to(world, COPY)[0].feed(answer())
        world.upstream(0).feed(answer())
        one.send(request())
        assert world.plane.counters["mirrors_dropped"] == 1, "the idle connection is free to be used"
        assert len(to(world, COPY)) == 1
        assert two.take() == b""

    def test_copies_count_as_requests(self, make_mirrored: Callable[..., World]) -> None:
        world = make_mirrored(options={"max_requests": 1})
        world.client().send(request())
        world.client().send(request())
        assert world.plane.counters["mirrors_dropped"] == 1

    def test_a_request_that_waits_gets_the_connection_of_a_copy(self, make_mirrored: Callable[..., World]) -> None:
        world = make_mirrored(MirrorSpec(cluster="web"), cluster_options={"max_connections": 2})
        one = world.client().send(request("GET", "/1"))
        two = world.client().send(request("GET", "/2"))
        world.upstream(1).take()
        world.upstream(1).feed(answer())
        assert world.upstream(1).take().startswith(b"GET /2 ")
        assert one.take() == two.take() == b""


def test_the_proxy_protocol(make_mirrored: Callable[..., World]) -> None:
    world = make_mirrored(options={"proxy_protocol": 1})
    client = world.client().send(request())
    assert world.loop.sockets[1].sent == b"PROXY TCP4 10.1.0.1 10.0.1.1 51000 8080\r\n"
    world.upstream(1).feed(answer())
    world.upstream(0).feed(answer())
    client.send(request())
    assert len(world.accepted) == 2
    world.client(("10.1.0.2", 1)).send(request())
    assert [sock.sent for sock in world.loop.sockets].count(b"PROXY TCP4 10.1.0.2 10.0.1.1 1 8080\r\n") == 1


def test_consistent_hashing_sends_copies_anywhere(make_mirrored: Callable[..., World]) -> None:
    world = make_mirrored(options={"balancer": "MAGLEV", "hash": HashSpec(kind="source-ip", table_size=11)})
    world.client().send(request())
    assert len(to(world, COPY)) == 1
