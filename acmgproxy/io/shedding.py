# SPDX-License-Identifier: Apache-2.0
"""Sheds load: looks at memory, descriptors, connections and requests four times a second and acts on the level of overload.

What there is to decide is decided in `acmgproxy.overload`; here it is carried out. The hot path learns of it by attributes of the
data plane (`closes_connections`, `sheds_requests`, `accept_limit`) and pays for nothing else. Everything is undone as soon as the
pressure has gone.

    NO_KEEP_ALIVE    answers say `Connection: close`; connections that have been idle for a while are closed, on both sides
    NO_REQUESTS      new requests are answered 503, flag OM, heads that come in pieces included; those under way are finished
    NO_CONNECTIONS   new connections wait in the kernel's queues
"""

from __future__ import annotations

import sys
from math import inf
from typing import TYPE_CHECKING

from acmgproxy.overload import Level, Overload, accept_budget
from acmgproxy.readings import Descriptors, Memory, shrink_heap

if TYPE_CHECKING:
    import asyncio

    from acmgproxy.dataplane import DataPlane

__all__ = ["POLL_S", "Shedding"]

POLL_S = 0.25
"""Envoy's sample of an edge configuration: refresh_interval 0.25 s."""

IDLE_S = 2.0
"""A connection that has been idle for so long is closed under overload: the least that Envoy's sample scales timeouts down to."""

MOST_CLOSED = 1000
"""Connections closed in one look, so that it does not stall the loop."""

SHRINK_S = 2.0
"""How often free memory is given back to the system while memory is short: recovery waits for it. Envoy's shrink_heap: 10 s."""

_NO_LIMIT = sys.maxsize
_RESUME_AT = 0.9
"""Accepting goes on when so many of the connections that may be open are left; else at the next look."""


class Shedding:
    """Watches a data plane's load and sheds some.

    Args:
        plane: whose load.
        memory, descriptors: what the system says.

    Attributes:
        overload: levels and pressures.
        accept_limit: open connections at which accepting pauses.
    """

    def __init__(self, plane: DataPlane, *, memory: Memory | None = None, descriptors: Descriptors | None = None) -> None:
        self.overload = Overload()
        self.accept_limit = plane.settings.max_connections or _NO_LIMIT
        self._plane = plane
        self._memory = memory if memory is not None else Memory(plane.settings.max_memory_bytes)
        self._descriptors = descriptors if descriptors is not None else Descriptors(plane.clock)
        self._shrunk_at = -inf
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"Shedding({self.overload!r}, accept_limit={self.accept_limit})"

    def start(self) -> None:
        """Look now and from now on."""
        self._timer = self._plane.loop.call_later(POLL_S, self.start)  # first: whatever goes wrong now, there is a next time
        self.poll()

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def poll(self) -> None:
        """Look once, and act."""
        plane = self._plane
        before = self.overload.level
        level = self.overload.update(self._read())
        plane.closes_connections = plane.leaving or level >= Level.NO_KEEP_ALIVE
        plane.sheds_requests = level >= Level.NO_REQUESTS
        if level > before:
            plane.counters["overloads"] += 1
            plane.log.note("warning", "overloaded", **self._facts())
        elif level < before and level is Level.NORMAL:
            plane.log.note("info", "no longer overloaded", **self._facts())
        if level:
            self._trim()
        if level >= Level.NO_CONNECTIONS or self._is_full():
            self.pause()
        else:
            plane.accepting.resume()

    def _read(self) -> dict[str, float]:
        """Return the pressure of every limited resource; note how many connections there may be."""
        plane, settings = self._plane, self._plane.settings
        clients = len(plane.downstreams)
        max_descriptors = self._descriptors.limit()
        descriptors = self._descriptors.used(clients) if max_descriptors else 0
        budget = accept_budget(
            open_connections=clients,
            max_connections=settings.max_connections,
            descriptors=descriptors,
            max_descriptors=max_descriptors,
        )
        pressures = {}
        memory = self._memory.pressure()
        if memory is not None:
            pressures["memory"] = memory
        if max_descriptors:
            pressures["descriptors"] = descriptors / max_descriptors
        if budget.limit:
            pressures["connections"] = clients / budget.limit
            self.accept_limit = max(1, clients + budget.room)
        if settings.max_active_requests:
            pressures["requests"] = (
                sum(cluster.active for cluster in plane.table.clusters.values()) / settings.max_active_requests
            )
        return pressures

    def _facts(self) -> dict[str, object]:
        overload = self.overload
        return {
            "overload": overload.level.name.lower(),
            "resource": overload.tightest,
            "pressure": round(overload.pressures.get(overload.tightest, 0.0), 3),
        }

    # -- accepting

    def pause(self) -> None:
        """Accept no more for now."""
        if not self._plane.accepting.paused:
            self._plane.counters["accept_pauses"] += 1
            self._plane.accepting.pause()

    def on_connection_lost(self) -> None:
        """There may be room for another connection; while accepting is paused only.

        Endpoints' connections may have taken the descriptors since the last look, and who is accepted without one is reset.
        """
        if self.overload.level < Level.NO_CONNECTIONS and self._has_room():
            self._read()
            if self._has_room():
                self._plane.accepting.resume()

    def _has_room(self) -> bool:
        return len(self._plane.downstreams) <= int(_RESUME_AT * self.accept_limit)

    def _is_full(self) -> bool:
        return len(self._plane.downstreams) >= self.accept_limit

    # -- closing what idles

    def _trim(self) -> None:
        plane = self._plane
        before = plane.clock() - IDLE_S
        closed = 0
        for downstream in list(plane.downstreams):
            if plane.sheds_requests:
                downstream.refuse_head_since(before)
            if downstream.close_if_idle_since(before):
                closed += 1
                if closed == MOST_CLOSED:
                    break
        if closed:
            plane.counters["overload_downstream_connections_closed"] += closed
        self._trim_pools(before)
        if self.overload.pressures.get("memory", 0.0) >= 0.9 and plane.clock() - self._shrunk_at >= SHRINK_S:
            self._shrunk_at = plane.clock()
            shrink_heap()

    def _trim_pools(self, before: float) -> None:
        closed = 0
        for cluster in self._plane.table.clusters.values():
            for endpoint in cluster.endpoints:
                pool = endpoint.pool
                while pool is not None and pool.idle and pool.idle[0].idle_since <= before and closed < MOST_CLOSED:
                    pool.close_one()
                    closed += 1
        if closed:
            self._plane.counters["overload_upstream_connections_closed"] += closed
