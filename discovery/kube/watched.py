# SPDX-License-Identifier: Apache-2.0
"""Watched: one list and watch, for as long as the process runs. The shell around `machine`: it makes the requests.

What happens next is decided by the machine, what becomes of objects by `objects`; here answers are turned into happenings.
Changes are handed over after every piece of a stream that was read, so nothing waits for anything that has not come yet.

A large snapshot is decoded in slices of a few milliseconds, between which the event loop has its turn.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from discovery.kube.backoff import WatchLimits
from discovery.kube.errors import ApiError, read_status
from discovery.kube.lines import EndlessLineError, LineSplitter
from discovery.kube.machine import Effect, Features, Happening, Machine, Phase
from discovery.kube.objects import WatchChange, WatchedObjects
from discovery.kube.wire import WireError, read_bookmark, read_event, read_head, read_page

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    import msgspec

    from discovery.kube.client import ByteStream, KubeClient
    from discovery.kube.kinds import ApiKind
    from discovery.kube.machine import Move, Step

__all__ = ["WatchStatus", "Watched", "classified"]

T = TypeVar("T")

_TOO_LARGE = "Too large resource version"
"""How the API server says that a version is from its future; status 504 otherwise only means slow."""


class WatchStatus(NamedTuple):
    """How a watch is doing.

    Args:
        kind: what is watched.
        synced: whether all objects were known once, or it is known that there is no such kind.
        absent: whether the server does not have the kind.
        objects: how many there are.
        stale_s: seconds since the server last said anything: an event, a bookmark, a list. Infinite if it never did.
        relists: snapshots taken after the first one.
        errors: requests and streams that failed.
        last_error: of the last of them, "" if there was none.
    """

    kind: str
    synced: bool
    absent: bool
    objects: int
    stale_s: float
    relists: int
    errors: int
    last_error: str


class Watched(Generic[T]):
    """The objects of one kind, kept as the server has them.

    Args:
        client: how to reach the server.
        kind: what to watch.
        decode: reads one object from its JSON; raises for one that cannot be read.
        namespace: only objects of this one.
        label_selector, field_selector: only objects that they select, as kubectl takes them.
        on_change: told what changed, and once when all is known even if that is nothing. It must not raise.
        features: what the server can do; to be shared by the watches of a process.
        limits: the figures.
        clock: monotonic seconds.
        sleep: waits for some seconds.
        draw: a random number in [0, 1).
    """

    def __init__(
        self,
        client: KubeClient,
        kind: ApiKind,
        decode: Callable[[bytes], T],
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        on_change: Callable[[WatchChange[T]], None],
        features: Features | None = None,
        limits: WatchLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._client = client
        self._kinds = (kind, *(kind._replace(version=version) for version in kind.older))
        self._namespace = namespace
        self._selectors = {"labelSelector": label_selector or None, "fieldSelector": field_selector or None}
        self._on_change = on_change
        self._limits = limits or WatchLimits()
        self._clock = clock
        self._sleep = sleep
        self._draw = draw
        self._objects = WatchedObjects(kind.kind, decode)
        self._machine = Machine(
            self._limits, features or client.features, versions=len(self._kinds), may_be_absent=kind.is_custom, draw=draw
        )
        self._heard_at = float("-inf")
        self._snapshots = 0
        self._errors = 0
        self._last_error = ""
        self._was_synced = False
        self._is_handing_over = False

    def __repr__(self) -> str:
        return f"<Watched {self._kinds[0].plural} {self._machine!r} objects={len(self._objects)} errors={self._errors}>"

    @property
    def synced(self) -> bool:
        """Whether all objects were known once, or it is known that there is no such kind."""
        return self._machine.is_synced

    @property
    def absent(self) -> bool:
        """Whether the server does not have the kind."""
        return self._machine.is_absent

    def status(self) -> WatchStatus:
        """Tell how the watch is doing."""
        return WatchStatus(
            kind=self._kinds[0].kind,
            synced=self.synced,
            absent=self.absent,
            objects=len(self._objects),
            stale_s=self._clock() - self._heard_at,
            relists=max(0, self._snapshots - 1),
            errors=self._errors,
            last_error=self._last_error,
        )

    async def run(self) -> None:
        """Watch until cancelled. Raises only what `on_change` raises."""
        while True:
            step = self._machine.step()
            if step.wait_s:
                await self._sleep(step.wait_s)
            try:
                await (self._list(step) if step.phase is Phase.LISTING else self._watch(step))
            except WireError as error:
                self._fail(Happening.GARBLED, str(error))
            except ApiError as error:
                self._fail(classified(error), str(error), asked_s=error.retry_after_s)
            except Exception as error:  # a defect of ours: a new snapshot may not meet it again
                if self._is_handing_over:
                    raise
                self._fail(Happening.GARBLED, f"{type(error).__name__}: {error}")
            self._hand_over()

    async def _list(self, step: Step) -> None:
        query = {"limit": step.limit, "continue": step.token or None, **self._selectors}
        data = await self._client.read("GET", self._path(step), query=query, timeout_s=self._limits.answer_s)
        page = read_page(data)
        if step.is_first:
            self._objects.begin()
        await self._take_items(page.items)
        self._take(Happening.PAGE if page.token else Happening.LISTED, version=page.version, token=page.token)

    async def _take_items(self, items: Iterable[msgspec.Raw]) -> None:
        until = time.monotonic() + self._limits.slice_s
        for raw in items:
            self._objects.add(read_head(raw), bytes(raw))
            if time.monotonic() >= until:
                await asyncio.sleep(0)
                until = time.monotonic() + self._limits.slice_s

    async def _watch(self, step: Step) -> None:
        first_s, last_s = self._limits.timeout_s
        query = {
            "watch": True,
            "allowWatchBookmarks": True,
            "timeoutSeconds": int(first_s + (last_s - first_s) * self._draw()),
            **self._selectors,
        }
        is_snapshot = step.phase is Phase.STREAMING
        if is_snapshot:
            self._objects.begin()
            query |= {"sendInitialEvents": True, "resourceVersionMatch": "NotOlderThan"}
        else:
            query["resourceVersion"] = step.version
        silence_s = self._limits.sync_silence_s if is_snapshot else self._limits.silence_s
        opened = self._client.stream(self._path(step), query=query, answer_s=self._limits.answer_s, silence_s=silence_s)
        async with opened as stream:
            await self._read(stream)

    async def _read(self, stream: ByteStream) -> None:
        """Read a stream to its end, or to the point where it is of no use any more."""
        lines = LineSplitter(self._limits.line_bytes)
        opened_at, is_mute = self._clock(), True
        while True:
            try:
                data = await stream.read()
                found = lines.feed(data)
            except ApiError as error:
                lived_s = self._clock() - opened_at
                what = Happening.CUT if error.reason != "Silence" else Happening.MUTE if is_mute else Happening.SILENT
                self._fail(what, str(error), lived_s=lived_s)
                return
            except EndlessLineError as error:
                self._objects.report(f"the server sent {error}, which was left out")
                self._fail(Happening.CUT, str(error))
                return
            if not data:
                self._end(lines, self._clock() - opened_at)
                return
            is_mute = False
            if not await self._take_lines(found):
                return
            if lines.too_long:
                self._objects.report(f"{lines.too_long} events of more than {self._limits.line_bytes} bytes were left out")
            self._hand_over()
            if self._machine.phase is Phase.WATCHING:
                stream.silence_s = self._limits.silence_s

    def _end(self, lines: LineSplitter, lived_s: float) -> None:
        """Take note of the end of a stream: after some minutes that is as agreed, else it counts as a failure."""
        if lines.is_within_line or lived_s < self._limits.lived_s or self._machine.phase is Phase.STREAMING:
            self._fail(Happening.CUT, f"a stream ended after {lived_s:.1f} s", lived_s=lived_s)
        else:
            self._take(Happening.CUT, lived_s=lived_s)

    async def _take_lines(self, lines: Iterable[bytes]) -> bool:
        """Take events; return whether the stream is to be read on."""
        until = time.monotonic() + self._limits.slice_s
        for line in lines:
            if not self._take_line(line):
                return False
            if time.monotonic() >= until:
                self._hand_over()
                await asyncio.sleep(0)
                until = time.monotonic() + self._limits.slice_s
        return True

    def _take_line(self, line: bytes) -> bool:
        event = read_event(line)
        if event.type == "BOOKMARK":
            version, is_end = read_bookmark(event.object)
            return self._goes_on(Happening.SYNCED if is_end else Happening.BOOKMARK, version)
        if event.type == "ERROR":
            raise read_status(event.object)
        head = read_head(event.object)
        is_snapshot = self._machine.phase is Phase.STREAMING
        if not self._goes_on(Happening.EVENT, head.version):
            return False
        if event.type == "DELETED":
            (self._objects.drop if is_snapshot else self._objects.remove)(head)
        elif event.type in {"ADDED", "MODIFIED"}:
            (self._objects.add if is_snapshot else self._objects.put)(head, bytes(event.object))
        return True

    def _goes_on(self, what: Happening, version: str) -> bool:
        known = self._machine.version
        move = self._take(what, version=version)
        if move.wait is None:
            return True
        self._errors += 1
        self._last_error = f"the server went back from version {known} to {version}" if known else "the server has no WatchList"
        return False

    def _take(self, what: Happening, *, version: str = "", token: str = "", lived_s: float = 0.0) -> Move:
        """Take note of something good."""
        now = self._clock()
        if what is not Happening.CUT:
            self._heard_at = now
        move = self._machine.take(what, now, version=version, token=token, lived_s=lived_s)
        self._carry_out(move)
        return move

    def _fail(self, what: Happening, reason: str, *, asked_s: float | None = None, lived_s: float = 0.0) -> None:
        """Take note of something bad; that a kind is not there is neither."""
        move = self._machine.take(what, self._clock(), asked_s=asked_s, lived_s=lived_s)
        self._carry_out(move)
        if what is Happening.NOT_FOUND and self._kinds[0].is_custom:
            self._heard_at = self._clock()
            return
        self._errors += 1
        self._last_error = reason

    def _carry_out(self, move: Move) -> None:
        if move.effect is Effect.SWAP:
            self._objects.swap()
            self._snapshots += 1
        elif move.effect is Effect.EMPTY:
            self._objects.empty()

    def _hand_over(self) -> None:
        change = self._objects.taken()
        is_news = self.synced and not self._was_synced
        self._was_synced |= self.synced
        if change is not None or is_news:
            self._is_handing_over = True
            self._on_change(change or WatchChange({}, set(), ()))
            self._is_handing_over = False

    def _path(self, step: Step) -> str:
        return self._kinds[step.served].path(self._namespace)


def classified(error: ApiError) -> Happening:
    """Tell what an error means to a watch."""
    if error.status == 410 or (error.status == 504 and _TOO_LARGE in error.message):
        return Happening.EXPIRED
    if error.status == 404:
        return Happening.NOT_FOUND
    if error.status in {400, 405, 406, 415, 422}:
        return Happening.REJECTED
    return Happening.FAILED
