# SPDX-License-Identifier: Apache-2.0
"""Watches: a collection's changes as lines of JSON, from a version on, until the client leaves or its time is over.

A watch at resourceVersion "" or "0" begins with what is there as ADDED events; with sendInitialEvents a bookmark says where
these end. A version that the history no longer has is answered 410: as an ERROR event, as the real server's cache does, or as
the answer's status, as it does elsewhere (`Faults.gone_as_status`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson

from tests.kube.errors import ApiStatus, bad_request
from tests.kube.reading import check_list_options, seen_as
from tests.kube.selectors import chooser

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.kube.kinds import Kind, Target
    from tests.kube.requests import Query
    from tests.kube.store import Change, Entry, Store

__all__ = ["END_OF_INITIAL_EVENTS", "Watch", "Watches"]

END_OF_INITIAL_EVENTS = "k8s.io/initial-events-end"


class Watch:
    """One client's watch: lines wait in it until the connection takes them.

    Attributes:
        ended: nothing more will come; `aborted` says that the connection shall be reset.
        frozen: lines are kept back, the connection stays open.
        half_line: the next line is sent by half, and the connection reset.
    """

    def __init__(self, target: Target, query: Query, chosen: Callable[[dict[str, Any]], bool] | None) -> None:
        self.target = target
        self.bookmarks = query.flag("allowWatchBookmarks")
        self.timeout_s = query.number("timeoutSeconds")
        self.ended = self.aborted = self.frozen = self.half_line = False
        self._chosen = chosen
        self._lines: list[bytes] = []
        self._wake = asyncio.Event()

    def __repr__(self) -> str:
        state = "ended" if self.ended else "frozen" if self.frozen else "open"
        return f"<Watch of {self.target.kind.plural} {state}, {len(self._lines)} lines wait>"

    def send(self, line: bytes) -> None:
        """Add a line."""
        self._lines.append(line)
        self._wake.set()

    def event(self, type_: str, entry: Entry) -> None:
        """Add an event."""
        self.send(b'{"type":"%b","object":%b}\n' % (type_.encode(), seen_as(entry, self.target.kind).whole))

    def bookmark(self, version: int, *, initial_end: bool = False) -> None:
        """Add a bookmark, when the client wants any."""
        if self.bookmarks:
            kind = self.target.kind
            meta: dict[str, Any] = {"resourceVersion": str(version), "creationTimestamp": None}
            if initial_end:
                meta["annotations"] = {END_OF_INITIAL_EVENTS: "true"}
            obj = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": meta}
            self.send(b'{"type":"BOOKMARK","object":%b}\n' % orjson.dumps(obj))

    def error(self, status: ApiStatus) -> None:
        """Add an ERROR event and end."""
        self.send(b'{"type":"ERROR","object":%b}\n' % orjson.dumps(status.body()))
        self.end()

    def end(self, *, abort: bool = False) -> None:
        """End the watch once its lines are gone, or at once by a reset."""
        self.ended = True
        self.aborted = self.aborted or abort
        self._wake.set()

    def change(self, change: Change) -> None:
        """Add what a change means to this watch: an object that no longer fits its selectors is deleted to it."""
        if self.target.namespace and change.key[0] != self.target.namespace:
            return
        if self._chosen is None:
            self.event(change.type, change.entry)
            return
        before = change.old is not None and self._chosen(change.old.obj)
        after = change.type != "DELETED" and self._chosen(change.entry.obj)
        if before or after:
            self.event("MODIFIED" if before and after else "ADDED" if after else "DELETED", change.entry)

    def fits(self, entry: Entry) -> bool:
        """Tell whether an object is in what is watched."""
        return self._chosen is None or self._chosen(entry.obj)

    async def take(self) -> bytes:
        """Wait for lines and return all there are, nothing at the end."""
        while self.frozen or not self._lines:
            if self.ended and not self.frozen:
                return b""
            self._wake.clear()
            await self._wake.wait()
        lines = b"".join(self._lines)
        self._lines.clear()
        return lines

    def thaw(self) -> None:
        """Let lines go again."""
        self.frozen = False
        self._wake.set()


class Watches:
    """All watches that are open.

    Attributes:
        bookmark_every_s: how often a watch that wants bookmarks gets one; the real server sends about one a minute.
        watch_list: sendInitialEvents is understood; else it is refused as servers before 1.32 do by default.
    """

    def __init__(self, store: Store) -> None:
        self.watch_list = True
        self.bookmark_every_s = 60.0
        self.open: set[Watch] = set()
        self._store = store
        store.on_change(self._changed)

    def __repr__(self) -> str:
        return f"<Watches {len(self.open)} open>"

    def start(self, target: Target, query: Query) -> Watch:
        """Open a watch; what is known at once waits in it.

        Raises:
            ApiStatus: 400, 410 or 422, as the options deserve.
        """
        check_list_options(query, watch=True, watch_list=self.watch_list)
        kind, text = target.kind, query.text("resourceVersion")
        if text and not text.isdecimal():
            raise bad_request(f'Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax')
        fields = query.text("fieldSelector")
        watch = Watch(target, query, chooser(kind, query.text("labelSelector"), fields))
        initial = query.flag("sendInitialEvents") if query.has("sendInitialEvents") else text in {"", "0"}
        if initial:
            for entry in self._store.entries(kind, target.namespace):
                if watch.fits(entry):
                    watch.event("ADDED", entry)
            if query.has("sendInitialEvents"):
                watch.bookmark(self._store.version, initial_end=True)
        elif text not in {"", "0"}:
            for change in self._store.since(kind, int(text)):
                watch.change(change)
        self.open.add(watch)
        return watch

    def close(self, watch: Watch) -> None:
        """Forget a watch."""
        self.open.discard(watch)

    def of(self, kind: Kind | None = None) -> list[Watch]:
        """Return the open watches, of one kind if it is given."""
        return [watch for watch in self.open if kind is None or watch.target.kind.key == kind.key]

    def _changed(self, kind: Kind, change: Change) -> None:
        for watch in self.open:
            if watch.target.kind.key == kind.key and not watch.ended:
                watch.change(change)
