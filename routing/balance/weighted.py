# SPDX-License-Identifier: Apache-2.0
"""Balancers for members of different weights: every pick is O(log n)."""

from __future__ import annotations

from bisect import bisect
from heapq import heapify, heapreplace
from itertools import accumulate
from typing import TYPE_CHECKING

from routing.balance.base import Balancer

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from routing.balance.base import Random
    from routing.cluster import Endpoint

__all__ = ["WeightedLeastRequest", "WeightedRandom", "WeightedRoundRobin"]


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
        endpoints, bounds, total, last = self.endpoints, self._bounds, self._total, self._last
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
        chosen = self.endpoints[bisect(self._bounds, rng.random() * self._total, 0, self._last)]
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
            heap += [(rng.random() / endpoint.weight, index) for index, endpoint in enumerate(self.endpoints)]
            heapify(heap)
        deadline, index = heap[0]
        chosen = self.endpoints[index]
        heapreplace(heap, (deadline + 1.0 / chosen.weight, index))
        return self._another(rng, tried) if tried and chosen in tried else chosen
