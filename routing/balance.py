# SPDX-License-Identifier: Apache-2.0
"""Load balancers: which endpoint of a cluster gets the next request.

Owns the choice only; who the members are is the cluster's matter. Every pick is O(1) (O(log n) when weights differ) and never
scans the members. Random numbers come from the caller: `rng.random()` gives a float in [0, 1).

A retry names the endpoints it has *tried*. Each balancer then draws again up to five times, as Envoy's previous-hosts predicate
does (host_selection_retry_max_attempts 5 in Istio), and after that walks on from a random member to the first that was not
tried: at most `len(tried) + 1` steps. Only when everything has been tried may a tried endpoint come again.
"""

from __future__ import annotations

from bisect import bisect
from heapq import heapify, heapreplace
from itertools import accumulate
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, assert_never

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from routing.cluster import Endpoint

__all__ = ["Balancer", "BalancerKind", "Random", "make_balancer"]

BalancerKind: TypeAlias = Literal["LEAST_REQUEST", "ROUND_ROBIN", "RANDOM"]

_ATTEMPTS = 5


class Random(Protocol):
    """A source of random numbers, such as `random.Random`."""

    def random(self) -> float:
        """Return a float in [0, 1)."""


class Balancer:
    """Chooses among the members it was made with: this one has none, so it never does."""

    __slots__ = ("_endpoints",)

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = endpoints

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self._endpoints)} endpoints)"

    def pick(self, rng: Random, tried: Collection[Endpoint] = ()) -> Endpoint | None:
        """Return a member, if possible one that was not tried; None when there are no members."""
        return None

    def _another(self, rng: Random, tried: Collection[Endpoint]) -> Endpoint | None:
        for _ in range(_ATTEMPTS):
            chosen = self.pick(rng)
            if chosen not in tried:
                return chosen
        size = len(self._endpoints)
        start = int(rng.random() * size)
        for step in range(min(size, len(tried) + 1)):
            endpoint = self._endpoints[(start + step) % size]
            if endpoint not in tried:
                return endpoint
        return chosen


class Single(Balancer):
    """One member: no choice, tried or not."""

    __slots__ = ()

    def pick(self, rng: Random, tried: Collection[Endpoint] = ()) -> Endpoint | None:
        """Return the only member."""
        return self._endpoints[0]


class LeastRequest(Balancer):
    """Two members drawn at random, with replacement; the one with fewer requests in flight wins (Envoy LEAST_REQUEST)."""

    __slots__ = ("_pairs", "_size")

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        super().__init__(endpoints)
        self._size = len(endpoints)
        self._pairs = len(endpoints) ** 2

    def pick(self, rng: Random, tried: Collection[Endpoint] = ()) -> Endpoint | None:
        """Return a member, if possible one that was not tried."""
        endpoints = self._endpoints
        size = self._size
        pair = int(rng.random() * self._pairs)  # one draw for both costs a third less than two
        chosen = endpoints[pair // size]
        other = endpoints[pair % size]
        if other.active < chosen.active:
            chosen = other
        return self._another(rng, tried) if tried and chosen in tried else chosen


class RandomPick(Balancer):
    """One member drawn at random."""

    __slots__ = ()

    def pick(self, rng: Random, tried: Collection[Endpoint] = ()) -> Endpoint | None:
        """Return a member, if possible one that was not tried."""
        endpoints = self._endpoints
        chosen = endpoints[int(rng.random() * len(endpoints))]
        return self._another(rng, tried) if tried and chosen in tried else chosen


class RoundRobin(Balancer):
    """The members in turn, from a random one on."""

    __slots__ = ("_next",)

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        super().__init__(endpoints)
        self._next = -1

    def pick(self, rng: Random, tried: Collection[Endpoint] = ()) -> Endpoint | None:
        """Return the next member, if possible one that was not tried."""
        endpoints = self._endpoints
        size = len(endpoints)
        index = self._next
        if index < 0:
            index = int(rng.random() * size)
        self._next = (index + 1) % size
        chosen = endpoints[index]
        return self._another(rng, tried) if tried and chosen in tried else chosen


class _Weighted(Balancer):
    """Draws a member with a probability proportional to its weight."""

    __slots__ = ("_bounds", "_last", "_total")

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        super().__init__(endpoints)
        self._bounds = list(accumulate(endpoint.weight for endpoint in endpoints))
        self._total = self._bounds[-1]
        self._last = len(endpoints) - 1


class WeightedLeastRequest(_Weighted):
    """Two members drawn by weight; the one with fewer requests in flight per unit of weight wins, the first on a tie.

    Without load this is exactly proportional to the weights. Envoy divides the weight by the load in its EDF scheduler
    (weight / (active + 1)) to the same end, but that needs a heap update per request.
    """

    __slots__ = ()

    def pick(self, rng: Random, tried: Collection[Endpoint] = ()) -> Endpoint | None:
        """Return a member, if possible one that was not tried."""
        endpoints, bounds, total, last = self._endpoints, self._bounds, self._total, self._last
        draw = rng.random
        chosen = endpoints[bisect(bounds, draw() * total, 0, last)]
        other = endpoints[bisect(bounds, draw() * total, 0, last)]
        if other.active * chosen.weight < chosen.active * other.weight:
            chosen = other
        return self._another(rng, tried) if tried and chosen in tried else chosen


class WeightedRandom(_Weighted):
    """One member drawn by weight."""

    __slots__ = ()

    def pick(self, rng: Random, tried: Collection[Endpoint] = ()) -> Endpoint | None:
        """Return a member, if possible one that was not tried."""
        chosen = self._endpoints[bisect(self._bounds, rng.random() * self._total, 0, self._last)]
        return self._another(rng, tried) if tried and chosen in tried else chosen


class WeightedRoundRobin(Balancer):
    """Members in turn, each as often as its weight says and spread evenly: earliest deadline first, as in Envoy.

    A member's deadlines lie 1/weight apart, with a random phase. A heap entry is (deadline, index), so no two ever compare equal.
    """

    __slots__ = ("_heap",)

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        super().__init__(endpoints)
        self._heap: list[tuple[float, int]] = []

    def pick(self, rng: Random, tried: Collection[Endpoint] = ()) -> Endpoint | None:
        """Return the next member, if possible one that was not tried."""
        heap = self._heap
        if not heap:
            heap += [(rng.random() / endpoint.weight, index) for index, endpoint in enumerate(self._endpoints)]
            heapify(heap)
        deadline, index = heap[0]
        chosen = self._endpoints[index]
        heapreplace(heap, (deadline + 1.0 / chosen.weight, index))
        return self._another(rng, tried) if tried and chosen in tried else chosen


def make_balancer(kind: BalancerKind, endpoints: Sequence[Endpoint]) -> Balancer:
    """Return the cheapest balancer that does what ClusterSpec.balancer asks for with these members.

    Balancers start without memory, so a round robin begins at a random member: workers that get the same update at the same time
    must not all send their next request to the same endpoint.
    """
    if len(endpoints) < 2:
        return Single(endpoints) if endpoints else Balancer(endpoints)
    equal = len({endpoint.weight for endpoint in endpoints}) == 1
    match kind:
        case "LEAST_REQUEST":
            return LeastRequest(endpoints) if equal else WeightedLeastRequest(endpoints)
        case "ROUND_ROBIN":
            return RoundRobin(endpoints) if equal else WeightedRoundRobin(endpoints)
        case "RANDOM":
            return RandomPick(endpoints) if equal else WeightedRandom(endpoints)
        case _:
            assert_never(kind)
