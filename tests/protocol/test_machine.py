# SPDX-License-Identifier: Apache-2.0
"""A client's connection in every order of events that Hypothesis thinks of.

A client sends requests in random pieces, endpoints answer in random pieces, anybody leaves at any time, and time passes. h11
reads both ends, so whatever the gateway writes must be HTTP, must be the answer to the oldest open request, and must stop where
the gateway said that it ends. The books are balanced after every step (`World.check_balance`), and a transport that is written
to after its end fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import h11
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from routing.specs import RetrySpec
from tests.protocol.world import Client, World
from tests.unit.routing.table_kit import HOST, forward
from tests.unit.routing.table_kit import rule as route_rule

if TYPE_CHECKING:
    from tests.protocol.mocks import MockTransport

SIZES = st.sampled_from([1, 2, 7, 40, 300, 100_000])
POLICIES = {
    "none": RetrySpec(attempts=0),
    "default": RetrySpec(),
    "eager": RetrySpec(attempts=2, retry_on=("5xx", "reset"), per_try_timeout_s=1.0, backoff_base_s=0.1),
}


class Asked:
    """A request as its client sees it."""

    def __init__(self, number: int, method: str) -> None:
        self.path = f"/{number}"
        self.method = method


class ClientSide:
    """A client that knows what it asked for and reads with h11."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.asked: list[Asked] = []
        self.outgoing = b""
        self.answered = 0
        self.reader: h11.Connection | None = None
        self.body = b""
        self.status = 0
        self.closes = False
        self.over = False
        self.half_closed = False

    def read(self) -> None:
        data = self.client.take()
        if data:
            assert not self.over, f"after an answer that said close: {data!r}"
        while data or self.reader is not None:
            if self.reader is None:
                self._expect()
            assert self.reader is not None
            if data:
                self.reader.receive_data(data)
            data = self._events(self.reader)
            if self.reader is not None:
                return

    def _expect(self) -> None:
        self.reader = h11.Connection(our_role=h11.CLIENT)
        method = self.asked[self.answered].method if self.answered < len(self.asked) else "GET"
        self.reader.send(h11.Request(method=method, target="/", headers=[("host", "x"), ("content-length", "0")]))
        self.reader.send(h11.EndOfMessage())
        self.body = b""

    def _events(self, reader: h11.Connection) -> bytes:
        while True:
            event = reader.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return b""
            if isinstance(event, h11.Response):
                self.status = event.status_code
                self.closes = (b"connection", b"close") in event.headers
            elif isinstance(event, h11.Data):
                self.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                self._complete()
                return reader.trailing_data[0]

    def _complete(self) -> None:
        assert self.answered < len(self.asked), "an answer nobody asked for"
        asked = self.asked[self.answered]
        if self.status == 200 and asked.method != "HEAD":
            assert self.body == asked.path.encode() * 3, f"somebody else's answer: {asked.path} {self.body!r}"
        self.answered += 1
        self.over = self.closes
        self.reader = None


class EndpointSide:
    """A connection of an endpoint, which reads with h11 and answers what is complete."""

    def __init__(self, transport: MockTransport) -> None:
        self.transport = transport
        self.reader = h11.Connection(our_role=h11.SERVER)
        self.request: h11.Request | None = None
        self.complete = False
        self.outgoing = b""
        self.ends = False

    def read(self) -> list[h11.Request]:
        """Return the requests that have become complete."""
        data = self.transport.take()
        if data:
            self.reader.receive_data(data)
        done = []
        while True:
            event = self.reader.next_event()
            if isinstance(event, h11.Request):
                assert self.request is None, "a second request before the answer to the first"
                self.request = event
            elif isinstance(event, h11.EndOfMessage):
                assert self.request is not None
                self.complete = True
                done.append(self.request)
            elif event is h11.NEED_DATA or event is h11.PAUSED:
                return done

    def answer(self, status: int, framing: str) -> None:
        assert self.request is not None
        path = self.request.target
        pieces = [path] * 3
        if framing == "counted":
            body = b"content-length: %d\r\n\r\n" % len(b"".join(pieces)) + b"".join(pieces)
        elif framing == "chunked":
            body = b"transfer-encoding: chunked\r\n\r\n" + b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in pieces)
            body += b"0\r\n\r\n"
        else:
            body = b"connection: close\r\n\r\n" + b"".join(pieces)
            self.ends = True
        if self.request.method == b"HEAD":
            body = body[: body.index(b"\r\n\r\n") + 4]
        self.outgoing = b"HTTP/1.1 %d Status\r\n" % status + body

    def sent(self) -> None:
        """The whole answer has been sent: on to the next request."""
        if self.ends or not self.complete:
            self.transport.feed_eof()
            return
        self.request, self.complete = None, False
        rest = self.reader.trailing_data[0]
        self.reader = h11.Connection(our_role=h11.SERVER)
        if rest:
            self.reader.receive_data(rest)


