# SPDX-License-Identifier: Apache-2.0
"""A client's connection: reads requests, one at a time, and writes answers in order.

    HEAD ──head complete──▶ BODY ──body complete──▶ BUSY ──answer complete──▶ HEAD
      │                       │                       │
      └── invalid, too slow ──┴─── answer says close ─┴──▶ LINGER ──▶ closed

HEAD: between requests or in the middle of a head. BODY: the body of the present request is coming. BUSY: the request is whole,
the answer is not; what comes meanwhile are pipelined requests, kept up to a bound (RFC 9112 section 9.3.2). LINGER: the last
answer has been written; what still comes is read and dropped, so that the client reads the answer instead of a reset (section
9.6).
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING, cast

import httptools

from acmgproxy.h1.buffer import END_OF_HEAD, HeadBuffer
from acmgproxy.h1.build import CONTINUE, local_response
from acmgproxy.h1.chunked import ChunkedDecoder
from acmgproxy.h1.errors import HeadError
from acmgproxy.h1.limits import REMEMBERED_BYTES
from acmgproxy.h1.recall import Recall
from acmgproxy.h1.request import CHUNKED, RequestHead, parse_request_head
from acmgproxy.io.exchange import Exchange
from acmgproxy.io.forwarded import Forwarded
from acmgproxy.quarantine import fingerprint

if TYPE_CHECKING:
    from acmgproxy.dataplane import DataPlane
    from acmgproxy.io.accepting import Listening
    from acmgproxy.io.tries import Tries
    from acmgproxy.io.upstream import Upstream
    from routing.headers import HeaderProgram
    from routing.specs import VirtualHostSpec
    from routing.table import Caller, CompiledListener

__all__ = ["Downstream", "QuarantinedError"]

_HEAD, _BODY, _BUSY, _LINGER, _TUNNEL = range(5)
_BY_EXCHANGE, _BY_PIPELINE = 1, 2
_CARRIAGE_RETURN = 13

_MOST_RECALLS = 2
"""How often a connection's heads may turn out to be too different from each other until nobody tries to recognise them."""


class QuarantinedError(HeadError):
    """A request has ended workers and is not served (see acmgproxy.quarantine)."""

    def __init__(self) -> None:
        super().__init__(503, "request quarantined")


