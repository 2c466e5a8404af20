# SPDX-License-Identifier: Apache-2.0
"""Tunnels: what becomes of two connections after 101 Switching Protocols (RFC 9110 section 7.8).

Bytes go through untouched, both ways, each side held back while the other does not take them. An end of stream from one side is
passed on and the other direction lives on (half-close); when both have ended, or one breaks, the tunnel is over. A tunnel through
which nothing has gone for a while is closed. Closing waits for a peer that reads slowly, not for one that reads nothing.

The two transports get new protocols, so neither `Downstream` nor `Upstream` has to know the state; their own `connection_lost` is
still called at the end, because the books are theirs.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from acmgproxy.io.downstream import Downstream
    from acmgproxy.io.exchange import Exchange
    from acmgproxy.io.upstream import Upstream

__all__ = ["Tunnel"]


class Tunnel:
    """A client's and an endpoint's connection, joined.

    Attributes:
        active_at: monotonic seconds of the last byte either way, or of the last progress in closing.
        wake: see Deadlines.
    """

    __slots__ = ("_client", "_downstream", "_endpoint", "_exchange", "_plane", "_unsent", "_upstream", "active_at", "wake")

    def __init__(self, exchange: Exchange, downstream: Downstream, upstream: Upstream) -> None:
        self._exchange = exchange
        self._plane = exchange.plane
        self._downstream = downstream
        self._upstream = upstream
        self._client = _End(self, downstream.transport, downstream)
        self._endpoint = _End(self, upstream.transport, upstream)
        self._client.other, self._endpoint.other = self._endpoint, self._client
        self._unsent = -1
        self.active_at = exchange.plane.clock()
        self.wake = inf

    def __repr__(self) -> str:
        return f"Tunnel({self._exchange.head!r}, {self._client.bytes} bytes up, {self._endpoint.bytes} bytes down)"

    def open(self, from_endpoint: bytes) -> None:
        """Join the connections.

        Args:
            from_endpoint: what came with the endpoint's 101; what the client has sent early is taken from its connection.
        """
        early, client_has_ended = self._downstream.leave_for_tunnel()
        self._upstream.leave_for_tunnel()
        for end in (self._client, self._endpoint):
            end.transport.set_protocol(end)
        self._plane.tunnels.add(self)
        if from_endpoint:
            self._endpoint.data_received(from_endpoint)
        if early:
            self._client.data_received(early)
        if client_has_ended:
            self._client.eof_received()
        if self._upstream.write_paused:
            self._endpoint.pause_writing()  # it has been told before it changed hands
        self._plane.deadlines.wake_by(self, self.active_at + self._plane.settings.tunnel_idle_timeout_s)

    def on_wake(self, now: float) -> float:
        """Close a tunnel that has been silent for too long, and end one that does not come to its close."""
        if self._unsent >= 0:
            return self._wait_for_readers(now)
        due = self.active_at + self._plane.settings.tunnel_idle_timeout_s
        if due > now:
            return due
        self._exchange.flags = "SI"
        self._exchange.detail = "stream_idle_timeout"
        self.close()
        return self._due()

    def _wait_for_readers(self, now: float) -> float:
        due = self._due()
        if due > now:
            return due
        unsent = self._count_unsent()
        if unsent >= self._unsent:
            self._client.transport.abort()
            self._endpoint.transport.abort()
            return inf
        self._unsent = unsent
        self.active_at = now
        return self._due()

    def _due(self) -> float:
        """Until when what is unsent has to become less."""
        return self.active_at + self._plane.settings.linger_timeout_s

    def _count_unsent(self) -> int:
        ends = (self._client, self._endpoint)
        return sum(end.transport.get_write_buffer_size() for end in ends if not end.is_lost)

    def touch(self) -> None:
        """Bytes have gone through."""
        self.active_at = self._plane.clock()

    def close(self) -> None:
        """End both sides after what is on its way."""
        self._client.transport.close()
        self._endpoint.transport.close()
        self._begin_to_end()

    def _begin_to_end(self) -> None:
        if self._unsent < 0:
            self._unsent = self._count_unsent()
            self.active_at = self._plane.clock()
            self._plane.deadlines.wake_by(self, self._due())

    def on_lost(self, end: _End, exc: Exception | None) -> None:
        """One side is gone: end the other after what is on its way, or at once if that cannot end well."""
        other = end.other
        end.is_lost = True
        if not other.is_lost:
            if exc is not None:
                other.transport.abort()
            else:
                other.transport.close()
            self._begin_to_end()
            return
        self._plane.deadlines.forget(self)
        self._plane.tunnels.discard(self)
        self._exchange.on_tunnel_closed(self._client.bytes, self._endpoint.bytes)


class _End(asyncio.Protocol):
    """One side of a tunnel."""

    __slots__ = ("_tunnel", "bytes", "has_ended", "is_lost", "other", "owner", "transport")

    other: _End

    def __init__(self, tunnel: Tunnel, transport: asyncio.Transport, owner: Downstream | Upstream) -> None:
        self._tunnel = tunnel
        self.transport = transport
        self.owner: Downstream | Upstream = owner
        self.bytes = 0
        self.has_ended = False
        self.is_lost = False

    def data_received(self, data: bytes) -> None:
        """Pass bytes on."""
        self.bytes += len(data)
        self._tunnel.touch()
        if not self.other.transport.is_closing():
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        """Pass the end of stream on; the other direction may go on."""
        if self.has_ended:
            return True  # told once more by a loop whose reading was paused and resumed
        self.has_ended = True
        if self.other.has_ended or not self.other.transport.can_write_eof():
            self._tunnel.close()
            return False
        if not self.other.transport.is_closing():
            self.other.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        """This side does not take more: stop reading the other."""
        self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """This side takes more."""
        self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the tunnel, and have the connection's owner close its books."""
        self._tunnel.on_lost(self, exc)
        self.owner.on_tunnel_lost()
