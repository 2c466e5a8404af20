# SPDX-License-Identifier: Apache-2.0
"""A connection to an endpoint: reads answers, one at a time.

Between requests it lies in its pool, and anything that happens to it then ends it. While it carries a request it tells the
`Exchange` what comes: informational heads, the final head, body data, the end; or how it failed. Whatever is odd about an answer
(surplus bytes, doubtful framing) makes this connection its last.
"""

from __future__ import annotations

import asyncio
import socket
from math import inf
from typing import TYPE_CHECKING, Protocol, cast

import httptools

from acmgproxy.h1.buffer import END_OF_HEAD, HeadBuffer
from acmgproxy.h1.chunked import ChunkedDecoder
from acmgproxy.h1.errors import HeadError
from acmgproxy.h1.limits import REMEMBERED_BYTES
from acmgproxy.h1.request import CHUNKED
from acmgproxy.h1.response import UNTIL_CLOSE, ResponseHead, parse_response_head

if TYPE_CHECKING:
    from acmgproxy.h1.request import RequestHead
    from acmgproxy.io.pool import Pool

__all__ = ["AnswerReader", "Upstream"]

_MOST_READS_AT_END = 16
"""Times 64 KiB that are read from a connection that has failed: a socket's default receive buffer holds less."""


class AnswerReader(Protocol):
    """Whom a connection tells what comes: an `Exchange`, or a `Mirrored` copy."""

    @property
    def head(self) -> RequestHead:
        """The request."""

    def on_informational(self, head: ResponseHead) -> None:
        """An answer before the final one."""

    def on_switch(self, head: ResponseHead, data: bytes) -> bool:
        """101, and what came behind it. Returns whether that was wanted; the connection then belongs to somebody else."""

    def on_response(self, head: ResponseHead, body: bytes, complete: bool) -> None:
        """The final head, what has come of the body, and whether that is all."""

    def on_body(self, data: bytes) -> None:
        """More of the body."""

    def on_body_end(self, data: bytes) -> None:
        """The last of the body."""

    def on_upstream_failed(self, upstream: Upstream, kind: str, reason: str) -> None:
        """There will be no (more) answer: "reset" or "protocol-error"."""

    def on_upstream_full(self) -> None:
        """The endpoint does not keep up with the request body."""

    def on_upstream_drained(self) -> None:
        """It does again."""


