# SPDX-License-Identifier: Apache-2.0
"""A watch of a fake API server over real HTTP, with time in the test's hands."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from discovery.kube import SERVICES, ApiKind, KubeClient, Watched, WatchLimits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from discovery.kube import ObjectKey, WatchChange
    from discovery.objects import SourceProblem
    from tests.kube import FakeApiServer

Obj = dict[str, Any]

DEADLINE_S = 20.0
"""Nothing takes this long unless it never happens."""


class FakeTime:
    """A clock that stands still and sleeps that end when the test says so; or at once, the clock going forward."""

    def __init__(self, *, auto: bool = False) -> None:
        self.now = 1000.0
        self.auto = auto
        self.waits: list[float] = []
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        if self.auto:
            self.now += seconds
            await asyncio.sleep(0)
            return
        event = asyncio.Event()
        self._sleepers.append((self.now + seconds, event))
        await event.wait()

    @property
    def sleeping(self) -> int:
        """How many wait."""
        return len(self._sleepers)

    def advance(self, seconds: float) -> None:
        """Let time pass and wake whoever's time has come."""
        self.now += seconds
        for when, event in self._sleepers:
            if when <= self.now:
                event.set()
        self._sleepers = [(when, event) for when, event in self._sleepers if when > self.now]


class Thing(msgspec.Struct):
    """What is read of a Service."""

    class Meta(msgspec.Struct):
        name: str
        labels: dict[str, str] = {}

    metadata: Meta

    @property
    def label(self) -> str:
        return self.metadata.labels.get("v", "")


class Scene:
    """A watch, and what it has told."""

    def __init__(self, api: FakeApiServer, client: KubeClient, time: FakeTime) -> None:
        self.api = api
        self.client = client
        self.time = time
        self.told: dict[ObjectKey, Any] = {}
        self.changes: list[WatchChange[Any]] = []
        self.problems: tuple[SourceProblem, ...] = ()
        self.watched: Watched[Any]

    def take(self, change: WatchChange[Any]) -> None:
        self.changes.append(change)
        self.told |= change.put
        for key in change.removed:
            self.told.pop(key, None)
        self.problems = change.problems

    @property
    def labels(self) -> dict[str, str]:
        """The label of each object by its name."""
        return {name: thing.label for (_, name), thing in sorted(self.told.items())}

    @property
    def server_labels(self) -> dict[str, str]:
        """The same, as the server has it."""
        return {obj["metadata"]["name"]: obj["metadata"].get("labels", {}).get("v", "") for obj in self.api.objects("Service")}

    def requests(self, *, is_watch: bool | None = None) -> int:
        """How many requests there were."""
        return sum(is_watch is None or request.is_watch == is_watch for request in self.api.requests)

    async def agreed(self) -> None:
        """Wait until the watch has what the server has."""
        await until(lambda: self.watched.synced and self.labels == self.server_labels, self)

    async def open(self, count: int = 1) -> None:
        """Wait until the watch is connected, having made so many requests at least."""
        await until(lambda: len(self.api.watches()) == 1 and self.requests(is_watch=True) >= count, self)


@asynccontextmanager
async def watching(
    api: FakeApiServer,
    directory: Path,
    *,
    kind: ApiKind = SERVICES,
    decode: Callable[[bytes], Any] | None = None,
    limits: WatchLimits | None = None,
    auto: bool = True,
    **options: Any,
) -> AsyncIterator[Scene]:
    """Watch a kind while the block runs."""
    time = FakeTime(auto=auto)
    client = await KubeClient.connect(kubeconfig=api.kubeconfig(directory), clock=time.clock)
    scene = Scene(api, client, time)
    scene.watched = Watched(
        client,
        kind,
        decode or msgspec.json.Decoder(Thing).decode,
        on_change=scene.take,
        limits=limits,
        clock=time.clock,
        sleep=time.sleep,
        draw=lambda: 0.5,
        **options,
    )
    task = asyncio.create_task(scene.watched.run())
    try:
        yield scene
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.close()


async def until(condition: Callable[[], object], about: object = None) -> None:
    """Wait for a condition."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + DEADLINE_S
    while not condition():
        assert loop.time() < deadline, f"did not come to be: {getattr(about, 'watched', about)!r}"
        await asyncio.sleep(0.001)


def service(name: str, label: str = "", **fields: Any) -> Obj:
    meta = {"name": name, "namespace": "default", "labels": {"v": label}}
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 80}]}, **fields}
