# SPDX-License-Identifier: Apache-2.0
"""The census: which identities are in use, so that one is kept for as long as any endpoint or caller has it, and no longer."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from routing.specs import IdentitySpec

__all__ = ["Census"]


class Census:
    """Counts the users of identities. `specs` has those in use as of the last `settle`; it is replaced, never changed."""

    __slots__ = ("_counts", "_touched", "specs")

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._touched: dict[str, IdentitySpec | None] = {}
        self.specs: dict[str, IdentitySpec] = {}

    def __repr__(self) -> str:
        return f"<Census {len(self.specs)} identities>"

    def add(self, keys: Iterable[str], specs: Mapping[str, IdentitySpec]) -> None:
        """Note a user of each key; `specs` has at least these identities."""
        for key in keys:
            count = self._counts.get(key, 0)
            self._counts[key] = count + 1
            if not count:
                self._touched[key] = specs[key]

    def drop(self, keys: Iterable[str]) -> None:
        """Note that a user of each key is gone."""
        for key in keys:
            count = self._counts[key] - 1
            if count:
                self._counts[key] = count
            else:
                del self._counts[key]
                self._touched[key] = None

    def settle(self) -> tuple[dict[str, IdentitySpec], tuple[str, ...]]:
        """Return the identities that came into use and those that went out of it since the last time."""
        came = {key: spec for key, spec in self._touched.items() if spec is not None and key not in self.specs}
        gone = tuple(key for key, spec in self._touched.items() if spec is None and key in self.specs)
        self._touched = {}
        if came or gone:
            self.specs = self.specs | came
            for key in gone:
                del self.specs[key]
        return came, gone
