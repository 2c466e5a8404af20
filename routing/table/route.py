# SPDX-License-Identifier: Apache-2.0
"""Routes and destinations: the answer of the table, everything in it prepared.

A request keeps the objects it began with, so they never change: when a destination's cluster appears or disappears, or a rule
changes, the virtual host gets new ones.
"""

from __future__ import annotations

from bisect import bisect
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from routing.cluster import Cluster
    from routing.filters import Filter
    from routing.headers import HeaderProgram
    from routing.retry import RetryPolicy
    from routing.table.replies import Reply
    from routing.table.virtual_host import CompiledVirtualHost

__all__ = ["Destination", "Mirror", "Route"]


class Destination:
    """A weighted choice of a route.

    Args:
        cluster: None when no cluster has that name (503, flag NC).
        host_rewrite: the Host to send, b"" to keep it. Every way to set it is already decided: the route's rewrite, then Host in
            the rule's header operations, then the destination's own.
        request_ops: header operations of the rule and of the destination together; likewise `response_ops`.
    """

    __slots__ = ("cluster", "cluster_name", "host_rewrite", "request_ops", "response_ops", "weight")

    def __init__(
        self,
        *,
        cluster: Cluster | None,
        cluster_name: str,
        weight: int = 1,
        host_rewrite: bytes = b"",
        request_ops: HeaderProgram | None = None,
        response_ops: HeaderProgram | None = None,
    ) -> None:
        self.cluster = cluster
        self.cluster_name = cluster_name
        self.weight = weight
        self.host_rewrite = host_rewrite
        self.request_ops = request_ops
        self.response_ops = response_ops

    def __repr__(self) -> str:
        return f"Destination({self.cluster_name!r}, weight={self.weight}{'' if self.cluster else ', no cluster'})"


class Mirror:
    """Where copies of requests go.

    Args:
        cluster: None when no cluster has that name: then there is no copy.
        percent: of requests that are copied, more than 0.
    """

    __slots__ = ("cluster", "cluster_name", "percent")

    def __init__(self, *, cluster: Cluster | None, cluster_name: str, percent: float = 100.0) -> None:
        self.cluster = cluster
        self.cluster_name = cluster_name
        self.percent = percent

    def __repr__(self) -> str:
        return f"Mirror({self.cluster_name!r}, {self.percent}%{'' if self.cluster else ', no cluster'})"


class Route:
    """What to do with a request: forward it to one of `destinations`, or answer with `reply`.

    Args:
        destinations: empty for a route that replies.
        rewrite: new path from path, None to keep it; neither has a query.
        timeout_s: for all tries together, 0 for none.
        response_ops: header operations of the rule alone, for answers made here.
        filters: what else is to be done, see routing.filters; () for a route that replies.
        mirrors: where copies go.

    `timeout_line` is the field that tells the upstream how long the first try may take (Envoy x-envoy-expected-rq-timeout-ms),
    b"" without a timeout. `single` is the destination of every request when there is no choice to make, so no random number is
    needed.
    """

    __slots__ = (
        "_bounds",
        "destinations",
        "filters",
        "mirrors",
        "name",
        "reply",
        "response_ops",
        "retry",
        "rewrite",
        "single",
        "timeout_line",
        "timeout_s",
        "virtual_host",
    )

    def __init__(
        self,
        *,
        name: str,
        virtual_host: CompiledVirtualHost,
        destinations: tuple[Destination, ...],
        timeout_s: float,
        retry: RetryPolicy,
        rewrite: Callable[[bytes], bytes] | None,
        reply: Reply | None,
        response_ops: HeaderProgram | None,
        filters: tuple[Filter, ...] = (),
        mirrors: tuple[Mirror, ...] = (),
    ) -> None:
        self.name = name
        self.virtual_host = virtual_host
        self.destinations = destinations
        self.timeout_s = timeout_s
        limits_s = [limit_s for limit_s in (timeout_s, retry.per_try_timeout_s) if limit_s]
        self.timeout_line = b"x-envoy-expected-rq-timeout-ms: %d" % (min(limits_s) * 1000) if limits_s else b""
        self.retry = retry
        self.rewrite = rewrite
        self.reply = reply
        self.response_ops = response_ops
        self.filters = filters
        self.mirrors = mirrors
        weights = [destination.weight for destination in destinations]
        drawn = [destination for destination in destinations if destination.weight > 0]
        self.single = destinations[0] if len(destinations) == 1 else drawn[0] if len(drawn) == 1 else None
        total = sum(weights)
        self._bounds = [bound / total for bound in accumulate(weights[:-1])] if total else []

    def __repr__(self) -> str:
        return f"Route({self.name!r}, {list(self.destinations) or self.reply})"

    def pick(self, draw: float) -> Destination:
        """Return the destination for a random number in [0, 1)."""
        return self.single or self.destinations[bisect(self._bounds, draw)]
