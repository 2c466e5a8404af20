# SPDX-License-Identifier: Apache-2.0
"""Balancers for members of equal weight: every pick is O(1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from routing.balance.base import Balancer

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from routing.balance.base import Random
    from routing.cluster import Endpoint

__all__ = ["LeastRequest", "RandomPick", "RoundRobin"]


class LeastRequest(Balancer):
    """Two members drawn at random, with replacement; the one with fewer requests in flight wins (Envoy LEAST_REQUEST)."""

    __slots__ = ("_pairs", "_size")

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        super().__init__(endpoints)
        self._size = len(endpoints)
        self._pairs = len(endpoints) ** 2

    def pick(self, rng: Random, tried: Collection[Endpoint] = ()) -> Endpoint | None:
        """Return a member, if possible one that was not tried."""
        endpoints = self.endpoints
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
        endpoints = self.endpoints
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
        endpoints = self.endpoints
        size = len(endpoints)
        index = self._next
        if index < 0:
            index = int(rng.random() * size)
        self._next = (index + 1) % size
        chosen = endpoints[index]
        return self._another(rng, tried) if tried and chosen in tried else chosen
