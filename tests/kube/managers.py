# SPDX-License-Identifier: Apache-2.0
"""Who owns which field: metadata.managedFields read, kept up to date on every write, and written back.

An entry is told apart by its manager, its operation (`Apply`, or `Update` for every other write), the API version for updates,
and the subresource. A write that changes a field takes it from all others; a field that is gone is nobody's.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.kube.fields import decode_fields, encode_fields, flatten, owned

if TYPE_CHECKING:
    from tests.kube.fields import Path
    from tests.kube.shapes import Shapes

__all__ = ["Manager", "Managers", "now"]


def now() -> str:
    """Return the time as the API writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Manager(NamedTuple):
    """What tells one entry from another."""

    name: str
    operation: str
    api_version: str
    subresource: str = ""


class Managers:
    """The owners of one object's fields."""

    def __init__(self, obj: dict[str, Any] | None) -> None:
        self.sets: dict[Manager, set[Path]] = {}
        self._times: dict[Manager, str] = {}
        for entry in ((obj or {}).get("metadata") or {}).get("managedFields") or ():
            manager = Manager(entry["manager"], entry["operation"], entry["apiVersion"], entry.get("subresource", ""))
            self.sets[manager] = decode_fields(entry.get("fieldsV1") or {})
            self._times[manager] = entry.get("time", "")

    def __repr__(self) -> str:
        return f"<Managers {', '.join(f'{m.name}/{m.operation}: {len(s)}' for m, s in self.sets.items())}>"

    def updated(self, manager: Manager, old: dict[str, Any] | None, new: dict[str, Any], shapes: Shapes) -> None:
        """Note a write that is no apply."""
        before = flatten(owned(old or {}), shapes)
        after = flatten(owned(new), shapes)
        changed = {path for path, value in after.items() if path not in before or before[path] != value}
        if gone := before.keys() - after.keys():
            self.drop(gone)
        if changed:
            self.take(manager, changed)

    def take(self, manager: Manager, paths: set[Path]) -> None:
        """Give fields to one manager, taking them from all others."""
        for other, fields in self.sets.items():
            if other != manager and not fields.isdisjoint(paths):
                self.set(other, fields - paths)
        self.set(manager, self.sets.get(manager, set()) | paths)

    def drop(self, paths: set[Path]) -> None:
        """Take fields from everybody."""
        for manager, fields in self.sets.items():
            if not fields.isdisjoint(paths):
                self.set(manager, fields - paths)

    def set(self, manager: Manager, paths: set[Path]) -> None:
        """Make fields all that a manager owns."""
        if self.sets.get(manager) != paths:
            self.sets[manager] = paths
            self._times[manager] = now()

    def stamp(self, manager: Manager) -> str:
        """Return when a manager's fields last changed."""
        return self._times.get(manager, "")

    def write(self, obj: dict[str, Any]) -> None:
        """Put the entries into an object's metadata."""
        entries = []
        for manager, paths in self.sets.items():
            if paths:
                entry: dict[str, Any] = {
                    "manager": manager.name,
                    "operation": manager.operation,
                    "apiVersion": manager.api_version,
                }
                entry |= {"time": self._times[manager], "fieldsType": "FieldsV1", "fieldsV1": encode_fields(paths)}
                entries.append(entry | ({"subresource": manager.subresource} if manager.subresource else {}))
        if entries:
            obj["metadata"]["managedFields"] = entries
        else:
            obj["metadata"].pop("managedFields", None)
