# SPDX-License-Identifier: Apache-2.0
"""Notices when the event loop stalls, and what stalls it.

While one callback runs, every connection of the worker waits. The loop touches the watchdog every 50 ms. How late a touch comes
is the loop's lag; the loop counts it itself, in Envoy's two steps (miss, mega miss). A thread looks whether a touch is overdue
right now and then notes where the loop's thread stands, which is the answer to "what took so long". That costs the thread a
glance every 100 ms, and the loop nothing but its timer.

A loop that never turns again is the supervisor's business, which kills the process. One whose supervisor has died ends itself:
nobody else would, and it would hold its sockets for ever.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections import Counter
    from collections.abc import Callable
    from types import FrameType

    from acmgproxy.worker_log import WorkerLog

__all__ = ["MEGA_MISS_S", "MISS_S", "Watchdog"]

MISS_S = 0.2
MEGA_MISS_S = 1.0
"""Envoy's watchdog: miss_timeout 200 ms, megamiss_timeout 1 s."""

TOUCH_S = 0.05
LOOK_S = 0.1

WORST_OF_S = 15.0
"""The lag shown is the worst of the last one to two times so long: a scrape every 15 or 30 s misses little."""

QUIET_S = 10.0
"""After a stack has been logged no other is for so long, save the one of a stall that lasts."""

ORPHAN_S = 10.0
"""How long a stall may last when there is no supervisor that would act on it."""

_MAX_FRAMES = 12


class Watchdog:
    """Watches an event loop from the thread that makes it.

    Args:
        loop: the loop, of the present thread.
        counters: `watchdog_misses` and `watchdog_mega_misses` are counted there.
        log: where stalls are told; its lines are written by the watchdog's thread.
        clock: monotonic seconds.
        parent: says which process is the parent.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        counters: Counter[str],
        log: WorkerLog,
        *,
        clock: Callable[[], float] = monotonic,
        parent: Callable[[], int] = os.getppid,
    ) -> None:
        self._loop = loop
        self._counters = counters
        self._log = log
        self._clock = clock
        self._watched = threading.get_ident()
        self._due = clock()
        self._worst = self._worst_before = 0.0
        self._window_ends = self._due + WORST_OF_S
        self._told_at = self._long_told = float("-inf")
        self._parent = parent
        self._supervisor = parent()
        self._timer: asyncio.TimerHandle | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def __repr__(self) -> str:
        return f"Watchdog(worst_lag_s={self.worst_lag_s:.3f})"

    @property
    def worst_lag_s(self) -> float:
        """How late the loop was at worst, lately."""
        return max(self._worst, self._worst_before)

    def start(self) -> None:
        """Watch from now on."""
        self._due = self._clock()
        self.touch()
        self._thread.start()

    def stop(self) -> None:
        """Watch no more, and have what was noted written if that is possible."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=1.0)

    def touch(self) -> None:
        """The loop turns."""
        now = self._clock()
        lag_s = now - self._due
        if lag_s > MISS_S:
            self._counters["watchdog_misses"] += 1
            if lag_s > MEGA_MISS_S:
                self._counters["watchdog_mega_misses"] += 1
        if now >= self._window_ends:
            self._worst_before, self._worst = self._worst, 0.0
            self._window_ends = now + WORST_OF_S
        self._worst = max(self._worst, lag_s)
        self._due = now + TOUCH_S
        self._timer = self._loop.call_later(TOUCH_S, self.touch)

    def look(self) -> None:
        """Note a stall that is going on; called in the watchdog's thread."""
        now = self._clock()
        overdue_s = now - self._due
        is_long = overdue_s > MEGA_MISS_S and self._long_told != self._due
        if is_long or (overdue_s > MISS_S and now - self._told_at > QUIET_S):
            self._told_at = now
            if is_long:
                self._long_told = self._due
            stack = _describe(sys._current_frames().get(self._watched))  # noqa: SLF001 - there is no other way to another thread's stack
            self._log.note("warning", "event loop stalled", for_s=round(overdue_s, 3), stack=stack)
        if overdue_s > ORPHAN_S and self._parent() != self._supervisor:
            os.kill(os.getpid(), signal.SIGKILL)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            self.look()
            self._log.flush()
        self._log.flush()


def _describe(frame: FrameType | None) -> list[str]:
    """Return the innermost calls of a stack, the innermost first."""
    frames = [] if frame is None else [(one.f_code, line) for one, line in traceback.walk_stack(frame)]
    return [f"{code.co_filename}:{line} {code.co_qualname}" for code, line in frames[:_MAX_FRAMES]]
