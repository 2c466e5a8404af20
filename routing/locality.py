# SPDX-License-Identifier: Apache-2.0
"""Localities: which endpoints a caller should get, by where it runs (DestinationRule localityLbSetting).

Istio computes this when it makes the configuration of one proxy, for that proxy's locality. Here the caller differs from request
to request, so a cluster has a *view* per kind of caller: a balancer over groups of endpoints, each with its share of the traffic.
Views are made when the first such caller comes and thrown away when members or their health change. Balancers of equal groups
are shared between views.

* `distribute`: the first entry whose `from` holds the caller gives a group for each of its `to`; endpoints that none of them
  names get nothing. A group's percentage shrinks with its health below, and what it loses goes to the others.
* Priorities, only together with outlier detection, since without it a failing locality would never be left: the same sub-zone,
  zone, region, then the rest (those that `failover` names before others); or `failover_priority`, the number of leading labels
  that caller and endpoint have in common, and within those `failover` when it is given.

Health is Envoy's: a group counts as whole for as long as 1/1.4 of it (71 %) is not ejected, below that its health falls in
proportion. Priorities are filled from the top: each takes what its health allows, and the next ones the rest. Simplified: shares
are fractions instead of whole percents, there is no panic of a single priority (Istio switches it off too), and endpoints weigh
equally in a group's health.

A caller of unknown locality gets all endpoints alike, save for a `distribute` from `*`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from routing.balance import Balancer, Maglev, Spread

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence

    from routing.cluster import Endpoint
    from routing.specs import LocalitySpec

__all__ = ["Localities"]

_OVERPROVISIONING = 1.4
"""Envoy overprovisioning_factor 140 %."""
_MAX_VIEWS = 256
"""Kinds of callers that are remembered; localities are few, but failover_priority may name a label that all pods differ in."""
_TOPOLOGY = {"topology.kubernetes.io/region": 0, "topology.kubernetes.io/zone": 1, "topology.istio.io/subzone": 2}
"""Labels that are read from the locality; pods do not carry those of their nodes."""

_Place: TypeAlias = tuple[str, str, str]
_Group: TypeAlias = "tuple[list[Endpoint], int]"
"""Members, and a percentage of the traffic."""


class Localities:
    """The views of one cluster.

    Args:
        is_failover: outlier detection is on, so priorities count.
        make: returns a balancer for some endpoints, made to replace another balancer.
        labels_of: returns the labels of the pods that have an identity.
    """

    __slots__ = (
        "_balancers",
        "_before",
        "_healthy",
        "_labels_of",
        "_make",
        "_members",
        "_tables",
        "_views",
        "is_failover",
        "spec",
    )

    def __init__(
        self,
        spec: LocalitySpec,
        *,
        is_failover: bool,
        make: Callable[[Sequence[Endpoint], Balancer | None], Balancer],
        labels_of: Callable[[str], Mapping[str, str]],
    ) -> None:
        self.spec = spec
        self.is_failover = is_failover
        self._make = make
        self._labels_of = labels_of
        self._members: Sequence[Endpoint] = ()
        self._healthy: Collection[Endpoint] = ()
        self._views: dict[Hashable, Balancer | None] = {}
        self._balancers: dict[tuple[Endpoint, ...], Balancer] = {}
        self._tables: dict[Hashable, Maglev] = {}  # by group: what a table that replaces them starts from
        self._before: dict[Hashable, Maglev] = {}

    def __repr__(self) -> str:
        return f"Localities({len(self._views)} views)"

    def update(self, members: Sequence[Endpoint], healthy: Sequence[Endpoint]) -> None:
        """Take over changed members, of which some are healthy, and forget all views."""
        self._members = members
        self._healthy = frozenset(healthy)
        self.forget()

    def forget(self) -> None:
        """Forget all views: labels may have changed."""
        self._views = {}
        self._balancers = {}
        if self._tables:
            self._before, self._tables = self._tables, {}

    def building(self) -> Iterator[Balancer]:
        """Yield the balancers that have tables to fill."""
        for table in self._tables.values():
            if table.is_building:
                yield table

    def view(self, locality: str, labels: Mapping[str, str] | None) -> Balancer | None:
        """Return the balancer for callers of a locality with certain labels; None when all endpoints are alike to them."""
        names = self.spec.failover_priority
        key: Hashable = locality
        if names:
            key = (locality, labels is None, *((labels or {}).get(_label(name)) for name in names))
        try:
            return self._views[key]
        except KeyError:
            pass
        if len(self._views) >= _MAX_VIEWS:
            self.forget()
        groups = self._groups(_place(locality), labels)
        view = self._views[key] = self._compile(key, groups) if groups is not None else None
        return view

    def _compile(self, key: Hashable, groups: list[_Group]) -> Balancer:
        shares = []
        balancers = []
        for number, ((members, _), share) in enumerate(zip(groups, self._shares(groups), strict=True)):
            if share > 0:
                shares.append(share)
                balancers.append(self._balancer((key, number), tuple(e for e in members if e in self._healthy)))
        if len(balancers) == 1:
            return balancers[0]
        return Spread(shares, balancers) if balancers else Balancer(())

    def _balancer(self, name: Hashable, endpoints: tuple[Endpoint, ...]) -> Balancer:
        balancer = self._balancers.get(endpoints)
        if balancer is None:
            balancer = self._balancers[endpoints] = self._make(endpoints, self._before.get(name))
        if isinstance(balancer, Maglev):
            self._tables[name] = balancer
        return balancer

    def _shares(self, groups: list[_Group]) -> list[float]:
        health = [self._health(members) for members, _ in groups]
        if self.spec.distribute:
            return [share * healthy for (_, share), healthy in zip(groups, health, strict=True)]
        total = min(sum(health), 1.0)
        left = 1.0
        shares = []
        for healthy in health:
            share = min(healthy / total, left) if total else 0.0
            shares.append(share)
            left -= share
        return shares

    def _health(self, members: Sequence[Endpoint]) -> float:
        if not members:
            return 0.0
        return min(_OVERPROVISIONING * sum(endpoint in self._healthy for endpoint in members) / len(members), 1.0)

    def _groups(self, caller: _Place, labels: Mapping[str, str] | None) -> list[_Group] | None:
        for origin, targets in self.spec.distribute:
            if _holds(_place(origin), caller):
                return self._distribute(targets)
        if self.spec.distribute or not self.is_failover:
            return None
        if not any(caller) and not any("=" in name or labels is not None for name in self.spec.failover_priority):
            return None
        ranked: dict[tuple[int, int], list[Endpoint]] = {}
        for endpoint in self._members:
            ranked.setdefault(self._rank(endpoint, caller, labels), []).append(endpoint)
        return [(ranked[rank], 0) for rank in sorted(ranked)]

    def _distribute(self, targets: tuple[tuple[str, int], ...]) -> list[_Group]:
        """Give each endpoint to the most exact of the localities that hold it."""
        places = sorted(((_place(target), percent) for target, percent in targets), key=lambda entry: _exactness(entry[0]))
        members: list[list[Endpoint]] = [[] for _ in places]
        for endpoint in self._members:
            where = _place(endpoint.spec.locality)
            for (place, _), group in zip(places, members, strict=True):
                if _holds(place, where):
                    group.append(endpoint)
                    break
        return [(group, percent) for group, (_, percent) in zip(members, places, strict=True)]

    def _rank(self, endpoint: Endpoint, caller: _Place, labels: Mapping[str, str] | None) -> tuple[int, int]:
        """Return the priority of an endpoint, 0 first."""
        where = _place(endpoint.spec.locality)
        names = self.spec.failover_priority
        if not names:
            return 0, self._distance(caller, where)
        own = self._labels_of(endpoint.identity)
        differs = len(names)
        for index, name in enumerate(names):
            label, given, value = name.partition("=")
            if not given:
                value = _value(label, caller, labels or {})
            if _value(label, where, own) != value:
                differs = index
                break
        return len(names) - differs, self._distance(caller, where) if self.spec.failover else 0

    def _distance(self, caller: _Place, where: _Place) -> int:
        for common in (3, 2, 1):
            if caller[:common] == where[:common]:
                return 3 - common
        targets = [target for origin, target in self.spec.failover if origin == caller[0]]
        return 4 if targets and where[0] != targets[0] else 3


def _place(locality: str) -> _Place:
    region, _, rest = locality.partition("/")
    zone, _, sub_zone = rest.partition("/")
    return region, zone, sub_zone


def _holds(pattern: _Place, place: _Place) -> bool:
    """Return whether a locality lies in another, which may have `*` or nothing for its smaller parts (Istio LocalityMatch)."""
    region, zone, sub_zone = pattern
    return region in {"*", place[0]} and zone in {"*", "", place[1]} and sub_zone in {"*", "", place[2]}


def _exactness(pattern: _Place) -> int:
    return -sum(part not in {"*", ""} for part in pattern)


def _label(name: str) -> str:
    return name.partition("=")[0]


def _value(label: str, place: _Place, labels: Mapping[str, str]) -> str:
    part = _TOPOLOGY.get(label)
    return labels.get(label, "") if part is None else place[part]
