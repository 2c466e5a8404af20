# SPDX-License-Identifier: Apache-2.0
"""Consistent hashing: equal requests go to one endpoint, and a client without a cookie gets one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from routing.specs import HashSpec, HeaderOps, RetrySpec
from tests.protocol.world import World, answer, head_of, local, request
from tests.unit.routing.table_kit import forward, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.protocol.mocks import MockTransport

COOKIE = HashSpec(kind="cookie", name="user", path="/", ttl_s=60.0, table_size=1009)


@pytest.fixture
def hashed(make_world: Callable[..., World]) -> Callable[..., World]:
    def make(spec: HashSpec, *rules: Any, endpoints: int = 3, balancer: str = "MAGLEV") -> World:
        return make_world(*rules, endpoints=endpoints, cluster_options={"balancer": balancer, "hash": spec})

    return make


def ask(world: World, *lines: str, target: str = "/", address: tuple[str, int] = ("10.1.0.1", 5)) -> tuple[object, bytes]:
    """Send a request. Returns who was asked and what came back."""
    client = world.client(address).send(request("GET", target, *lines))
    transport = next(one for one in world.accepted if one.take())
    transport.feed(answer())
    return transport.peer, client.take()


def cookie_of(reply: bytes) -> str:
    value = head_of(reply)[1][b"set-cookie"].decode()
    assert value.endswith('"; Max-Age=60; Path=/; HttpOnly')
    return value.partition(";")[0]


@pytest.mark.parametrize("balancer", ["MAGLEV", "RING_HASH"])
class TestCookie:
    def test_one_is_given_and_then_followed(self, hashed: Callable[..., World], balancer: str) -> None:
        world = hashed(COOKIE, balancer=balancer)
        for _ in range(10):
            first, reply = ask(world)
            cookie = cookie_of(reply)
            assert cookie.startswith('user="')
            again, reply = ask(world, f"Cookie: a=b; {cookie}")
            assert again == first
            assert b"set-cookie" not in reply

    def test_different_clients_get_different_ones(self, hashed: Callable[..., World], balancer: str) -> None:
        world = hashed(COOKIE, balancer=balancer)
        replies = [ask(world) for _ in range(40)]
        assert len({cookie_of(reply) for _, reply in replies}) == 40
        assert len({peer for peer, _ in replies}) == 3

    def test_one_that_the_client_chose(self, hashed: Callable[..., World], balancer: str) -> None:
        world = hashed(COOKIE, balancer=balancer)
        assert len({ask(world, "Cookie: user=me", address=("10.1.0.1", port))[0] for port in range(1, 10)}) == 1


def test_the_gateway_s_own_answers_carry_it_too(hashed: Callable[..., World]) -> None:
    world = hashed(COOKIE, endpoints=0)
    reply = world.client().send(request()).take()
    assert reply.startswith(b"HTTP/1.1 503 ")
    cookie_of(reply)


def test_header_operations_may_remove_it(hashed: Callable[..., World]) -> None:
    ops = HeaderOps(remove=("set-cookie",))
    world = hashed(COOKIE, rule("all", action=forward("web"), response_headers=ops))
    assert b"set-cookie" not in ask(world)[1]


def test_an_upgrade_carries_it(hashed: Callable[..., World]) -> None:
    world = hashed(COOKIE)
    client = world.client().send(request("GET", "/", "Connection: Upgrade", "Upgrade: websocket"))
    world.upstream().feed(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    cookie_of(client.take())


def test_without_a_lifetime_none_is_given(hashed: Callable[..., World]) -> None:
    world = hashed(HashSpec(kind="cookie", name="user", table_size=1009))
    replies = [ask(world) for _ in range(30)]
    assert not any(b"set-cookie" in reply for _, reply in replies)
    assert len({peer for peer, _ in replies}) == 3


@pytest.mark.parametrize(
    ("spec", "ask_for"),
    [
        (HashSpec(kind="header", name="x-key", table_size=1009), lambda key: {"lines": (f"X-Key: {key}",)}),
        (HashSpec(kind="query", name="key", table_size=1009), lambda key: {"target": f"/?key={key}"}),
        (HashSpec(kind="source-ip", table_size=1009), lambda key: {"address": (f"10.1.1.{key}", 5)}),
    ],
)
def test_other_keys(hashed: Callable[..., World], spec: HashSpec, ask_for: Callable[[int], dict[str, Any]]) -> None:
    world = hashed(spec)
    seen = set()
    for key in range(1, 25):
        options = ask_for(key)
        peers = {ask(world, *options.get("lines", ()), **{k: v for k, v in options.items() if k != "lines"})[0] for _ in range(3)}
        assert len(peers) == 1
        seen |= peers
    assert len(seen) == 3


def test_a_retry_stays_with_its_endpoint(hashed: Callable[..., World]) -> None:
    retry = RetrySpec(retry_on=("5xx",), backoff_base_s=0.0)
    world = hashed(HashSpec(kind="source-ip", table_size=1009), rule("all", action=forward("web", retry=retry)))
    client = world.client().send(request())
    tried: list[MockTransport] = []
    for _ in range(3):
        world.advance(0.0)
        one = next(transport for transport in world.accepted if transport.take())
        one.feed(answer("503 Service Unavailable"))
        tried.append(one)
    assert len({one.peer for one in tried}) == 1
    assert client.take().startswith(b"HTTP/1.1 503 ")
    assert world.counted() == {(503, "URX"): 1}


def test_only_keys_of_an_endpoint_that_leaves_move(hashed: Callable[..., World]) -> None:
    world = hashed(HashSpec(kind="header", name="x-key", table_size=1009))
    before = {key: ask(world, f"X-Key: {key}")[0] for key in range(30)}
    world.set_endpoints(1, 2)
    world.advance(5.0)
    after = {key: ask(world, f"X-Key: {key}")[0] for key in range(30)}
    gone = ("10.0.0.3", 8080)
    assert gone in before.values()
    moved = sum(before[key] != after[key] for key in before if before[key] != gone)
    assert moved <= 3
    assert gone not in after.values()


def test_nobody_to_go_to(hashed: Callable[..., World]) -> None:
    world = hashed(HashSpec(kind="source-ip", table_size=1009), endpoints=0)
    assert world.client().send(request()).take() == local("503 Service Unavailable", b"no healthy upstream")
