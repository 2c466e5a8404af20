# SPDX-License-Identifier: Apache-2.0
"""What the server remembers: objects, the versions they had, and who wants to hear of changes.

As in etcd one counter numbers all changes of all kinds; the number of an object's last change is its resourceVersion. The history
answers what happened since a version and what a collection looked like at one, until it is compacted. Objects are never changed
in place: each version is a new dict beside its encoded bytes, which lists and watches share. The bytes begin with kind and
apiVersion, so that an item of a list, which has neither, is the rest of the same bytes.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import orjson

from tests.kube.errors import expired

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.kube.kinds import Kind

    Key = tuple[str, str]
    """(namespace, name)"""

__all__ = ["Backup", "Change", "Entry", "Store", "decode"]

HISTORY = 50_000
"""Changes remembered per kind; the real server keeps five minutes, which no test reaches."""

decode = orjson.loads


class Entry:
    """One version of one object."""

    __slots__ = ("bare", "obj", "version", "whole")

    def __init__(self, obj: dict[str, Any], kind: Kind, version: int) -> None:
        rest = {key: value for key, value in obj.items() if key not in {"kind", "apiVersion"}}
        head = b'{"kind":%b,"apiVersion":%b,' % (orjson.dumps(kind.kind), orjson.dumps(kind.api_version))
        encoded = orjson.dumps(rest)
        self.obj: dict[str, Any] = {"kind": kind.kind, "apiVersion": kind.api_version} | rest
        self.whole = head + encoded[1:]
        self.bare = self.whole if kind.custom else encoded
        self.version = version

    def __repr__(self) -> str:
        meta = self.obj["metadata"]
        return f"<Entry {self.obj['kind']} {meta.get('namespace', '')}/{meta['name']} at {self.version}>"


class Change(NamedTuple):
    """One change: `entry` is the object after it (for DELETED as it last was, with the deletion's version), `old` before it."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    key: Key
    entry: Entry
    old: Entry | None
    version: int


class Backup(NamedTuple):
    """Everything the store held at a moment."""

    version: int
    objects: dict[tuple[str, str], dict[Key, Entry]]


class Store:
    """Objects by kind, and their history."""

    def __init__(self) -> None:
        self.version = 100  # a fresh cluster is never at 0
        self._objects: dict[tuple[str, str], dict[Key, Entry]] = {}
        self._sorted: dict[tuple[str, str], list[Key]] = {}
        self._history: dict[tuple[str, str], deque[Change]] = {}
        self._forgotten: dict[tuple[str, str], int] = {}
        self._listeners: list[Callable[[Kind, Change], None]] = []

    def __repr__(self) -> str:
        return f"<Store at {self.version}: {sum(map(len, self._objects.values()))} objects>"

    def on_change(self, listener: Callable[[Kind, Change], None]) -> Callable[[], None]:
        """Call a function after each change, in order; return what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def get(self, kind: Kind, namespace: str, name: str) -> Entry | None:
        """Return an object, None when there is none."""
        return self._objects.get(kind.key, {}).get((namespace, name))

    def entries(self, kind: Kind, namespace: str = "") -> list[Entry]:
        """Return the objects of a kind by namespace and name, of all namespaces when none is given."""
        objects = self._objects.get(kind.key, {})
        keys = self._sorted.get(kind.key)
        if keys is None:
            keys = self._sorted[kind.key] = sorted(objects)
        return [objects[key] for key in keys if not namespace or key[0] == namespace]

    def put(self, kind: Kind, obj: dict[str, Any]) -> Entry:
        """Store a new version of an object, which becomes the store's and is numbered here."""
        meta = obj["metadata"]
        key = (meta.get("namespace", "") if kind.namespaced else "", meta["name"])
        self.version += 1
        meta["resourceVersion"] = str(self.version)
        entry = Entry(obj, kind, self.version)
        objects = self._objects.setdefault(kind.key, {})
        old = objects.get(key)
        objects[key] = entry
        if old is None:
            self._sorted.pop(kind.key, None)
        self._publish(kind, Change("MODIFIED" if old else "ADDED", key, entry, old, self.version))
        return entry

    def delete(self, kind: Kind, namespace: str, name: str) -> Entry | None:
        """Remove an object and return it as it last was, None when there is none."""
        old = self._objects.get(kind.key, {}).pop((namespace, name), None)
        if old is None:
            return None
        self._sorted.pop(kind.key, None)
        self.version += 1
        last = old.obj | {"metadata": old.obj["metadata"] | {"resourceVersion": str(self.version)}}
        entry = Entry(last, kind, self.version)
        self._publish(kind, Change("DELETED", (namespace, name), entry, old, self.version))
        return entry

    def skip(self, count: int) -> None:
        """Let the counter go on without a change, as other kinds' changes do."""
        self.version += count

    def since(self, kind: Kind, version: int) -> list[Change]:
        """Return the changes of a kind after a version.

        Raises:
            ApiStatus: 410, the history does not reach back that far.
        """
        forgotten = self._forgotten.get(kind.key, 0)
        if version < forgotten:
            raise expired(f"too old resource version: {version} ({forgotten})")
        changes: list[Change] = []
        for change in reversed(self._history.get(kind.key, ())):
            if change.version <= version:
                break
            changes.append(change)
        changes.reverse()
        return changes

    def at(self, kind: Kind, version: int, namespace: str = "") -> list[Entry]:
        """Return the objects of a kind as they were at a version.

        Raises:
            ApiStatus: 410, the history does not reach back that far.
        """
        changes = self.since(kind, version)
        if not changes:
            return self.entries(kind, namespace)
        objects = dict(self._objects.get(kind.key, {}))
        for change in reversed(changes):
            if change.old is None:
                objects.pop(change.key, None)
            else:
                objects[change.key] = change.old
        return [objects[key] for key in sorted(objects) if not namespace or key[0] == namespace]

    def compact(self) -> None:
        """Forget the history up to now: whoever continues from an earlier version is told 410."""
        for key in set(self._objects) | set(self._history):
            self._history.pop(key, None)
            self._forgotten[key] = self.version

    def forget(self, kind: Kind) -> None:
        """Forget all of a kind, its history too."""
        for table in (self._objects, self._sorted, self._history):
            table.pop(kind.key, None)
        self._forgotten[kind.key] = self.version

    def backup(self) -> Backup:
        """Return everything as it is now."""
        return Backup(self.version, {key: dict(objects) for key, objects in self._objects.items()})

    def restore(self, backup: Backup) -> None:
        """Make everything as it was: versions go back and nobody is told, as when etcd is restored from a backup."""
        self.version = backup.version
        self._objects = {key: dict(objects) for key, objects in backup.objects.items()}
        self._sorted.clear()
        self._history.clear()
        self._forgotten = dict.fromkeys(self._objects, self.version)

    def kinds_in(self, namespace: str, kinds: Iterable[Kind]) -> Iterator[tuple[Kind, Key]]:
        """Yield every object in a namespace."""
        seen = set()
        for kind in kinds:
            if kind.namespaced and kind.key not in seen:
                seen.add(kind.key)
                for key in [key for key in self._objects.get(kind.key, {}) if key[0] == namespace]:
                    yield kind, key

    def _publish(self, kind: Kind, change: Change) -> None:
        history = self._history.get(kind.key)
        if history is None:
            history = self._history[kind.key] = deque()
        if len(history) >= HISTORY:
            self._forgotten[kind.key] = history.popleft().version
        history.append(change)
        for listener in tuple(self._listeners):
            listener(kind, change)
