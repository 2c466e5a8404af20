# SPDX-License-Identifier: Apache-2.0
"""Idle connections to one endpoint, and how new ones are made.

Idle connections are taken last-in first-out, so that few stay warm and the rest run into the idle limit. The limit (4 s by
default) is under the keep-alive of common servers (Node 5 s), because a connection that the server closes just as it is taken
costs a replay. Any byte or end of stream on an idle connection ends it.
"""

from __future__ import annotations

import asyncio
import socket
from math import inf
from typing import TYPE_CHECKING, Protocol

from acmgproxy.io.upstream import Upstream

if TYPE_CHECKING:
    from acmgproxy.dataplane import DataPlane
    from routing.cluster import Cluster, Endpoint

__all__ = ["ConnectWaiter", "Pool"]


class ConnectWaiter(Protocol):
    """Who asked for a connection."""

    def on_connected(self, upstream: Upstream) -> None:
        """The connection is there; whoever no longer wants it gives it back."""

    def on_connect_failed(self, pool: Pool, error: Exception) -> None:
        """There is none."""


class Pool:
    """Connections to one endpoint of one cluster.

    Attributes:
        idle: open connections without a request, the oldest first.
        closed: the endpoint has left; connections end with their request.
    """

    __slots__ = (
        "address",
        "closed",
        "cluster",
        "connecting",
        "endpoint",
        "idle",
        "idle_timeout_s",
        "max_requests",
        "open",
        "plane",
    )

    def __init__(self, plane: DataPlane, cluster: Cluster, endpoint: Endpoint) -> None:
        self.plane = plane
        self.cluster = cluster
        self.endpoint = endpoint
        self.address = (endpoint.address, endpoint.port)
        self.idle: list[Upstream] = []
        self.open: set[Upstream] = set()
        self.connecting: set[asyncio.Task[None]] = set()
        self.idle_timeout_s = cluster.spec.idle_timeout_s
        self.max_requests = cluster.spec.max_requests_per_connection
        self.closed = False

    def __repr__(self) -> str:
        return f"Pool({self.address[0]}:{self.address[1]}, open={len(self.open)}, idle={len(self.idle)})"

    def take(self, *, must_be_alive: bool) -> Upstream | None:
        """Return an idle connection, or None.

        Args:
            must_be_alive: look at the socket first (one system call), for a request that must not be sent twice.
        """
        while self.idle:
            upstream = self.idle.pop()
            if not upstream.transport.is_closing() and not (must_be_alive and upstream.is_readable()):
                return upstream
            upstream.close()
        return None

    def give_back(self, upstream: Upstream) -> None:
        """Keep a connection for the next request."""
        if self.closed or (self.max_requests and upstream.requests >= self.max_requests):
            upstream.close()
            return
        self.idle.append(upstream)
        plane = self.plane
        upstream.idle_since = now = plane.clock()
        if upstream.wake == inf:
            plane.deadlines.wake_by(upstream, now + self.idle_timeout_s)

    def lose(self, upstream: Upstream) -> None:
        """An idle connection has ended or is about to."""
        if upstream in self.idle:
            self.idle.remove(upstream)

    def connect(self, waiter: ConnectWaiter) -> None:
        """Open a connection and tell the waiter."""
        task = self.plane.loop.create_task(self._connect(waiter))
        self.connecting.add(task)
        task.add_done_callback(self.connecting.discard)

    async def _connect(self, waiter: ConnectWaiter) -> None:
        family = socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET
        sock = None
        try:
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            async with asyncio.timeout(self.cluster.spec.connect_timeout_s or None):
                await self.plane.loop.sock_connect(sock, self.address)
            _, upstream = await self.plane.loop.create_connection(lambda: Upstream(self, sock), sock=sock)
        except OSError as error:  # TimeoutError is one
            if sock is not None:
                sock.close()
            self.plane.counters["upstream_connect_failures"] += 1
            waiter.on_connect_failed(self, error)
            return
        except asyncio.CancelledError:
            if sock is not None:
                sock.close()
            raise
        self.plane.counters["upstream_connections"] += 1
        waiter.on_connected(upstream)

    def close(self) -> None:
        """Let go of the endpoint: idle connections at once, busy ones after their request."""
        self.closed = True
        for upstream in self.idle:
            upstream.close()
        self.idle.clear()
