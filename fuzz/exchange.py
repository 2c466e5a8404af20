# SPDX-License-Identifier: Apache-2.0
"""Every request that arrives upstream was sent, every answer relayed as whole was given whole; however the bytes are cut.

The input is a byte of options (1: the upstream closes after each answer; 2: the client closes its side at the end), the bytes of
a client's connection, and behind a mark each, the answers that the upstream gives to the complete requests it gets; the last one
again and again. It runs through the real connections of the data plane, on a loop and transports without sockets.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from acmgproxy.h1.request import IDEMPOTENT
from fuzz.fields import check_fields
from fuzz.ways import WAYS
from tests.conformance.requests import REQUESTS
from tests.conformance.responses import RESPONSES
from tests.protocol.world import World
from tests.strict_http import Malformed, Message, Unfinished, read_final_response, read_requests

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.protocol.mocks import MockTransport
    from tests.protocol.world import Client

__all__ = ["MARK", "SEEDS", "Outcome", "check", "check_arrived", "check_relayed", "release"]

MARK = b"\n====\n"
_UPSTREAM_CLOSES, _CLIENT_CLOSES = 1, 2
_GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

_UPGRADE = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
_SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

SEEDS = [
    *[b"\x00" + row.data + MARK + _OK for row in REQUESTS],
    *[b"\x02" + row.data + _GET + MARK + _OK for row in REQUESTS],
    *[b"\x00" + row.method + _GET[3:] + MARK + row.data for row in RESPONSES],
    *[b"\x00" + first + _GET + MARK + answer for first in (_GET, _UPGRADE) for answer in (_OK, _SWITCH)],
    b"\x00" + _UPGRADE.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 27\r\n\r\n") + _GET + MARK + _SWITCH,
    *[b"\x01" + _GET + row.method + _GET[3:] + MARK + _OK + MARK + row.data for row in RESPONSES],
]


class _Tunnel(Exception):
    """The protocol changes; what follows is not HTTP."""


@dataclass(slots=True)
class Outcome:
    """What has happened.

    Attributes:
        arrived: requests that the upstream got whole.
        answers: the bytes that it answered each with.
        written: what the client got; `closed` if it saw an orderly end after that.
        relayed: for each request the answer the client got as whole; the last is None if it got none for that.
        doubtful: the answers behind it are malformed, or not all of what the upstream sent.
        lost: requests that met an upstream which was closing; only those that may be repeated are sent again.
    """

    arrived: list[Message] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)
    written: bytes = b""
    closed: bool = False
    relayed: list[tuple[int, bytes] | None] = field(default_factory=list)
    doubtful: bool = False
    lost: list[Message] = field(default_factory=list)

    @property
    def has_gap(self) -> bool:
        """Whether a request got no answer because it must not be sent twice."""
        return any(request.method not in IDEMPOTENT for request in self.lost)


_worlds: list[World] = []
"""One world serves all inputs, because making one takes forty times as long as an exchange; after a failure, another."""


def release() -> None:
    """Let go of the world that the inputs share; while there is one, the pools of this process have no real sockets."""
    while _worlds:
        _worlds.pop().check()


def check(data: bytes) -> None:
    """Try one input."""
    options = data[0] if data else 0
    sent_bytes, *answers = data[1:].split(MARK)
    sent, _ = read_requests(sent_bytes)
    outcomes = []
    for way in WAYS:
        try:
            outcome = _run(way, sent_bytes, answers or [b""], options)
        except _Tunnel:
            return
        check_arrived(sent, outcome)
        if outcome.has_gap:
            return
        check_relayed(sent, outcome, closes=bool(options & _UPSTREAM_CLOSES))
        outcomes.append(outcome)
    for outcome in outcomes[1:]:
        _check_same(outcomes[0], outcome)


def _run(way: Callable[[bytes], list[bytes]], sent: bytes, answers: list[bytes], options: int) -> Outcome:
    world = _worlds.pop() if _worlds else World()
    try:
        outcome = _exchange(world, way, sent, answers, options)
    except BaseException:
        with suppress(Exception):
            world.check()
        raise
    _worlds.append(world)
    return outcome


def _exchange(world: World, way: Callable[[bytes], list[bytes]], sent: bytes, answers: list[bytes], options: int) -> Outcome:
    world.plane.rng.seed(1)
    outcome, client = Outcome(), world.client()
    upstream = _Upstream(world, way, answers, outcome, closes=bool(options & _UPSTREAM_CLOSES))
    for piece in way(sent):
        if client.transport.closing:
            break
        client.send(piece)
        upstream.serve()
    if options & _CLIENT_CLOSES and not client.transport.closing:
        client.transport.feed_eof()
        upstream.serve()
    outcome.written, outcome.closed = client.take(), client.ended
    world.check_balance()
    _clean(world, client)
    return outcome


def _clean(world: World, client: Client) -> None:
    """Let everybody go; nothing may be left of them."""
    client.transport.reset()
    for transport in world.accepted:
        transport.reset()
    world.check_balance()
    assert not world.plane.downstreams
    assert not world.idle()
    assert not world.loop.errors, world.loop.errors
    for used in (world.loop.accepted, world.loop.transports, world.loop.sockets, world.loop.connects):
        used.clear()


class _Upstream:
    """Answers complete requests."""

    def __init__(
        self, world: World, way: Callable[[bytes], list[bytes]], answers: list[bytes], outcome: Outcome, *, closes: bool
    ) -> None:
        self._world = world
        self._way = way
        self._answers = answers
        self._outcome = outcome
        self._closes = closes
        self._received: dict[MockTransport, bytes] = {}
        self._answered: dict[MockTransport, int] = {}

    def serve(self) -> None:
        """Go on until nothing more comes."""
        progress = True
        while progress:
            progress = False
            for transport in list(self._world.accepted):
                data = transport.take()
                if not data:
                    continue
                self._received[transport] = self._received.get(transport, b"") + data
                requests, problem = read_requests(self._received[transport])
                assert problem in {"", "unfinished"}, f"ill-formed upstream: {problem}"
                done = self._answered.get(transport, 0)
                for request in requests[done:]:
                    self._answered[transport] = done = done + 1
                    if done > 1 and self._closes:
                        self._outcome.lost.append(request)
                    else:
                        self._answer(transport, request)
                    progress = True

    def _answer(self, transport: MockTransport, request: Message) -> None:
        outcome = self._outcome
        answer = self._answers[min(len(outcome.answers), len(self._answers) - 1)]
        if request.values(b"upgrade") and b" 101" in answer:
            raise _Tunnel
        outcome.arrived.append(request)
        outcome.answers.append(answer)
        for piece in self._way(answer):
            if transport.closing:
                return
            transport.feed(piece)
        if self._closes and not transport.closing:
            transport.feed_eof()


def check_arrived(sent: list[Message], outcome: Outcome) -> None:
    """What arrives was sent, in this order."""
    assert len(outcome.arrived) <= len(sent), f"{len(sent)} sent, {len(outcome.arrived)} arrived"
    if outcome.has_gap:
        for method in {request.method for request in outcome.lost} - IDEMPOTENT:
            got = [*outcome.arrived, *outcome.lost]
            assert sum(one.method == method for one in got) <= sum(one.method == method for one in sent), "sent twice"
        return
    for one, other in zip(sent, outcome.arrived, strict=False):
        assert (other.method, other.target, other.body) == (one.method, one.target, one.body), f"{other} for {one}"
        assert not one.values(b"host") or other.values(b"host") == one.values(b"host")
        check_fields(one, other)


def check_relayed(sent: list[Message], outcome: Outcome, *, closes: bool) -> None:
    """What is relayed as whole was answered whole; nothing else reads as an answer."""
    at = 0
    for number, request in enumerate(sent):
        try:
            got = read_final_response(outcome.written, at, method=request.method, closed=outcome.closed)
        except Unfinished:
            got = None
        given = _given(outcome, number, request, closes=closes)
        if got is None or number >= len(outcome.answers) or _is_local(got):
            outcome.relayed.append(None)
            assert got is None or got.status >= 400, "an answer that nobody gave"
            return
        assert given is not None, "relayed as whole"
        assert request.minor or got.framing != "chunked", "chunked to an HTTP/1.0 client"
        assert (got.status, got.body) == (given.status, given.body)
        check_fields(given, got)
        outcome.relayed.append((got.status, got.body))
        at = got.end
        if got.ends_connection:
            break
    assert b"HTTP/1.1 2" not in outcome.written[at:], "an answer without a request"


def _given(outcome: Outcome, number: int, request: Message, *, closes: bool) -> Message | None:
    """Read what the upstream answered to a request."""
    if number >= len(outcome.answers):
        return None
    answer = outcome.answers[number]
    try:
        given = read_final_response(answer, method=request.method, closed=closes)
    except (Malformed, Unfinished):
        outcome.doubtful = True
        return None
    outcome.doubtful |= given.end < len(answer)
    return given


def _is_local(answer: Message) -> bool:
    return answer.status in {502, 503} and (b"server", b"acmgproxy") in answer.fields


def _check_same(one: Outcome, other: Outcome) -> None:
    """The pieces make no difference, unless it depends on them whether surplus bytes are seen in time."""
    if not (one.doubtful or other.doubtful):
        assert one.relayed == other.relayed, "the answers depend on the pieces"
        return
    for mine, theirs in zip(one.relayed, other.relayed, strict=False):
        assert mine == theirs or mine is None or theirs is None, "an answer depends on the pieces"
