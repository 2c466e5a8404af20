# SPDX-License-Identifier: Apache-2.0
"""What others see of a worker slot: where it is in its life, how its process is, how one ended."""

from __future__ import annotations

import enum
import signal
from typing import TYPE_CHECKING, NamedTuple, Protocol

from acmgproxy.quarantine import is_fault
from acmgproxy.sockets import Bind

if TYPE_CHECKING:
    from acmgproxy.black_box import Note
    from acmgproxy.messages import Report
    from acmgproxy.slot import WorkerSlot

__all__ = ["Exit", "Lent", "SlotObserver", "SlotState", "WorkerHealth"]

Lent = tuple[Bind, int]
"""A socket of another worker: where, and whose it is."""


class SlotState(enum.Enum):
    """Where a slot is in the life of its process."""

    WAITING = "waiting"
    STARTING = "starting"
    UP = "up"
    ENDING = "ending"
    DRAINING = "draining"
    GONE = "gone"


class Exit(NamedTuple):
    """How a process ended and what follows.

    Args:
        delay_s: until its replacement starts, None when none follows.
        note: the request it was working on, None if there was none.
        stacks: what it has written about its stack.
        is_hang: it was killed because it showed no sign of life.
    """

    pid: int
    returncode: int
    lived_s: float
    delay_s: float | None
    note: Note | None = None
    stacks: tuple[str, ...] = ()
    is_hang: bool = False

    @property
    def is_fault(self) -> bool:
        """Whether it died of what it did, and not of somebody else's will."""
        return self.is_hang or is_fault(self.returncode)

    @property
    def reason(self) -> str:
        """Describe the end for people."""
        if self.is_hang:
            return "hung"
        return f"killed by {signal.Signals(-self.returncode).name}" if self.returncode < 0 else f"exit code {self.returncode}"


class WorkerHealth(NamedTuple):
    """One worker slot, as operators see it.

    `silent_s` is the time since its last sign of life, `config_age_s` that since it took its configuration over; `restarts`
    counts deaths, among them `hangs`; `recycles` are replacements on purpose.
    """

    number: int
    is_up: bool
    pid: int
    version: int
    restarts: int
    silent_s: float = 0.0
    loop_lag_s: float = 0.0
    cpu_s: float = 0.0
    rss_bytes: int = 0
    open_files: int = 0
    hangs: int = 0
    recycles: int = 0
    config_age_s: float = 0.0


class SlotObserver(Protocol):
    """Who wants to know what happens in a slot."""

    def on_report(self, slot: WorkerSlot, report: Report) -> None:
        """Note a report the slot has taken in."""

    def on_exit(self, slot: WorkerSlot, end: Exit) -> None:
        """Note that the slot's process is gone."""