class Downstream(asyncio.Protocol):
    """One client connection.

    Attributes:
        listener: the compiled listener it came in on.
        caller: who the client is, None when its address is no known pod's.
        exchange: the request being served.
        forwarded: what upstreams are told about the client.
        local_port: Service port the client connected to (on the shared listener, the port itself).
        read_at: monotonic seconds of the last body bytes from the client.
        requests: how many it has had, where that is limited; worn_out: there may be no more, or its listener is gone.
    """

    __slots__ = (
        "_blocked",
        "_buffer",
        "_decoder",
        "_eof",
        "_fresh",
        "_head_buffer",
        "_known_head",
        "_known_raw",
        "_left",
        "_parsing",
        "_peername",
        "_recall",
        "_recalls_left",
        "_remote",
        "_sockname",
        "_state",
        "_unsent",
        "_write_paused",
        "caller",
        "default_authority",
        "exchange",
        "forwarded",
        "idle_since",
        "listener",
        "local_port",
        "peer",
        "plane",
        "read_at",
        "requests",
        "transport",
        "wake",
        "worn_out",
    )

    transport: asyncio.Transport
    forwarded: Forwarded
    _known_head: RequestHead

    def __init__(self, plane: DataPlane, listening: Listening) -> None:
        # per connection
        self.plane = plane
        self.listener: CompiledListener = listening.compiled
        self.default_authority = listening.authority
        self.local_port = self.listener.port or listening.port
        self.caller: Caller | None = None
        self.peer = ""
        self.idle_since = 0.0
        self.wake = inf
        self.requests = 0
        self.worn_out = False
        self._blocked = 0
        self._write_paused = False
        self._parsing = False
        self._eof = False
        self._fresh = True
        self._unsent = 0
        self._peername: tuple[str, int] | None = None
        self._sockname = self._remote = ""
        self._known_raw = b""
        self._recall: Recall | None = None
        self._recalls_left = _MOST_RECALLS
        # per request
        self.exchange: Exchange | None = None
        self.read_at = 0.0
        self._state = _HEAD
        self._buffer = b""
        self._head_buffer: HeadBuffer | None = None
        self._left = 0
        self._decoder: ChunkedDecoder | None = None

    def __repr__(self) -> str:
        return f"Downstream({self.peer}, {('HEAD', 'BODY', 'BUSY', 'LINGER', 'TUNNEL')[self._state]}, {self.exchange!r})"

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Learn who calls."""
        self.transport = transport = cast("asyncio.Transport", transport)
        plane = self.plane
        transport.set_write_buffer_limits(high=plane.settings.write_high_bytes)
        self._peername = peer = transport.get_extra_info("peername")  # not to be had any more after a reset
        self.peer = peer[0] if peer else ""
        self.caller = plane.table.caller(self.peer)
        self.forwarded = Forwarded(self.peer, trusted=self.peer in plane.trusted_callers)
        plane.downstreams.add(self)
        if len(plane.downstreams) >= plane.shedding.accept_limit:
            plane.shedding.pause()
        plane.counters["downstream_connections_opened"] += 1
        self.idle_since = plane.clock()
        plane.deadlines.wake_by(self, self._due())

    def data_received(self, data: bytes) -> None:
        """Read on; whatever is wrong with the request is answered and ends the connection."""
        if self._state == _HEAD:
            self._parse(data)
        elif self._state == _BODY:
            self.read_at = self.plane.clock()
            rest = self._read_body(data)
            if rest:
                self._parse(rest)
        elif self._state == _BUSY:
            self._buffer += data
            if len(self._buffer) > self.plane.settings.pipeline_bytes:
                self._block(_BY_PIPELINE)

    def eof_received(self) -> bool:
        """The client has sent all it wants to. Complete requests are still answered (RFC 9112 section 9.6)."""
        self._eof = True
        if self._state == _BUSY and self.exchange is not None:
            if not self._buffer:
                self.exchange.is_last = True
            return True
        self._give_up()
        return False

    def _give_up(self) -> None:
        """End the connection, with the request whose rest will not come."""
        exchange = self.exchange
        if self._state == _BODY and exchange is not None and not exchange.finished:
            exchange.on_downstream_lost()
        self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self.plane.deadlines.forget(self)
        self.plane.forget(self)
        exchange, self.exchange = self.exchange, None
        self._state = _LINGER
        self._buffer = b""
        if exchange is not None:
            exchange.on_downstream_lost()

    def pause_writing(self) -> None:
        """The client reads slowly: stop reading the upstream."""
        self._write_paused = True
        if self.exchange is not None and self.exchange.upstream is not None:
            self.exchange.upstream.pause_reading()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._write_paused = False
        if self.exchange is not None:
            self.exchange.active_at = self.plane.clock()
            if self.exchange.upstream is not None:
                self.exchange.upstream.resume_reading()
        elif self._state == _HEAD and not self.transport.is_closing():
            self.idle_since = self.plane.clock()
            self._go_on()

    def on_wake(self, now: float) -> float:
        """Act when something takes too long: a head, the next request, the exchange, the client's goodbye."""
        exchange = self.exchange
        if exchange is not None and not exchange.finished:
            return exchange.on_wake(now)
        due = self._due()
        if due > now:
            return due
        if self._state == _HEAD and self._head_buffer is not None:
            self.plane.counters["downstream_header_timeouts"] += 1
            self._refuse(HeadError(408, "request head did not come in time"))
            return self._due()
        if self.transport.is_closing():
            return self._wait_for_reader(now)
        self._close()
        return inf

    def _wait_for_reader(self, now: float) -> float:
        """Closing waits for a client that reads slowly, not for one that reads nothing."""
        unsent = self.transport.get_write_buffer_size()
        if not 0 < unsent < self._unsent:
            self.transport.abort()
            return inf
        self._unsent = unsent
        self.idle_since = now
        return self._due()

    def _due(self) -> float:
        """Until when the connection may stay as it is while no exchange is under way."""
        settings = self.plane.settings
        if self._state != _HEAD:
            return self.idle_since + settings.linger_timeout_s
        if self._write_paused:
            return self.idle_since + settings.stream_idle_timeout_s
        if self._head_buffer is not None:
            return self.idle_since + settings.headers_timeout_s
        if self.plane.draining:
            return self.idle_since + settings.linger_timeout_s
        return self.idle_since + settings.keepalive_idle_timeout_s

    def _idle_from_now(self) -> None:
        """Begin a state with a time limit of its own."""
        self.idle_since = self.plane.clock()
        self.plane.deadlines.wake_by(self, self._due())

    # -- reading requests

    def _parse(self, data: bytes) -> None:
        """Take requests out of `data` until one is not complete or has to be waited for.

        A request that is answered at once does not call this again, however many follow it: `_next` leaves that to the loop.
        """
        self._parsing = True
        try:
            while data and self._state == _HEAD and not self._write_paused:
                found = self._take_head(data)
                if found is None:
                    break
                raw, data = found
                if raw != self._known_raw:
                    self._known_head = self._judge(raw)
                    self._known_raw = raw if len(raw) <= REMEMBERED_BYTES else b""
                data = self._start(self._known_head, data)
                if not data:
                    data, self._buffer = self._buffer, b""
            else:
                if self._state != _LINGER:
                    self._buffer = data
                if self._write_paused and self._state == _HEAD:
                    self._wait_until_read()
        except HeadError as error:
            self._refuse(error)
        finally:
            self._parsing = False
            if self.plane.noting:
                self.plane.end_note()

    def _judge(self, raw: bytes) -> RequestHead:
        """Parse and judge a head that is new to this connection."""
        plane = self.plane
        if plane.quarantine and fingerprint(raw) in plane.quarantine:
            raise QuarantinedError
        if plane.recorder is not None:
            plane.recorder.begin(self.default_authority, raw)
            plane.noting = True
        limits = plane.settings.limits
        if self._recall is None and self._recalls_left and self._known_raw:
            self._recall = Recall.of(self._known_raw, self._known_head)
        if self._recall is not None:
            head = self._recall.match(raw, limits)
            if head is not None:
                return head
            self._recall = None  # its client writes several kinds of heads: the next attempt is with this one
            self._recalls_left -= 1
        return parse_request_head(raw, limits)

    def forget_head(self) -> None:
        """Judge the next head even if it is the same again."""
        self._known_raw = b""

    def _take_head(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Split the next head off, or keep what there is of it."""
        limits = self.plane.settings.limits
        if self._head_buffer is None:
            end = data.find(END_OF_HEAD) + len(END_OF_HEAD)
            if end >= len(END_OF_HEAD) and data[0] != _CARRIAGE_RETURN:
                if end > limits.max_head_bytes:
                    raise HeadError(431, "head too large")
                return (data, b"") if end == len(data) else (data[:end], data[end:])
            self._head_buffer = HeadBuffer(httptools.HttpRequestParser, 431, limits, skip_blank=True)
            self._idle_from_now()
        if self.plane.sheds_requests:
            raise HeadError(503, "envoy overloaded")  # what is collected now would be refused when it is complete
        found = self._head_buffer.add(data)
        if found is not None:
            self._head_buffer = None
        return found

    def _start(self, head: RequestHead, rest: bytes) -> bytes:
        """Begin serving a request. Returns what follows it in `rest`."""
        plane = self.plane
        now = plane.clock()
        self.exchange = exchange = Exchange(plane, self, head, now)
        length = head.body_length
        if length == 0:
            self._state = _BUSY
        else:
            self._state = _BODY
            self._left = length
            self._decoder = ChunkedDecoder(plane.settings.limits) if length == CHUNKED else None
            self.read_at = now
        if plane.max_requests:
            self.requests += 1
            self.worn_out |= self.requests >= plane.max_requests
        exchange.begin()
        if self._state == _BODY and rest:
            return self._read_body(rest)
        return rest

    def _read_body(self, data: bytes) -> bytes:
        """Hand body data to the exchange. Returns what follows the body."""
        exchange = self.exchange
        assert exchange is not None
        decoder = self._decoder
        if decoder is not None:
            try:
                pieces, rest = decoder.feed(data)
            except HeadError as error:
                self._refuse(error)
                return b""
            body = b"".join(pieces)
            if body:
                exchange.on_request_body(body)
            if not decoder.done:
                return b""
        else:
            left = self._left
            body, rest = (data, b"") if len(data) <= left else (data[:left], data[left:])
            self._left = left - len(body)
            exchange.on_request_body(body)
            if self._left:
                return b""
        return self._end_body(exchange, rest)

    def _end_body(self, exchange: Exchange, rest: bytes) -> bytes:
        if self._state != _BODY or self.exchange is not exchange:
            return b""
        self._state = _BUSY
        exchange.on_request_end()
        if exchange.finished and self.exchange is exchange:
            self._buffer = rest
            self._next()  # answered early, and the rest of its body has been read
            return b""
        return rest

    def _refuse(self, error: HeadError) -> None:
        """Answer an invalid request and close. One that is already on its way upstream is cut off there."""
        self.plane.counters["downstream_protocol_errors"] += 1
        exchange, self.exchange = self.exchange, None
        self._state = _LINGER
        responding = False
        if exchange is not None:
            responding = exchange.responding
            if not exchange.finished:
                exchange.on_downstream_invalid()
        else:
            self.plane.record_refused(self, error)
        if not responding:
            body = error.reason.encode()
            fields = [(b"content-type", b"text/plain")]
            self.write(local_response(error.status, fields, body, minor=1, close=True, is_head=False))
        self._linger()

    @property
    def listener_host(self) -> VirtualHostSpec | None:
        """The host that its listener is for, None where that is no one in particular."""
        return self.plane.table.host_of(self.listener)

    @property
    def remote_address(self) -> str:
        """The client's address and port."""
        if not self._remote:
            self._remote = _address(self._peername)
        return self._remote

    @property
    def local_address(self) -> str:
        """The address and port the client connected to."""
        if not self._sockname:
            self._sockname = _address(self.transport.get_extra_info("sockname"))
        return self._sockname

    @property
    def peer_address(self) -> tuple[str, int] | None:
        """The client's address and port, None when the system does not tell."""
        return self._peername

    def leave_for_tunnel(self) -> tuple[bytes, bool]:
        """Another protocol takes over the transport.

        Returns:
            What the client has sent after its request, and whether it has closed its side.
        """
        early, self._buffer = self._buffer, b""
        self._state = _TUNNEL
        self.exchange = None
        self.plane.deadlines.forget(self)
        self._unblock(_BY_EXCHANGE | _BY_PIPELINE)
        return early, self._eof

    def on_tunnel_lost(self) -> None:
        """The tunnel has ended."""
        self.plane.forget(self)

    # -- used by the exchange

    def wake_by(self, when: float) -> None:
        """Have the exchange asked at `when` or before."""
        self.plane.deadlines.wake_by(self, when)

    def write(self, data: bytes) -> None:
        """Send bytes of an answer."""
        if self.plane.outbox.waiting:
            self.plane.outbox.flush()
        self.transport.write(data)

    def write_local(
        self, status: int, fields: list[tuple[bytes, bytes]], body: bytes, program: HeaderProgram | None, *, close: bool
    ) -> None:
        """Send an answer of the gateway's own, with the route's response header operations."""
        exchange = self.exchange
        assert exchange is not None
        fields = [*fields, (b"date", self.plane.http_date()), (b"server", b"acmgproxy")]
        for line in exchange.added_lines:
            name, _, value = line.partition(b": ")
            fields.append((name, value))
        if program is not None:
            fields = [(name, value) for name, value in fields if name not in program.drop]
            fields += [
                (name, value) for name, _, value in (line.partition(b": ") for line in program.lines.split(b"\r\n")) if name
            ]
        head = exchange.head
        self.write(local_response(status, fields, body, minor=head.minor, close=close, is_head=head.method == b"HEAD"))

    def send_continue(self) -> None:
        """Ask for the body (RFC 9110 section 10.1.1)."""
        self.write(CONTINUE)

    def can_drain_body(self) -> bool:
        """Whether the rest of the request's body is small and on its way, so that reading it is cheaper than a new connection."""
        exchange = self.exchange
        assert exchange is not None
        head = exchange.head
        return (
            head.keep_alive
            and not (self.worn_out or self.plane.closes_connections)
            and not head.expects_continue
            and 0 < head.body_length <= self.plane.settings.drained_body_bytes
        )

    def hold_upstream(self, upstream: Upstream) -> None:
        """An answer will go on: let the upstream wait if this client's buffer is full already."""
        if self._write_paused:
            upstream.pause_reading()

    def block_reading(self, exchange: Tries) -> None:
        """Stop reading the request body until the upstream takes it."""
        if self.exchange is exchange:
            self._block(_BY_EXCHANGE)

    def unblock_reading(self, exchange: Tries) -> None:
        """Read the request body again."""
        if self.exchange is exchange:
            self.read_at = self.plane.clock()
            self._unblock(_BY_EXCHANGE)

    def abort_answer(self, *, close_delimited: bool) -> None:
        """Cut an answer short. An HTTP/1.0 client would take an orderly close for the end of the body."""
        if close_delimited:
            self.transport.abort()
        else:
            self.transport.close()

    def on_exchange_finished(self, exchange: Exchange) -> None:
        """Go on with the next request, or end the connection."""
        if self.exchange is not exchange:
            return
        if exchange.close_after:
            self.exchange = None
            # a client that meant to keep the connection may be sending its next request
            self._state = _LINGER if self._state == _BODY or (exchange.head.keep_alive and not exchange.is_last) else _BUSY
            self._linger()
        elif self._state == _BUSY:
            self._next()
        else:
            # the rest of the body is read and dropped first; _end_body goes on
            self._unblock(_BY_EXCHANGE)
            self._idle_from_now()

    # -- between requests

    def _next(self) -> None:
        """Go on to the next request, which may have come already."""
        self.exchange = None
        self._state = _HEAD
        self._fresh = False
        if self._blocked:
            self._unblock(_BY_EXCHANGE | _BY_PIPELINE)
        self.idle_since = self.plane.clock()
        if self._parsing:
            return  # _parse itself goes on
        if self._write_paused:
            self._wait_until_read()
        elif self._buffer or self._eof or self.plane.draining:
            self._go_on()

    def _wait_until_read(self) -> None:
        """Serve a client that does not read its answers no further; resume_writing goes on."""
        self._block(_BY_PIPELINE)
        self._idle_from_now()

    def _go_on(self) -> None:
        """Serve what has come meanwhile."""
        self._unblock(_BY_PIPELINE)
        if self._buffer:
            data, self._buffer = self._buffer, b""
            self._parse(data)
        elif self.plane.draining:
            self._close()
        if self._eof and not self._write_paused:
            exchange = self.exchange
            if self._state != _BUSY or exchange is None:
                self._give_up()
            elif not self._buffer:
                exchange.is_last = True

    def _close(self) -> None:
        """Close once the client has taken what was written; see `_wait_for_reader`."""
        self.plane.outbox.flush()
        self.transport.close()
        self._unsent = self.transport.get_write_buffer_size()
        if self._unsent:
            self._state = _LINGER
            self._idle_from_now()

    def _linger(self) -> None:
        """Close; if the client may still be sending, read that first."""
        if self._state != _LINGER or self.transport.is_closing():
            self._close()
            return
        self._unblock(_BY_EXCHANGE | _BY_PIPELINE)
        self.plane.outbox.flush()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._idle_from_now()

    def is_idle(self) -> bool:
        """Whether no request is under way."""
        return self.exchange is None and self._state == _HEAD and self._head_buffer is None

    def close_if_idle(self) -> None:
        """End a kept connection that waits for its next request. The first of a new one is surely on its way."""
        if self.is_idle() and not self._buffer:
            if self._fresh:
                self._idle_from_now()
            else:
                self._close()

    def close_if_idle_since(self, before: float) -> bool:
        """End a connection on which nothing has been under way since then, or for longer. Returns whether it was one."""
        if self.idle_since > before or self.transport.is_closing():
            return False
        if self._state != _LINGER and (self._buffer or not self.is_idle()):
            return False
        self._close()
        return True

    def refuse_head_since(self, before: float) -> None:
        """Refuse a request whose head has been coming since then, or for longer: there is no memory to wait for it."""
        if self._state == _HEAD and self._head_buffer is not None and self.idle_since <= before:
            self._refuse(HeadError(503, "envoy overloaded"))

    def _block(self, reason: int) -> None:
        if not self._blocked:
            self.transport.pause_reading()
        self._blocked |= reason

    def _unblock(self, reason: int) -> None:
        if self._blocked & reason:
            self._blocked &= ~reason
            if not self._blocked:
                self.transport.resume_reading()


def _address(name: tuple[str, int] | None) -> str:
    return f"{name[0]}:{name[1]}" if name else "-"
