# SPDX-License-Identifier: Apache-2.0
"""Consistent hashing: a request's hash decides, and a change of members moves few hashes.

Both structures are Envoy's (ring_hash_lb.cc, maglev_lb.cc), with members ordered by address, so workers, gateways and, for equal
weights, sidecars with the same members agree on every hash. They are built when they are first needed, never by the update
itself, so a burst of updates costs nothing.

* The ring has at least the configured number of points, 1024 by default: 0.5 ms for 100 members, 1.5 ms for 1,000. It is cut
  at 16,384 points (10 ms), where Envoy goes on to 8 million.
* A Maglev table of the default 65,537 slots takes 27 to 37 ms, too long for a loop that serves other requests. So a table that
  replaces one is filled in slices of about 1 ms, one with each pick and each tick; meanwhile the old table answers, and the slots
  of members that have left go to the next slot's. The first table of a cluster has nothing to replace: it is filled in one go by
  the first pick, since answers from a makeshift would have to move a moment later. Tables are cut at 65,537 slots: 655 for each
  of 100 members, and half a MiB.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import count, cycle
from math import ceil, isqrt
from typing import TYPE_CHECKING, Literal

from routing.balance.base import Balancer
from routing.hashing import hash64

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from routing.balance.base import Random
    from routing.cluster import Endpoint
    from routing.specs import HashSpec

__all__ = ["MAX_RING_SIZE", "MAX_TABLE_SIZE", "Maglev", "RingHash", "make_hashed"]

MAX_RING_SIZE = 16_384
MAX_TABLE_SIZE = 65_537

_SPACE = 1 << 64
_SLICE = 5_000
"""Slots looked at in one slice of building a table."""
_FEW = 256
"""Free slots from which on it is cheaper to ask each of them when a member reaches it than to walk on through taken ones."""
_NEIGHBOURS = 256
"""Slots that are tried in the place of one whose member has left; this many would be in vain only if nearly all had left."""


class Hashed(Balancer):
    """Members ordered by address; at least one. `size` is that of its structure."""

    __slots__ = ("size", "weights")

    def __init__(self, endpoints: Sequence[Endpoint], size: int) -> None:
        super().__init__(sorted(endpoints, key=_key))
        self.size = size
        self.weights = [endpoint.weight for endpoint in self.endpoints]

    def equals(self, other: Balancer | None) -> bool:
        """Return whether another balancer chooses just the same."""
        return (
            isinstance(other, type(self))
            and other.size == self.size
            and other.endpoints == self.endpoints
            and other.weights == self.weights
        )

    def pick(self, rng: Random, tried: Collection[Endpoint] = ()) -> Endpoint | None:
        """Return the member for a random hash, tried or not."""
        return self.pick_hash(int(rng.random() * _SPACE))


class RingHash(Hashed):
    """Each member has many points on a ring; a hash belongs to the next point."""

    __slots__ = ("_hashes", "_owners")

    def __init__(self, endpoints: Sequence[Endpoint], size: int = 1024) -> None:
        super().__init__(endpoints, min(max(size, 1), MAX_RING_SIZE))
        self._hashes: list[int] = []
        self._owners: list[Endpoint] = []

    def pick_hash(self, value: int) -> Endpoint | None:
        """Return the owner of the first point at or after a hash."""
        hashes = self._hashes or self._make()
        index = bisect_left(hashes, value)
        return self._owners[index if index < len(hashes) else 0]

    def _make(self) -> list[int]:
        """Make the ring. Every member gets points by its weight, the lightest a whole number of them."""
        total = sum(self.weights)
        lightest = min(self.weights) / total
        scale = min(ceil(lightest * self.size) / lightest, MAX_RING_SIZE)
        points: list[tuple[int, int]] = []
        target = 0.0
        for place, (endpoint, weight) in enumerate(zip(self.endpoints, self.weights, strict=True)):
            target += scale * (weight / total)
            key = _key(endpoint) + b"_"
            points += ((hash64(key + b"%d" % number), place) for number in range(ceil(target - len(points))))
        points.sort()
        self._owners = [self.endpoints[place] for _, place in points]
        self._hashes = [point for point, _ in points]
        return self._hashes


class Maglev(Hashed):
    """A table of slots; a hash belongs to the slot it gives modulo the size, a prime.

    Args:
        before: the balancer that this one replaces.

    `table` is the last one that was finished, empty at first.
    """

    __slots__ = ("_building", "_members", "table")

    def __init__(self, endpoints: Sequence[Endpoint], size: int = MAX_TABLE_SIZE, before: Balancer | None = None) -> None:
        super().__init__(endpoints, _prime(min(max(size, 2), MAX_TABLE_SIZE)))
        self._members = frozenset(endpoints)
        self.table: list[Endpoint] = before.table if isinstance(before, Maglev) and before.size == self.size else []
        self._building: Iterator[list[Endpoint] | None] | None = (
            _fill(self.endpoints, self.weights, self.size) if len(endpoints) > 1 else iter([[endpoints[0]] * self.size])
        )

    @property
    def is_building(self) -> bool:
        """Whether work is left; a table that nobody has asked yet waits for its first pick."""
        return self._is_unfinished() and bool(self.table)

    def build(self) -> None:
        """Fill some more slots."""
        if self._building is not None:
            table = next(self._building)
            if table is not None:
                self.table = table
                self._building = None

    def pick_hash(self, value: int) -> Endpoint | None:
        """Return the member that a hash belongs to."""
        if self._building is None:
            return self.table[value % self.size]
        self.build()
        slot = value % self.size
        for step in range(slot, slot + _NEIGHBOURS) if self.table else ():
            chosen = self.table[step % self.size]
            if chosen in self._members:
                return chosen
        while self._is_unfinished():
            self.build()
        return self.table[slot]

    def _is_unfinished(self) -> bool:
        return self._building is not None


def make_hashed(
    kind: Literal["RING_HASH", "MAGLEV"], spec: HashSpec | None, endpoints: Sequence[Endpoint], before: Balancer | None
) -> Balancer:
    """Return the balancer that replaces `before`: the same if nothing that counts has changed."""
    if not endpoints:
        return Balancer(endpoints)
    made: Hashed
    if kind == "MAGLEV":
        made = Maglev(endpoints, spec.table_size, before) if spec is not None else Maglev(endpoints, before=before)
    else:
        made = RingHash(endpoints, spec.ring_size) if spec is not None else RingHash(endpoints)
    return before if before is not None and made.equals(before) else made


def _fill(endpoints: Sequence[Endpoint], weights: Sequence[float], size: int) -> Iterator[list[Endpoint] | None]:
    """Fill a table: members take turns by weight and take the next free slot of their own permutation of all slots.

    Yields None after each slice of work and the table at last. Late turns find most slots taken; from _FEW free ones on the free
    slots are asked which comes first in the member's permutation, which halves the cost of the whole.
    """
    keys = [_key(endpoint) for endpoint in endpoints]
    offsets = [hash64(key) % size for key in keys]
    skips = [hash64(key, 1) % (size - 1) + 1 for key in keys]
    free = bytearray(b"\1") * size
    walks = [filter(free.__getitem__, map(size.__rmod__, count(*step))) for step in zip(offsets, skips, strict=True)]
    table = [endpoints[0]] * size
    turns = _turns(weights)
    left = size
    while left > _FEW:
        for _ in range(min(left - _FEW, max(_SLICE * left // size, 16))):
            member = next(turns)
            slot = next(walks[member])
            free[slot] = 0
            table[slot] = endpoints[member]
            left -= 1
        yield None
    inverses = [pow(skip, -1, size) for skip in skips]
    slots = [free.find(1)]
    while (slot := free.find(1, slots[-1] + 1)) >= 0:  # faster than to look at every slot
        slots.append(slot)
    while slots:
        for _ in range(min(len(slots), _SLICE // len(slots) + 1)):
            member = next(turns)
            offset, inverse = offsets[member], inverses[member]
            slot = min((slot - offset) * inverse % size * size + slot for slot in slots) % size
            slots.remove(slot)
            table[slot] = endpoints[member]
        yield None
    yield table


def _turns(weights: Sequence[float]) -> Iterator[int]:
    """Yield whose turn it is: the heaviest in each round, the others in proportion."""
    heaviest = max(weights)
    if min(weights) == heaviest:
        yield from cycle(range(len(weights)))
    targets = [0.0] * len(weights)
    number = 0
    while True:
        number += 1
        for member, weight in enumerate(weights):
            if number * weight >= targets[member]:
                targets[member] += heaviest
                yield member


def _prime(number: int) -> int:
    """Return the smallest prime that is not smaller: only then do permutations reach every slot."""
    while any(number % divisor == 0 for divisor in range(2, isqrt(number) + 1)):
        number += 1
    return number


def _key(endpoint: Endpoint) -> bytes:
    """Return an address as Envoy writes it."""
    address = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
    return f"{address}:{endpoint.port}".encode()
