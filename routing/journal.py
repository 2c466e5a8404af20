# SPDX-License-Identifier: Apache-2.0
"""The journal: what changed in a store since its reader looked last, by what the reader would have to do again.

It names places to look at and says nothing about what is found there, so it may name too much but never too little. There is one
reader, which takes all of it at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from routing.names import Key

__all__ = ["Changes", "Journal"]


class Changes(NamedTuple):
    """What changed.

    Args:
        kinds: Kinds of which any object changed, other than Pods and EndpointSlices.
        services: Services whose EndpointSlices changed, theirs or their shadow's.
        pods: Pods.
        addresses: Addresses that some Pod got or lost, or whose Pod changed.
    """

    kinds: frozenset[str]
    services: frozenset[Key]
    pods: frozenset[Key]
    addresses: frozenset[str]


class Journal:
    """Collects changes until they are taken."""

    __slots__ = ("addresses", "kinds", "pods", "services")

    def __init__(self) -> None:
        self.kinds: set[str] = set()
        self.services: set[Key] = set()
        self.pods: set[Key] = set()
        self.addresses: set[str] = set()

    def __repr__(self) -> str:
        parts = (f"{len(getattr(self, name))} {name}" for name in ("kinds", "services", "pods", "addresses"))
        return f"<Journal {', '.join(parts)}>"

    def take(self) -> Changes:
        """Return what was collected, and begin anew."""
        found = Changes(frozenset(self.kinds), frozenset(self.services), frozenset(self.pods), frozenset(self.addresses))
        self.kinds, self.services, self.pods, self.addresses = set(), set(), set(), set()
        return found
