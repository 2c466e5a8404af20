# SPDX-License-Identifier: Apache-2.0
"""The garbage collector and the namespace controller.

An object whose owners are all gone goes too; one that still has an owner only loses the reference. Deletion in the foreground
waits for dependents that block it, orphaning takes the references away first. A terminating Namespace goes when nothing is left
in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.kube.controllers.base import Controller
from tests.kube.kinds import Target
from tests.kube.store import decode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.kube.kinds import Kind
    from tests.kube.server import FakeApiServer
    from tests.kube.store import Change, Entry

__all__ = ["Garbage", "empty_namespace"]

_Id = tuple[tuple[str, str], str, str]
"""(key of the kind, namespace, name)"""


class Garbage(Controller[_Id]):
    """Collects; a key is the identity of an object to look at: a dependent, an owner that leaves, or a Namespace."""

    def __init__(self, api: FakeApiServer) -> None:
        self._dependents: dict[str, set[_Id]] = {}
        self._living: dict[str, _Id] = {}
        self._kinds: dict[tuple[str, str], Kind] = {}
        self._namespaces = api.kinds.named("Namespace")
        for kind in api.kinds.all():
            for entry in api.store.entries(kind):
                self._note(kind, entry)
        super().__init__(api)

    def everything(self) -> Iterable[_Id]:
        """Return all dependents."""
        return {one for ids in self._dependents.values() for one in ids}

    def touched(self, kind: Kind, change: Change) -> Iterator[_Id]:
        """Return the object itself when it depends or is on its way out, and whatever depends on it when it is gone."""
        here = (kind.key, *change.key)
        uid = change.entry.obj["metadata"]["uid"]
        if change.old is not None:
            for owner in _owners(change.old):
                self._dependents.get(owner, set()).discard(here)
                if change.type == "DELETED" and owner in self._living:
                    yield self._living[owner]  # it may wait for this
        if change.type == "DELETED":
            self._living.pop(uid, None)
            yield from self._dependents.get(uid, ())
            if change.key[0]:
                yield (self._namespaces.key, "", change.key[0])
            return
        self._note(kind, change.entry)
        if _owners(change.entry) or change.entry.obj["metadata"].get("deletionTimestamp"):
            yield here

    def _note(self, kind: Kind, entry: Entry) -> None:
        meta = entry.obj["metadata"]
        self._kinds[kind.key] = kind
        here = self._living[meta["uid"]] = (kind.key, meta.get("namespace", ""), meta["name"])
        for owner in _owners(entry):
            self._dependents.setdefault(owner, set()).add(here)

    def sync(self, key: _Id) -> None:
        """Look at one object."""
        kind = self._kinds.get(key[0])
        entry = self.api.store.get(kind, key[1], key[2]) if kind is not None else None
        if kind is None or entry is None:
            return
        meta = entry.obj["metadata"]
        if meta.get("deletionTimestamp"):
            self._leave(kind, entry)
            return
        owners = _owners(entry)
        left = [uid for uid in owners if uid in self._living]
        if owners and not left:
            target = Target(kind=kind, namespace=key[1], name=key[2])
            self.api.writer.delete(target, {})
        elif len(left) < len(owners):
            self._disown(kind, entry, set(owners) - set(left))

    def _leave(self, kind: Kind, entry: Entry) -> None:
        meta = entry.obj["metadata"]
        if kind.key == self._namespaces.key:
            empty_namespace(self.api, meta["name"])
            return
        finalizers = meta.get("finalizers") or ()
        if "orphan" in finalizers:
            for id_ in list(self._dependents.get(meta["uid"], ())):
                dependent = self.api.store.get(self._kinds[id_[0]], id_[1], id_[2])
                if dependent is not None:
                    self._disown(self._kinds[id_[0]], dependent, {meta["uid"]})
            self.api.writer.remove_finalizer(kind, entry, "orphan")
        elif "foregroundDeletion" in finalizers:
            blocking = False
            for id_ in list(self._dependents.get(meta["uid"], ())):
                target = Target(kind=self._kinds[id_[0]], namespace=id_[1], name=id_[2])
                _, gone = self.api.writer.delete(
                    target, {"propagationPolicy": "Foreground"} if self._dependents_of(target) else {}
                )
                blocking = blocking or not gone
            if not blocking:
                self.api.writer.remove_finalizer(kind, entry, "foregroundDeletion")

    def _dependents_of(self, target: Target) -> bool:
        entry = self.api.store.get(target.kind, target.namespace, target.name)
        return entry is not None and bool(self._dependents.get(entry.obj["metadata"]["uid"]))

    def _disown(self, kind: Kind, entry: Entry, gone: set[str]) -> None:
        obj: dict[str, Any] = decode(entry.whole)
        references = [one for one in obj["metadata"]["ownerReferences"] if one["uid"] not in gone]
        obj["metadata"]["ownerReferences"] = references
        if not references:
            del obj["metadata"]["ownerReferences"]
        self.api.store.put(kind, obj)


def _owners(entry: Entry) -> list[str]:
    return [one.get("uid", "") for one in entry.obj["metadata"].get("ownerReferences") or ()]


def empty_namespace(api: FakeApiServer, name: str, *, at_once: bool = False) -> None:
    """Delete what is in a terminating Namespace, and the Namespace when nothing is left.

    With `at_once` neither finalizers nor grace periods are waited for.
    """
    for kind, key in list(api.store.kinds_in(name, api.kinds.all())):
        if at_once:
            api.delete(f"{kind.kind}.{kind.group}" if kind.group else kind.kind, *key)
        else:
            entry = api.store.get(kind, *key)
            if entry is not None and not entry.obj["metadata"].get("deletionTimestamp"):
                api.writer.delete(Target(kind=kind, namespace=key[0], name=key[1]), {})
    if not any(True for _ in api.store.kinds_in(name, api.kinds.all())):
        namespaces = api.kinds.named("Namespace")
        entry = api.store.get(namespaces, "", name)
        if entry is not None and not entry.obj["metadata"].get("finalizers"):
            api.store.delete(namespaces, "", name)
