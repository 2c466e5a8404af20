# SPDX-License-Identifier: Apache-2.0
"""Limits of a cluster: how many connections and requests, who waits for them in which order, and who is turned away."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from routing.specs import HashSpec, KeepaliveSpec, RetrySpec
from tests.protocol.world import BEFORE_HEADERS, CHUNKED, Client, World, answer, forwarded, local, relayed, request, retrying
from tests.unit.routing.table_kit import cluster, forward, rule

if TYPE_CHECKING:
    from collections.abc import Callable

OVERFLOW = local("503 Service Unavailable", BEFORE_HEADERS + b"overflow", "x-envoy-overloaded: true")
TIMED_OUT = local("504 Gateway Timeout", b"upstream request timeout")


@pytest.fixture
def limited(make_world: Callable[..., World]) -> Callable[..., World]:
    def make(*rules: Any, endpoints: int = 1, settings: dict[str, Any] | None = None, **options: Any) -> World:
        return make_world(*rules, endpoints=endpoints, cluster_options=options, **(settings or {}))

    return make


def ask(world: World, number: int) -> Client:
    return world.client(("10.1.0.1", number)).send(request("GET", f"/{number}"))


def target(data: bytes) -> bytes:
    return data.split(b" ", 2)[1] if data else b""


class TestConnections:
    def test_who_finds_them_all_busy_waits_in_order(self, limited: Callable[..., World]) -> None:
        world = limited(max_connections=1)
        clients = [ask(world, number) for number in range(4)]
        assert len(world.accepted) == 1
        assert repr(world.plane.breaker(world.cluster)) == "Breaker('web', connections=1, pending=3)"
        for number, client in enumerate(clients):
            assert target(world.upstream().take()) == b"/%d" % number
            assert client.take() == b""
            world.upstream().feed(answer(body=b"%d" % number))
            assert client.take() == relayed(body=b"%d" % number)
        assert len(world.accepted) == 1
        assert world.idle() == 1

    def test_answers_that_come_in_pieces(self, limited: Callable[..., World]) -> None:
        world = limited(max_connections=1)
        for number in range(3):
            ask(world, number)
        for body in (answer("200 OK", "content-length: 2"), answer("200 OK", CHUNKED)):
            world.upstream().feed(body)
            world.upstream().take()
            world.upstream().feed(b"ab" if body.endswith(b"2\r\n\r\n") else b"0\r\n\r\n")
        assert target(world.upstream().take()) == b"/2"

    def test_the_end_of_a_connection_makes_room(self, limited: Callable[..., World]) -> None:
        world = limited(max_connections=1)
        first, second = ask(world, 1), ask(world, 2)
        world.upstream().feed(answer("200 OK", "connection: close"))
        assert first.take() == relayed()
        assert len(world.accepted) == 2
        assert target(world.upstream().take()) == b"/2"
        world.upstream().reset()
        assert second.take().startswith(b"HTTP/1.1 503 ")

    def test_the_queue_has_an_end(self, limited: Callable[..., World]) -> None:
        world = limited(max_connections=1, max_pending_requests=2)
        clients = [ask(world, number) for number in range(5)]
        assert [client.take() for client in clients] == [b"", b"", b"", OVERFLOW, OVERFLOW]
        assert world.counted() == {(503, "UO"): 2}
        assert world.plane.counters["upstream_overflows"] == 2
        clients[4].send(request("GET", "/again"))
        assert clients[4].take() == OVERFLOW

    def test_an_overflow_is_not_retried(self, limited: Callable[..., World]) -> None:
        world = limited(retrying(retry_on=("5xx", "connect-failure")), max_connections=1, max_pending_requests=1)
        clients = [ask(world, number) for number in range(3)]
        assert clients[2].take() == OVERFLOW
        assert world.plane.counters["upstream_retries"] == 0

    def test_a_refusal_makes_room_for_everybody(self, limited: Callable[..., World]) -> None:
        world = limited(max_connections=1)
        world.refuse()
        clients = [ask(world, number) for number in range(4)]
        assert [client.take()[:12] for client in clients] == [b"HTTP/1.1 503"] * 4
        assert world.counted() == {(503, "UF,URX"): 4}

    def test_an_endpoint_that_accepts_and_closes_makes_room_too(self, limited: Callable[..., World]) -> None:
        world = limited(rule("all", action=forward("web", retry=RetrySpec(attempts=0))), max_connections=1)
        world.loop.on_accept = lambda transport: transport.close()
        clients = [ask(world, number) for number in range(4)]
        assert [client.take()[:12] for client in clients] == [b"HTTP/1.1 503"] * 4

    def test_connections_that_are_being_opened_count_once(self, limited: Callable[..., World]) -> None:
        world = limited(max_connections=2)
        counts: list[int] = []
        world.loop.on_accept = lambda _: counts.append(world.plane.breaker(world.cluster).connections)
        ask(world, 1)
        ask(world, 2)
        assert len(world.accepted) == 2
        assert max(counts) <= 2

    def test_one_that_idles_elsewhere_makes_room(self, limited: Callable[..., World]) -> None:
        world = limited(endpoints=2, max_connections=1)
        first = ask(world, 1)
        world.upstream().feed(answer())
        assert world.idle() == 1
        second = ask(world, 2)
        assert world.upstream(0).lost
        assert [one.peer for one in world.accepted] == [("10.0.0.1", 8080), ("10.0.0.2", 8080)]
        third = ask(world, 3)
        world.upstream(1).feed(answer())
        assert world.upstream(1).take().count(b"GET ") == 2, "who has waited takes what comes"
        world.upstream(1).feed(answer())
        assert [client.take() for client in (first, second, third)] == [relayed()] * 3

    def test_a_tunnel_occupies_its_connection(self, limited: Callable[..., World]) -> None:
        world = limited(max_connections=1)
        tunnel = world.client().send(request("GET", "/", "Connection: Upgrade", "Upgrade: websocket"))
        world.upstream().feed(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        ask(world, 1)
        assert len(world.accepted) == 1
        tunnel.transport.reset()
        assert len(world.accepted) == 2
        assert target(world.upstream().take()) == b"/1"

    def test_one_that_nobody_wants_any_more_goes_to_who_waits(self, limited: Callable[..., World]) -> None:
        world = limited(max_connections=1)
        opening = world.hold()
        first = ask(world, 1)
        second = ask(world, 2)
        first.transport.reset()
        opening.set_result(None)
        world.loop.settle()
        assert len(world.accepted) == 1
        assert target(world.upstream().take()) == b"/2"
        world.upstream().feed(answer())
        assert second.take() == relayed()

    def test_a_connection_that_ended_as_it_became_free_is_not_given_to_who_must_not_repeat(
        self, limited: Callable[..., World]
    ) -> None:
        world = limited(max_connections=1)
        ask(world, 1)
        post = world.client().send(request("POST", "/2", body=b"abc"))
        world.loop.sockets[0].readable = b""
        world.upstream().feed(answer())
        assert len(world.accepted) == 2
        assert world.upstream().take() == forwarded("POST", "/2", framing="content-length: 3", body=b"abc")
        world.upstream().feed(answer())
        assert post.take() == relayed()


class TestWaiting:
    def test_the_client_leaves(self, limited: Callable[..., World]) -> None:
        world = limited(max_connections=1)
        _, second, third = (ask(world, number) for number in range(3))
        second.transport.reset()
        world.upstream().take()
        world.upstream().feed(answer())
        assert target(world.upstream().take()) == b"/2"
        assert world.counted() == {(200, "-"): 1, (0, "DC"): 1}
        assert third.take() == b""

    def test_the_time_is_up(self, limited: Callable[..., World]) -> None:
        world = limited(rule("all", action=forward("web", timeout_s=2.0)), max_connections=1)
        first = ask(world, 1)
        world.advance(1.0)
        second = ask(world, 2)
        world.advance(1.1)
        assert first.take() == TIMED_OUT
        assert len(world.accepted) == 2, "the end of the first one's connection makes room"
        world.advance(1.0)
        assert second.take() == TIMED_OUT
        assert world.counted() == {(504, "UT"): 2}

    def test_the_time_is_up_in_the_queue(self, limited: Callable[..., World]) -> None:
        world = limited(rule("all", action=forward("web", timeout_s=2.0)), max_connections=1)
        holder = world.client().send(request("POST", "/", "Content-Length: 9"))
        second = ask(world, 2)
        world.advance(2.1)
        assert second.take() == TIMED_OUT
        holder.send(bytes(9))
        world.upstream().feed(answer())
        assert holder.take() == relayed(ms=2100)
        assert world.idle() == 1

    def test_it_is_not_in_the_try_s_time(self, limited: Callable[..., World]) -> None:
        retry = RetrySpec(attempts=0, per_try_timeout_s=1.0)
        world = limited(rule("all", action=forward("web", retry=retry)), max_connections=1)
        holder = world.client().send(request("POST", "/", "Content-Length: 9"))
        second = ask(world, 2)
        world.advance(5.0)
        holder.send(bytes(9))
        world.upstream().feed(answer())
        world.advance(0.5)
        assert second.take() == b""
        world.advance(0.6)
        assert second.take() == TIMED_OUT

    def test_a_body_meanwhile(self, limited: Callable[..., World]) -> None:
        world = limited(max_connections=1)
        ask(world, 1)
        client = world.client().send(request("POST", "/", "Content-Length: 100000"), bytes(70_000))
        assert not client.transport.is_reading()
        world.upstream().take()
        world.upstream().feed(answer())
        client.send(bytes(30_000))
        assert world.upstream().take().count(b"\0") == 100_000

    def test_the_endpoint_leaves(self, limited: Callable[..., World]) -> None:
        world = limited(max_connections=1)
        first, second = ask(world, 1), ask(world, 2)
        world.set_endpoints(2)
        assert world.upstream().peer == ("10.0.0.2", 8080), "who waits does not wait for the one that has left"
        world.upstream(1).feed(answer(body=b"2"))
        world.upstream(0).feed(answer(body=b"1"))
        assert (first.take(), second.take()) == (relayed(body=b"1"), relayed(body=b"2"))
        assert world.upstream(0).lost

    def test_all_endpoints_leave(self, limited: Callable[..., World]) -> None:
        world = limited(max_connections=1)
        first, second, third = (ask(world, number) for number in range(3))
        world.apply(removed={"endpoints": ("web",)})
        assert second.take() == third.take() == local("503 Service Unavailable", b"no healthy upstream")
        world.upstream().feed(answer())
        assert first.take() == relayed()

    def test_the_cluster_leaves(self, limited: Callable[..., World]) -> None:
        world = limited(max_connections=1)
        first, second = ask(world, 1), ask(world, 2)
        world.apply(removed={"clusters": ("web",), "endpoints": ("web",)})
        assert second.take() == local("503 Service Unavailable", b"no healthy upstream")
        world.upstream().feed(answer())
        assert first.take() == relayed()
        assert not world.plane._breakers

    def test_a_cluster_that_comes_back_knows_nothing_of_its_former_self(self, limited: Callable[..., World]) -> None:
        world = limited(max_connections=1)
        ask(world, 1)
        world.apply(removed={"clusters": ("web",), "endpoints": ("web",)})
        world.apply(clusters={"web": cluster("web", max_connections=2)})
        world.set_endpoints(1)
        world.upstream(0).feed(answer())
        for number in range(2, 5):
            ask(world, number)
        assert len(world.accepted) == 3
        world.upstream(1).take()
        world.upstream(1).feed(answer())
        assert target(world.upstream(1).take()) == b"/4"

    @pytest.mark.parametrize(("limit", "served"), [(2, 2), (0, 4)])
    def test_the_limit_is_raised(self, limited: Callable[..., World], limit: int, served: int) -> None:
        world = limited(max_connections=1)
        for number in range(4):
            ask(world, number)
        world.apply(clusters={"web": cluster("web", balancer="ROUND_ROBIN", max_connections=limit)})
        assert [target(one.take()) for one in world.accepted] == [b"/%d" % number for number in range(served)]

    def test_a_change_keeps_the_order(self, limited: Callable[..., World]) -> None:
        world = limited(max_connections=1)
        for number in range(4):
            ask(world, number)
        world.set_endpoints(1, 2)
        for number in range(4):
            assert target(world.upstream().take()) == b"/%d" % number
            world.upstream().feed(answer())

    def test_retries_wait_like_everybody(self, limited: Callable[..., World]) -> None:
        world = limited(retrying(retry_on=("5xx",)), max_connections=1)
        first, _ = ask(world, 1), ask(world, 2)
        world.upstream().take()
        world.upstream().feed(answer("503 Service Unavailable"))
        world.advance(0.0)
        assert target(world.upstream().take()) == b"/2"
        assert first.take() == b""
        world.upstream().feed(answer())
        assert target(world.upstream().take()) == b"/1"
        world.upstream().feed(answer())
        assert first.take() == relayed()

    def test_a_connection_to_what_has_failed_it_is_not_taken(self, limited: Callable[..., World]) -> None:
        world = limited(retrying(retry_on=("5xx",)), endpoints=2, max_connections=1)
        ask(world, 1)
        world.upstream().feed(answer("503 Service Unavailable"))
        blocker = ask(world, 2)
        world.advance(0.0)
        if world.plane.breaker(world.cluster).pending:
            world.upstream().feed(answer())
            assert blocker.take() == relayed()
        tried = [one.peer for one in world.accepted]
        assert len(set(tried)) == 2


class TestRequests:
    def test_too_many(self, limited: Callable[..., World]) -> None:
        world = limited(max_requests=2)
        clients = [ask(world, number) for number in range(3)]
        assert clients[2].take() == OVERFLOW
        world.upstream(0).feed(answer())
        assert clients[0].take() == relayed()
        clients[2].send(request())
        world.upstream(0).feed(answer())
        assert clients[2].take() == relayed()
        assert world.counted() == {(200, "-"): 2, (503, "UO"): 1}

    def test_a_body_that_is_still_coming_is_read_and_dropped(self, limited: Callable[..., World]) -> None:
        world = limited(max_requests=1)
        ask(world, 1)
        client = world.client().send(request("POST", "/", "Content-Length: 6", body=b"abc"))
        assert client.take() == OVERFLOW
        client.send(b"def" + request())
        assert client.take() == OVERFLOW

    def test_those_that_wait_count(self, limited: Callable[..., World]) -> None:
        world = limited(max_connections=1, max_requests=2)
        clients = [ask(world, number) for number in range(3)]
        assert [client.take() for client in clients] == [b"", b"", OVERFLOW]

    def test_each_worker_has_its_part(self, limited: Callable[..., World]) -> None:
        world = limited(max_requests=8, settings={"workers": 4})
        clients = [ask(world, number) for number in range(3)]
        assert [client.take() for client in clients] == [b"", b"", OVERFLOW]


class TestRetries:
    def test_no_more_at_once_than_allowed(self, limited: Callable[..., World]) -> None:
        world = limited(retrying(retry_on=("5xx",), backoff_base_s=1.0), max_retries=1)
        first, second = ask(world, 1), ask(world, 2)
        world.upstream(0).feed(answer("503 Service Unavailable"))
        world.upstream(1).feed(answer("503 Service Unavailable"))
        assert first.take() == b""
        assert second.take() == relayed("503 Service Unavailable")
        assert world.plane.counters["upstream_retries_over_budget"] == 1


class TestReuse:
    def test_requests_of_a_connection(self, limited: Callable[..., World]) -> None:
        world = limited(max_requests_per_connection=2, max_connections=1)
        for number in range(4):
            ask(world, number)
        for _ in range(4):
            world.upstream().feed(answer())
        assert len(world.accepted) == 2
        assert [one.take().count(b"GET ") for one in world.accepted] == [2, 2]

    def test_none_but_one(self, limited: Callable[..., World]) -> None:
        world = limited(max_requests_per_connection=1)
        client = ask(world, 1)
        world.upstream().feed(answer())
        assert world.upstream().lost
        client.send(request())
        assert len(world.accepted) == 2

    def test_age(self, limited: Callable[..., World]) -> None:
        world = limited(max_connection_duration_s=10.0)
        client = world.client()
        for _ in range(4):
            client.send(request())
            world.upstream().feed(answer())
            world.advance(3.0)
        assert len(world.accepted) == 1
        client.send(request())
        assert world.upstream(0).lost
        assert len(world.accepted) == 2
        world.advance(10.0)
        world.upstream().feed(answer())
        assert world.upstream(1).lost, "a request under way is not disturbed"

    def test_keep_alive_probes(self, limited: Callable[..., World]) -> None:
        world = limited(keepalive=KeepaliveSpec(probes=3, time_s=60.0))
        ask(world, 1)
        tcp = socket.IPPROTO_TCP
        assert world.loop.sockets[0].options == {
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1,
            (tcp, socket.TCP_KEEPCNT): 3,
            (tcp, socket.TCP_KEEPIDLE): 60,
        }


class TestProxyProtocol:
    @pytest.mark.parametrize(
        ("version", "sent"),
        [
            (1, b"PROXY TCP4 10.1.0.1 10.0.0.1 51000 8080\r\n"),
            (2, b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x0a\x01\x00\x01\x0a\x00\x00\x01\xc7\x38\x1f\x90"),
        ],
    )
    def test_a_connection_begins_with_its_client(self, limited: Callable[..., World], version: int, sent: bytes) -> None:
        world = limited(proxy_protocol=version)
        client = world.client().send(request())
        assert world.loop.sockets[0].sent == sent
        assert world.upstream().take() == forwarded()
        world.upstream().feed(answer())
        client.send(request())
        assert len(world.accepted) == 1

    def test_it_serves_nobody_else(self, limited: Callable[..., World]) -> None:
        world = limited(proxy_protocol=1)
        one, two = world.client(("10.1.0.1", 1)), world.client(("10.1.0.1", 2))
        for _ in range(3):
            for client in (one, two):
                client.send(request())
                for transport in world.accepted:
                    if transport.take():
                        transport.feed(answer())
        assert [sock.sent.split()[4] for sock in world.loop.sockets] == [b"1", b"2"]
        assert one.take() == two.take() == relayed() * 3

    def test_a_client_that_the_system_does_not_tell(self, limited: Callable[..., World]) -> None:
        world = limited(proxy_protocol=1)
        client = world.client(None).send(request())  # type: ignore[arg-type]
        assert world.loop.sockets[0].sent == b"PROXY UNKNOWN\r\n"
        assert client.take() == b""

    def test_under_a_limit_everybody_gets_a_connection_of_their_own(self, limited: Callable[..., World]) -> None:
        world = limited(proxy_protocol=1, max_connections=1)
        clients = [ask(world, number) for number in range(1, 4)]
        for number, client in enumerate(clients):
            assert len(world.accepted) == number + 1
            world.upstream().feed(answer())
            assert client.take() == relayed()
        clients[0].send(request())
        assert len(world.accepted) == 4, "one that idles for somebody else gives way"
        assert [sock.sent.split()[4] for sock in world.loop.sockets] == [b"1", b"2", b"3", b"1"]

    def test_under_a_limit_who_waits_for_its_own_gets_it(self, limited: Callable[..., World]) -> None:
        world = limited(proxy_protocol=1, max_connections=1)
        client = world.client().send(request("GET", "/1") + request("GET", "/2"))
        world.upstream().feed(answer())
        world.upstream().feed(answer())
        assert client.take() == relayed() * 2
        assert len(world.accepted) == 1


def test_who_waits_and_belongs_to_one_endpoint_does_not_go_to_another(limited: Callable[..., World]) -> None:
    options = {"balancer": "MAGLEV", "hash": HashSpec(kind="header", name="x-key", table_size=1009)}
    world = limited(endpoints=2, max_connections=1, **options)
    keys: dict[object, str] = {}
    for number in range(40):
        client = world.client().send(request("GET", "/", f"X-Key: {number}"))
        transport = next(one for one in world.accepted if one.take())
        keys[transport.peer] = str(number)
        transport.feed(answer())
        client.transport.reset()
        if len(keys) == 2:
            break
    (here, key), (there, other) = keys.items()
    for wanted in (key, other):
        world.client().send(request("GET", "/", f"X-Key: {wanted}"))
    busy = next(one for one in world.accepted if one.take())
    assert busy.peer == here
    busy.feed(answer())
    assert busy.lost
    assert world.upstream().peer == there
    assert b"X-Key: %b\r\n" % other.encode() in world.upstream().take()
