# SPDX-License-Identifier: Apache-2.0
"""Workers that show no sign of life: told after a while, and replaced when it lasts.

A worker whose event loop stands still serves nobody, and the connections the kernel gives it would wait for ever. Heartbeats come
from that loop every second, so silence means that it does not turn. After `STALL_S` the others accept in its place
(`acmgproxy.lending`); after `HANG_S` it writes its stack down and is killed.

Only time in which the supervisor was awake counts. When the machine or the container was suspended, or the supervisor got no
processor, signs of life wait to be read or could not be given: then every worker starts afresh.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from structlog.typing import FilteringBoundLogger

    from acmgproxy.slot import WorkerSlot

__all__ = ["Silence"]

STALL_S = 3.0
"""Silence after which a worker is called stalled: two heartbeats are missing, and some."""

HANG_S = 10.0
"""Silence after which a worker is replaced. Nothing that a worker does in one go takes a tenth of it."""

START_S = 60.0
"""Silence allowed to a worker that has never served: it loads its code and compiles a whole configuration, and nobody waits."""

ASLEEP_S = 1.0
"""A look that comes so much too late says that the supervisor itself was held up."""


class Silence:
    """Watches workers by their signs of life.

    Args:
        log: where it is told.
        clock: monotonic seconds.
        every_s: how often `look` is called.

    Attributes:
        stalled: workers that are silent now.
    """

    def __init__(self, log: FilteringBoundLogger, clock: Callable[[], float], every_s: float) -> None:
        self._log = log
        self._clock = clock
        self._every_s = every_s
        self._looked_at = clock()
        self._told: set[WorkerSlot] = set()
        self.stalled: set[int] = set()

    def __repr__(self) -> str:
        return f"<Silence stalled={sorted(self.stalled)}>"

    def look(self, slots: Iterable[WorkerSlot]) -> None:
        """Act on silence."""
        now = self._clock()
        was_asleep = now - self._looked_at > self._every_s + ASLEEP_S
        self._looked_at = now
        silent: set[WorkerSlot] = set()
        for slot in slots:
            if was_asleep:
                slot.forgive()
            elif slot.silent_s >= STALL_S:
                silent.add(slot)
                self._on_silent(slot, slot.silent_s)
        self._told &= silent
        self.stalled = {slot.index for slot in silent if slot.has_served}

    def _on_silent(self, slot: WorkerSlot, silent_s: float) -> None:
        what = {"worker": slot.index, "pid": slot.pid, "silent_s": round(silent_s, 1)}
        if silent_s >= (HANG_S if slot.has_served else START_S):
            if slot.replace_hung():
                self._log.error("worker hangs and is replaced", **what)
        elif slot not in self._told:
            self._told.add(slot)
            self._log.warning("worker is silent", **what)
