# SPDX-License-Identifier: Apache-2.0
"""A data plane with one Service, its clients and its endpoints, all without sockets and with a manual clock.

`World.check` is run after every test: whatever happened, what is counted up must have been counted down again.
"""

from __future__ import annotations

import random
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, cast
from unittest import mock

from acmgproxy.dataplane import DataPlane
from acmgproxy.io.mirror import Mirrored
from acmgproxy.settings import ProxySettings
from routing.specs import RetrySpec, SpecsDiff
from tests.protocol.mocks import FakeSocketModule, MockTransport, new_loop
from tests.unit.routing.table_kit import HOST, KEY, cluster, diff, endpoint, forward, listener, rule, rule_set, virtual_host

if TYPE_CHECKING:
    import asyncio

    from acmgproxy.io.downstream import Downstream
    from acmgproxy.io.exchange import Exchange
    from acmgproxy.stats import SeriesKey, SeriesValue
    from routing.cluster import Cluster, Endpoint
    from routing.specs import RuleSpec

__all__ = [
    "BEFORE_HEADERS",
    "CHUNKED",
    "CLIENT",
    "DATE",
    "REQUEST_ID",
    "Client",
    "World",
    "answer",
    "attempt_of",
    "forwarded",
    "head_of",
    "local",
    "relayed",
    "request",
    "retrying",
]

DATE = b"Tue, 14 Nov 2023 22:13:20 GMT"
WALL_CLOCK = 1_700_000_000.0
CLIENT = ("10.1.0.1", 51000)
CHUNKED = "transfer-encoding: chunked"
BEFORE_HEADERS = b"upstream connect error or disconnect/reset before headers. reset reason: "
REQUEST_ID = b"6e1f3e47-0000-4000-a000-000000000001"


def request(method: str = "GET", target: str = "/", *lines: str, body: bytes = b"", minor: int = 1, host: str = HOST) -> bytes:
    """Write a request; Content-Length is given when there is a body."""
    fields = [f"Host: {host}", f"x-request-id: {REQUEST_ID.decode()}", *lines]
    if body and not any(line.lower().startswith(("content-length", "transfer-encoding")) for line in lines):
        fields.append(f"Content-Length: {len(body)}")
    return "\r\n".join([f"{method} {target} HTTP/1.{minor}", *fields, "", ""]).encode() + body


def forwarded(
    method: str = "GET", target: str = "/", *lines: str, attempt: int = 1, framing: str = "", host: str = HOST, body: bytes = b""
) -> bytes:
    """Write what the endpoint gets for `request`; `lines` are the client's own fields."""
    fields = [
        f"Host: {host}",
        *lines,
        *([framing] if framing else []),
        f"x-forwarded-for: {CLIENT[0]}",
        "x-forwarded-proto: http",
        f"x-request-id: {REQUEST_ID.decode()}",
        f"x-envoy-attempt-count: {attempt}",
    ]
    return "\r\n".join([f"{method} {target} HTTP/1.1", *fields, "", ""]).encode() + body


def answer(status: str = "200 OK", *lines: str, body: bytes = b"", minor: int = 1) -> bytes:
    """Write an endpoint's answer with a Content-Length, unless a line frames it otherwise."""
    framed = any(line.lower().startswith(("content-length", "transfer-encoding")) for line in lines)
    fields = [*lines] if framed else [*lines, f"content-length: {len(body)}"]
    return "\r\n".join([f"HTTP/1.{minor} {status}", *fields, "", ""]).encode() + body


def relayed(status: str = "200 OK", *lines: str, body: bytes = b"", ms: int = 0, framing: str = "", end: str = "") -> bytes:
    """Write what the client gets for `answer`; `end` is the line about the connection."""
    framing = framing or f"content-length: {len(body)}"
    fields = [*lines, framing, f"date: {DATE.decode()}", f"x-envoy-upstream-service-time: {ms}"]
    if end:
        fields.append(f"connection: {end}")
    return "\r\n".join([f"HTTP/1.1 {status}", *(line for line in fields if line != "none"), "", ""]).encode() + body


def local(status: str, body: bytes = b"", *lines: str, end: str = "", is_head: bool = False) -> bytes:
    """Write an answer of the gateway's own."""
    fields = ["content-type: text/plain"] if body else []
    fields += [*lines, f"date: {DATE.decode()}", "server: acmgproxy", f"content-length: {len(body)}"]
    if end:
        fields.append(f"connection: {end}")
    return "\r\n".join([f"HTTP/1.1 {status}", *fields, "", ""]).encode() + (b"" if is_head else body)


