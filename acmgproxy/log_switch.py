# SPDX-License-Identifier: Apache-2.0
"""The logs of a running gateway: how they shall be, and which workers do not follow.

What is switched holds until the gateway ends, for workers that start later as well; what it was started with comes back with the
next start. A worker that cannot open the place where requests are to be logged goes on as before, and that is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from acmgproxy.inquiry import Inquiries
from acmgproxy.messages import SetLogging

if TYPE_CHECKING:
    from collections.abc import Iterable

    from structlog.typing import FilteringBoundLogger

    from acmgproxy.access_log import AccessLogOptions
    from acmgproxy.log_levels import Level, Threshold
    from acmgproxy.messages import LoggingSet
    from acmgproxy.slot import WorkerSlot

__all__ = ["LogSwitch"]

TIMEOUT_S = 2.0
"""How long workers are waited for; a worker that is not stalled answers in milliseconds."""


class LogSwitch:
    """Switches the logs of all workers, and of this process.

    Args:
        access_log: what workers are started with.
        threshold: the level of this process's log.
        log: where changes are told.

    Attributes:
        access_log, level: as they shall be.
        failures: why workers log requests as before, by worker.
    """

    def __init__(self, access_log: AccessLogOptions, threshold: Threshold, log: FilteringBoundLogger) -> None:
        self.access_log = access_log
        self.failures: dict[int, str] = {}
        self._threshold = threshold
        self._log = log
        self._is_switched = False
        self._inquiries: Inquiries[str] = Inquiries()

    def __repr__(self) -> str:
        return f"<LogSwitch {self.access_log.sink!r} {self.level} failures={self.failures}>"

    @property
    def level(self) -> Level:
        """From which level on the processes' own logs have lines."""
        return self._threshold.level

    async def switch(self, slots: Iterable[WorkerSlot], access_log: AccessLogOptions, level: Level) -> None:
        """Log so from now on, and wait until the workers do; `failures` has those that do not."""
        self._log.info("logging switched", access_log=access_log.sink, format=access_log.format, lines_from=level)
        self.access_log, self._threshold.level, self._is_switched = access_log, level, True
        by_number = {slot.number: slot for slot in slots}
        asked: set[int] = set()

        def send(number: int, ask: int) -> bool:
            if not by_number[number].set_logging(SetLogging(ask, access_log, level)):
                return False
            asked.add(number)
            return True

        answers = await self._inquiries.ask(by_number, send, TIMEOUT_S)
        for number in asked - answers.keys():
            self.failures[number] = f"no answer within {TIMEOUT_S:.0f} s"

    def on_started(self, slot: WorkerSlot) -> None:
        """A worker has started, with the settings of the gateway's start."""
        self.failures.pop(slot.number, None)
        if self._is_switched:
            slot.set_logging(SetLogging(0, self.access_log, self.level))

    def on_set(self, slot: WorkerSlot, report: LoggingSet) -> None:
        """A worker has done as it was told, or could not."""
        if report.reason:
            self.failures[slot.number] = report.reason
            self._log.error("worker cannot log requests so", worker=slot.index, reason=report.reason)
        else:
            self.failures.pop(slot.number, None)
        self._inquiries.on_answer(slot.number, report.ask, report.reason)

    def on_exit(self, slot: WorkerSlot) -> None:
        """A worker is gone."""
        self.failures.pop(slot.number, None)
        self._inquiries.on_exit(slot.number)
