# SPDX-License-Identifier: Apache-2.0
"""Mirrors: copies of a request that nobody waits for (VirtualService mirror and mirrors, Envoy request_mirror_policies).

A copy is sent once the request is complete, over the pools of the mirror's cluster, with the head and body that the first try
had. Its answer is read to the end, so that the connection can be used again, and dropped. Nothing that happens to a copy is felt
by the request, and copies count neither as tries nor in the request metrics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from acmgproxy.h1.chunked import LAST_CHUNK, encode_chunk
from acmgproxy.h1.request import CHUNKED
from acmgproxy.io.breaker import admits_request
from acmgproxy.io.heads import upstream_head

if TYPE_CHECKING:
    from acmgproxy.dataplane import DataPlane
    from acmgproxy.h1.request import RequestHead
    from acmgproxy.h1.response import ResponseHead
    from acmgproxy.io.exchange import Exchange
    from acmgproxy.io.pool import Pool
    from acmgproxy.io.upstream import Upstream
    from routing.cluster import Cluster, Endpoint

__all__ = ["Mirrored", "send_mirrors"]


def send_mirrors(exchange: Exchange) -> None:
    """Copy a complete request to the mirrors of its route, each drawn for itself."""
    route, plane = exchange.route, exchange.plane
    assert route is not None
    for mirror in route.mirrors:
        if mirror.cluster is not None and plane.random() * 100.0 < mirror.percent:
            plane.counters["mirrors_sent"] += 1
            Mirrored(exchange, _copy_of(exchange)).send(mirror.cluster)


def _copy_of(exchange: Exchange) -> bytes:
    pieces = [upstream_head(exchange)]
    if exchange.head.body_length == CHUNKED:
        pieces += map(encode_chunk, exchange.replay)
        pieces.append(LAST_CHUNK)
    elif exchange.head.body_length:
        pieces += exchange.replay
    return b"".join(pieces)


class Mirrored:
    """One copy on its way; what an `Upstream` and a `Pool` expect of an exchange."""

    __slots__ = ("_data", "_endpoint", "_plane", "_upstream", "head", "source", "wake")

    def __init__(self, exchange: Exchange, data: bytes) -> None:
        self._plane: DataPlane = exchange.plane
        self._data = data
        self._upstream: Upstream | None = None
        self._endpoint: Endpoint | None = None
        self.head: RequestHead = exchange.head
        self.source = exchange.source
        self.wake = 0.0

    def __repr__(self) -> str:
        return f"Mirrored({self.head!r} to {self._endpoint!r})"

    def send(self, cluster: Cluster) -> None:
        """Pick an endpoint and send; a copy that finds none is dropped, and so is one that finds the cluster at its limits."""
        plane = self._plane
        endpoint = cluster.pick_for(plane.rng, (), None) if cluster.context else cluster.pick(plane.rng)
        if endpoint is None:
            plane.counters["mirrors_dropped"] += 1
            return
        self._endpoint = endpoint
        endpoint.active += 1
        cluster.active += 1
        if not admits_request(cluster):
            self._drop(cluster)
            return
        pool = endpoint.pool or plane.open_pool(cluster, endpoint)
        source = self.source if cluster.spec.proxy_protocol else None
        upstream = pool.take(must_be_alive=True, source=source)
        if upstream is not None:
            self.on_connected(upstream)
        elif cluster.limits is not None and not plane.breaker(cluster).has_room():
            self._drop(cluster)
        else:
            pool.connect(self)

    def on_connected(self, upstream: Upstream) -> None:
        """Send the copy, unless the endpoint has left meanwhile."""
        if upstream.pool.closed:
            upstream.close()
            self._drop(upstream.pool.cluster)
            return
        self._upstream = upstream
        upstream.begin(self)
        upstream.transport.write(self._data)
        now = self._plane.clock()
        upstream.busy_until = now + self._plane.stream_idle_s
        # no later than the connection is to be asked when it idles again
        self._plane.deadlines.wake_by(upstream, min(upstream.busy_until, now + upstream.pool.idle_timeout_s))

    def on_connect_failed(self, pool: Pool, error: Exception) -> None:
        """Drop the copy."""
        self._drop(pool.cluster)

    def on_informational(self, head: ResponseHead) -> None:
        """Drop it."""

    def on_switch(self, head: ResponseHead, data: bytes) -> bool:
        """Refuse: a copy never asks for an upgrade."""
        return False

    def on_response(self, head: ResponseHead, body: bytes, complete: bool) -> None:
        """Drop it."""
        if complete:
            self.on_body_end(b"")

    def on_body(self, data: bytes) -> None:
        """Drop it."""

    def on_body_end(self, data: bytes) -> None:
        """Give the connection back."""
        upstream = self._upstream
        assert upstream is not None
        upstream.release(clean=True)
        self._end(upstream.pool.cluster)

    def on_upstream_failed(self, upstream: Upstream, kind: str, reason: str) -> None:
        """Drop the copy."""
        self._drop(upstream.pool.cluster)

    def on_upstream_full(self) -> None:
        """The copy is buffered as a whole anyway."""

    def on_upstream_drained(self) -> None:
        """Likewise."""

    def _drop(self, cluster: Cluster) -> None:
        self._plane.counters["mirrors_dropped"] += 1
        self._end(cluster)

    def _end(self, cluster: Cluster) -> None:
        self._upstream = None
        cluster.active -= 1
        if self._endpoint is not None:
            self._endpoint.active -= 1
            self._endpoint = None
