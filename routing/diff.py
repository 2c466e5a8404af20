# SPDX-License-Identifier: Apache-2.0
"""Differences between two configurations, section by section and entry by entry.

Level-triggered: whatever events led there, what is sent on is the difference between what was sent and what should be. Sections
and entries that two configurations share are not looked into.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from routing.specs import Specs, SpecsDiff

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["apply", "diff"]

_SECTIONS: tuple[str, ...] = Specs.__struct_fields__


def diff(old: Specs, new: Specs, version: int) -> SpecsDiff | None:
    """Return what turns `old` into `new`, None when they are equal.

    Args:
        old: What the receiver has.
        new: What it should have. The diff shares its values.
        version: Number of the diff.
    """
    put = Specs()
    removed: dict[str, tuple[str, ...]] = {}
    for section in _SECTIONS:
        before: Mapping[str, Any] = getattr(old, section)
        after: Mapping[str, Any] = getattr(new, section)
        if before is after:
            continue
        setattr(put, section, _changed(before, after))
        if gone := tuple(name for name in before if name not in after):
            removed[section] = gone
    if not removed and put == Specs():
        return None
    return SpecsDiff(version=version, put=put, removed=removed)


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    # No value of any section is None, so a missing entry differs from all of them. Most are the same object in both.
    return {name: value for name, value in after.items() if (known := before.get(name)) is not value and known != value}


def apply(specs: Specs, change: SpecsDiff) -> Specs:
    """Return `specs` with `change` applied; neither is changed."""
    sections = {}
    for section in _SECTIONS:
        gone = frozenset(change.removed.get(section, ()))
        kept = {name: value for name, value in getattr(specs, section).items() if name not in gone}
        sections[section] = kept | getattr(change.put, section)
    return msgspec.structs.replace(specs, **sections)
