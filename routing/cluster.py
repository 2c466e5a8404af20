# SPDX-License-Identifier: Apache-2.0
"""Clusters and endpoints: where a request can go, and the live state that outlives configuration changes.

A cluster keeps its identity for as long as its name exists, and so does an endpoint for as long as (address, port, uid) is a
member of that cluster: requests in flight, pooled connections and statistics hang on these objects, so an update replaces specs
and membership, never survivors. The data plane counts `active` up and down and keeps what it likes in `pool` and `stats`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from routing.balance import Balancer, make_balancer
from routing.retry import RetryBudget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from routing.specs import ClusterSpec, EndpointSpec

__all__ = ["Cluster", "Endpoint"]


class Endpoint:
    """One member of one cluster.

    Args:
        spec: its latest spec; `address` and `port` never change.

    `active` is the number of requests in flight, `removed` tells that it left its cluster for good. `pool` and `stats` belong
    to the data plane.
    """

    __slots__ = ("active", "address", "identity", "pool", "port", "removed", "spec", "stats", "weight")

    def __init__(self, spec: EndpointSpec) -> None:
        self.address = spec.address
        self.port = spec.port
        self.active = 0
        self.removed = False
        self.pool: Any = None
        self.stats: dict[Any, Any] = {}
        self.update(spec)

    def __repr__(self) -> str:
        state = ", removed" if self.removed else ", draining" if self.spec.draining else ""
        return f"Endpoint({self.address}:{self.port}, active={self.active}{state})"

    def update(self, spec: EndpointSpec) -> None:
        """Take over what can change about a member."""
        self.spec = spec
        self.identity = spec.identity
        self.weight = max(spec.weight, 1)


class Cluster:
    """A named set of endpoints with a load balancer.

    `pick(rng, tried=())` chooses an endpoint, None when there is none. It is the balancer's own method, put here with each
    update, which saves a call per request; so fetch it anew for each request. `active` is the number of requests in flight,
    counted by the data plane.
    """

    __slots__ = ("_balancer", "_members", "active", "endpoints", "name", "pick", "retry_budget", "spec")

    pick: Callable[..., Endpoint | None]

    def __init__(self, spec: ClusterSpec) -> None:
        self.name = spec.name
        self.spec = spec
        self.active = 0
        self.endpoints: list[Endpoint] = []
        self.retry_budget = RetryBudget(self)
        self._members: dict[tuple[str, int, str], Endpoint] = {}
        self._rebalance()

    def __repr__(self) -> str:
        return f"Cluster({self.name!r}, {self._balancer!r}, active={self.active})"

    def update_spec(self, spec: ClusterSpec) -> None:
        """Take over a changed spec; the members stay."""
        stale = spec.balancer != self.spec.balancer
        self.spec = spec
        if stale:
            self._rebalance()

    def update(self, specs: Iterable[EndpointSpec]) -> list[Endpoint]:
        """Make the members those of `specs`.

        Returns:
            The endpoints that left for good. Survivors keep their objects; a second spec with the same key is ignored.
        """
        old = self._members
        members: dict[tuple[str, int, str], Endpoint] = {}
        for spec in specs:
            key = (spec.address, spec.port, spec.uid)
            if key in members:
                continue
            endpoint = old.pop(key, None)
            if endpoint is None:
                endpoint = Endpoint(spec)
            else:
                endpoint.update(spec)
            members[key] = endpoint
        removed = list(old.values())
        for endpoint in removed:
            endpoint.removed = True
        self._members = members
        self.endpoints = list(members.values())
        self._rebalance()
        return removed

    def _rebalance(self) -> None:
        """Draining members are used only when no other is left (they still serve, but said they are about to go)."""
        usable = [endpoint for endpoint in self.endpoints if not endpoint.spec.draining]
        self._balancer: Balancer = make_balancer(self.spec.balancer, usable or self.endpoints)
        self.pick = self._balancer.pick
