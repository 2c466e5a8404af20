# SPDX-License-Identifier: Apache-2.0
"""What is tried again, when, where, and what never is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.protocol.world import (
    BEFORE_HEADERS,
    CHUNKED,
    World,
    answer,
    attempt_of,
    forwarded,
    head_of,
    local,
    relayed,
    request,
    retrying,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class TestStaleConnections:
    def stale(self, world: World, *, seen: bool) -> None:
        """Have one connection in the pool that is dead, which the loop has not noticed."""
        world.client().send(request())
        world.upstream().feed(answer())
        world.upstream().take()
        if seen:
            world.loop.sockets[0].readable = b""

    @pytest.mark.parametrize("how", ["feed_eof", "reset"])
    def test_a_get_is_sent_once_more_on_a_new_connection(self, world: World, how: str) -> None:
        self.stale(world, seen=False)
        client = world.client().send(request())
        assert world.upstream(0).take() == forwarded()
        getattr(world.upstream(0), how)()
        assert world.upstream(1).take() == forwarded(), "this is no second attempt"
        world.upstream(1).feed(answer())
        assert client.take() == relayed()
        assert world.plane.counters["upstream_replays"] == 1
        assert world.counted() == {(200, "-"): 2}

    def test_but_only_once(self, world: World) -> None:
        self.stale(world, seen=False)
        client = world.client().send(request())
        world.upstream(0).reset()
        world.upstream(1).reset()
        assert client.take() == local("503 Service Unavailable", BEFORE_HEADERS + b"connection termination")
        assert len(world.accepted) == 2

    def test_a_put_with_its_body(self, world: World) -> None:
        self.stale(world, seen=False)
        world.client().send(request("PUT", "/", body=b"abc"))
        world.upstream(0).reset()
        assert world.upstream(1).take() == forwarded("PUT", "/", framing="content-length: 3", body=b"abc")

    def test_half_a_put_goes_on_on_the_new_one(self, world: World) -> None:
        self.stale(world, seen=False)
        client = world.client().send(request("PUT", "/", CHUNKED, body=b"3\r\nabc\r\n"))
        world.upstream(0).reset()
        client.send(b"3\r\ndef\r\n0\r\n\r\n")
        assert world.upstream(1).take().endswith(b"\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n")

    def test_a_post_looks_at_the_connection_first(self, world: World) -> None:
        self.stale(world, seen=True)
        world.client().send(request("POST", "/", body=b"abc"))
        assert world.upstream(0).take() == b""
        assert world.upstream(0).lost
        assert world.upstream(1).take() == forwarded("POST", "/", framing="content-length: 3", body=b"abc")

    def test_a_broken_socket_is_noticed_too(self, world: World) -> None:
        self.stale(world, seen=False)
        world.loop.sockets[0].readable = OSError(104, "reset")
        world.client().send(request("POST"))
        assert world.upstream(0).take() == b""

    def test_a_post_uses_a_good_one(self, world: World) -> None:
        self.stale(world, seen=False)
        world.client().send(request("POST"))
        assert world.upstream(0).take() == forwarded("POST", framing="content-length: 0")

    def test_a_post_is_never_sent_twice(self, world: World) -> None:
        self.stale(world, seen=False)
        client = world.client().send(request("POST"))
        world.upstream(0).reset()
        assert client.take() == local("503 Service Unavailable", BEFORE_HEADERS + b"connection termination")
        assert len(world.accepted) == 1

    def test_nor_a_get_that_was_answered_in_part(self, world: World) -> None:
        self.stale(world, seen=False)
        client = world.client().send(request())
        world.upstream(0).feed(b"HTTP/1.1 2")
        world.upstream(0).reset()
        assert client.take() == local("503 Service Unavailable", BEFORE_HEADERS + b"connection termination")

    def test_nor_one_whose_connection_was_new(self, world: World) -> None:
        client = world.client().send(request())
        world.upstream().reset()
        assert client.take().startswith(b"HTTP/1.1 503 ")

    def test_one_that_was_never_used_can_be_stale_too(self, world: World) -> None:
        connection = world.hold()
        world.client().send(request()).transport.reset()
        connection.set_result(None)
        world.loop.settle()
        client = world.client().send(request())
        world.upstream(0).reset()
        world.upstream(1).feed(answer())
        assert client.take() == relayed()

    def test_the_time_of_a_try_begins_anew(self, make_world: Callable[..., World]) -> None:
        world = make_world(retrying(attempts=0, per_try_timeout_s=1.0))
        self.stale(world, seen=False)
        client = world.client().send(request())
        world.upstream(0).take()
        connection = world.hold()
        world.advance(0.5)
        world.upstream(0).reset()
        world.advance(1.0)
        connection.set_result(None)
        world.advance(0.875)
        world.upstream(1).feed(answer())
        assert client.take() == relayed(ms=875)

    def test_the_endpoint_may_be_gone_by_then(self, world: World) -> None:
        self.stale(world, seen=False)
        client = world.client().send(request())
        world.set_endpoints()
        world.upstream(0).reset()
        assert client.take() == local("503 Service Unavailable", b"no healthy upstream")


class TestRetries:
    def test_by_status(self, make_world: Callable[..., World]) -> None:
        world = make_world(retrying(attempts=2, retry_on=("5xx",)), endpoints=3)
        client = world.client().send(request())
        for number in (1, 2):
            assert attempt_of(world.upstream()) == b"%d" % number
            world.upstream().feed(answer("503 No", body=b"gone"))
            assert client.take() == b""
            world.advance(0.0)
        assert attempt_of(world.upstream()) == b"3"
        world.upstream().feed(answer(body=b"good"))
        assert client.take() == relayed(body=b"good")
        assert len({address for address, _ in world.loop.connects}) == 3, "endpoints that failed are avoided"
        assert world.counted() == {(200, "-"): 1}
        assert world.plane.counters["upstream_retries"] == 2
        assert world.idle() == 3

    def test_the_last_answer_is_relayed(self, make_world: Callable[..., World]) -> None:
        world = make_world(retrying(attempts=1, retry_on=("503",)))
        client = world.client().send(request())
        world.upstream().feed(answer("503 No", body=b"one"))
        world.advance(0.0)
        world.upstream().feed(answer("503 No", body=b"two"))
        assert client.take() == relayed("503 No", body=b"two")
        assert world.counted() == {(503, "URX"): 1}

    def test_an_unfinished_answer_is_given_up(self, make_world: Callable[..., World]) -> None:
        world = make_world(retrying(retry_on=("5xx",)))
        world.client().send(request())
        world.upstream(0).feed(answer("503 No", "content-length: 100"))
        world.advance(0.1)
        assert world.upstream(0).aborted
        assert attempt_of(world.upstream(1)) == b"2"

    def test_the_same_endpoint_if_there_is_no_other(self, make_world: Callable[..., World]) -> None:
        world = make_world(retrying(retry_on=("5xx",)))
        world.client().send(request())
        for _ in range(2):
            world.upstream().feed(answer("503 No"))
            world.advance(0.1)
        assert attempt_of(world.upstream()) == b"1"
        assert len(world.accepted) == 1
        assert set(world.loop.connects) == {("10.0.0.1", 8080)}

    def test_previous_endpoints_may_be_allowed(self, make_world: Callable[..., World]) -> None:
        world = make_world(retrying(retry_on=("5xx",), ignore_previous_hosts=False))
        world.client().send(request())
        world.upstream().feed(answer("503 No"))
        world.advance(0.1)
        assert not world.exchanges()[0].tried

    def test_other_statuses_are_not_retried(self, make_world: Callable[..., World]) -> None:
        world = make_world(retrying(retry_on=("5xx",)))
        client = world.client().send(request())
        world.upstream().feed(answer("404 No"))
        assert client.take() == relayed("404 No")
        assert world.counted() == {(404, "-"): 1}

    def test_a_refused_connection_goes_elsewhere_at_once(self, make_world: Callable[..., World]) -> None:
        world = make_world(endpoints=2)
        world.refuse(1)
        world.refuse(2)
        world.loop.outcomes.popitem()
        client = world.client().send(request()).send()
        if not world.accepted:
            pytest.fail("no other endpoint was tried")
        world.upstream().feed(answer())
        assert client.take() == relayed()

    def test_all_refuse(self, make_world: Callable[..., World]) -> None:
        world = make_world(endpoints=2)
        world.refuse(1)
        world.refuse(2)
        client = world.client().send(request())
        assert client.take() == local("503 Service Unavailable", BEFORE_HEADERS + b"connection failure")
        assert len(world.loop.connects) == 3
        assert world.counted() == {(503, "UF,URX"): 1}

    def test_a_closed_at_once_connection_is_retried_even_for_post(self, make_world: Callable[..., World]) -> None:
        world = make_world(endpoints=2)
        world.loop.on_accept = lambda transport: transport.feed_eof_now() if len(world.accepted) == 1 else None
        world.client().send(request("POST", "/", body=b"abc"))
        assert len(world.accepted) == 2
        assert world.upstream().take().endswith(b"abc"), "nothing of it had been sent"

    def test_a_reset_if_asked_for(self, make_world: Callable[..., World]) -> None:
        world = make_world(retrying(attempts=1, retry_on=("reset",)))
        client = world.client().send(request("POST", "/", body=b"abc"))
        world.upstream(0).reset()
        world.advance(0.1)
        assert world.upstream(1).take().endswith(b"\r\n\r\nabc")
        world.upstream(1).reset()
        assert client.take() == local("503 Service Unavailable", BEFORE_HEADERS + b"connection termination")
        assert world.counted() == {(503, "UC,URX"): 1}

    def test_not_what_the_policy_does_not_name(self, make_world: Callable[..., World]) -> None:
        world = make_world(retrying(attempts=1, retry_on=("connect-failure",)), endpoints=2)
        world.refuse(1)
        client = world.client().send(request())
        world.upstream().reset()
        assert client.take().startswith(b"HTTP/1.1 503 ")
        assert world.counted() == {(503, "UC"): 1}, "the retry was used up, but is not why this failed"

    def test_nonsense_is_not_retried(self, make_world: Callable[..., World]) -> None:
        world = make_world(retrying(retry_on=("5xx", "reset")))
        client = world.client().send(request())
        world.upstream().feed(b"nonsense\r\n\r\n")
        assert client.take().startswith(b"HTTP/1.1 502 ")

    def test_each_try_has_its_time(self, make_world: Callable[..., World]) -> None:
        world = make_world(retrying(attempts=1, retry_on=("5xx",), per_try_timeout_s=1.0), endpoints=2)
        client = world.client().send(request())
        world.advance(1.2)
        assert world.upstream(0).aborted
        assert attempt_of(world.upstream(1)) == b"2"
        world.advance(1.2)
        assert client.take() == local("504 Gateway Timeout", b"upstream request timeout")
        assert world.counted() == {(504, "UT,URX"): 1}
        assert world.plane.counters["upstream_per_try_timeouts"] == 2

    def test_a_try_s_time_begins_with_the_whole_request(self, make_world: Callable[..., World]) -> None:
        world = make_world(retrying(attempts=0, per_try_timeout_s=1.0))
        client = world.client().send(request("POST", "/", "Content-Length: 3", body=b"a"))
        world.advance(5.0)
        assert client.take() == b""
        client.send(b"bc")
        world.advance(1.1)
        assert client.take() == local("504 Gateway Timeout", b"upstream request timeout")

    def test_a_try_s_time_ends_with_the_answer_s_head(self, make_world: Callable[..., World]) -> None:
        world = make_world(retrying(per_try_timeout_s=1.0))
        client = world.client().send(request())
        world.upstream().feed(answer("200 OK", "content-length: 3"))
        world.advance(10.0)
        world.upstream().feed(b"abc")
        assert client.take() == relayed(framing="content-length: 3", body=b"abc")

    def test_an_early_answer_stops_the_try_s_time(self, make_world: Callable[..., World]) -> None:
        world = make_world(retrying(per_try_timeout_s=1.0))
        client = world.client().send(request("POST", "/", "Content-Length: 3", body=b"a"))
        world.upstream().feed(answer("200 OK", "content-length: 3"))
        client.send(b"bc")
        world.advance(10.0)
        world.upstream().feed(b"abc")
        assert client.take() == relayed(framing="content-length: 3", end="close", body=b"abc")

    def test_the_rest_of_a_body_that_comes_between_two_tries(self, make_world: Callable[..., World]) -> None:
        world = make_world(retrying(retry_on=("5xx",)))
        client = world.client().send(request("POST", "/", "Content-Length: 6", body=b"abc"))
        world.upstream(0).feed(answer("503 No"))
        client.send(b"def")
        world.advance(0.1)
        assert world.upstream(1).take().endswith(b"\r\n\r\nabcdef")

    def test_the_route_s_time_covers_all_tries(self, make_world: Callable[..., World]) -> None:
        world = make_world(retrying(retry_on=("5xx",), per_try_timeout_s=1.0, timeout_s=1.5))
        client = world.client().send(request())
        world.advance(1.2)
        left = head_of(world.upstream().take())[1][b"x-envoy-expected-rq-timeout-ms"]
        assert 300 <= int(left) <= 500
        world.advance(0.4)
        assert client.take() == local("504 Gateway Timeout", b"upstream request timeout")
        assert world.counted() == {(504, "UT"): 1}

    def test_time_may_run_out_between_tries(self, make_world: Callable[..., World]) -> None:
        world = make_world(retrying(retry_on=("5xx",), timeout_s=0.1, backoff_base_s=10.0))
        client = world.client().send(request())
        world.upstream().feed(answer("503 No"))
        world.advance(0.2)
        assert client.take() == local("504 Gateway Timeout", b"upstream request timeout")

    def test_endpoints_may_run_out_between_tries(self, make_world: Callable[..., World]) -> None:
        world = make_world(retrying(retry_on=("5xx",)))
        client = world.client().send(request())
        world.upstream().feed(answer("503 No"))
        world.set_endpoints()
        world.advance(0.1)
        assert client.take() == local("503 Service Unavailable", b"no healthy upstream")

    def test_the_budget_bounds_them(self, make_world: Callable[..., World]) -> None:
        world = make_world(retrying(retry_on=("5xx",), backoff_base_s=10.0))
        clients = [world.client().send(request()) for _ in range(5)]
        for transport in list(world.accepted):
            transport.feed(answer("503 No"))
        assert world.cluster.retry_budget.retries == 3
        assert sum(client.take() == relayed("503 No") for client in clients) == 2
        assert world.plane.counters["upstream_retries_over_budget"] == 2

    def test_a_large_body_is_not_kept_for_them(self, make_world: Callable[..., World]) -> None:
        world = make_world(retrying(retry_on=("5xx", "reset")))
        client = world.client().send(request("POST", "/", "Content-Length: 66560", body=b"x" * 66560))
        world.upstream().feed(answer("503 No"))
        assert client.take() == relayed("503 No")
        assert world.counted() == {(503, "-"): 1}
        client.send(request("POST", "/", "Content-Length: 66560", body=b"x" * 66560))
        world.upstream().reset()
        assert client.take() == local("503 Service Unavailable", BEFORE_HEADERS + b"connection termination")

    def test_one_of_64_kib_is(self, make_world: Callable[..., World]) -> None:
        world = make_world(retrying(retry_on=("reset",)))
        world.client().send(request("POST", "/", body=b"x" * 65536))
        world.upstream(0).reset()
        world.advance(0.1)
        assert world.upstream(1).take().endswith(b"\r\n\r\n" + b"x" * 65536)

    def test_attempts_over_63_are_counted_no_further(self, make_world: Callable[..., World]) -> None:
        world = make_world(retrying(attempts=70, retry_on=("connect-failure",)))
        world.refuse()
        world.loop.on_connect = lambda count: world.loop.outcomes.clear() if count == 66 else None
        world.client().send(request())
        assert attempt_of(world.upstream()) == b"63"