class ConnectionMachine(RuleBasedStateMachine):
    """The events."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.clients: list[ClientSide] = []
        self.endpoints: dict[int, EndpointSide] = {}
        self.policy = "none"
        self.count = 0
        self.posts: list[bytes] = []

    @initialize(policy=st.sampled_from(sorted(POLICIES)))
    def configure(self, policy: str) -> None:
        self.policy = policy
        self.world.set_rules(route_rule("all", action=forward("web", timeout_s=3.0, retry=POLICIES[policy])))
        self.world.set_endpoints(1, 2)
        self.connect()

    def connect(self) -> None:
        self.clients.append(ClientSide(self.world.client()))

    @property
    def client(self) -> ClientSide:
        return self.clients[-1]

    def is_open(self) -> bool:
        """Whether the present client may send."""
        return not (self.client.client.transport.closing or self.client.half_closed)

    @rule(
        method=st.sampled_from(["GET", "GET", "HEAD", "POST", "chunked"]),
        minor=st.sampled_from([1, 1, 1, 0]),
        close=st.sampled_from([False, False, False, True]),
        size=SIZES,
    )
    def ask(self, method: str, minor: int, close: bool, size: int) -> None:
        if not self.is_open():
            self.connect()
        self.count += 1
        asked = Asked(self.count, "POST" if method == "chunked" else method)
        lines = [f"{asked.method} {asked.path} HTTP/1.{minor}", f"Host: {HOST}"]
        body = b""
        if method == "POST":
            body = b"x" * (self.count * 7 % 50)
            lines.append(f"Content-Length: {len(body)}")
        elif method == "chunked":
            lines[0] = lines[0][:-1] + "1"
            lines.append("Transfer-Encoding: chunked")
            body = b"3\r\nabc\r\n0\r\n\r\n"
        if close:
            lines.append("Connection: close")
        self.client.asked.append(asked)
        self.client.outgoing += "\r\n".join([*lines, "", ""]).encode() + body
        self.client_sends(size)

    @precondition(lambda self: self.is_open() and self.client.outgoing)
    @rule(size=SIZES)
    def client_sends(self, size: int) -> None:
        side = self.client
        piece, side.outgoing = side.outgoing[:size], side.outgoing[size:]
        side.client.send(piece)

    @rule(what=st.sampled_from(["leave", "nonsense", "half-close", "another", "clog", "unclog", "unclog"]))
    def client_misbehaves(self, what: str) -> None:
        side = self.client
        if what == "another":
            self.connect()
        elif what == "leave":
            side.client.transport.reset()
        elif what == "clog":
            side.client.transport.clog()
        elif what == "unclog" and side.client.transport.clogged:
            side.client.transport.unclog()
        elif what == "half-close" and self.is_open():
            side.half_closed = True
            side.client.transport.feed_eof()
        elif what == "nonsense" and self.is_open() and not side.outgoing:
            side.asked.append(Asked(0, "GET"))
            side.client.send(b"nonsense\r\n\r\n")

    def busy(self) -> list[EndpointSide]:
        return [side for side in self.endpoints.values() if side.request is not None and not side.transport.closing]

    @precondition(lambda self: bool(self.busy()))
    @rule(
        which=st.integers(0, 3),
        status=st.sampled_from([200, 200, 200, 503]),
        framing=st.sampled_from(["counted", "chunked", "until close"]),
        hint=st.sampled_from([False, False, True]),
        size=SIZES,
    )
    def endpoint_answers(self, which: int, status: int, framing: str, hint: bool, size: int) -> None:
        sides = self.busy()
        side = sides[which % len(sides)]
        if not side.outgoing:
            side.answer(status, framing)
            if hint:
                side.outgoing = b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" + side.outgoing
        self.endpoint_sends(which, size)

    @precondition(lambda self: any(side.outgoing for side in self.busy()))
    @rule(which=st.integers(0, 3), size=SIZES)
    def endpoint_sends(self, which: int, size: int) -> None:
        sides = self.busy()
        side = sides[which % len(sides)]
        piece, side.outgoing = side.outgoing[:size], side.outgoing[size:]
        if piece:
            side.transport.feed(piece)
            if not side.outgoing and not side.transport.closing:
                side.sent()

    @precondition(lambda self: self.endpoints)
    @rule(which=st.integers(0, 5), how=st.sampled_from(["feed_eof", "reset", "nonsense", "clog", "unclog", "unclog"]))
    def endpoint_misbehaves(self, which: int, how: str) -> None:
        side = list(self.endpoints.values())[-1 - which % len(self.endpoints)]
        if side.transport.closing or (how == "feed_eof" and side.ends):
            return  # where an end of stream is the end of the body, it cannot be told from a loss
        if how == "nonsense":
            if not side.outgoing:  # or it could pass for a part of the body
                side.transport.feed(b"\x00\x01")
        else:
            getattr(side.transport, how)()

    @rule(
        what=st.sampled_from(["refuse", "hold", "accept", "accept", "endpoints", "drain", "time", "time", "time"]),
        numbers=st.sampled_from([(1, 2), (2, 1), (1,), (2,), ()]),
        seconds=st.sampled_from([0.01, 0.2, 1.1, 3.1, 5.1, 11.0]),
    )
    def the_world_turns(self, what: str, numbers: tuple[int, ...], seconds: float) -> None:
        loop = self.world.loop
        if what == "refuse":
            self.world.refuse(numbers[0] if numbers else 1)
        elif what == "hold":
            _ = self.world.hold(numbers[0] if numbers else 1)
        elif what == "accept":
            for outcome in loop.outcomes.values():
                if not isinstance(outcome, Exception) and not outcome.done():
                    outcome.set_result(None)
            loop.outcomes.clear()
            loop.settle()
        elif what == "endpoints":
            self.world.set_endpoints(*numbers)
        elif what == "time":
            self.world.advance(seconds)
        elif self.count % 5 == 4:
            _ = loop.start(self.world.plane.drain())

    @invariant()
    def all_is_well(self) -> None:
        for index, transport in enumerate(self.world.accepted):
            side = self.endpoints.setdefault(index, EndpointSide(transport))
            if transport.lost and not transport.sent:
                continue
            self.posts += [request.target for request in side.read() if request.method == b"POST"]
        for client in self.clients:
            client.read()
        self.world.check_balance()
        if self.policy != "eager":
            assert len(self.posts) == len(set(self.posts)), "a POST was sent twice"

    def teardown(self) -> None:
        self.world.check()


TestConnection = ConnectionMachine.TestCase
TestConnection.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
