# SPDX-License-Identifier: Apache-2.0
"""A balancer over balancers: each has a share of the traffic."""

from __future__ import annotations

from bisect import bisect
from itertools import accumulate
from typing import TYPE_CHECKING

from routing.balance.base import ATTEMPTS, Balancer

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from routing.balance.base import Random
    from routing.cluster import Endpoint

__all__ = ["Spread"]

_STEPS = 10_000
"""Steps in which a hash is mapped to a share (Envoy: 100)."""


class Spread(Balancer):
    """Draws a group by its share, then asks its balancer.

    Args:
        shares: of each group, more than 0. They need not sum to 1.
        groups: one balancer for each share, none of them without members.

    A retry draws again while it meets a member that was tried. What belongs to a hash stays in one group for as long as the
    shares stay.
    """

    __slots__ = ("_bounds", "groups")

    def __init__(self, shares: Sequence[float], groups: Sequence[Balancer]) -> None:
        super().__init__([endpoint for group in groups for endpoint in group.endpoints])
        self.groups = groups
        total = sum(shares)
        self._bounds = [bound / total for bound in accumulate(shares[:-1])]

    def pick(self, rng: Random, tried: Collection[Endpoint] = ()) -> Endpoint | None:
        """Return a member, if possible one that was not tried."""
        for _ in range(ATTEMPTS):
            chosen = self.groups[bisect(self._bounds, rng.random())].pick(rng, tried)
            if chosen not in tried:
                break
        return chosen

    def pick_hash(self, value: int) -> Endpoint | None:
        """Return the member for a hash."""
        return self.groups[bisect(self._bounds, value % _STEPS / _STEPS)].pick_hash(value)

    @property
    def shares(self) -> list[float]:
        """The share of each group; together they are 1."""
        return [high - low for low, high in zip([0.0, *self._bounds], [*self._bounds, 1.0], strict=True)]

    def beyond(self, tried: Collection[Endpoint]) -> Balancer:
        """Return a balancer over the groups of which no member was tried; over all when there are none."""
        fresh = [
            (share, group)
            for share, group in zip(self.shares, self.groups, strict=True)
            if not any(endpoint in tried for endpoint in group.endpoints)
        ]
        return Spread(*zip(*fresh, strict=True)) if fresh else self
