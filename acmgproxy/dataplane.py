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

from acmgproxy.access_log import AccessLog, AccessLogOptions
from acmgproxy.endpoint_state import describe_ejected, describe_members
from acmgproxy.io.accepting import Accepting
from acmgproxy.io.breaker import Breaker
from acmgproxy.io.deadlines import Deadlines
from acmgproxy.io.downstream import Downstream, QuarantinedError
from acmgproxy.io.forwarded import TrustedCallers
from acmgproxy.io.outbox import Outbox
from acmgproxy.io.pool import Pool
from acmgproxy.io.shedding import Shedding
from acmgproxy.replies import Failure
from acmgproxy.reporting import report, whole
from acmgproxy.stats import SeriesKey, SeriesTable
from acmgproxy.watchdog import Watchdog
from acmgproxy.worker_log import WorkerLog
from routing.table import RouteTable
from routing.telemetry import TelemetryRules

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Collection, Iterator, Sequence

    from acmgproxy.black_box import Recorder
    from acmgproxy.endpoint_state import EndpointState
    from acmgproxy.h1.errors import HeadError
    from acmgproxy.io.exchange import Exchange
    from acmgproxy.io.tunnel import Tunnel
    from acmgproxy.log_levels import Level
    from acmgproxy.settings import ProxySettings
    from acmgproxy.stats import Series, SeriesValue, WorkerStats
    from acmgproxy.tracing import Traced, Tracing
    from routing.cluster import Cluster, Endpoint
    from routing.specs import SpecsDiff
    from routing.table import Route

__all__ = ["DataPlane"]

_TICK_S = 0.25
"""How often clusters with ejections or warm-ups are looked at; the shortest interval anybody sets for a sweep is a second."""

