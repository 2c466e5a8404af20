# SPDX-License-Identifier: Apache-2.0
"""WatchedObjects: the objects of one kind, a snapshot in the making beside them, and what changed since somebody asked. Pure.

Three rules. A snapshot takes the place of the objects as a whole, and what is passed on is the difference: that is how an object
that was deleted while nobody looked disappears. An object that cannot be read keeps its last good version, also over a snapshot,
and is reported until a version that can be read comes or it is deleted. A change that makes no difference is no change: objects
come more than once, and a server may tell old ones again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import msgspec

from discovery.objects import SourceProblem
from routing.resources import ResourceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from discovery.kube.wire import Head

__all__ = ["ObjectKey", "WatchChange", "WatchedObjects"]

T = TypeVar("T")

ObjectKey = tuple[str, str]
"""(namespace, name); the namespace is "" for kinds without."""

ORIGIN = "kubernetes"


class WatchChange(NamedTuple, Generic[T]):
    """What changed since the last time, and all problems of the kind there are now."""

    put: dict[ObjectKey, T]
    removed: set[ObjectKey]
    problems: tuple[SourceProblem, ...]


class _Snapshot(NamedTuple):
    objects: dict[ObjectKey, Any]
    problems: dict[ObjectKey, tuple[SourceProblem, ...]]


class WatchedObjects(Generic[T]):
    """The objects of a kind.

    Args:
        kind: its name, for messages.
        decode: reads one object; whatever it raises is a problem of that object.
    """

    def __init__(self, kind: str, decode: Callable[[bytes], T]) -> None:
        self._kind = kind
        self._decode = decode
        self._objects: dict[ObjectKey, T] = {}
        self._problems: dict[ObjectKey, tuple[SourceProblem, ...]] = {}
        self._snapshot: _Snapshot | None = None
        self._put: dict[ObjectKey, T] = {}
        self._removed: set[ObjectKey] = set()
        self._is_changed = False

    def __repr__(self) -> str:
        aside = "" if self._snapshot is None else f" ({len(self._snapshot.objects)} in a new snapshot)"
        return f"<WatchedObjects {self._kind} {len(self._objects)}{aside}>"

    def __len__(self) -> int:
        return len(self._objects)

    def begin(self) -> None:
        """Begin a snapshot; one that was not finished is forgotten."""
        self._snapshot = _Snapshot({}, {})

    def add(self, head: Head, raw: bytes) -> None:
        """Add an object to the snapshot."""
        assert self._snapshot is not None, "no snapshot was begun"
        key = (head.namespace, head.name)
        found = self._read(key, raw)
        if isinstance(found, _Unreadable):
            self._snapshot.problems[key] = found.problems
            self._snapshot.objects.pop(key, None)
        else:
            self._snapshot.objects[key] = found
            self._snapshot.problems.pop(key, None)

    def drop(self, head: Head) -> None:
        """Take an object out of the snapshot: it was deleted while the snapshot was told."""
        assert self._snapshot is not None, "no snapshot was begun"
        key = (head.namespace, head.name)
        self._snapshot.objects.pop(key, None)
        self._snapshot.problems.pop(key, None)

    def swap(self) -> None:
        """Let the snapshot, which is complete, take the place of the objects."""
        assert self._snapshot is not None, "no snapshot was begun"
        objects, problems = self._snapshot
        for key in problems:
            if key in self._objects:
                objects[key] = self._objects[key]
        for key, found in objects.items():
            if self._objects.get(key) != found:
                self._note_put(key, found)
        for key in self._objects.keys() - objects.keys():
            self._note_removed(key)
        self._is_changed |= problems != self._problems
        self._objects, self._problems, self._snapshot = objects, problems, None

    def empty(self) -> None:
        """Take note that there are no objects."""
        self.begin()
        self.swap()

    def put(self, head: Head, raw: bytes) -> None:
        """Take an object that was added or modified."""
        key = (head.namespace, head.name)
        found = self._read(key, raw)
        if isinstance(found, _Unreadable):
            self._is_changed |= self._problems.get(key) != found.problems
            self._problems[key] = found.problems
            return
        if self._problems.pop(key, None) is not None:
            self._is_changed = True
        if self._objects.get(key) != found:
            self._objects[key] = found
            self._note_put(key, found)

    def remove(self, head: Head) -> None:
        """Take note that an object was deleted."""
        key = (head.namespace, head.name)
        if self._problems.pop(key, None) is not None:
            self._is_changed = True
        if self._objects.pop(key, None) is not None:
            self._note_removed(key)

    def report(self, reason: str) -> None:
        """Report something that cannot be told of one object; the next snapshot forgets it."""
        problem = SourceProblem(origin=ORIGIN, kind=self._kind, reason=reason)
        if self._problems.get(("", "")) != (problem,):
            self._problems["", ""] = (problem,)
            self._is_changed = True

    def taken(self) -> WatchChange[T] | None:
        """Return what changed since this was asked before, None if nothing did."""
        if not (self._put or self._removed or self._is_changed):
            return None
        problems = tuple(problem for key in sorted(self._problems) for problem in self._problems[key])
        change = WatchChange(self._put, self._removed, problems)
        self._put, self._removed, self._is_changed = {}, set(), False
        return change

    def _note_put(self, key: ObjectKey, found: T) -> None:
        self._removed.discard(key)
        self._put[key] = found

    def _note_removed(self, key: ObjectKey) -> None:
        self._put.pop(key, None)
        self._removed.add(key)

    def _read(self, key: ObjectKey, raw: bytes) -> T | _Unreadable:
        namespace, name = key
        who = SourceProblem(origin=ORIGIN, kind=self._kind, namespace=namespace, name=name, reason="")
        if not name:
            return _Unreadable((msgspec.structs.replace(who, field="metadata.name", reason="there is no name"),))
        try:
            return self._decode(raw)
        except ResourceError as error:
            return _Unreadable(
                tuple(msgspec.structs.replace(who, field=field, reason=reason) for field, reason in error.problems)
            )
        except Exception as error:  # a decoder that fails in any way must not cost the other objects
            reason = str(error) or type(error).__name__
            return _Unreadable((msgspec.structs.replace(who, reason=f"cannot be read: {reason}"),))


class _Unreadable(NamedTuple):
    problems: tuple[SourceProblem, ...]
