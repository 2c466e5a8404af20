# SPDX-License-Identifier: Apache-2.0
"""All timeouts of a worker: one coarse timer instead of several per request.

A timer of the event loop costs about 1.3 us to set and cancel, and every request has three or four time limits that nearly
never pass. Here a connection sits in the bucket of some tick that is no later than the first of its limits. When the bucket's
turn comes it is asked to act on what is due and to say when it wants to be asked next. Limits that move on with every request
thus cost nothing but the noting of a time; only a limit that ends before the connection's `wake` needs a call. The price is that
limits are met up to a tick late.
"""

from __future__ import annotations

from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ["TICK_S", "Deadlines", "Timed"]

TICK_S = 0.01
"""Resolution in seconds: a hundredth of the shortest timeout anybody sets for a real upstream."""


class Timed(Protocol):
    """Something with time limits. `wake` is when it will be asked (monotonic seconds, inf for never); Deadlines keeps it."""

    wake: float

    def on_wake(self, now: float) -> float:
        """Act on what is due. Returns the time of the next limit, inf for none."""


class Deadlines:
    """The buckets and the timer that goes through them.

    Args:
        loop: event loop whose timer is used.
        clock: monotonic seconds.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] = monotonic) -> None:
        self._loop = loop
        self._clock = clock
        self._buckets: dict[int, set[Timed]] = {}
        self._swept = int(clock() / TICK_S)
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"Deadlines({self.size} items in {len(self._buckets)} buckets)"

    @property
    def size(self) -> int:
        """How many items have a limit."""
        return sum(map(len, self._buckets.values()))

    def wake_by(self, item: Timed, when: float) -> None:
        """See to it that the item is asked at `when` or before."""
        if when < item.wake:
            self._move(item, when)

    def forget(self, item: Timed) -> None:
        """Drop the item, whose life has ended."""
        self._leave(item)

    def stop(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _move(self, item: Timed, when: float) -> None:
        """Put the item into the bucket whose turn comes just after `when`."""
        self._leave(item)
        tick = max(int(when / TICK_S), self._swept) + 1
        bucket = self._buckets.get(tick)
        if bucket is None:
            bucket = self._buckets[tick] = set()
        bucket.add(item)
        item.wake = tick * TICK_S
        if self._timer is None:
            self._timer = self._loop.call_later(TICK_S, self._sweep)

    def _leave(self, item: Timed) -> None:
        if item.wake == inf:
            return
        tick = round(item.wake / TICK_S)
        item.wake = inf
        bucket = self._buckets.get(tick)
        if bucket is not None:
            bucket.discard(item)
            if not bucket:
                del self._buckets[tick]

    def _sweep(self) -> None:
        self._timer = None
        now = self._clock()
        current = int(now / TICK_S)
        span = range(self._swept + 1, current + 1)
        # after a long stall there are fewer buckets than ticks
        ticks = span if len(span) <= len(self._buckets) else sorted(tick for tick in self._buckets if tick <= current)
        self._swept = max(self._swept, current)
        for tick in ticks:
            for item in self._buckets.pop(tick, ()):
                item.wake = inf
                try:
                    self.wake_by(item, item.on_wake(now))
                except Exception as error:  # one connection's fault must not take the others' limits away
                    self._loop.call_exception_handler({"message": "on_wake failed", "exception": error, "item": item})
        if self._buckets and self._timer is None:
            self._timer = self._loop.call_later(TICK_S, self._sweep)
