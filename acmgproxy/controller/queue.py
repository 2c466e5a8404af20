# SPDX-License-Identifier: Apache-2.0
"""WorkQueue: which Services are to be looked at, each once however often it was named, and never by two at a time.

A key that is added while it is worked on comes again afterwards, because what was seen may be old. Failures wait longer each
time. Urgent keys come first: when all gateways are gone, thousands of Services have to be released at once.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["WorkQueue"]

FIRST_DELAY_S = 0.05
MAX_DELAY_S = 30.0
"""As client-go's rate limiter for controllers, but with a lower ceiling than its 1,000 s: a Service that waits is not served."""

Key = tuple[str, str]


class WorkQueue:
    """Keys in the order they came, urgent ones first."""

    def __init__(self) -> None:
        self._urgent: dict[Key, None] = {}
        self._waiting: dict[Key, None] = {}
        self._working: set[Key] = set()
        self._again: dict[Key, bool] = {}
        self._failures: dict[Key, int] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._some = asyncio.Event()

    def __repr__(self) -> str:
        return f"<WorkQueue waiting={len(self)} working={len(self._working)} timers={len(self._timers)}>"

    def __len__(self) -> int:
        return len(self._urgent) + len(self._waiting)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is worked on; timers do not count."""
        return not len(self) and not self._working

    def add(self, keys: Iterable[Key], *, urgent: bool = False) -> None:
        """Add keys."""
        for key in keys:
            if key in self._working:
                self._again[key] = urgent or self._again.get(key, False)
            elif urgent:
                self._waiting.pop(key, None)
                self._urgent[key] = None
            elif key not in self._urgent:
                self._waiting[key] = None
        if len(self):
            self._some.set()

    def add_later(self, key: Key, delay_s: float) -> None:
        """Add a key after a while, or earlier if that was asked for before."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= loop.time() + delay_s:
                return
            timer.cancel()
        self._timers[key] = loop.call_later(delay_s, self._due, key)

    def add_failed(self, key: Key, at_least_s: float = 0.0) -> None:
        """Add a key that could not be dealt with, later each time."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        self.add_later(key, max(at_least_s, min(MAX_DELAY_S, FIRST_DELAY_S * 2.0 ** min(failures - 1, 16))))

    async def take(self) -> Key:
        """Wait for a key and return it; `done` has to follow."""
        while not len(self):
            self._some.clear()
            await self._some.wait()
        first = self._urgent or self._waiting
        key = next(iter(first))
        del first[key]
        self._working.add(key)
        return key

    def done(self, key: Key, *, succeeded: bool = True) -> None:
        """Say that a key has been dealt with."""
        self._working.discard(key)
        if succeeded:
            self._failures.pop(key, None)
        if key in self._again:
            self.add((key,), urgent=self._again.pop(key))

    def clear(self) -> None:
        """Forget everything."""
        for timer in self._timers.values():
            timer.cancel()
        for kept in (self._timers, self._urgent, self._waiting, self._again, self._failures):
            kept.clear()
        self._working.clear()

    def _due(self, key: Key) -> None:
        self._timers.pop(key, None)
        self.add((key,))
