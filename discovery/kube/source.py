# SPDX-License-Identifier: Apache-2.0
"""KubeSource: the objects of a cluster, as `discovery.files` has those of a directory.

One watch for each kind. The first answer waits for all of them, since half a cluster would translate into routes to nowhere;
from then on whatever has piled up is handed over at once, nothing waits.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING

from discovery.kube.decoding import decoder_for
from discovery.kube.kinds import (
    DESTINATION_RULES,
    ENDPOINT_SLICES,
    NAMESPACES,
    PODS,
    SERVICE_ENTRIES,
    SERVICES,
    TELEMETRIES,
    VIRTUAL_SERVICES,
)
from discovery.kube.watched import Watched, WatchStatus
from discovery.objects import Key, ObjectChanges, SourceProblem

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from discovery.kube.backoff import WatchLimits
    from discovery.kube.client import KubeClient
    from discovery.kube.kinds import ApiKind
    from discovery.kube.objects import WatchChange
    from routing.resources import Resource

__all__ = ["GATEWAY_KINDS", "KubeSource"]

GATEWAY_KINDS = (SERVICES, ENDPOINT_SLICES, NAMESPACES, PODS, VIRTUAL_SERVICES, DESTINATION_RULES, SERVICE_ENTRIES, TELEMETRIES)
"""What a gateway needs to know."""


class KubeSource:
    """Watches a cluster and tells what changed in it.

    Args:
        client: how to reach it. It is not closed by this.
        kinds: what to watch; each must be one that routing reads.
        limits: the figures of the watches.
        clock: monotonic seconds.
        sleep: waits for some seconds.
        draw: a random number in [0, 1).
    """

    def __init__(
        self,
        client: KubeClient,
        kinds: Sequence[ApiKind] = GATEWAY_KINDS,
        *,
        limits: WatchLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.name = f"kubernetes at {client.server}"
        self._put: dict[Key, Resource] = {}
        self._removed: set[Key] = set()
        self._problems: dict[str, tuple[SourceProblem, ...]] = {}
        self._is_changed = False
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._watches = [
            Watched(
                client,
                kind,
                decoder_for(kind),
                on_change=self._taker(kind.kind),
                limits=limits,
                clock=clock,
                sleep=sleep,
                draw=draw,
            )
            for kind in kinds
        ]

    def __repr__(self) -> str:
        synced = sum(watch.synced for watch in self._watches)
        return f"<KubeSource {self.name} {synced} of {len(self._watches)} kinds synced>"

    def watches(self) -> tuple[WatchStatus, ...]:
        """Tell how the watches are doing."""
        return tuple(watch.status() for watch in self._watches)

    async def first(self) -> ObjectChanges:
        """Begin to watch, and return everything once every kind is known completely, or known to be absent."""
        if not self._tasks:
            self._tasks = [asyncio.create_task(watch.run(), name=repr(watch)) for watch in self._watches]
            for task in self._tasks:
                task.add_done_callback(lambda _: self._wake.set())
        while not all(watch.synced for watch in self._watches):
            await self._woken()
        return self._taken()

    async def changes(self) -> AsyncGenerator[ObjectChanges]:
        """Yield what changes from then on, for ever; all that piled up since the last time at once."""
        while True:
            while not self._is_changed:
                await self._woken()
            yield self._taken()

    async def close(self) -> None:
        """Stop watching."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _woken(self) -> None:
        self._wake.clear()
        for task in self._tasks:
            if task.done():
                task.result()
                raise RuntimeError(f"{task.get_name()} has ended")
        await self._wake.wait()

    def _taken(self) -> ObjectChanges:
        problems = tuple(problem for kind in sorted(self._problems) for problem in self._problems[kind])
        changes = ObjectChanges(self._put, frozenset(self._removed), problems)
        self._put, self._removed, self._is_changed = {}, set(), False
        return changes

    def _taker(self, kind: str) -> Callable[[WatchChange[Resource]], None]:
        def take(change: WatchChange[Resource]) -> None:
            put = {Key(kind, *key): found for key, found in change.put.items()}
            removed = {Key(kind, *key) for key in change.removed}
            self._removed = (self._removed - put.keys()) | removed
            for key in removed & self._put.keys():
                del self._put[key]
            self._put |= put
            self._problems[kind] = change.problems
            self._is_changed = True
            self._wake.set()

        return take
