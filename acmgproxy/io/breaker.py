# SPDX-License-Identifier: Apache-2.0
"""Circuit breaking: a cluster's connections within their limit, and the queue for them (Envoy circuit breakers).

Only clusters with limits have a `Breaker`; all others pay nothing. A request that finds every allowed connection busy waits in
the queue, first come first served, until a connection becomes free or ends. A full queue is an overflow: 503, flag UO.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from acmgproxy.io.pool import Pool
    from acmgproxy.io.tries import Tries
    from acmgproxy.io.upstream import Upstream
    from routing.cluster import Cluster

__all__ = ["Breaker", "admits_request"]


def admits_request(cluster: Cluster) -> bool:
    """Whether one more request may be active; the asking one is counted already."""
    limits = cluster.limits
    return limits is None or not limits.max_requests or cluster.active <= limits.max_requests


class Breaker:
    """Counts and queue of one cluster in one worker.

    Attributes:
        pending: requests that wait for a connection.
    """

    __slots__ = ("_cluster", "pending")

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.pending: deque[Tries] = deque()

    def __repr__(self) -> str:
        return f"Breaker({self._cluster.name!r}, connections={self.connections}, pending={len(self.pending)})"

    @property
    def connections(self) -> int:
        """Connections that are open or being opened: counted when asked, which is when a new one is wanted."""
        pools = [endpoint.pool for endpoint in self._cluster.endpoints if endpoint.pool is not None]
        return sum(len(pool.open) + len(pool.connecting) for pool in pools)

    def may_connect(self) -> bool:
        """Whether a connection may be opened, if need be in the place of an idle one that is of no use to the request."""
        if self.has_room():
            return True
        for endpoint in self._cluster.endpoints:
            pool: Pool | None = endpoint.pool
            if pool is not None and pool.idle:
                pool.close_one()
                return True
        return False

    def has_room(self) -> bool:
        """Whether another connection may be opened, without the end of one that idles."""
        limits = self._cluster.limits
        return limits is None or not limits.max_connections or self.connections < limits.max_connections

    def queue(self, waiter: Tries) -> bool:
        """Let a request wait; False when the queue is full."""
        limits = self._cluster.limits
        if limits is not None and limits.max_pending and len(self.pending) >= limits.max_pending:
            return False
        self.pending.append(waiter)
        return True

    def leave(self, waiter: Tries) -> None:
        """The request does not wait any longer."""
        self.pending.remove(waiter)

    def offer(self, upstream: Upstream) -> bool:
        """Give a connection that has become free to the first that waits; False when nobody does.

        One that is of no use to the first makes room for another. Passing it on to a later one would let the first starve.
        """
        if not self.pending:
            return False
        if self.pending[0].accepts(upstream):
            self.pending.popleft().on_turn(upstream)
        else:
            upstream.close()
        return True

    def on_room(self) -> None:
        """A connection has ended, or could not be opened: the first that waits may have another."""
        while self.pending and self.has_room():
            self.pending.popleft().on_turn(None)

    def on_change(self) -> None:
        """Limits or endpoints have changed, or the cluster is gone: everybody that waits tries again, in order."""
        for _ in range(len(self.pending)):
            self.pending.popleft().on_turn(None)