class Upstream(asyncio.Protocol):
    """One connection to an endpoint.

    Attributes:
        requests: how many it has been given.
        source: the client that was announced on it (PROXY protocol) and alone may use it, None for any.
        opened_at: monotonic seconds.
        answered: bytes of the present answer have come.
        reusable: it may go back to the pool after the present answer.
    """

    __slots__ = (
        "_buffer",
        "_decoder",
        "_informational",
        "_known_head",
        "_known_method",
        "_known_raw",
        "_left",
        "answered",
        "busy_until",
        "exchange",
        "idle_since",
        "opened_at",
        "pool",
        "read_paused",
        "requests",
        "reusable",
        "sock",
        "source",
        "transport",
        "wake",
        "write_paused",
    )

    transport: asyncio.Transport
    _known_head: ResponseHead

    def __init__(self, pool: Pool, sock: socket.socket, source: tuple[str, int] | None = None) -> None:
        # per connection
        self.source = source
        self.opened_at = pool.plane.clock()
        self.busy_until = inf
        self.pool = pool
        self.sock = sock
        self.requests = 0
        self.write_paused = False
        self.read_paused = False
        self.idle_since = 0.0
        self.wake = inf
        self._known_raw = self._known_method = b""
        # per request
        self.exchange: AnswerReader | None = None
        self.answered = False
        self.reusable = True
        self._left = 0
        self._decoder: ChunkedDecoder | None = None
        self._buffer: HeadBuffer | None = None
        self._informational = 0

    def __repr__(self) -> str:
        state = "closing" if self.transport.is_closing() else "busy" if self.exchange else "idle"
        return f"Upstream({self.pool.address[0]}:{self.pool.address[1]}, {state}, requests={self.requests})"

    # -- used by the pool and the exchange

    def begin(self, exchange: AnswerReader) -> None:
        """Take on a request; what the exchange writes to the transport from now on is its bytes."""
        self.exchange = exchange
        self.requests += 1
        self.busy_until = inf
        self.answered = False

    def is_readable(self) -> bool:
        """Whether something (an end of stream, unasked bytes) waits on the idle socket."""
        try:
            self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def detach(self) -> None:
        """End the connection without telling the exchange, which has given up on it."""
        self.exchange = None
        self.transport.abort()

    def close(self) -> None:
        """End an idle connection; what it has not sent by now belongs to no request any more."""
        self.transport.abort()

    def pause_reading(self) -> None:
        """Let the answer wait until the client takes more."""
        self.read_paused = True
        self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Let the answer come."""
        self.read_paused = False
        self.transport.resume_reading()

    def leave_for_tunnel(self) -> None:
        """Another protocol takes over the transport; the pool is told when it ends."""
        self.exchange = None
        self.pool.plane.deadlines.forget(self)

    def on_tunnel_lost(self) -> None:
        """The tunnel has ended."""
        self.pool.on_closed(self)

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; the pool enters the connection in its books."""
        self.transport = transport = cast("asyncio.Transport", transport)
        transport.set_write_buffer_limits(high=self.pool.plane.settings.write_high_bytes)

    def data_received(self, data: bytes) -> None:
        """Read on in the present answer."""
        exchange = self.exchange
        if exchange is None:
            self.transport.abort()  # any byte on an idle connection condemns it
            return
        try:
            if self._left > 0:
                self._read_counted(exchange, data)
            elif self._left == UNTIL_CLOSE:
                exchange.on_body(data)
            elif self._decoder is not None:
                self._read_chunked(exchange, self._decoder, data)
            else:
                self._read_head(exchange, data)
        except HeadError as error:
            self._fail("protocol-error", error.reason)

    def eof_received(self) -> bool:
        """An end of stream ends a close-delimited body well and any other exchange badly."""
        exchange = self.exchange
        if exchange is not None and self._left == UNTIL_CLOSE:
            self._left = 0
            self.reusable = False
            self._complete(exchange, b"")
        elif exchange is not None:
            self._fail("reset", "upstream closed the connection")  # at once: closing might wait for unsent data
        else:
            self.pool.on_closed_by_endpoint(self)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave the books; a request that was under way learns that its connection is gone."""
        self.pool.plane.deadlines.forget(self)
        self.pool.on_closed(self)
        if exc is not None and self.exchange is not None and self.transport.get_extra_info("sslcontext") is None:
            self._read_what_is_left()  # with TLS the socket holds nothing that could be read here
        if self.exchange is None:
            if exc is not None:
                self.pool.on_closed_by_endpoint(self)
            self.pool.lose(self)
            return
        self._fail("reset", str(exc) if exc else "upstream closed the connection")

    def pause_writing(self) -> None:
        """The endpoint reads slowly: stop reading its client."""
        self.write_paused = True
        if self.exchange is not None:
            self.exchange.on_upstream_full()

    def resume_writing(self) -> None:
        """The endpoint has caught up."""
        self.write_paused = False
        if self.exchange is not None:
            self.exchange.on_upstream_drained()

    def on_wake(self, now: float) -> float:
        """Close after idling too long; the exchange has the time limits of a request, a mirrored one `busy_until`."""
        if self.exchange is not None and now >= self.busy_until:
            self._fail("reset", "mirrored request took too long")
            return inf
        if self.exchange is not None:
            return min(now + self.pool.idle_timeout_s, self.busy_until)
        due = self.idle_since + self.pool.idle_timeout_s
        if due > now:
            return due
        self.pool.lose(self)
        self.close()
        return inf

    # -- reading

    def _read_what_is_left(self) -> None:
        """Take what the socket still holds after a failed write.

        An endpoint that refuses a large body sends its answer and closes; the reset that meets our writing must not cost the
        client that answer.
        """
        for _ in range(_MOST_READS_AT_END):
            try:
                data = self.sock.recv(65536, socket.MSG_DONTWAIT)
            except OSError:
                return
            if not data or self.exchange is None:
                return
            self.data_received(data)

    def _read_head(self, exchange: AnswerReader, data: bytes) -> None:
        limits = self.pool.plane.settings.limits
        while data:
            self.answered = True
            if self._buffer is None:
                end = data.find(END_OF_HEAD) + len(END_OF_HEAD)
                if end < len(END_OF_HEAD):
                    self._buffer = HeadBuffer(httptools.HttpResponseParser, 502, limits)
                    self._buffer.add(data)
                    return
                if end > limits.max_head_bytes:
                    raise HeadError(502, "head too large")
                raw, data = data[:end], data[end:]
            else:
                found = self._buffer.add(data)
                if found is None:
                    return
                raw, data = found
                self._buffer = None
            method = exchange.head.method
            if raw == self._known_raw and method == self._known_method:
                head = self._known_head
            else:
                head = parse_response_head(raw, method, limits)
            if head.status >= 200:
                if len(raw) <= REMEMBERED_BYTES:
                    self._known_raw, self._known_method, self._known_head = raw, method, head
                self._begin_answer(exchange, head, data)
                return
            if self._on_informational(exchange, head, data):
                return

    def _on_informational(self, exchange: AnswerReader, head: ResponseHead, data: bytes) -> bool:
        """Act on a 1xx answer. Returns whether the connection has become a tunnel."""
        self._informational += 1
        if head.status == 101 and exchange.on_switch(head, data):
            return True
        if head.status == 101 or self._informational > self.pool.plane.settings.limits.max_informational:
            raise HeadError(502, "unasked or too many informational answers")
        exchange.on_informational(head)
        return False

    def _begin_answer(self, exchange: AnswerReader, head: ResponseHead, data: bytes) -> None:
        """Hand on the head with what has come of the body: mostly all of it, then in one write."""
        self.reusable = head.keep_alive
        length = head.body_length
        if length >= 0:
            if len(data) >= length:
                if len(data) > length:
                    self._on_surplus(exchange)
                    data = data[:length]
                exchange.on_response(head, data, True)
                return
            self._left = length - len(data)
            exchange.on_response(head, data, False)
        elif length == CHUNKED:
            self._decoder = decoder = ChunkedDecoder(self.pool.plane.settings.limits)
            pieces, rest = decoder.feed(data)
            if decoder.done:
                self._decoder = None
                if rest:
                    self._on_surplus(exchange)
            exchange.on_response(head, b"".join(pieces), decoder.done)
        else:
            self._left = UNTIL_CLOSE
            exchange.on_response(head, data, False)

    def _read_counted(self, exchange: AnswerReader, data: bytes) -> None:
        left = self._left - len(data)
        if left > 0:
            self._left = left
            exchange.on_body(data)
            return
        if left < 0:
            self._on_surplus(exchange)
            data = data[:left]
        self._left = 0
        self._complete(exchange, data)

    def _read_chunked(self, exchange: AnswerReader, decoder: ChunkedDecoder, data: bytes) -> None:
        pieces, rest = decoder.feed(data)
        body = b"".join(pieces)
        if not decoder.done:
            if body:
                exchange.on_body(body)
            return
        self._decoder = None
        if rest:
            self._on_surplus(exchange)
        self._complete(exchange, body)

    def _on_surplus(self, exchange: AnswerReader) -> None:
        """Bytes behind an answer belong to none. Behind what should have been the last one, its framing cannot be trusted.

        Some servers send a body with their answer to HEAD: there nothing depends on the framing.
        """
        if not self.reusable and exchange.head.method != b"HEAD":
            raise HeadError(502, "bytes behind the last answer of the connection")
        self.reusable = False

    def _complete(self, exchange: AnswerReader, body: bytes) -> None:
        exchange.on_body_end(body)

    def release(self, *, clean: bool) -> None:
        """The exchange is over; go back to the pool if nothing speaks against it.

        Args:
            clean: the request was sent and the answer read to their ends.
        """
        self.exchange = None
        self._informational = 0
        if clean and self.reusable and not self.write_paused and not self.transport.is_closing():
            if self.read_paused:
                self.resume_reading()  # the last of the answer filled its client's buffer
            self.pool.give_back(self)
        else:
            self.transport.abort()

    def _fail(self, kind: str, reason: str) -> None:
        if self.idle_since and not self.answered and kind == "reset":
            self.pool.on_closed_by_endpoint(self)
        exchange, self.exchange = self.exchange, None
        self.transport.abort()
        if exchange is not None:
            exchange.on_upstream_failed(self, kind, reason)