def head_of(message: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """Take a head apart: its first line and its fields by lower-case name."""
    first, *lines = message[: message.index(b"\r\n\r\n")].split(b"\r\n")
    return first, {name.lower(): value for name, _, value in (line.partition(b": ") for line in lines)}


class Client:
    """A client's connection."""

    def __init__(self, transport: MockTransport) -> None:
        self.transport = transport
        self.protocol = cast("Downstream", transport.protocol)

    def send(self, *pieces: bytes) -> Client:
        for piece in pieces:
            self.transport.feed(piece)
        return self

    def take(self) -> bytes:
        return self.transport.take()

    @property
    def ended(self) -> bool:
        return self.transport.ended


class _Copy(Mirrored):
    """A mirrored request that can be found again."""

    made: list[_Copy]

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.made.append(self)

    @property
    def endpoint(self) -> Endpoint | None:
        return self._endpoint

    @property
    def transport(self) -> MockTransport | None:
        return cast("MockTransport", self._upstream.transport) if self._upstream is not None else None


class World:
    """A data plane and everything around it.

    Args:
        rules: of the Service's VirtualService; none means its default route.
        endpoints: how many (10.0.0.1 and so on, port 8080).
        cluster_options: for its ClusterSpec.
        settings: for ProxySettings.
    """

    def __init__(
        self, *rules: RuleSpec, endpoints: int = 1, cluster_options: dict[str, Any] | None = None, **settings: Any
    ) -> None:
        self._patches = ExitStack()
        self._series: dict[SeriesKey, SeriesValue] = {}
        self._patches.enter_context(mock.patch("acmgproxy.io.pool.socket", FakeSocketModule()))
        self._patches.enter_context(mock.patch("acmgproxy.dataplane.time", return_value=WALL_CLOCK))
        self._patches.enter_context(mock.patch("acmgproxy.access_log.lines.time", return_value=WALL_CLOCK))
        self.copies: list[_Copy] = []
        recorded = type("Recorded", (_Copy,), {"made": self.copies})
        self._patches.enter_context(mock.patch("acmgproxy.io.mirror.Mirrored", recorded))
        self.loop = new_loop()
        self.plane = DataPlane(self.loop, ProxySettings(**settings), 7, clock=self.loop.time)
        self.plane.rng = random.Random(1)
        self.plane.random = self.plane.rng.random
        self.clusters: set[Cluster] = set()
        self.endpoints: set[Endpoint] = set()
        self.version = 0
        self.apply(
            listeners={KEY: listener()},
            virtual_hosts={KEY: virtual_host(*["rules"] if rules else [])},
            rule_sets={"rules": rule_set(*rules)} if rules else {},
            clusters={"web": cluster(**{"balancer": "ROUND_ROBIN", "service_name": "web", **(cluster_options or {})})},
            endpoints={"web": tuple(endpoint(f"10.0.0.{i + 1}") for i in range(endpoints))},
        )
        sock = mock.Mock(**{"getsockname.return_value": ("10.2.0.1", 20000)})
        sock.dup.return_value = sock
        self.loop.run(self.plane.add_listener(KEY, sock))

    # -- orders

    def apply(self, removed: dict[str, tuple[str, ...]] | None = None, **sections: Any) -> None:
        self.version += 1
        self.plane.apply(SpecsDiff(version=self.version, put=diff(**sections).put, removed=removed or {}))
        for one in self.plane.table.clusters.values():
            self.clusters.add(one)
            self.endpoints.update(one.endpoints)
        self.loop.settle()

    def set_rules(self, *rules: RuleSpec) -> None:
        self.apply(virtual_hosts={KEY: virtual_host("rules")}, rule_sets={"rules": rule_set(*rules)})

    def set_endpoints(self, *numbers: int) -> None:
        self.apply(endpoints={"web": tuple(endpoint(f"10.0.0.{number}") for number in numbers)})

    def advance(self, seconds: float) -> None:
        self.loop.advance(seconds)

    def client(self, address: tuple[str, int] = CLIENT) -> Client:
        protocol = self.loop.servers[0].factory()
        transport = MockTransport(self.loop, protocol, address, ("10.2.0.1", 20000))
        protocol.connection_made(transport)
        return Client(transport)

    # -- what there is

    @property
    def accepted(self) -> list[MockTransport]:
        """The connections to endpoints, the oldest first."""
        return self.loop.accepted

    def upstream(self, index: int = -1) -> MockTransport:
        return self.loop.accepted[index]

    def refuse(self, number: int = 1, error: Exception | None = None) -> None:
        """Have an endpoint refuse connections."""
        self.loop.outcomes[f"10.0.0.{number}", 8080] = error or ConnectionRefusedError(111, "Connection refused")

    def hold(self, number: int = 1) -> asyncio.Future[None]:
        """Have an endpoint neither accept nor refuse until the future that is returned is done."""
        future: asyncio.Future[None] = self.loop.create_future()
        self.loop.outcomes[f"10.0.0.{number}", 8080] = future
        return future

    @property
    def cluster(self) -> Cluster:
        return self.plane.table.clusters["web"]

    def counted(self) -> dict[tuple[int, str], int]:
        """Return how many requests have been counted by status and flags."""
        counts: dict[tuple[int, str], int] = {}
        for value in self.series().values():
            key = (value.key.status, value.key.flags)
            counts[key] = counts.get(key, 0) + value.count
        return counts

    def series_keys(self) -> list[SeriesKey]:
        return list(self.series())

    def series(self) -> dict[SeriesKey, SeriesValue]:
        """Return all request series. The data plane says only what has changed since it was asked last."""
        self._series |= {value.key: value for value in self.plane.stats().series}
        return self._series

    def idle(self) -> int:
        """Return how many connections lie in pools."""
        return sum(len(one.pool.idle) for one in self.endpoints if one.pool is not None)

    def exchanges(self) -> list[Exchange]:
        found = [downstream.exchange for downstream in self.plane.downstreams]
        return [exchange for exchange in found if exchange is not None and not exchange.finished] + [
            tunnel._exchange for tunnel in self.plane.tunnels
        ]

    def copies_under_way(self) -> list[_Copy]:
        """Return the mirrored requests that have not ended."""
        return [copy for copy in self.copies if copy.endpoint is not None]

    # -- the books

    def check_balance(self) -> None:
        """What is counted as under way is under way."""
        assert not self.loop.errors, self.loop.errors
        exchanges, copies = self.exchanges(), self.copies_under_way()
        for one in self.clusters:
            copied = sum(copy.endpoint in one.endpoints for copy in copies if copy.endpoint and not copy.endpoint.removed)
            assert one.active == copied + sum(exchange.cluster is one for exchange in exchanges), one
            assert one.retry_budget.retries == sum(
                exchange.budget is one.retry_budget for exchange in exchanges if exchange.budget is not None
            )
        for member in self.endpoints:
            copied = sum(copy.endpoint is member for copy in copies)
            assert member.active == copied + sum(one.endpoint is member and one.trying for one in exchanges), member
            if member.pool is not None:
                self._check_pool(member)

    def _check_pool(self, member: Endpoint) -> None:
        busy = {exchange.upstream for exchange in self.exchanges() if exchange.upstream is not None}
        for upstream in member.pool.idle:
            assert upstream.exchange is None
            assert upstream not in busy
            assert upstream.transport.is_closing() or upstream.transport.is_reading(), "pooled, but not read"
        for upstream in member.pool.open:
            is_copy = isinstance(upstream.exchange, _Copy) and upstream.exchange.endpoint is member
            assert upstream.exchange is None or upstream in busy or is_copy, f"{upstream} serves nobody"

    def check(self) -> None:
        """Let everybody go; nothing may be left of them."""
        try:
            self.loop.settle()
            self.check_balance()
            for downstream in list(self.plane.downstreams):
                cast("MockTransport", downstream.transport).reset()
            self.check_balance()
            assert not self.plane.downstreams
            assert not self.plane.tunnels
            assert not any(breaker.pending for breaker in self.plane._breakers.values())
            for outcome in self.loop.outcomes.values():
                if not isinstance(outcome, Exception) and not outcome.done():
                    outcome.cancel()
            self.loop.outcomes.clear()
            for copy in self.copies_under_way():
                if copy.transport is not None:
                    copy.transport.reset()
            self.advance(60.0)
            assert not self.copies_under_way()
            assert not any(one.active or one.retry_budget.retries for one in self.clusters)
            assert not any(one.active for one in self.endpoints)
            pools = [one.pool for one in self.endpoints if one.pool is not None]
            assert not any(pool.open or pool.idle or pool.connecting for pool in pools), pools
            assert repr(self.plane.deadlines) == "Deadlines(0 items in 0 buckets)"
            assert self.loop.pending_timers() == 0
            assert not self.loop.errors, self.loop.errors
        finally:
            self.plane.deadlines.stop()
            self._patches.close()


def retrying(**options: Any) -> RuleSpec:
    """Return a rule with a retry policy that does not wait between tries."""
    options.setdefault("backoff_base_s", 0.0)
    timeout_s = options.pop("timeout_s", 0.0)
    return rule("all", action=forward("web", timeout_s=timeout_s, retry=RetrySpec(**options)))


def attempt_of(transport: MockTransport) -> bytes:
    """Return the number of the try that an endpoint has been sent."""
    return head_of(transport.take())[1][b"x-envoy-attempt-count"]
