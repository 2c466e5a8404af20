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
from typing import TYPE_CHECKING, cast

import httptools

from acmgproxy.h1.buffer import END_OF_HEAD, HeadBuffer
from acmgproxy.h1.chunked import ChunkedDecoder
from acmgproxy.h1.errors import HeadError
from acmgproxy.h1.request import CHUNKED
from acmgproxy.h1.response import UNTIL_CLOSE, ResponseHead, parse_response_head

if TYPE_CHECKING:
    from acmgproxy.io.exchange import Exchange
    from acmgproxy.io.pool import Pool

__all__ = ["Upstream"]


class Upstream(asyncio.Protocol):
    """One connection to an endpoint.

    Attributes:
        requests: how many it has been given.
        answered: bytes of the present answer have come.
        reusable: it may go back to the pool after the present answer.
    """

    __slots__ = (
        "_buffer",
        "_decoder",
        "_informational",
        "_left",
        "answered",
        "exchange",
        "idle_since",
        "pool",
        "requests",
        "reusable",
        "sock",
        "transport",
        "wake",
        "write_paused",
    )

    transport: asyncio.Transport

    def __init__(self, pool: Pool, sock: socket.socket) -> None:
        # per connection
        self.pool = pool
        self.sock = sock
        self.requests = 0
        self.write_paused = False
        self.idle_since = 0.0
        self.wake = inf
        # per request
        self.exchange: Exchange | None = None
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

    def begin(self, exchange: Exchange) -> None:
        """Take on a request; what the exchange writes to the transport from now on is its bytes."""
        self.exchange = exchange
        self.requests += 1
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
        """End an idle connection."""
        self.transport.close()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Enter the pool's books."""
        self.transport = transport = cast("asyncio.Transport", transport)
        transport.set_write_buffer_limits(high=self.pool.plane.settings.write_high_bytes)
        self.pool.open.add(self)

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
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave the books; a request that was under way learns that its connection is gone."""
        self.pool.plane.deadlines.forget(self)
        self.pool.open.discard(self)
        if self.exchange is None:
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
        """Close after idling too long; the exchange has the time limits of a request."""
        since = now if self.exchange is not None else self.idle_since
        due = since + self.pool.idle_timeout_s
        if due > now:
            return due
        self.pool.lose(self)
        self.transport.close()
        return inf

    # -- reading

    def _read_head(self, exchange: Exchange, data: bytes) -> None:
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
            head = parse_response_head(raw, exchange.head.method, limits)
            if head.status >= 200:
                self._begin_answer(exchange, head, data)
                return
            self._on_informational(exchange, head)

    def _on_informational(self, exchange: Exchange, head: ResponseHead) -> None:
        self._informational += 1
        if head.status == 101 or self._informational > self.pool.plane.settings.limits.max_informational:
            raise HeadError(502, "unasked or too many informational answers")
        exchange.on_informational(head)

    def _begin_answer(self, exchange: Exchange, head: ResponseHead, data: bytes) -> None:
        """Hand on the head with what has come of the body: mostly all of it, then in one write."""
        self.reusable = head.keep_alive
        length = head.body_length
        if length >= 0:
            if len(data) >= length:
                if len(data) > length:
                    self.reusable = False  # surplus bytes belong to no answer
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
                self.reusable = self.reusable and not rest
            exchange.on_response(head, b"".join(pieces), decoder.done)
        else:
            self._left = UNTIL_CLOSE
            exchange.on_response(head, data, False)

    def _read_counted(self, exchange: Exchange, data: bytes) -> None:
        left = self._left - len(data)
        if left > 0:
            self._left = left
            exchange.on_body(data)
            return
        if left < 0:
            self.reusable = False
            data = data[:left]
        self._left = 0
        self._complete(exchange, data)

    def _read_chunked(self, exchange: Exchange, decoder: ChunkedDecoder, data: bytes) -> None:
        pieces, rest = decoder.feed(data)
        body = b"".join(pieces)
        if not decoder.done:
            if body:
                exchange.on_body(body)
            return
        self._decoder = None
        if rest:
            self.reusable = False
        self._complete(exchange, body)

    def _complete(self, exchange: Exchange, body: bytes) -> None:
        exchange.on_body_end(body)

    def release(self, *, clean: bool) -> None:
        """The exchange is over; go back to the pool if nothing speaks against it.

        Args:
            clean: the request was sent and the answer read to their ends.
        """
        self.exchange = None
        self._informational = 0
        if clean and self.reusable and not self.transport.is_closing():
            self.pool.give_back(self)
        elif clean:
            self.transport.close()
        else:
            self.transport.abort()

    def _fail(self, kind: str, reason: str) -> None:
        exchange, self.exchange = self.exchange, None
        self.transport.abort()
        if exchange is not None:
            exchange.on_upstream_failed(self, kind, reason)
