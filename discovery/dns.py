# SPDX-License-Identifier: Apache-2.0
"""Resolver: the addresses of the names that objects give as endpoints (ExternalName Services, ServiceEntries).

The system's resolver is asked, which knows /etc/hosts and the search list but does not tell how long an answer holds. So a name
is asked for again after 5 s, and for as long as the answer stays the same after twice the time, up to 30 s; each time is drawn
from the upper half of it, so that names, and gateways, do not ask in step. A name that cannot be looked up keeps its last good
addresses, is reported, and is asked for again after 5 s.

IPv4 addresses are taken if a name has any, else IPv6 ones: pods are rarely able to reach both. Answers are put in order, because
resolvers rotate them and a rotation is no change.
"""

from __future__ import annotations

import asyncio
import random
import socket
from typing import TYPE_CHECKING

from discovery.objects import SourceProblem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

__all__ = ["Resolver", "look_up"]

FIRST_S = 5.0
LAST_S = 30.0
TIMEOUT_S = 10.0
"""The system's resolver takes 5 s for each server that does not answer."""

CONCURRENT = 8
"""Lookups at once: each takes a thread of the event loop's pool, which others need too."""

GATHER_S = 0.02
"""Answers that come within this time are published together."""


async def look_up(name: str) -> tuple[str, ...]:
    """Ask the system's resolver for the addresses of a name.

    Raises:
        OSError: There is no answer, or no such name.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    addresses = {str(entry[4][0]) for entry in found}
    four = {address for address in addresses if ":" not in address}
    return tuple(sorted(four or addresses))


class Resolver:
    """Keeps the addresses of a set of names up to date. To be used inside a running event loop.

    Args:
        publish: takes all addresses by name, and which names cannot be looked up, whenever either changes.
        ask: looks one name up.
        sleep: waits for some seconds.
        draw: a random number in [0, 1).
    """

    def __init__(
        self,
        publish: Callable[[Mapping[str, tuple[str, ...]], tuple[SourceProblem, ...]], None],
        *,
        ask: Callable[[str], Awaitable[tuple[str, ...]]] = look_up,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._publish = publish
        self._ask = ask
        self._sleep = sleep
        self._draw = draw
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._addresses: dict[str, tuple[str, ...]] = {}
        self._failures: dict[str, str] = {}
        self._permits = asyncio.Semaphore(CONCURRENT)
        self._publishing: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Resolver {len(self._tasks)} names, {len(self._addresses)} with addresses, {len(self._failures)} failing>"

    def watch(self, names: frozenset[str]) -> None:
        """Keep up these names from now on, and no others."""
        for name in self._tasks.keys() - names:
            self._tasks.pop(name).cancel()
            had_failed = self._failures.pop(name, None) is not None
            if self._addresses.pop(name, None) is not None or had_failed:
                self._changed()
        for name in sorted(names - self._tasks.keys()):
            self._tasks[name] = asyncio.ensure_future(self._keep(name))

    async def close(self) -> None:
        """Stop."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._publishing is not None:
            self._publishing.cancel()

    async def _keep(self, name: str) -> None:
        interval = FIRST_S
        while True:
            is_same = await self._refresh(name)
            interval = min(2 * interval, LAST_S) if is_same else FIRST_S
            await self._sleep(interval * (1 + self._draw()) / 2)

    async def _refresh(self, name: str) -> bool:
        """Ask for a name; return whether it has the addresses it had."""
        try:
            async with self._permits:
                addresses = await asyncio.wait_for(self._ask(name), TIMEOUT_S)
        except (OSError, UnicodeError) as error:  # the latter: a label too long for IDNA; TimeoutError is an OSError
            reason = getattr(error, "strerror", None) or str(error) or "no answer in time"
            if self._failures.get(name) != reason:
                self._failures[name] = reason
                self._changed()
            return False
        is_recovered = self._failures.pop(name, None) is not None
        is_same = self._addresses.get(name) == addresses
        self._addresses[name] = addresses
        if is_recovered or not is_same:
            self._changed()
        return is_same

    def _changed(self) -> None:
        if self._publishing is None:
            self._publishing = asyncio.get_running_loop().call_later(GATHER_S, self._publish_now)

    def _publish_now(self) -> None:
        self._publishing = None
        problems = tuple(
            SourceProblem(origin="DNS", name=name, reason=f"cannot be looked up: {reason}")
            for name, reason in sorted(self._failures.items())
        )
        self._publish(dict(self._addresses), problems)
