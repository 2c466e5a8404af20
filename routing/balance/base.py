# SPDX-License-Identifier: Apache-2.0
"""What every load balancer is: a choice among the members it was made with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from routing.cluster import Endpoint

__all__ = ["ATTEMPTS", "Balancer", "Random", "Single"]

ATTEMPTS = 5
"""Draws for a member that was not tried: what Istio gives Envoy as host_selection_retry_max_attempts."""


class Random(Protocol):
    """A source of random numbers, such as `random.Random`."""

    def random(self) -> float:
        """Return a float in [0, 1)."""


class Balancer:
    """Chooses among the members it was made with: this one has none, so it never does."""

    __slots__ = ("endpoints",)

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self.endpoints = endpoints

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.endpoints)} endpoints)"

    def pick(self, rng: Random, tried: Collection[Endpoint] = ()) -> Endpoint | None:
        """Return a member, if possible one that was not tried; None when there are no members."""
        return None

    def pick_hash(self, value: int) -> Endpoint | None:
        """Return the member for a 64-bit hash; None when there are no members, or the balancer has nothing to do with hashes."""
        return None

    @property
    def is_building(self) -> bool:
        """Whether work is left that `build` can do."""
        return False

    def build(self) -> None:
        """Do a slice of the work that is left."""

    def _another(self, rng: Random, tried: Collection[Endpoint]) -> Endpoint | None:
        for _ in range(ATTEMPTS):
            chosen = self.pick(rng)
            if chosen not in tried:
                return chosen
        size = len(self.endpoints)
        start = int(rng.random() * size)
        for step in range(min(size, len(tried) + 1)):
            endpoint = self.endpoints[(start + step) % size]
            if endpoint not in tried:
                return endpoint
        return chosen


class Single(Balancer):
    """One member: no choice, tried or not."""

    __slots__ = ()

    def pick(self, rng: Random, tried: Collection[Endpoint] = ()) -> Endpoint | None:
        """Return the only member."""
        return self.endpoints[0]
