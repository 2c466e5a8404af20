# SPDX-License-Identifier: Apache-2.0
"""What a route does to the messages that take it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from routing.specs import ClusterRef, DirectResponseSpec, HeaderOps, MatchSpec, PathRewrite, RedirectSpec, RetrySpec
from tests.protocol.world import CLIENT, DATE, World, answer, forwarded, head_of, local, relayed, request
from tests.unit.routing.table_kit import HOST, forward, path, rule

if TYPE_CHECKING:
    from collections.abc import Callable


class TestRoutes:
    def test_header_operations_have_the_last_word(self, make_world: Callable[..., World]) -> None:
        operations = HeaderOps(remove=("x-old", "x-forwarded-proto"), set=(("x-set", "1"),), add=(("x-add", "2"),))
        world = make_world(rule("all", request_headers=operations, response_headers=operations))
        client = world.client().send(request("GET", "/", "X-Old: 0", "x-Set: 0", "x-add: 0"))
        first, fields = head_of(world.upstream().take())
        assert first == b"GET / HTTP/1.1"
        assert b"x-old" not in fields
        assert b"x-forwarded-proto" not in fields
        assert (fields[b"x-set"], fields[b"x-add"]) == (b"1", b"2")
        world.upstream().feed(answer("200 OK", "X-OLD: 0", "X-Kept: 1"))
        assert client.take() == (
            b"HTTP/1.1 200 OK\r\nX-Kept: 1\r\ncontent-length: 0\r\ndate: %b\r\nx-envoy-upstream-service-time: 0\r\n"
            b"x-set: 1\r\nx-add: 2\r\n\r\n" % DATE
        )

    def test_only_taking_away(self, make_world: Callable[..., World]) -> None:
        operations = HeaderOps(remove=("x-old", "x-envoy-upstream-service-time"))
        world = make_world(rule("all", request_headers=operations, response_headers=operations))
        client = world.client().send(request("GET", "/", "X-Old: 0"))
        assert world.upstream().take() == forwarded()
        world.upstream().feed(answer("200 OK", "x-old: 0"))
        assert client.take() == b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\ndate: %b\r\n\r\n" % DATE

    def test_only_adding(self, make_world: Callable[..., World]) -> None:
        operations = HeaderOps(add=(("x-add", "2"),))
        world = make_world(rule("all", request_headers=operations, response_headers=operations))
        client = world.client().send(request())
        assert head_of(world.upstream().take())[1][b"x-add"] == b"2"
        world.upstream().feed(answer())
        assert head_of(client.take())[1][b"x-add"] == b"2"

    @pytest.mark.parametrize(
        "options",
        [{"action": forward("web", host_rewrite="other")}, {"request_headers": HeaderOps(set=(("host", "other"),))}],
    )
    def test_the_host_is_rewritten(self, make_world: Callable[..., World], options: dict[str, object]) -> None:
        world = make_world(rule("all", **options))
        world.client().send(request())
        assert world.upstream().take() == forwarded(host="other")

    def test_the_path_is_rewritten_and_the_old_one_told(self, make_world: Callable[..., World]) -> None:
        action = forward("web", path_rewrite=PathRewrite(kind="prefix", value="/new"))
        world = make_world(rule("all", MatchSpec(path=path("prefix", "/old")), action=action))
        client = world.client().send(request("GET", "/old/x?q=1"))
        first, fields = head_of(world.upstream().take())
        assert first == b"GET /new/x?q=1 HTTP/1.1"
        assert fields[b"x-envoy-original-path"] == b"/old/x?q=1"
        world.upstream().feed(answer())
        client.take()

    def test_a_rewrite_that_changes_nothing_is_not_told(self, make_world: Callable[..., World]) -> None:
        action = forward("web", path_rewrite=PathRewrite(kind="prefix", value="/old"))
        world = make_world(rule("all", MatchSpec(path=path("prefix", "/old")), action=action))
        world.client().send(request("GET", "/old"))
        assert world.upstream().take() == forwarded("GET", "/old")

    def test_a_rewritten_path_keeps_its_slash(self, make_world: Callable[..., World]) -> None:
        action = forward("web", path_rewrite=PathRewrite(kind="regex", value="", pattern="^/"))
        world = make_world(rule("all", action=action))
        world.client().send(request("GET", "/x"))
        assert head_of(world.upstream().take())[0] == b"GET /x HTTP/1.1"

    @pytest.mark.parametrize(
        ("timeout_s", "per_try_s", "expected"),
        [(2.0, 0.0, b"2000"), (2.0, 0.5, b"500"), (2.0, 3.0, b"2000"), (0.0, 0.25, b"250")],
    )
    def test_the_endpoint_learns_its_time(
        self, make_world: Callable[..., World], timeout_s: float, per_try_s: float, expected: bytes
    ) -> None:
        world = make_world(rule("all", action=forward("web", timeout_s=timeout_s, retry=RetrySpec(per_try_timeout_s=per_try_s))))
        world.client().send(request())
        assert head_of(world.upstream().take())[1][b"x-envoy-expected-rq-timeout-ms"] == expected

    def test_a_redirect(self, make_world: Callable[..., World]) -> None:
        world = make_world(rule("all", action=RedirectSpec(status=302, authority="other")))
        client = world.client().send(request("GET", "/x"))
        assert client.take() == (
            b"HTTP/1.1 302 Found\r\nlocation: http://other/x\r\ndate: %b\r\nserver: acmgproxy\r\ncontent-length: 0\r\n\r\n" % DATE
        )
        assert not world.accepted
        assert world.counted() == {(302, "-"): 1}

    def test_a_direct_response_with_the_rule_s_operations(self, make_world: Callable[..., World]) -> None:
        operations = HeaderOps(remove=("server",), add=(("x-add", "2"),))
        world = make_world(rule("all", action=DirectResponseSpec(status=418, body=b"tea"), response_headers=operations))
        client = world.client().send(request(), request("HEAD"))
        head = (
            b"HTTP/1.1 418 I'm a Teapot\r\ncontent-type: text/plain\r\ndate: %b\r\nx-add: 2\r\ncontent-length: 3\r\n\r\n" % DATE
        )
        assert client.take() == head + b"tea" + head

    def test_weights_are_drawn(self, make_world: Callable[..., World]) -> None:
        action = forward(ClusterRef(cluster="web", weight=50), ClusterRef(cluster="none", weight=50))
        world = make_world(rule("all", action=action))
        draws = iter([0.1, 0.9])
        world.plane.random = lambda: next(draws)
        client = world.client().send(request())
        world.upstream().feed(answer())
        client.send(request())
        assert client.take() == relayed() + local("503 Service Unavailable")
        assert world.counted() == {(200, "-"): 1, (503, "NC"): 1}
        assert {key.cluster for key in world.series_keys()} == {"web", "none"}

    def test_without_host_the_listener_s_service_is_meant(self, world: World) -> None:
        client = world.client().send(b"GET / HTTP/1.0\r\n\r\n")
        first, fields = head_of(world.upstream().take())
        assert (first, fields[b"host"]) == (b"GET / HTTP/1.1", f"{HOST}:80".encode())
        assert fields[b"x-forwarded-for"] == CLIENT[0].encode()
        world.upstream().feed(answer())
        assert client.ended

    def test_service_times_over_a_second(self, world: World) -> None:
        client = world.client().send(request())
        world.advance(1.5)
        world.upstream().feed(answer())
        assert client.take() == relayed(ms=1500)