_CLOSED_AT_ONCE = 100
"""Idle connections closed between two looks for new requests; together they take less than a millisecond."""

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
        leaving: the worker is about to go, and every answer says that its connection ends.
        draining: connections that wait for a request end as well.
        closes_connections: answers say `Connection: close`, because the worker is leaving or has too much load.
        sheds_requests: new requests are answered 503, because of too much load.
        max_requests: requests that a client connection may have, 0 for any number.
        recorder: where heads are noted while they are worked on, None for nowhere; noting: one is noted now.
        quarantine: fingerprints of heads that are not served.
        accepting, shedding, watchdog: its listening sockets; what is done about overload and stalls.
        log: the worker's own log.
        telemetry: what Telemetry objects say about requests; access_log, tracing: where that goes.
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
        self.leaving = False
        self.draining = False
        self.closes_connections = False
        self.sheds_requests = False
        self.max_requests = settings.max_requests_per_connection
        self.recorder: Recorder | None = None
        self.noting = False
        self.quarantine: Collection[bytes] = ()
        self._breakers: dict[Cluster, Breaker] = {}
        self._ticking: set[Cluster] = set()
        self._ticker: asyncio.TimerHandle | None = None
        self._quiet = asyncio.Event()
        self.tracing = _tracing(settings, self.random)
        self.telemetry = TelemetryRules()
        self._log_options = AccessLogOptions()
        self.access_log: AccessLog | None = None
        self._series = SeriesTable()
        self.accepting = Accepting(loop, lambda listening: Downstream(self, listening))
        self.shedding = Shedding(self)
        self.outbox = Outbox(loop.call_soon)
        self.log = WorkerLog(worker_id)
        self.watchdog = Watchdog(loop, self.counters, self.log)
        self._date = (0, b"")
        try:
            self._open_access_log(settings.access_log_options)
        except OSError as error:
            self.log.note("error", "access log cannot be opened", sink=settings.access_log, reason=str(error))

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
        if self.tracing is not None:
            self.tracing.close()
        if self.access_log is not None:
            self.access_log.close()

    @property
    def worst_lag_s(self) -> float:
        """How late the event loop was at worst, lately."""
        return self.watchdog.worst_lag_s

    def apply(self, diff: SpecsDiff) -> None:
        """Take over a change of configuration. Requests under way keep what they began with."""
        change = self.table.apply(diff)
        if self.telemetry.apply(diff.put.telemetry, diff.removed.get("telemetry", ())):
            self._apply_telemetry()
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

    def _apply_telemetry(self) -> None:
        try:
            self._open_access_log(self._log_options)
        except OSError as error:
            self.log.note("error", "access log cannot be opened", sink="-", reason=str(error))

    def set_logging(self, access_log: AccessLogOptions, level: Level) -> None:
        """Log requests as these options say, and of the worker's own lines those of this level and above.

        Raises:
            OSError: the access log cannot be opened; requests are logged as before.
        """
        self.log.threshold.level = level
        self._open_access_log(access_log)

    def _open_access_log(self, options: AccessLogOptions) -> None:
        before = self.access_log
        log = AccessLog.open(options, self.random, self.telemetry, before)
        if before is not None and (log is None or log.sink is not before.sink):
            self.counters["access_log_dropped"] += before.dropped
            before.retire()
        self.access_log, self._log_options = log, options

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

    def take_notes(self, recorder: Recorder) -> None:
        """Have request heads noted while they are worked on."""
        self.recorder = recorder

    def set_quarantine(self, heads: Collection[bytes]) -> None:
        """Serve no request any more whose head has one of these fingerprints."""
        self.quarantine = heads
        for downstream in self.downstreams:
            downstream.forget_head()

    async def add_listener(self, name: str, sock: socket.socket, member: int | None = None) -> None:
        """Accept connections from a listening socket for the listener of that name; `member` as in AddListener.

        Raises:
            KeyError: no such listener has been configured.
        """
        await self.accepting.add(self.table.listeners[name], name, sock, member)

    def remove_listener(self, name: str, address: str, port: int, member: int | None = None) -> None:
        """Stop accepting on it; connections that are open live on until their next answer, which says that they end.

        Clients then connect to where the Service's address leads by now. Without that, one that never closes would stay for ever.
        Another worker's socket that goes back to it says nothing about the listener.
        """
        listening = self.accepting.remove(name, address, port, member)
        if listening is None or member is not None:
            return
        for downstream in self.downstreams:
            if downstream.listener is listening.compiled:
                downstream.worn_out = True

    def begin_drain(self) -> None:
        """Let every answer say, from now on, that its connection ends.

        New connections are still accepted: in a cluster it takes a while until nobody is sent here any more. And none is closed
        that waits for a request, because its client may be sending one (RFC 9112 section 9.5).
        """
        self.leaving = self.closes_connections = True

    async def fade(self, timeout_s: float) -> None:
        """Wait until every client has gone with an answer, or for so long."""
        self.begin_drain()
        self._quiet.clear()
        if self.downstreams:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._quiet.wait(), timeout_s)

    async def drain(self, timeout_s: float | None = None) -> None:
        """Let clients go without losing a request: those that ask nothing now, the others with their answer.

        Returns when nothing is under way, or after `timeout_s`, which is settings.drain_timeout_s unless given.
        """
        self.begin_drain()
        self.draining = True
        self._quiet.clear()
        await self._close_idle()
        if self.downstreams:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._quiet.wait(), self.settings.drain_timeout_s if timeout_s is None else timeout_s)
        if self.tunnels:
            self._quiet.clear()
            for tunnel in list(self.tunnels):
                tunnel.close()
            with contextlib.suppress(TimeoutError):  # so that they are counted
                await asyncio.wait_for(self._quiet.wait(), _TUNNEL_END_S)

    async def _close_idle(self) -> None:
        """Close what waits for a request. The loop first reads what has come by then: that is a request, and served."""
        for number, downstream in enumerate(list(self.downstreams)):
            if number % _CLOSED_AT_ONCE == 0:
                await asyncio.sleep(0)
            downstream.close_if_idle()

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

    def note_route(self, route: Route) -> None:
        """Add to the note of a request which route it takes."""
        assert self.recorder is not None
        self.recorder.routed(route.name)

    def end_note(self) -> None:
        """Take back the note of a request: control returns to the loop."""
        assert self.recorder is not None
        self.noting = False
        self.recorder.end()

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

    def trace(self, exchange: Exchange) -> Traced | None:
        """Begin the span of a request, None for one that is not traced; only where there is tracing."""
        assert self.tracing is not None
        rule = self.telemetry.find(exchange.requested_host) if self.telemetry else None
        if rule is None:
            return self.tracing.begin(exchange.head)
        return self.tracing.begin(exchange.head, rule.sampling) if rule.traced else None

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
        series.observe((now - exchange.started) * 1000.0, exchange.received_bytes, exchange.sent_bytes)
        if self.access_log is not None:
            self.access_log.write(exchange, now)
        if exchange.traced is not None and self.tracing is not None:
            self.tracing.end(exchange)

    def record_refused(self, downstream: Downstream, error: HeadError) -> None:
        """Count a request whose head could not be accepted."""
        caller = downstream.caller
        failure = _REFUSALS.get(error.status, Failure.PROTOCOL_ERROR)
        if isinstance(error, QuarantinedError):
            failure = Failure.QUARANTINED
            self.counters["quarantined_requests"] += 1
        self.counters["overload_requests_shed"] += failure is Failure.OVERLOADED
        source = caller.identity if caller is not None else ""
        key = SeriesKey(source, "", "unknown", "unknown", "unknown", "", error.status, failure.value.flag)
        self._series.at(key).observe(0.0)
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
        return self._series.at(
            SeriesKey(source, endpoint.identity if endpoint is not None else "", *service, exchange.status, exchange.flags)
        )

    @property
    def pending_requests(self) -> int:
        """How many requests wait for a connection, because their cluster has a limit."""
        return sum(len(breaker.pending) for breaker in self._breakers.values())

    def report(self) -> Iterator[list[SeriesValue] | WorkerStats]:
        """Yield what has been counted, in parts between which traffic may go on. See acmgproxy.reporting."""
        return report(self, self._series)

    def stats(self) -> WorkerStats:
        """Return the same in one: all of it, but of the request series only those that changed since the last time."""
        return whole(self.report())

    def endpoints(self, clusters: Sequence[str]) -> list[EndpointState]:
        """Describe the members of these clusters; without any, those endpoints of all clusters that are ejected."""
        if not clusters:
            return describe_ejected(self._ticking)
        known = self.table.clusters
        return describe_members(known[name] for name in clusters if name in known)


def _tracing(settings: ProxySettings, random: Callable[[], float]) -> Tracing | None:
    """Return what makes spans, None when there shall be none: then OpenTelemetry is not even loaded."""
    if not settings.tracing_endpoint:
        return None
    from acmgproxy.tracing import Tracing  # noqa: PLC0415 - see above

    return Tracing(settings.tracing_endpoint, settings.tracing_sampling, random)
