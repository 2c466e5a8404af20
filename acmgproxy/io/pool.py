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

from acmgproxy.io.preamble import proxy_preamble
from acmgproxy.io.upstream import Upstream
from acmgproxy.io.upstream_tls import TlsNameError, check_names, tls_context

if TYPE_CHECKING:
    from acmgproxy.dataplane import DataPlane
    from routing.cluster import Cluster, Endpoint
    from routing.specs import KeepaliveSpec, TlsSpec

__all__ = ["ConnectWaiter", "Pool"]


_OBSERVATION_S = 600.0
"""How long an endpoint is remembered to have closed an idle connection early."""


class ConnectWaiter(Protocol):
    """Who asked for a connection."""

    @property
    def source(self) -> tuple[str, int] | None:
        """The client's address and port, for a PROXY protocol preamble."""

    def on_connected(self, upstream: Upstream) -> None:
        """The connection is there; whoever no longer wants it gives it back."""

    def on_connect_failed(self, pool: Pool, error: Exception) -> None:
        """There is none."""


class Pool:
    """Connections to one endpoint of one cluster.

    Attributes:
        idle: open connections without a request, the oldest first.
        open: all of them. connecting: tasks that open one.
        closed: the endpoint has left; connections end with their request.
        failures: tries that ended with 5xx or without an answer.
    """

    __slots__ = (
        "_ended_requests", "_observed_at", "_shortest_s", "address", "closed", "cluster", "connecting", "endpoint", "failures",
        "idle", "open", "plane",
    )  # fmt: skip

    def __init__(self, plane: DataPlane, cluster: Cluster, endpoint: Endpoint) -> None:
        self.plane = plane
        self.cluster = cluster
        self.endpoint = endpoint
        self.address = (endpoint.address, endpoint.port)
        self.idle: list[Upstream] = []
        self.open: set[Upstream] = set()
        self.connecting: set[asyncio.Task[None]] = set()
        self.closed = False
        self.failures = 0
        self._ended_requests = 0
        self._shortest_s = inf
        self._observed_at = 0.0

    def __repr__(self) -> str:
        return f"Pool({self.address[0]}:{self.address[1]}, open={len(self.open)}, idle={len(self.idle)})"

    @property
    def requests(self) -> int:
        """What has been sent to the endpoint: tries, and mirrored copies. Connections count it anyway."""
        return self._ended_requests + sum(upstream.requests for upstream in self.open)

    @property
    def idle_timeout_s(self) -> float:
        """How long a connection may lie idle."""
        return self.cluster.spec.idle_timeout_s or inf

    # -- idle connections

    def take(self, *, must_be_alive: bool, source: tuple[str, int] | None = None) -> Upstream | None:
        """Return an idle connection, or None.

        Args:
            must_be_alive: the request must not be sent twice. Only a connection that has been idle for less than half of
                what the endpoint is known to allow will do, and its socket is looked at first (one system call).
            source: only a connection that announces this client will do (PROXY protocol).
        """
        idle = self.idle
        if must_be_alive and idle and self.plane.clock() - idle[-1].idle_since > self._trusted_s():
            return None
        while idle:
            upstream = idle.pop() if source is None else self._pop_for(source)
            if upstream is None:
                return None
            if not (upstream.transport.is_closing() or self._is_old(upstream) or (must_be_alive and upstream.is_readable())):
                return upstream
            upstream.close()
        return None

    def _trusted_s(self) -> float:
        """How long a connection may have been idle and still be trusted with a request that cannot be repeated.

        A look at the socket cannot see a close that is just being decided, so connections near the age at which the endpoint
        has been seen to close them are left alone. Such an observation is forgotten after a while: the endpoint may have been
        closing them for another reason, such as its restart.
        """
        if self.plane.clock() - self._observed_at > _OBSERVATION_S:
            self._shortest_s = inf
        return self._shortest_s / 2

    def on_closed_by_endpoint(self, upstream: Upstream) -> None:
        """The endpoint has closed an idle connection, or one that was just taken: note how long it had been idle."""
        now = self.plane.clock()
        idle_s = now - upstream.idle_since
        if idle_s < self._shortest_s or now - self._observed_at > _OBSERVATION_S:
            self._shortest_s = idle_s
            self._observed_at = now

    def _pop_for(self, source: tuple[str, int]) -> Upstream | None:
        for position in range(len(self.idle) - 1, -1, -1):
            if self.idle[position].source == source:
                return self.idle.pop(position)
        return None

    def give_back(self, upstream: Upstream) -> None:
        """Keep a connection for the next request, if it may have one."""
        plane, spec = self.plane, self.cluster.spec
        now = plane.clock()
        if (
            self.closed
            or (spec.max_requests_per_connection and upstream.requests >= spec.max_requests_per_connection)
            or self._is_old(upstream)
        ):
            upstream.close()
            return
        upstream.idle_since = now
        if self.cluster.limits is not None and plane.breaker(self.cluster).offer(upstream):
            return
        self.idle.append(upstream)
        if upstream.wake == inf:
            plane.deadlines.wake_by(upstream, now + self.idle_timeout_s)

    def _is_old(self, upstream: Upstream) -> bool:
        """Whether the connection has been open for as long as it may be (DestinationRule maxConnectionDuration)."""
        limit_s = self.cluster.spec.max_connection_duration_s
        return limit_s > 0 and self.plane.clock() - upstream.opened_at >= limit_s

    def lose(self, upstream: Upstream) -> None:
        """An idle connection has ended or is about to."""
        if upstream in self.idle:
            self.idle.remove(upstream)

    def close_one(self) -> None:
        """End the connection that has been idle longest."""
        self.idle.pop(0).close()

    # -- the books

    def on_closed(self, upstream: Upstream) -> None:
        """A connection has ended."""
        if upstream in self.open:
            self.open.remove(upstream)
            self._ended_requests += upstream.requests
        if self.cluster.limits is not None:
            self.plane.on_room(self.cluster)

    def close(self) -> None:
        """Let go of the endpoint: idle connections at once, busy ones after their request."""
        self.closed = True
        for upstream in self.idle:
            upstream.close()
        self.idle.clear()

    # -- new connections

    def connect(self, waiter: ConnectWaiter) -> None:
        """Open a connection and tell the waiter."""
        task = self.plane.loop.create_task(self._connect(waiter))
        self.connecting.add(task)
        task.add_done_callback(self.connecting.discard)

    async def _connect(self, waiter: ConnectWaiter) -> None:
        try:
            async with asyncio.timeout(self.cluster.spec.connect_timeout_s or None):
                upstream = await self._open(waiter)
        except (OSError, ValueError, OverflowError) as error:  # TimeoutError is an OSError, ssl.SSLError too
            self.plane.counters["upstream_connect_failures"] += 1
            self._forget_task()
            self._fail(waiter, error)
            return
        self.plane.counters["upstream_connections_opened"] += 1
        self._forget_task()
        if upstream.transport.is_closing():  # the endpoint accepts and closes; nothing has been sent
            self._fail(waiter, ConnectionResetError("closed by the endpoint at once"))
            return
        self.open.add(upstream)
        waiter.on_connected(upstream)

    def _fail(self, waiter: ConnectWaiter, error: Exception) -> None:
        waiter.on_connect_failed(self, error)
        if self.cluster.limits is not None:
            self.plane.on_room(self.cluster)

    def _forget_task(self) -> None:
        """The present task no longer connects, so that what it has to tell finds the books right."""
        task = asyncio.current_task()
        if task is not None:
            self.connecting.discard(task)

    async def _open(self, waiter: ConnectWaiter) -> Upstream:
        """Connect, announce the client if that is asked for, and shake hands if TLS is.

        Raises:
            OSError: any of it failed.
        """
        spec, loop = self.cluster.spec, self.plane.loop
        family = socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            if spec.keepalive is not None:
                _keep_alive(sock, spec.keepalive)
            await loop.sock_connect(sock, self.address)
            source = waiter.source if spec.proxy_protocol else None
            if spec.proxy_protocol:
                await loop.sock_sendall(sock, proxy_preamble(spec.proxy_protocol, source, self.address))
            if spec.tls is None:
                _, upstream = await loop.create_connection(lambda: Upstream(self, sock, source), sock=sock)
                return upstream
            return await self._open_tls(sock, source, spec.tls)
        except BaseException:
            sock.close()
            raise

    async def _open_tls(self, sock: socket.socket, source: tuple[str, int] | None, tls: TlsSpec) -> Upstream:
        context = tls_context(tls.ca_file, is_verified=not tls.insecure_skip_verify, has_names=bool(tls.subject_alt_names))
        transport, upstream = await self.plane.loop.create_connection(
            lambda: Upstream(self, sock, source),
            sock=sock,
            ssl=context,
            server_hostname=tls.sni or self.cluster.spec.service,
        )
        try:
            check_names(transport, tls)
        except TlsNameError:
            transport.abort()
            raise
        return upstream


def _keep_alive(sock: socket.socket, spec: KeepaliveSpec) -> None:
    """Switch TCP keep-alive probes on (DestinationRule connectionPool.tcp.tcpKeepalive)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPCNT, spec.probes),
        (socket.TCP_KEEPIDLE, round(spec.time_s)),
        (socket.TCP_KEEPINTVL, round(spec.interval_s)),
    ):
        if value:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
