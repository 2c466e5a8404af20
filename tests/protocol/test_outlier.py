# SPDX-License-Identifier: Apache-2.0
"""Endpoints that fail are taken out for a while; what counts as failing is told from the traffic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from routing.specs import OutlierSpec, RetrySpec
from tests.protocol.world import World, answer, local, relayed, request
from tests.unit.routing.table_kit import cluster, forward, rule

if TYPE_CHECKING:
    from collections.abc import Callable

FAILED = answer("500 Internal Server Error")
NO_HEALTHY = local("503 Service Unavailable", b"no healthy upstream")
BAD, GOOD = ("10.0.0.1", 8080), ("10.0.0.2", 8080)


@pytest.fixture
def watched(make_world: Callable[..., World]) -> Callable[..., World]:
    def make(*rules: Any, endpoints: int = 2, limits: dict[str, Any] | None = None, **spec: Any) -> World:
        outlier = OutlierSpec(**{"consecutive_5xx": 2, **spec})
        return make_world(*rules, endpoints=endpoints, cluster_options={"outlier": outlier, **(limits or {})})

    return make


def once(**options: Any) -> Any:
    """Return a rule without retries."""
    timeout_s = options.pop("timeout_s", 0.0)
    return rule("all", action=forward("web", timeout_s=timeout_s, retry=RetrySpec(attempts=0, **options)))


def ask(world: World, count: int = 1, *, bad: bytes | None = FAILED, good: bytes = answer()) -> list[tuple[str, int]]:
    """Send requests one after the other; returns who was asked. No `bad` means that the bad one resets the connection."""
    asked = []
    for _ in range(count):
        client = world.client().send(request())
        for transport in list(world.accepted):
            if not transport.take():
                continue
            assert transport.peer is not None
            asked.append(transport.peer)
            if transport.peer != BAD:
                transport.feed(good)
            elif bad is None:
                transport.reset()
            else:
                transport.feed(bad)
        client.transport.reset()
    return asked


def is_ejected(world: World) -> bool:
    return world.cluster.ejected == 1


def test_errors_in_a_row(watched: Callable[..., World]) -> None:
    world = watched()
    assert ask(world, 3) == [BAD, GOOD, BAD]
    assert is_ejected(world)
    assert world.plane.counters["endpoint_ejections"] == 1
    assert ask(world, 4) == [GOOD] * 4


def test_it_comes_back_when_its_time_is_over(watched: Callable[..., World]) -> None:
    world = watched(base_ejection_s=20.0)
    ask(world, 3)
    world.advance(19.5)
    assert ask(world, 2) == [GOOD] * 2
    world.advance(1.0)
    assert BAD in ask(world, 2, bad=answer())
    assert not is_ejected(world)


def test_success_forgives(watched: Callable[..., World]) -> None:
    world = watched()
    for _ in range(3):
        ask(world, 2)
        ask(world, 2, bad=answer())
    assert not is_ejected(world)


@pytest.mark.parametrize("status", ["400 Bad Request", "404 Not Found"])
def test_the_client_s_errors_do_not_count(watched: Callable[..., World], status: str) -> None:
    world = watched()
    ask(world, 6, bad=answer(status))
    assert not is_ejected(world)


def test_gateway_errors(watched: Callable[..., World]) -> None:
    world = watched(consecutive_5xx=0, consecutive_gateway=2)
    ask(world, 6)
    assert not is_ejected(world)
    ask(world, 6, bad=answer("502 Bad Gateway"))
    assert is_ejected(world)


def test_resets(watched: Callable[..., World]) -> None:
    world = watched(once())
    ask(world, 3, bad=None)
    assert is_ejected(world)


def test_answers_that_are_no_http(watched: Callable[..., World]) -> None:
    world = watched(once())
    ask(world, 3, bad=b"nonsense\r\n\r\n")
    assert is_ejected(world)


def test_connections_that_are_refused(watched: Callable[..., World]) -> None:
    world = watched(once())
    world.refuse()
    world.client().send(request())
    world.client().send(request())
    world.upstream().feed(answer())
    assert not is_ejected(world)
    world.client().send(request())
    assert is_ejected(world)
    assert len([address for address in world.loop.connects if address == BAD]) == 2


def test_retries_count_each_failure_and_go_elsewhere(watched: Callable[..., World]) -> None:
    world = watched(rule("all", action=forward("web", retry=RetrySpec(retry_on=("5xx",), backoff_base_s=0.0))))
    for _ in range(2):
        client = world.client().send(request())
        for transport in list(world.accepted):
            if transport.take():
                transport.feed(FAILED if transport.peer == BAD else answer())
        world.advance(0.0)
        for transport in list(world.accepted):
            if transport.take():
                transport.feed(answer())
        assert client.take() == relayed()
    ask(world, 2)
    assert is_ejected(world)


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("options", [{"per_try_timeout_s": 1.0}, {"timeout_s": 1.0}])
def test_timeouts(watched: Callable[..., World], options: dict[str, Any], *, split: bool) -> None:
    world = watched(once(**options), split_local_origin=split, consecutive_local_origin=2)
    for _ in range(3):
        client = world.client().send(request())
        if world.upstream().peer == GOOD:
            world.upstream().feed(answer())
        world.advance(1.1)
        assert client.take()
    assert is_ejected(world)


def test_a_timeout_while_the_client_still_sends_is_not_the_endpoint_s(watched: Callable[..., World]) -> None:
    world = watched(endpoints=1)
    world.plane.stream_idle_s = 5.0
    for _ in range(3):
        client = world.client().send(request("POST", "/", "Content-Length: 9", body=b"abc"))
        world.advance(5.1)
        assert client.take().startswith(b"HTTP/1.1 408 ")
    assert not is_ejected(world)


def test_failures_of_our_own_side_counted_apart(watched: Callable[..., World]) -> None:
    world = watched(once(), split_local_origin=True, consecutive_local_origin=3)
    ask(world, 4, bad=None)
    assert not is_ejected(world)
    ask(world, 2, bad=None)
    assert is_ejected(world)


def test_a_client_that_leaves_is_no_failure(watched: Callable[..., World]) -> None:
    world = watched(endpoints=1)
    for _ in range(5):
        world.client().send(request()).transport.reset()
    assert not is_ejected(world)


def test_a_connection_that_was_closing_is_no_failure(watched: Callable[..., World]) -> None:
    world = watched(endpoints=1)
    for _ in range(4):
        client = world.client().send(request())
        world.upstream().feed(answer())
        client.send(request())
        world.upstream().reset()
        world.upstream().feed(answer())
        assert client.take() == relayed() * 2
        world.upstream().feed_eof()
    assert not is_ejected(world)


def test_a_tunnel_is_a_success(watched: Callable[..., World]) -> None:
    world = watched(endpoints=1)
    for _ in range(3):
        world.client().send(request())
        world.upstream().feed(FAILED)
        world.client().send(request("GET", "/", "Connection: Upgrade", "Upgrade: websocket"))
        world.upstream().feed(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    assert not is_ejected(world)


def test_nobody_left(watched: Callable[..., World]) -> None:
    world = watched(endpoints=1)
    ask(world, 2)
    client = world.client().send(request())
    assert client.take() == NO_HEALTHY
    assert world.counted()[503, "UH"] == 1
    world.advance(31.0)
    client.send(request())
    world.upstream().feed(answer())
    assert client.take() == relayed()


def test_who_waits_for_an_endpoint_that_is_ejected(watched: Callable[..., World]) -> None:
    world = watched(endpoints=2, limits={"max_connections": 1})
    ask(world, 2)
    world.client().send(request())
    waiting = world.client().send(request())
    assert waiting.take() == b""
    world.upstream().take()
    world.upstream().feed(FAILED)
    assert is_ejected(world)
    assert world.upstream().peer == GOOD, "a free connection to the ejected one is not for the next in line"
    world.upstream().feed(answer())
    assert waiting.take() == relayed()


def test_everybody_waits_and_all_are_ejected(watched: Callable[..., World]) -> None:
    world = watched(endpoints=1, limits={"max_connections": 1})
    clients = [world.client().send(request()) for _ in range(4)]
    world.upstream().feed(FAILED)
    world.upstream().feed(FAILED)
    assert [client.take() == NO_HEALTHY for client in clients] == [False, False, True, True]


def test_an_answer_of_an_endpoint_that_has_left_counts_for_nobody(watched: Callable[..., World]) -> None:
    world = watched(once(), endpoints=1)
    for _ in range(2):
        world.client().send(request())
    world.client().send(request())
    world.set_endpoints(2)
    world.upstream(0).feed(FAILED)
    world.upstream(1).feed(FAILED)
    world.upstream(2).reset()
    assert world.plane.counters["endpoint_ejections"] == 0


def test_changes_of_configuration_while_ejected(watched: Callable[..., World]) -> None:
    world = watched(endpoints=2)
    ask(world, 3)
    world.set_endpoints(1, 2, 3)
    assert is_ejected(world)
    world.apply(clusters={"web": cluster("web", balancer="ROUND_ROBIN")})
    assert not is_ejected(world)
    assert BAD in ask(world, 3, bad=answer())


def test_the_cluster_leaves_while_an_endpoint_is_ejected(watched: Callable[..., World]) -> None:
    world = watched()
    ask(world, 3)
    world.apply(removed={"clusters": ("web",), "endpoints": ("web",)})
    world.advance(1.0)
    assert world.loop.pending_timers() <= 1
