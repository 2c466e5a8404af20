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
from acmgproxy.io.accepting import Accepting
from acmgproxy.io.breaker import Breaker
from acmgproxy.io.deadlines import Deadlines
from acmgproxy.io.downstream import Downstream
from acmgproxy.io.forwarded import TrustedCallers
from acmgproxy.io.pool import Pool
from acmgproxy.io.shedding import Shedding
from acmgproxy.replies import Failure
from acmgproxy.stats import Series, SeriesKey, SeriesValue, WorkerStats
from acmgproxy.watchdog import Watchdog
from acmgproxy.worker_log import WorkerLog
from routing.table import RouteTable

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from acmgproxy.h1.errors import HeadError
    from acmgproxy.io.exchange import Exchange
    from acmgproxy.io.tunnel import Tunnel
    from acmgproxy.settings import ProxySettings
    from routing.cluster import Cluster, Endpoint
    from routing.specs import SpecsDiff

__all__ = ["DataPlane"]

_TICK_S = 0.25
"""How often clusters with ejections or warm-ups are looked at; the shortest interval anybody sets for a sweep is a second."""

_TUNNEL_END_S = 1.0
"""How long a drain waits for tunnels it has closed to send what is on its way; a local network needs a fraction of that."""

_REFUSALS = {408: Failure.REQUEST_TIMEOUT, 503: Failure.OVERLOADED}


