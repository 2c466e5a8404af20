# SPDX-License-Identifier: Apache-2.0
"""The data plane of one worker: what its connections share, and how it is told what to do.

Owns the compiled table, the pools, the deadlines and the counters. It knows nothing of processes, files or Kubernetes: a worker
process feeds it differences of specs and listening sockets, and asks for its numbers.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from binascii import b2a_hex
from collections import Counter
from email.utils import formatdate
from time import monotonic, time
from typing import TYPE_CHECKING

from acmgproxy.access_log import AccessLog
from acmgproxy.io.deadlines import Deadlines
from acmgproxy.io.downstream import Downstream
from acmgproxy.io.pool import Pool
from acmgproxy.stats import Series, SeriesKey, SeriesValue, WorkerStats
from routing.table import RouteTable

if TYPE_CHECKING:
    import socket

    from acmgproxy.h1.errors import HeadError
    from acmgproxy.io.exchange import Exchange
    from acmgproxy.settings import ProxySettings
    from routing.cluster import Cluster, Endpoint
    from routing.specs import SpecsDiff
    from routing.table import CompiledListener

__all__ = ["DataPlane", "Listening"]


class Listening:
    """A socket that is accepted from.

    Attributes:
        compiled: the table's listener.
        authority: Host for requests that need not have one (HTTP/1.0).
        port: port of the socket.
    """

    __slots__ = ("authority", "compiled", "port", "server")

    def __init__(self, compiled: CompiledListener, name: str, port: int) -> None:
        self.compiled = compiled
        self.authority = name.encode()
        self.port = port
        self.server: asyncio.AbstractServer | None = None


class DataPlane:
    """One worker's traffic.

    Args:
        loop: the event loop everything runs on.
        settings: see ProxySettings.
        worker_id: number of the worker, for its statistics.

    Attributes:
        draining: answers say `Connection: close`.
        random, rng: the worker's source of random numbers.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, settings: ProxySettings, worker_id: int) -> None:
        self.loop = loop
        self.settings = settings
        self.stream_idle_s = settings.stream_idle_timeout_s
        self.worker_id = worker_id
        self.table = RouteTable()
        self.clock = monotonic
        self.rng = random.Random()
        self.random = self.rng.random
        self.deadlines = Deadlines(loop)
        self.downstreams: set[Downstream] = set()
        self.counters: Counter[str] = Counter()
        self.draining = False
        self._quiet = asyncio.Event()
        self.access_log = AccessLog.open(settings.access_log)
        self._series: dict[SeriesKey, Series] = {}
        self._listening: dict[tuple[str, str, int], Listening] = {}
        self._date = (0, b"")

    def __repr__(self) -> str:
        return f"DataPlane(worker={self.worker_id}, listeners={len(self._listening)}, connections={len(self.downstreams)})"

    # -- orders

    def apply(self, diff: SpecsDiff) -> None:
        """Take over a change of configuration. Requests under way keep what they began with."""
        change = self.table.apply(diff)
        for endpoint in change.removed_endpoints:
            if endpoint.pool is not None:
                endpoint.pool.close()

    async def add_listener(self, name: str, sock: socket.socket) -> None:
        """Accept connections from a listening socket for the listener of that name.

        Raises:
            KeyError: no such listener has been configured.
        """
        address, port = sock.getsockname()[:2]
        listening = Listening(self.table.listeners[name], name, port)
        listening.server = await self.loop.create_server(lambda: Downstream(self, listening), sock=sock)
        self._listening[name, address, port] = listening

    def remove_listener(self, name: str, address: str, port: int) -> None:
        """Stop accepting on it; connections that are open live on."""
        listening = self._listening.pop((name, address, port), None)
        if listening is not None and listening.server is not None:
            listening.server.close()

    async def drain(self) -> None:
        """Let clients go without losing a request.

        New connections are still accepted (in a cluster, it takes a while until nobody is sent here any more), but every answer
        says that its connection ends. Returns when nothing is under way, or after settings.drain_timeout_s.
        """
        self.draining = True
        self._quiet.clear()
        for downstream in list(self.downstreams):
            downstream.close_if_idle()
        if self.downstreams:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._quiet.wait(), self.settings.drain_timeout_s)

    # -- services for connections

    def forget(self, downstream: Downstream) -> None:
        """A client connection has ended."""
        self.downstreams.discard(downstream)
        if not self.downstreams:
            self._quiet.set()

    def open_pool(self, cluster: Cluster, endpoint: Endpoint) -> Pool:
        """Return the pool of an endpoint that has none yet."""
        pool = Pool(self, cluster, endpoint)
        endpoint.pool = pool
        return pool

    def new_request_id(self) -> bytes:
        """Return a random UUID (version 4, RFC 9562)."""
        digits = b2a_hex(self.rng.getrandbits(128).to_bytes(16))
        return b"-".join((digits[:8], digits[8:12], b"4" + digits[13:16], b"a" + digits[17:20], digits[20:]))

    def http_date(self) -> bytes:
        """Return the present time as an HTTP date (RFC 9110 section 5.6.7)."""
        now = int(time())
        if self._date[0] != now:
            self._date = (now, formatdate(now, usegmt=True).encode())
        return self._date[1]

    # -- counting

    def record(self, exchange: Exchange) -> None:
        """Count a finished request."""
        downstream, endpoint = exchange.downstream, exchange.endpoint
        caller = downstream.caller
        source = caller.identity if caller is not None else ""
        now = self.clock()
        stats = endpoint.stats if endpoint is not None else None
        key = (source, exchange.status, exchange.flags)
        series = stats.get(key) if stats is not None else None
        if series is None:
            series = self._series_of(exchange, source)
            if stats is not None:
                stats[key] = series
        series.observe((now - exchange.started) * 1000.0)
        if self.access_log is not None:
            self.access_log.write(exchange, now)

    def record_refused(self, downstream: Downstream, error: HeadError) -> None:
        """Count a request whose head could not be accepted."""
        caller = downstream.caller
        key = SeriesKey(
            caller.identity if caller is not None else "", "", "unknown", "unknown", "unknown", "", error.status, "DPE"
        )
        self._series_at(key).observe(0.0)
        if self.access_log is not None:
            self.access_log.write_refused(downstream, error)

    def _series_of(self, exchange: Exchange, source: str) -> Series:
        endpoint, cluster, route = exchange.endpoint, exchange.cluster, exchange.route
        if cluster is not None:
            spec = cluster.spec
            service = (spec.service, spec.service_name, spec.service_namespace, cluster.name)
        else:
            service = ("unknown", "unknown", "unknown", "")
            if route is not None and exchange.destination is not None:
                service = ("unknown", "unknown", "unknown", exchange.destination.cluster_name)
        return self._series_at(
            SeriesKey(source, endpoint.identity if endpoint is not None else "", *service, exchange.status, exchange.flags)
        )

    def _series_at(self, key: SeriesKey) -> Series:
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = Series()
        return series

    def stats(self) -> WorkerStats:
        """Return everything counted so far."""
        idle = sum(1 for downstream in self.downstreams if downstream.is_idle())
        clusters = self.table.clusters.values()
        pools = [endpoint.pool for cluster in clusters for endpoint in cluster.endpoints if endpoint.pool is not None]
        gauges = {
            "downstream_connections": float(len(self.downstreams)),
            "downstream_idle_connections": float(idle),
            "active_requests": float(sum(1 for d in self.downstreams if d.exchange is not None)),
            "upstream_connections": float(sum(len(pool.open) for pool in pools)),
            "upstream_idle_connections": float(sum(len(pool.idle) for pool in pools)),
        }
        series = [
            SeriesValue(key, value.count, value.duration_sum_ms, list(value.buckets)) for key, value in self._series.items()
        ]
        return WorkerStats(self.worker_id, series, {name: float(n) for name, n in self.counters.items()}, gauges)
