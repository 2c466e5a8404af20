# SPDX-License-Identifier: Apache-2.0
"""Clusters and endpoints: where a request can go, and the live state that outlives configuration changes.

A cluster keeps its identity for as long as its name exists, and so does an endpoint for as long as (address, port, uid) is a
member of that cluster: requests in flight, pooled connections and statistics hang on these objects, so an update replaces specs
and membership, never survivors. The data plane counts `active` up and down and keeps what it likes in `pool` and `stats`.

From members to a pick:

    members ─▶ those not draining, else all ─▶ those not ejected (outlier) ─▶ weights (warmup) ─▶ balancer ─▶ `pick`
                                                                                    └▶ views (locality) ─▶ `pick_for`

A cluster that uses none of outlier detection, warm-up, hashing and localities has none of their objects, and its `pick` is the
balancer's own method.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from routing.balance import Balancer, Spread, make_balancer, make_hashed
from routing.hashing import CompiledHash
from routing.limits import Limits
from routing.locality import Localities
from routing.outlier import OutlierDetector
from routing.retry import RetryBudget
from routing.warmup import Warmup

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from routing.balance import Random
    from routing.outlier import Record
    from routing.specs import ClusterSpec, EndpointSpec, LocalitySpec, OutlierSpec, WarmupSpec

__all__ = ["Cluster", "Endpoint"]

_HASHED = frozenset({"RING_HASH", "MAGLEV"})
_WARMING = frozenset({"LEAST_REQUEST", "ROUND_ROBIN"})
"""Balancers that know slow start, in Envoy and so in Istio."""


class Endpoint:
    """One member of one cluster.

    Args:
        spec: its latest spec; `address` and `port` never change.

    `active` is the number of requests in flight, `removed` tells that it left its cluster for good. `weight` is less than the
    spec's while it warms up. `ejected` and `record` belong to outlier detection, `pool` and `stats` to the data plane.
    """

    __slots__ = ("active", "address", "ejected", "identity", "pool", "port", "record", "removed", "spec", "stats", "weight")

    def __init__(self, spec: EndpointSpec) -> None:
        self.address = spec.address
        self.port = spec.port
        self.active = 0
        self.removed = False
        self.ejected = False
        self.record: Record | None = None
        self.pool: Any = None
        self.stats: dict[Any, Any] = {}
        self.weight: float = 1
        self.update(spec)

    def __repr__(self) -> str:
        state = ", removed" if self.removed else ", draining" if self.spec.draining else ""
        return f"Endpoint({self.address}:{self.port}, active={self.active}{state}{', ejected' if self.ejected else ''})"

    def update(self, spec: EndpointSpec) -> None:
        """Take over what can change about a member."""
        self.spec = spec
        self.identity = spec.identity
        self.weight = max(spec.weight, 1)


def _no_labels(identity: str) -> Mapping[str, str]:
    return {}


class Cluster:
    """A named set of endpoints with a load balancer.

    Args:
        workers: how many share the limits of the spec.
        labels_of: returns the labels of the pods that have an identity.

    `pick(rng, tried=())` chooses an endpoint, None when there is none. It is the balancer's own method, put here with each
    update, which saves a call per request; so fetch it anew for each request. When `context` is True, ask `pick_for` instead,
    with what `hash` (if there is one) makes of the request. `active` is the number of requests in flight, counted by the data
    plane. `outlier` is to be told of every answer and failure, if there is one; `limits` is None without any.
    """

    __slots__ = (
        "_balancer",
        "_labels_of",
        "_localities",
        "_members",
        "_warmup",
        "_workers",
        "active",
        "context",
        "endpoints",
        "hash",
        "limits",
        "name",
        "outlier",
        "pick",
        "retry_budget",
        "spec",
    )

    pick: Callable[..., Endpoint | None]

    def __init__(
        self, spec: ClusterSpec, *, workers: int = 1, labels_of: Callable[[str], Mapping[str, str]] = _no_labels
    ) -> None:
        self.name = spec.name
        self.active = 0
        self.endpoints: list[Endpoint] = []
        self.retry_budget = RetryBudget(self)
        self.outlier: OutlierDetector | None = None
        self._workers = workers
        self._labels_of = labels_of
        self._members: dict[tuple[str, int, str], Endpoint] = {}
        self._warmup: Warmup | None = None
        self._localities: Localities | None = None
        self._balancer = Balancer(())
        self._configure(spec)
        self._rebalance()

    def __repr__(self) -> str:
        return f"Cluster({self.name!r}, {self._balancer!r}, active={self.active})"

    # -- configuration

    def update_spec(self, spec: ClusterSpec) -> None:
        """Take over a changed spec; the members stay."""
        before = self.spec
        self._configure(spec)
        if (spec.balancer, spec.hash, spec.outlier, spec.warmup, spec.locality) != (
            before.balancer,
            before.hash,
            before.outlier,
            before.warmup,
            before.locality,
        ):
            self._watch(())
            self._rebalance()

    def _configure(self, spec: ClusterSpec) -> None:
        self.spec = spec
        self.hash = CompiledHash(spec.hash) if spec.hash is not None and spec.balancer in _HASHED else None
        self.limits = Limits(spec, self._workers) or None
        self.retry_budget.configure(spec.retry_budget, self.limits, self._workers)
        self._configure_outlier(spec.outlier)
        self._configure_warmup(spec.warmup if spec.balancer in _WARMING else None)
        self._configure_localities(spec.locality, is_failover=spec.outlier is not None)
        self.context = self.hash is not None or self._localities is not None

    def _configure_outlier(self, spec: OutlierSpec | None) -> None:
        if spec is None:
            self.outlier = None
            for endpoint in self.endpoints:
                endpoint.ejected = False
                endpoint.record = None
        elif self.outlier is None:
            self.outlier = OutlierDetector(spec, self._rebalance)
        else:
            self.outlier.update(spec)

    def _configure_warmup(self, spec: WarmupSpec | None) -> None:
        if self._warmup is None:
            self._warmup = Warmup(spec) if spec is not None else None
        elif spec is None:
            self._warmup.dismiss()
            self._warmup = None
        else:
            self._warmup.spec = spec

    def _configure_localities(self, spec: LocalitySpec | None, *, is_failover: bool) -> None:
        is_failover = is_failover or (spec is not None and spec.always)
        if spec is None or not (spec.distribute or is_failover):
            self._localities = None
        elif self._localities is None or (self._localities.spec, self._localities.is_failover) != (spec, is_failover):
            self._localities = Localities(spec, is_failover=is_failover, make=self._make, labels_of=self._labels_of)

    # -- members

    def update(self, specs: Iterable[EndpointSpec]) -> list[Endpoint]:
        """Make the members those of `specs`.

        Returns:
            The endpoints that left for good. Survivors keep their objects; a second spec with the same key is ignored.
        """
        old = self._members
        members: dict[tuple[str, int, str], Endpoint] = {}
        joined = []
        for spec in specs:
            key = (spec.address, spec.port, spec.uid)
            if key in members:
                continue
            endpoint = old.pop(key, None)
            if endpoint is None:
                endpoint = Endpoint(spec)
                joined.append(endpoint)
            else:
                endpoint.update(spec)
            members[key] = endpoint
        removed = list(old.values())
        for endpoint in removed:
            endpoint.removed = True
        self._members = members
        self.endpoints = list(members.values())
        if self._warmup is not None:
            self._warmup.update(joined, removed)
        self._watch(removed)
        self._rebalance()
        return removed

    def _usable(self) -> list[Endpoint]:
        """Draining members are used only when no other is left (they still serve, but said they are about to go)."""
        return [endpoint for endpoint in self.endpoints if not endpoint.spec.draining] or self.endpoints

    def _watch(self, removed: Iterable[Endpoint]) -> None:
        if self.outlier is not None:
            self.outlier.watch(self._usable(), removed)

    def _rebalance(self) -> None:
        usable = self._usable()
        healthy = self.outlier.healthy() if self.outlier is not None else usable
        self._balancer = self._make(healthy, self._balancer)
        self.pick = self._balancer.pick
        if self._localities is not None:
            self._localities.update(usable, healthy)

    def _make(self, endpoints: Sequence[Endpoint], before: Balancer | None) -> Balancer:
        spec = self.spec
        if spec.balancer == "RING_HASH" or spec.balancer == "MAGLEV":  # noqa: PLR1714 (mypy narrows no `in`)
            return make_hashed(spec.balancer, spec.hash, endpoints, before)
        return make_balancer(spec.balancer, endpoints)

    # -- live state

    def pick_for(
        self,
        rng: Random,
        tried: Collection[Endpoint],
        hash_value: int | None,
        locality: str = "",
        labels: Mapping[str, str] | None = None,
        *,
        remote: bool = False,
    ) -> Endpoint | None:
        """Choose an endpoint for a request of which more is known.

        Args:
            rng: the source of chance.
            tried: endpoints to avoid; of no account with consistent hashing.
            hash_value: the hash of the request, None for a random one.
            locality: where the caller runs.
            labels: those of the caller, None when it is unknown.
            remote: a retry may leave the priority of what was tried (retryRemoteLocalities).
        """
        balancer = self._balancer
        if self._localities is not None:
            balancer = self._localities.view(locality, labels) or balancer
        if hash_value is not None:
            return balancer.pick_hash(hash_value)
        if remote and tried and isinstance(balancer, Spread):
            balancer = balancer.beyond(tried)
        return balancer.pick(rng, tried)

    def balancer_for(self, locality: str, labels: Mapping[str, str] | None) -> Balancer:
        """Return what `pick_for` asks for such a caller.

        Args:
            locality: where the caller runs.
            labels: those of the caller, None when it is unknown.
        """
        balancer = self._balancer
        if self._localities is not None:
            balancer = self._localities.view(locality, labels) or balancer
        return balancer

    @property
    def ejected(self) -> int:
        """How many endpoints are ejected."""
        return self.outlier.ejected if self.outlier is not None else 0

    @property
    def needs_tick(self) -> bool:
        """Whether `tick` has anything to do."""
        return bool(self._warmup) or (self.outlier is not None and self.outlier.is_pending) or any(self._building())

    def _building(self) -> Iterator[Balancer]:
        """Yield the balancers that have tables to fill."""
        if self._balancer.is_building:
            yield self._balancer
        if self._localities is not None:
            yield from self._localities.building()

    def tick(self, now: float) -> bool:
        """Let time pass: ejections end, endpoints warm up, tables get filled.

        Returns:
            Whether the endpoints that can be picked have changed.
        """
        changed = self.outlier is not None and self._sweep(self.outlier, now)
        if self._warmup:
            self._warmup.tick(now)
            self._rebalance()
        for balancer in self._building():
            balancer.build()
        return changed

    def _sweep(self, outlier: OutlierDetector, now: float) -> bool:
        """Let ejections end. Who comes back has to warm up like somebody new: it may have been restarted."""
        away = [endpoint for endpoint in self.endpoints if endpoint.ejected] if self._warmup is not None else []
        changed = outlier.sweep(now)
        back = [endpoint for endpoint in away if not endpoint.ejected]
        if self._warmup is not None and back:
            self._warmup.update(back, ())
            self._rebalance()
        return changed

    def forget_labels(self) -> None:
        """The labels behind identities may have changed."""
        if self._localities is not None and self._localities.spec.failover_priority:
            self._localities.forget()
