# SPDX-License-Identifier: Apache-2.0
"""The loop that all controllers share: changes mark keys, and marked keys are synced one turn of the event loop later."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from tests.kube.kinds import Kind
    from tests.kube.server import FakeApiServer
    from tests.kube.store import Change

__all__ = ["Controller", "owner_reference", "owns"]

_Key = TypeVar("_Key", bound="Hashable")


class Controller(Generic[_Key]):
    """Syncs keys that changes mark; nothing happens before `start`, nor while it is paused."""

    def __init__(self, api: FakeApiServer) -> None:
        self.api = api
        self._marked: dict[_Key, None] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._scheduled: asyncio.Handle | None = None
        self._paused = False
        api.store.on_change(self._changed)

    def __repr__(self) -> str:
        state = "paused" if self._paused else "idle" if not self._marked else "busy"
        return f"<{type(self).__name__} {state}, {len(self._marked)} keys marked>"

    @property
    def idle(self) -> bool:
        """Tell whether there is nothing left to do."""
        return not self._marked

    def start(self) -> None:
        """Begin with everything there is."""
        self._loop = asyncio.get_running_loop()
        self.mark(*self.everything())

    def stop(self) -> None:
        """Do nothing more until the next start."""
        self._loop = None
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None

    def pause(self) -> None:
        """Let changes pile up."""
        self._paused = True

    def resume(self) -> None:
        """Go on, with all that piled up."""
        self._paused = False
        self._schedule()

    def mark(self, *keys: _Key) -> None:
        """Ask for keys to be synced."""
        self._marked.update(dict.fromkeys(keys))
        self._schedule()

    def everything(self) -> Iterable[_Key]:
        """Return the keys to begin with."""
        raise NotImplementedError

    def touched(self, kind: Kind, change: Change) -> Iterable[_Key]:
        """Return the keys that a change matters to."""
        raise NotImplementedError

    def sync(self, key: _Key) -> None:
        """Make what belongs to a key as it should be."""
        raise NotImplementedError

    def _changed(self, kind: Kind, change: Change) -> None:
        if keys := list(self.touched(kind, change)):
            self.mark(*keys)

    def _schedule(self) -> None:
        if self._marked and not self._paused and self._loop is not None and self._scheduled is None:
            self._scheduled = self._loop.call_soon(self._run)

    def _run(self) -> None:
        self._scheduled = None
        keys, self._marked = self._marked, {}
        for key in keys:
            self.sync(key)


def owner_reference(owner: dict[str, Any]) -> dict[str, Any]:
    """Return the reference by which a controller's object names it."""
    meta = owner["metadata"]
    reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": meta["name"], "uid": meta["uid"]}
    return reference | {"controller": True, "blockOwnerDeletion": True}


def owns(owner: dict[str, Any], obj: dict[str, Any]) -> bool:
    """Tell whether an object names another as its owner."""
    uid = owner["metadata"]["uid"]
    return any(one.get("uid") == uid for one in obj["metadata"].get("ownerReferences") or ())