class DataPlane:
    """One worker's traffic.

    Args:
        loop: the event loop everything runs on.
        settings: see ProxySettings.
        worker_id: number of the worker, for its statistics.
        clock: monotonic seconds.

    Attributes:
        draining: the worker is about to go.
        closes_connections: answers say `Connection: close`, because of that or of too much load.
        sheds_requests: new requests are answered 503, because of too much load.
        max_requests: requests that a client connection may have, 0 for any number.
        accepting, shedding, watchdog: its listening sockets; what is done about overload and stalls.
        log: the worker's own log.
        tunnels: upgraded connections.
        random, rng: the worker's source of random numbers.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        settings: ProxySettings,
        worker_id: int,
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.loop = loop
        self.settings = settings
        self.stream_idle_s = settings.stream_idle_timeout_s
        self.worker_id = worker_id
        self.table = RouteTable(workers=settings.workers)
        self.clock = clock
        self.rng = random.Random()
        self.random = self.rng.random
        self.deadlines = Deadlines(loop, clock)
        self.trusted_callers = TrustedCallers(settings.trusted_callers)
        self.downstreams: set[Downstream] = set()
        self.counters: Counter[str] = Counter()
        self.tunnels: set[Tunnel] = set()
        self.draining = False
        self.closes_connections = False
        self.sheds_requests = False
        self.max_requests = settings.max_requests_per_connection
        self._breakers: dict[Cluster, Breaker] = {}
        self._ticking: set[Cluster] = set()
        self._ticker: asyncio.TimerHandle | None = None
        self._quiet = asyncio.Event()
        self.access_log = AccessLog.open(settings.access_log)
        self._series: dict[SeriesKey, Series] = {}
        self.accepting = Accepting(loop, lambda listening: Downstream(self, listening))
        self.shedding = Shedding(self)
        self.log = WorkerLog(worker_id)
        self.watchdog = Watchdog(loop, self.counters, self.log)
        self._date = (0, b"")

    def __repr__(self) -> str:
        return f"DataPlane(worker={self.worker_id}, listeners={len(self.accepting)}, connections={len(self.downstreams)})"

    # -- orders

    def start(self) -> None:
        """Watch over load and stalls from now on."""
        self.shedding.start()
        self.watchdog.start()

    def stop(self) -> None:
        """Watch no more."""
        self.shedding.stop()
        self.watchdog.stop()

    @property
    def worst_lag_s(self) -> float:
        """How late the event loop was at worst, lately."""
        return self.watchdog.worst_lag_s

    def apply(self, diff: SpecsDiff) -> None:
        """Take over a change of configuration. Requests under way keep what they began with."""
        change = self.table.apply(diff)
        for endpoint in change.removed_endpoints:
            if endpoint.pool is not None:
                endpoint.pool.close()
        for cluster in change.clusters_removed:
            self._ticking.discard(cluster)
            breaker = self._breakers.pop(cluster, None)
            if breaker is not None:
                breaker.on_change()
        for name in {*diff.put.clusters, *diff.put.endpoints, *diff.removed.get("endpoints", ())}:
            changed = self.table.clusters.get(name)
            if changed is None:
                continue
            if changed.needs_tick:
                self.tick_for(changed)
            if changed in self._breakers:
                self._breakers[changed].on_change()

    def on_ejection(self, cluster: Cluster) -> None:
        """An endpoint has been ejected."""
        self.counters["endpoint_ejections"] += 1
        self.tick_for(cluster)

    def tick_for(self, cluster: Cluster) -> None:
        """Let time pass in a cluster that has ejections, warm-ups or tables under construction, as long as it has them."""
        self._ticking.add(cluster)
        if self._ticker is None:
            self._ticker = self.loop.call_later(_TICK_S, self._tick)

    def _tick(self) -> None:
        now = self.clock()
        for cluster in self._ticking:
            cluster.tick(now)
        self._ticking = {cluster for cluster in self._ticking if cluster.needs_tick}
        self._ticker = self.loop.call_later(_TICK_S, self._tick) if self._ticking else None

    async def add_listener(self, name: str, sock: socket.socket) -> None:
        """Accept connections from a listening socket for the listener of that name.

        Raises:
            KeyError: no such listener has been configured.
        """
        await self.accepting.add(self.table.listeners[name], name, sock)

    def remove_listener(self, name: str, address: str, port: int) -> None:
        """Stop accepting on it; connections that are open live on."""
        self.accepting.remove(name, address, port)

    async def drain(self) -> None:
        """Let clients go without losing a request.

        New connections are still accepted (in a cluster, it takes a while until nobody is sent here any more), but every answer
        says that its connection ends. Returns when nothing is under way, or after settings.drain_timeout_s.
        """
        self.draining = self.closes_connections = True
        self._quiet.clear()
        for downstream in list(self.downstreams):
            downstream.close_if_idle()
        if self.downstreams:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._quiet.wait(), self.settings.drain_timeout_s)
        if self.tunnels:
            self._quiet.clear()
            for tunnel in list(self.tunnels):
                tunnel.close()
            with contextlib.suppress(TimeoutError):  # so that they are counted
                await asyncio.wait_for(self._quiet.wait(), _TUNNEL_END_S)

    # -- services for connections

    def forget(self, downstream: Downstream) -> None:
        """A client connection has ended."""
        self.downstreams.discard(downstream)
        if self.accepting.paused:
            self.shedding.on_connection_lost()
        if not self.downstreams:
            self._quiet.set()

    def open_pool(self, cluster: Cluster, endpoint: Endpoint) -> Pool:
        """Return the pool of an endpoint that has none yet."""
        pool = Pool(self, cluster, endpoint)
        endpoint.pool = pool
        return pool

    def breaker(self, cluster: Cluster) -> Breaker:
        """Return the circuit breaker of a cluster that has limits."""
        breaker = self._breakers.get(cluster)
        if breaker is None:
            breaker = self._breakers[cluster] = Breaker(cluster)
        return breaker

    def on_room(self, cluster: Cluster) -> None:
        """A cluster that has limits has one connection less."""
        breaker = self._breakers.get(cluster)  # none is made for a cluster that may have left
        if breaker is not None:
            breaker.on_room()

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
        series: Series | None = None
        if endpoint is not None:
            key = (source, endpoint.identity, exchange.status, exchange.flags)  # a pod's labels may change as it lives
            series = endpoint.stats.get(key)
            if series is None:
                series = endpoint.stats[key] = self._series_of(exchange, source)
        else:
            series = self._series_of(exchange, source)
        series.observe((now - exchange.started) * 1000.0)
        if self.access_log is not None:
            self.access_log.write(exchange, now)

    def record_refused(self, downstream: Downstream, error: HeadError) -> None:
        """Count a request whose head could not be accepted."""
        caller = downstream.caller
        failure = _REFUSALS.get(error.status, Failure.PROTOCOL_ERROR)
        self.counters["overload_requests_shed"] += failure is Failure.OVERLOADED
        source = caller.identity if caller is not None else ""
        key = SeriesKey(source, "", "unknown", "unknown", "unknown", "", error.status, failure.value.flag)
        self._series_at(key).observe(0.0)
        if self.access_log is not None:
            self.access_log.write_refused(downstream, error, failure)

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
            "tunnels": float(len(self.tunnels)),
            "active_requests": float(sum(1 for d in self.downstreams if d.exchange is not None)),
            "upstream_connections": float(sum(len(pool.open) for pool in pools)),
            "upstream_idle_connections": float(sum(len(pool.idle) for pool in pools)),
            "accepting": float(not self.accepting.paused),
            "overload_level": float(self.shedding.overload.level),
            **{f"overload_{name}_pressure": pressure for name, pressure in self.shedding.overload.pressures.items()},
        }
        series = [
            SeriesValue(key, value.count, value.duration_sum_ms, list(value.buckets)) for key, value in self._series.items()
        ]
        counters = {name: float(count) for name, count in self.counters.items()}
        if self.access_log is not None:
            counters["access_log_dropped"] = float(self.access_log.dropped)
        return WorkerStats(self.worker_id, series, counters, gauges)
