# SPDX-License-Identifier: Apache-2.0
"""Replacing a worker on purpose, without a failed request: the new process first, then the old one goes.

    wanted ──▶ successor starts, gets the configuration, accepts from the same sockets ──▶ has the place, the old one leaves
                    └─ dies, refuses the configuration, takes too long ──▶ given up: the old one serves on

Both accept from the same sockets for a moment, which the kernel allows. Then the old one closes its copies: what waits in the
queues is the successor's, what it has accepted it serves, and each answer tells its client to come again. One worker is replaced
at a time, and the next only when the old process has gone, so there is never more than one process too many and never a moment
in which many clients have to connect anew.

A successor that does not get so far ends all replacing until somebody asks again: whatever is wrong with it (a bad release, say)
is wrong with the next one, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from acmgproxy.slot_state import SlotState

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from acmgproxy.settings import ProxySettings
    from acmgproxy.slot import WorkerSlot

__all__ = ["Recycling", "due_for_recycling"]

SUCCESSOR_S = 60.0
"""How long a successor may take to be ready. A worker starts in half a second; a large configuration takes seconds."""

LEAVE_MARGIN_S = 5.0
"""Added to the time of a drain before a leaving worker is killed."""

MIN_LIFE_S = 60.0
"""Age at which a worker may have too much memory. Below, the limit is too low, and replacing it again and again cures nothing."""

REST_S = 60.0
"""After a failure, limits ask for no replacement for so long."""


class Recycling:
    """Replaces workers one after the other.

    Args:
        slots: all slots by worker; the successor is put into the old one's place.
        make: makes a slot for a worker.
        on_swap: told (old, new) when the place has changed hands, before the old one is told to go.
        clock: monotonic seconds.
        drain_timeout_s: how long an old one may take to go.
        log: where it is told.

    Attributes:
        leaving: old processes that finish what they have.
        successor: the process that starts.
    """

    def __init__(
        self,
        slots: list[WorkerSlot],
        *,
        make: Callable[[int], WorkerSlot],
        on_swap: Callable[[WorkerSlot, WorkerSlot], None],
        clock: Callable[[], float],
        drain_timeout_s: float,
        log: FilteringBoundLogger,
    ) -> None:
        self._slots = slots
        self._make = make
        self._on_swap = on_swap
        self._clock = clock
        self._drain_timeout_s = drain_timeout_s
        self._log = log
        self._wanted: dict[int, str] = {}
        self._reason = ""
        self._give_up_at = 0.0
        self._failed_at = float("-inf")
        self.leaving: dict[WorkerSlot, float] = {}
        self.successor: WorkerSlot | None = None

    def __repr__(self) -> str:
        return f"<Recycling wanted={sorted(self._wanted)} successor={self.successor} leaving={list(self.leaving)}>"

    @property
    def others(self) -> list[WorkerSlot]:
        """The processes that are in nobody's place."""
        return [*self.leaving, *([self.successor] if self.successor is not None else [])]

    def want(self, worker: int, reason: str) -> None:
        """Replace a worker as soon as it is its turn."""
        self._wanted.setdefault(worker, reason)
        self.check()

    def check(self) -> None:
        """Take the next step, if it can be taken."""
        for slot in [slot for slot in self.leaving if slot.state is SlotState.GONE]:
            del self.leaving[slot]
        if self.successor is not None:
            self._check_successor(self.successor)
        while self._wanted and self.successor is None and not self.leaving:
            worker = next(iter(self._wanted))
            self._begin(worker, self._wanted.pop(worker))

    def check_time(self) -> None:
        """Act on what takes too long; to be called now and then."""
        now = self._clock()
        if self.successor is not None and now > self._give_up_at:
            self._give_up(self.successor, f"its successor was not ready within {SUCCESSOR_S:.0f} s")
        for slot, since in self.leaving.items():
            if now > since + self._drain_timeout_s + LEAVE_MARGIN_S:
                slot.kill()
        self.check()

    def check_limits(self, settings: ProxySettings, requests: Callable[[int], int]) -> None:
        """Ask for the replacement of workers that have worked enough; `requests` says how many a worker had."""
        if self._clock() < self._failed_at + REST_S:
            return
        for slot in list(self._slots):
            reason = due_for_recycling(slot, settings, requests(slot.index)) if slot.state is SlotState.UP else ""
            if reason:
                self.want(slot.index, reason)

    def on_exit(self, slot: WorkerSlot, reason: str) -> None:
        """A process has ended."""
        if slot is self.successor:
            self._give_up(slot, f"its successor died: {reason}")
        self.check()

    def stop(self) -> None:
        """Begin nothing more."""
        self._wanted.clear()

    def _begin(self, worker: int, reason: str) -> None:
        old = self._slots[worker]
        if old.state is not SlotState.UP:
            return  # its next process is a new one anyway
        self._reason = reason
        self._give_up_at = self._clock() + SUCCESSOR_S
        self.successor = successor = self._make(worker)
        successor.desired = old.desired
        successor.quarantine = old.quarantine
        self._log.info("replacing worker", worker=worker, pid=old.pid, reason=reason)
        successor.start()

    def _check_successor(self, successor: WorkerSlot) -> None:
        old = self._slots[successor.index]
        if successor.refused:
            self._give_up(successor, f"its successor refused the configuration: {successor.refused}")
        elif successor.has_answered:
            missing = sorted((old.bound & successor.desired.binds.keys()) - successor.bound)
            if missing:
                self._give_up(successor, f"its successor cannot accept at {missing[0]}: {successor.listener_errors[missing[0]]}")
            else:
                self._swap(old, successor)

    def _swap(self, old: WorkerSlot, new: WorkerSlot) -> None:
        self.successor = None
        new.inherit(old)
        self._slots[new.index] = new
        self._on_swap(old, new)
        self._log.info("worker replaced", worker=new.index, pid=new.pid, old_pid=old.pid, reason=self._reason)
        self._let_go(old)

    def _give_up(self, successor: WorkerSlot, why: str) -> None:
        self.successor = None
        self._wanted.clear()
        self._failed_at = self._clock()
        self._log.error("worker could not be replaced and serves on", worker=successor.index, reason=why)
        self._let_go(successor)

    def _let_go(self, slot: WorkerSlot) -> None:
        slot.drain(hands_over=True)
        if slot.state is not SlotState.GONE:
            self.leaving[slot] = self._clock()


def due_for_recycling(slot: WorkerSlot, settings: ProxySettings, requests: int) -> str:
    """Say why a worker is to be replaced by its limits, "" if it is not."""
    if 0 < settings.recycle_after_requests <= requests:
        return f"{requests} requests"
    rss_bytes = slot.heartbeat.rss_bytes if slot.heartbeat is not None else 0
    if 0 < settings.recycle_above_memory_bytes < rss_bytes and slot.age_s >= MIN_LIFE_S:
        return f"{rss_bytes} bytes of memory"
    return ""
