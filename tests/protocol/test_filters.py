# SPDX-License-Identifier: Apache-2.0
"""Filters on the way of a request: faults and CORS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from routing.specs import ClusterRef, CorsSpec, FaultSpec, HeaderOps, RetrySpec
from tests.protocol.world import CHUNKED, World, answer, forwarded, local, relayed, request
from tests.unit.routing.table_kit import exact, forward, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from routing.specs import RuleSpec

ABORTED = local("503 Service Unavailable", b"fault filter abort")
ORIGIN = "Origin: https://a.example"
ALLOWED = "access-control-allow-origin: https://a.example"


def faulty(*, delay_s: float = 0.0, abort: int = 0, percent: float = 100.0, **action: object) -> RuleSpec:
    fault = FaultSpec(delay_s=delay_s, delay_percent=percent, abort_status=abort, abort_percent=percent if abort else 0.0)
    return rule("all", action=forward("web", **action), fault=fault)


def crossing(**options: object) -> RuleSpec:
    cors = CorsSpec(allow_origins=(exact("https://a.example"),), **options)  # type: ignore[arg-type]
    return rule("all", action=forward("web"), cors=cors)


class TestAbort:
    def test_it_is_answered_here(self, make_world: Callable[..., World]) -> None:
        world = make_world(faulty(abort=503))
        client = world.client().send(request() * 2)
        assert client.take() == ABORTED * 2
        assert not world.accepted
        assert world.counted() == {(503, "FI"): 2}
        assert world.plane.counters["faults_aborted"] == 2

    def test_header_operations_do_not_touch_it(self, make_world: Callable[..., World]) -> None:
        ops = HeaderOps(set=(("x-by", "us"),))
        fault = FaultSpec(abort_status=503, abort_percent=100.0)
        action = forward(ClusterRef(cluster="web", response_headers=ops))
        world = make_world(rule("all", action=action, fault=fault, response_headers=ops))
        assert world.client().send(request()).take() == ABORTED

    def test_a_body_that_is_still_coming(self, make_world: Callable[..., World]) -> None:
        world = make_world(faulty(abort=503))
        client = world.client().send(request("POST", "/", "Content-Length: 6", body=b"abc"))
        assert client.take() == ABORTED
        client.send(b"def" + request())
        assert client.take() == ABORTED
        chunked = world.client().send(request("POST", "/", CHUNKED, body=b"1\r\na\r\n"))
        assert chunked.take() == local("503 Service Unavailable", b"fault filter abort", end="close")
        assert chunked.ended

    def test_a_share(self, make_world: Callable[..., World]) -> None:
        world = make_world(faulty(abort=503, percent=25.0))
        client = world.client()
        for _ in range(400):
            client.send(request())
            if world.accepted and world.upstream().take():
                world.upstream().feed(answer())
        assert 70 < world.counted()[503, "FI"] < 130
        assert sum(world.counted().values()) == 400

    def test_a_refused_upgrade(self, make_world: Callable[..., World]) -> None:
        world = make_world(faulty(abort=403))
        client = world.client().send(request("GET", "/", "Connection: Upgrade", "Upgrade: websocket"))
        assert client.take() == local("403 Forbidden", b"fault filter abort")


class TestDelay:
    def test_it_comes_before_the_request(self, make_world: Callable[..., World]) -> None:
        world = make_world(faulty(delay_s=2.0))
        client = world.client().send(request())
        world.advance(1.5)
        assert not world.accepted
        world.advance(0.5)
        assert world.upstream().take() == forwarded()
        world.upstream().feed(answer())
        assert client.take() == relayed()
        assert world.counted() == {(200, "DI"): 1}
        assert world.plane.counters["faults_delayed"] == 1

    def test_then_the_abort(self, make_world: Callable[..., World]) -> None:
        world = make_world(faulty(delay_s=2.0, abort=503))
        client = world.client().send(request())
        world.advance(1.5)
        assert client.take() == b""
        world.advance(0.5)
        assert client.take() == ABORTED
        assert world.counted() == {(503, "DI,FI"): 1}

    def test_failures_after_it_carry_both_flags(self, make_world: Callable[..., World]) -> None:
        world = make_world(faulty(delay_s=2.0), endpoints=0)
        client = world.client().send(request())
        world.advance(2.0)
        assert client.take() == local("503 Service Unavailable", b"no healthy upstream")
        assert world.counted() == {(503, "UH,DI"): 1}

    def test_the_client_leaves(self, make_world: Callable[..., World]) -> None:
        world = make_world(faulty(delay_s=2.0))
        client = world.client().send(request())
        client.transport.reset()
        world.advance(3.0)
        assert not world.accepted
        assert world.counted() == {(0, "DI,DC"): 1}
        assert world.loop.pending_timers() == 0

    def test_a_client_that_has_said_all_it_wants_to(self, make_world: Callable[..., World]) -> None:
        world = make_world(faulty(delay_s=2.0))
        client = world.client().send(request())
        client.transport.feed_eof()
        world.advance(2.0)
        world.upstream().feed(answer())
        assert client.take() == relayed(end="close")
        assert client.ended

    def test_a_body_that_turns_out_to_be_invalid(self, make_world: Callable[..., World]) -> None:
        world = make_world(faulty(delay_s=2.0))
        client = world.client().send(request("POST", "/", CHUNKED), b"zz\r\n")
        assert client.take().startswith(b"HTTP/1.1 400 ")
        world.advance(3.0)
        assert not world.accepted
        assert world.counted() == {(400, "DI,DPE"): 1}

    def test_neither_timeout_nor_retries_cover_it(self, make_world: Callable[..., World]) -> None:
        retry = RetrySpec(retry_on=("5xx", "reset"), backoff_base_s=0.0)
        world = make_world(faulty(delay_s=5.0, timeout_s=1.0, retry=retry))
        client = world.client().send(request())
        world.advance(5.9)
        assert client.take() == b""
        world.advance(0.2)
        assert client.take() == local("504 Gateway Timeout", b"upstream request timeout")
        assert world.counted() == {(504, "UT,DI"): 1}

    def test_a_body_meanwhile(self, make_world: Callable[..., World]) -> None:
        world = make_world(faulty(delay_s=2.0, timeout_s=1.0))
        client = world.client().send(request("POST", "/", "Content-Length: 6", body=b"abc"))
        client.send(b"def")
        world.advance(2.0)
        assert world.upstream().take() == forwarded("POST", framing="content-length: 6", body=b"abcdef").replace(
            b"attempt-count: 1\r\n", b"attempt-count: 1\r\nx-envoy-expected-rq-timeout-ms: 1000\r\n"
        )
        world.upstream().feed(answer())
        assert client.take() == relayed()

    @pytest.mark.parametrize("framing", ["Content-Length: 200000", CHUNKED])
    def test_a_large_body_meanwhile_is_left_in_the_socket(self, make_world: Callable[..., World], framing: str) -> None:
        world = make_world(faulty(delay_s=2.0))
        client = world.client().send(request("POST", "/", framing))
        block = bytes(50_000) if framing != CHUNKED else b"c350\r\n" + bytes(50_000) + b"\r\n"
        for _ in range(4):
            client.send(block)
        if framing == CHUNKED:
            client.send(b"0\r\n\r\n")
        assert not client.transport.is_reading()
        assert len(client.transport.arriving) >= 2
        world.advance(2.0)
        assert client.transport.is_reading()
        assert world.upstream().take().count(b"\0") == 200_000
        world.upstream().feed(answer())
        assert client.take() == relayed()

    def test_the_body_is_asked_for_afterwards(self, make_world: Callable[..., World]) -> None:
        world = make_world(faulty(delay_s=2.0))
        client = world.client().send(request("POST", "/", "Content-Length: 3", "Expect: 100-continue"))
        world.advance(1.5)
        assert client.take() == b""
        world.advance(0.5)
        assert client.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"abc")
        world.upstream().feed(answer())
        assert client.take() == relayed()

    def test_a_drain_waits_for_it(self, make_world: Callable[..., World]) -> None:
        world = make_world(faulty(delay_s=2.0))
        client = world.client().send(request())
        task = world.loop.start(world.plane.drain())
        world.advance(2.0)
        world.upstream().feed(answer())
        assert client.take() == relayed(end="close")
        client.transport.feed_eof()
        assert task.done()

    def test_the_service_may_go_meanwhile(self, make_world: Callable[..., World]) -> None:
        world = make_world(faulty(delay_s=2.0), cluster_options={"max_requests": 1})
        client = world.client().send(request())
        world.apply(removed={"clusters": ("web",), "endpoints": ("web",)})
        world.advance(2.0)
        assert client.take().startswith(b"HTTP/1.1 503 ")
        assert not world.plane._breakers


class TestCors:
    def test_a_preflight_is_answered_here(self, make_world: Callable[..., World]) -> None:
        world = make_world(crossing(allow_methods="GET,PUT", allow_headers="x-a", max_age="60", allow_credentials=True))
        client = world.client().send(request("OPTIONS", "/", ORIGIN, "Access-Control-Request-Method: DELETE"))
        assert client.take() == local(
            "200 OK",
            b"",
            ALLOWED,
            "access-control-allow-credentials: true",
            "access-control-allow-methods: GET,PUT",
            "access-control-allow-headers: x-a",
            "access-control-max-age: 60",
        )
        assert world.counted() == {(200, "-"): 1}

    @pytest.mark.parametrize(
        "lines",
        [(ORIGIN,), ("Origin: https://b.example", "Access-Control-Request-Method: GET"), ("Access-Control-Request-Method: GET",)],
    )
    def test_any_other_options_request_goes_through(self, make_world: Callable[..., World], lines: tuple[str, ...]) -> None:
        world = make_world(crossing())
        client = world.client().send(request("OPTIONS", "/", *lines))
        world.upstream().feed(answer("204 No Content"))
        added = ALLOWED.encode() in client.take()
        assert added is (lines == (ORIGIN,))

    def test_an_actual_request(self, make_world: Callable[..., World]) -> None:
        world = make_world(crossing(allow_credentials=True, expose_headers="x-a,x-b"))
        client = world.client().send(request("GET", "/", ORIGIN))
        theirs = ("Access-Control-Allow-Origin: *", "Access-Control-Expose-Headers: x-c", "X-D: 1")
        world.upstream().feed(answer("200 OK", *theirs))
        added = f"{ALLOWED}\r\naccess-control-allow-credentials: true\r\naccess-control-expose-headers: x-a,x-b\r\n\r\n"
        assert client.take() == relayed("200 OK", "X-D: 1")[:-2] + added.encode()

    def test_header_operations_come_after_it(self, make_world: Callable[..., World]) -> None:
        ops = HeaderOps(remove=("access-control-allow-origin", "x-d"), add=(("x-e", "1"),))
        cors = CorsSpec(allow_origins=(exact("https://a.example"),))
        world = make_world(rule("all", action=forward("web"), cors=cors, response_headers=ops))
        client = world.client().send(request("GET", "/", ORIGIN))
        world.upstream().feed(answer("200 OK", "Access-Control-Allow-Origin: *", "X-D: 1"))
        assert client.take() == relayed()[:-2] + b"x-e: 1\r\n\r\n"

    def test_a_failure_can_be_read_by_the_page(self, make_world: Callable[..., World]) -> None:
        world = make_world(crossing(), endpoints=0)
        client = world.client().send(request("GET", "/", ORIGIN))
        expected = local("503 Service Unavailable", b"no healthy upstream")
        assert client.take() == expected.replace(b"server: acmgproxy\r\n", b"server: acmgproxy\r\n" + ALLOWED.encode() + b"\r\n")

    @pytest.mark.parametrize("lines", [(), ("Origin: https://b.example",)])
    def test_others_get_nothing(self, make_world: Callable[..., World], lines: tuple[str, ...]) -> None:
        world = make_world(crossing())
        client = world.client().send(request("GET", "/", *lines))
        world.upstream().feed(answer())
        assert client.take() == relayed()

    def test_a_fault_comes_first(self, make_world: Callable[..., World]) -> None:
        cors = CorsSpec(allow_origins=(exact("https://a.example"),))
        fault = FaultSpec(abort_status=503, abort_percent=100.0)
        world = make_world(rule("all", action=forward("web"), cors=cors, fault=fault))
        client = world.client().send(request("OPTIONS", "/", ORIGIN, "Access-Control-Request-Method: GET"))
        assert client.take() == ABORTED

    def test_an_upgrade(self, make_world: Callable[..., World]) -> None:
        world = make_world(crossing())
        client = world.client().send(request("GET", "/", ORIGIN, "Connection: Upgrade", "Upgrade: websocket"))
        world.upstream().feed(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        head = f"HTTP/1.1 101 Switching Protocols\r\n{ALLOWED}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n"
        assert client.take() == head.encode()
