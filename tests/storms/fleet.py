# SPDX-License-Identifier: Apache-2.0
"""Fleet: the watches of several gateways on one API server, over real HTTP, in a time that a test makes pass.

Time passes in steps; after each, everything that can happen without more time has happened: every watch is waiting for its time
to come, or has an open stream from which it has taken what there was. So the requests of each second can be counted exactly.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, NamedTuple, Self

from discovery.kube import GATEWAY_KINDS, KubeClient, KubeSource, WatchLimits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from discovery.kube import WatchStatus
    from discovery.objects import Key
    from routing.resources import Resource
    from tests.kube import FakeApiServer

__all__ = ["Fleet", "Made"]

_STUCK_S = 20.0
_CALM_TURNS = 3


class Made(NamedTuple):
    """A request: when, in the fleet's time, and for which kind."""

    at: float
    plural: str


class _Member:
    """One gateway's watches, and what they have told."""

    def __init__(self, fleet: Fleet, client: KubeClient, number: int, limits: WatchLimits | None) -> None:
        self.objects: dict[Key, Resource] = {}
        self.sleeping: dict[asyncio.Event, float] = {}
        self._fleet = fleet
        rng = random.Random(number)
        self.source = KubeSource(client, limits=limits, clock=fleet.clock, sleep=self._sleep, draw=rng.random)

    async def _sleep(self, seconds: float) -> None:
        event = asyncio.Event()
        self.sleeping[event] = self._fleet.now + seconds
        await event.wait()

    def wake(self) -> None:
        """Wake whoever's time has come."""
        for event, until in list(self.sleeping.items()):
            if until <= self._fleet.now:
                del self.sleeping[event]
                event.set()

    async def follow(self) -> None:
        """Keep what the source tells."""
        first = await self.source.first()
        self.objects.update(first.put)
        async for changes in self.source.changes():
            self.objects.update(changes.put)
            for key in changes.removed:
                self.objects.pop(key, None)


class Fleet:
    """Gateways that watch one API server.

    Args:
        api: the server.
        kubeconfig: how to reach it.
        size: how many there are.
        limits: the figures of their watches.

    Attributes:
        now: the time.
        made: the requests so far.
    """

    def __init__(self, api: FakeApiServer, kubeconfig: Path, size: int, *, limits: WatchLimits | None = None) -> None:
        self.api = api
        self.now = 5000.0
        self.made: list[Made] = []
        self._kubeconfig = kubeconfig
        self._size = size
        self._limits = limits
        self._members: list[_Member] = []
        self._stack = AsyncExitStack()

    def __repr__(self) -> str:
        return f"<Fleet of {len(self._members)} at {self.now:.1f}: {len(self.made)} requests>"

    async def __aenter__(self) -> Self:
        for number in range(self._size):
            client = await KubeClient.connect(kubeconfig=self._kubeconfig, clock=self.clock)
            self._stack.push_async_callback(client.close)
            member = _Member(self, client, number, self._limits)
            self._stack.push_async_callback(member.source.close)
            following = asyncio.create_task(member.follow())
            self._stack.callback(following.cancel)
            self._members.append(member)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stack.aclose()

    def clock(self) -> float:
        """Return the time."""
        return self.now

    @property
    def watches(self) -> int:
        """How many watches there are in all."""
        return self._size * len(GATEWAY_KINDS)

    def statuses(self) -> list[WatchStatus]:
        """Tell how all watches are doing."""
        return [status for member in self._members for status in member.source.watches()]

    def know(self, kind: str, name: str) -> int:
        """Count the gateways that know an object."""
        return sum(any(key.kind == kind and key.name == name for key in member.objects) for member in self._members)

    async def synced(self) -> None:
        """Wait until everybody knows everything; no time passes."""
        await self.until(lambda: all(status.synced for status in self.statuses()), "all are synced")
        await self.calm()

    async def calm(self) -> None:
        """Wait until nothing happens any more without time."""
        calm, before = 0, (-1, -1, -1)
        deadline = asyncio.get_running_loop().time() + _STUCK_S
        while calm < _CALM_TURNS:
            await asyncio.sleep(0.002)
            sleeping = sum(len(member.sleeping) for member in self._members)
            streams = len(self.api.watches())
            state = (sleeping, streams, len(self.api.requests))
            is_calm = sleeping + streams == self.watches and state == before
            calm = calm + 1 if is_calm else 0
            before = state
            assert asyncio.get_running_loop().time() < deadline, f"{self} does not calm down: {state} of {self.watches}"
        new = self.api.requests[len(self.made) :]
        self.made += [Made(self.now, request.path.rpartition("/")[2]) for request in new]

    async def pass_time(self, seconds: float, step_s: float = 1.0) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(self.now + step_s, end)
            before = sum(len(member.sleeping) for member in self._members)
            for member in self._members:
                member.wake()
            if before != sum(len(member.sleeping) for member in self._members):
                await self.calm()

    def between(self, first: float, last: float) -> list[Made]:
        """Return the requests of a time: later than `first`, up to `last`."""
        return [made for made in self.made if first < made.at <= last]

    def worst(self, first: float, last: float) -> int:
        """Return the most requests at one step of a time."""
        return max(Counter(made.at for made in self.between(first, last)).values(), default=0)

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for a condition; no time passes."""
        deadline = asyncio.get_running_loop().time() + _STUCK_S
        while not condition():
            assert asyncio.get_running_loop().time() < deadline, f"{what}: {self} {self.statuses()}"
            await asyncio.sleep(0.002)
