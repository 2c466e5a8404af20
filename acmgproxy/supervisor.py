# SPDX-License-Identifier: Apache-2.0
"""The supervisor: N worker slots, the listening sockets, and whether the gateway is ready.

It is told a configuration (`publish`) and brings every worker to it; it is told to go (`drain`) and lets every worker finish.
Both are statements of what shall be, and everything that happens in between (a worker dies, a busy address becomes free, an
answer arrives) leads to the same comparison of what shall be with what is.

Start: nothing listens before every worker has applied the first configuration, so that no request is ever answered from an empty
table. From then on an address is opened as soon as a configuration wants it, since each worker is sent the routes before the
socket; an address that is busy is that listener's error and tried again every second.

The supervisor is no part of any request: it may be busy, and a worker may hang, without the other noticing. A worker that has
shown no sign of life for `HANG_S` is killed and replaced, because the connections the kernel gives it would wait for ever.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from acmgproxy.desired import Desired
from acmgproxy.listeners import Listeners
from acmgproxy.messages import ListenerFailed, ListenerRemoved, Rejected, Report, StatsReply
from acmgproxy.metrics.totals import Totals
from acmgproxy.process import WORKER_COMMAND
from acmgproxy.slot import Exit, SlotState, WorkerHealth, WorkerSlot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from structlog.typing import FilteringBoundLogger

    from acmgproxy.settings import ProxySettings
    from acmgproxy.sockets import Bind
    from routing.specs import Specs, SpecsDiff

__all__ = ["ListenerStatus", "Supervisor"]

TICK_S = 1.0
STALL_S = 5.0
"""Silence after which a worker is called stalled. Heartbeats come every second."""

HANG_S = 30.0
"""Silence after which a worker is replaced. Long, because killing one that is only short of processor time makes things worse."""

STATS_EVERY_TICKS = 5
"""How often counters are fetched unasked, so that a worker's sudden death loses little of what it counted."""

STATS_TIMEOUT_S = 0.5
DRAIN_MARGIN_S = 5.0
"""Added to the workers' own drain time before the rest are killed."""


class ListenerStatus(NamedTuple):
    """A listener's address: which workers accept there and what stands in the way ("" for nothing)."""

    bind: Bind
    workers: tuple[bool, ...]
    error: str


class Supervisor:
    """Keeps N workers running with the newest configuration.

    Args:
        workers: how many.
        settings: handed to each.
        log: where notable events go.
        command: the worker program.
    """

    def __init__(
        self, *, workers: int, settings: ProxySettings, log: FilteringBoundLogger, command: Sequence[str] = WORKER_COMMAND
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._log = log
        self._settings = settings
        self._listeners = Listeners(workers)
        self._desired = Desired()
        self._slots = [
            WorkerSlot(index, loop=self._loop, settings=settings, observer=self, command=command) for index in range(workers)
        ]
        self.totals = Totals()
        self._asked: dict[int, _Ask] = {}
        self._ask = 0
        self._is_listening = False
        self._is_draining = False
        self._was_ready = False
        self._started = asyncio.Event()
        self._gone = asyncio.Event()
        self._ticker: asyncio.Task[None] | None = None
        self._stalled: set[int] = set()

    def __repr__(self) -> str:
        return f"<Supervisor version={self.version} ready={self.is_ready} {self._slots}>"

    # --- what shall be ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the workers."""
        for slot in self._slots:
            slot.start()
        self._ticker = asyncio.create_task(self._tick())

    def publish(self, specs: Specs, change: SpecsDiff) -> None:
        """Make `specs` the desired configuration; `change` is what separates it from the one published before."""
        if self._is_draining:
            return
        base = self._desired.version
        if self._is_listening:
            self._update_listeners(specs)
        self._desired = Desired(specs, change.version, self._listeners.binds, known=(base, change))
        self._sync()

    async def wait_started(self) -> Mapping[Bind, str]:
        """Wait until the first configuration is served, or cannot be: return the addresses that stand in the way."""
        await self._started.wait()
        return self._listeners.errors if not self._was_ready else {}

    async def drain(self) -> None:
        """Let the workers finish what is in flight and wait for their end; kill those that take too long."""
        self._stop_slots()
        try:
            await asyncio.wait_for(self._gone.wait(), self._settings.drain_timeout_s + DRAIN_MARGIN_S)
        except TimeoutError:
            late = [slot.index for slot in self._slots if slot.state is not SlotState.GONE]
            self._log.warning("workers did not finish in time and are killed", workers=late)
            await self.kill()

    async def kill(self) -> None:
        """End all workers at once and wait for their end."""
        self._stop_slots()
        for slot in self._slots:
            slot.kill()
        await self._gone.wait()

    def _stop_slots(self) -> None:
        """Drop our copies of the sockets, then order a drain: after a worker's last look into its queue nothing may be queued."""
        if self._is_draining:
            return
        self._is_draining = True
        if self._ticker is not None:
            self._ticker.cancel()
        self._listeners.close()
        for slot in self._slots:
            slot.drain()
        self._check_gone()

    # --- what is ---------------------------------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """The newest configuration."""
        return self._desired.version

    @property
    def specs(self) -> Specs:
        """The newest configuration itself."""
        return self._desired.specs

    @property
    def is_ready(self) -> bool:
        """Whether traffic should come here: true from the moment every worker served the newest configuration, until a drain."""
        return self._was_ready and not self._is_draining

    def not_ready_because(self) -> str:
        """Say what readiness waits for."""
        if self._is_draining:
            return "draining"
        if not self.version:
            return "no configuration yet"
        return "waiting for worker " + ", ".join(str(slot.index) for slot in self._slots if not slot.is_current)

    def listeners(self) -> list[ListenerStatus]:
        """Describe every wanted address."""
        status = [ListenerStatus(bind, (False,) * len(self._slots), error) for bind, error in self._listeners.errors.items()]
        for bind in self._desired.binds:
            errors = {error for slot in self._slots if (error := slot.listener_errors.get(bind))}
            status.append(ListenerStatus(bind, tuple(bind in slot.bound for slot in self._slots), "; ".join(sorted(errors))))
        return sorted(status)

    def refusals(self) -> dict[int, str]:
        """Return why workers refuse the newest configuration, by worker."""
        return {slot.index: slot.refused for slot in self._slots if slot.refused}

    def health(self) -> list[WorkerHealth]:
        """Describe each worker slot."""
        return [slot.health() for slot in self._slots]

    async def refresh_totals(self, timeout_s: float = STATS_TIMEOUT_S) -> Totals:
        """Ask every worker for its counters; of one that does not answer in time the last known ones count."""
        ask = self._ask_stats()
        try:
            async with asyncio.timeout(timeout_s):
                await ask.answered.wait()
        except TimeoutError:
            self._log.debug("workers gave no counters in time", workers=sorted(ask.waiting))
        finally:
            self._asked.pop(ask.number, None)
        return self.totals

    # --- from slots ------------------------------------------------------------------------------------------------------

    def on_report(self, slot: WorkerSlot, report: Report) -> None:
        """Note a report the slot has taken in."""
        match report:
            case StatsReply():
                self.totals.update(slot.index, report.stats)
                self._answered(slot.index, report.ask)
            case Rejected():
                if slot.refused:
                    self._log.error(
                        "worker refused configuration", worker=slot.index, version=report.version, reason=slot.refused
                    )
            case ListenerFailed():
                self._log.error("worker cannot listen", worker=slot.index, listener=report.name, reason=report.reason)
            case ListenerRemoved():
                self._retry_busy()
            case _:
                pass
        self._check_start()

    def on_exit(self, slot: WorkerSlot, end: Exit) -> None:
        """Note that the slot's process is gone."""
        self.totals.retire(slot.index)
        for number in list(self._asked):
            self._answered(slot.index, number)
        self._check_gone()
        if end.delay_s is None:
            self._log.info("worker finished", worker=slot.index, pid=end.pid, reason=end.reason)
            return
        self._log.error(
            "worker died", worker=slot.index, pid=end.pid, reason=end.reason,
            lived_s=round(end.lived_s, 3), restart_in_s=end.delay_s,
        )  # fmt: skip

    # --- inside ----------------------------------------------------------------------------------------------------------

    def _sync(self) -> None:
        for slot in self._slots:
            slot.desired = self._desired
            slot.sync()
        self._check_start()

    def _check_start(self) -> None:
        """Take the two steps of the start: listen once all have the configuration, be ready once all accept."""
        if self._started.is_set() or not self.version or self._is_draining:
            return
        if not self._is_listening and all(slot.has_applied for slot in self._slots):
            self._is_listening = True
            self._update_listeners(self.specs)
            if self._listeners.errors:
                self._started.set()
                return
            self._desired = Desired(self.specs, self.version, self._listeners.binds)
            self._sync()
        elif self._is_listening and all(slot.is_current for slot in self._slots):
            self._was_ready = True
            self._started.set()

    def _check_gone(self) -> None:
        if all(slot.state is SlotState.GONE for slot in self._slots):
            self._gone.set()

    def _update_listeners(self, specs: Specs) -> bool:
        before = self._listeners.errors
        changed = self._listeners.update(specs.listeners)
        for bind, reason in self._listeners.errors.items():
            if before.get(bind) != reason:
                self._log.error("cannot listen", listener=bind.name, address=bind.address, port=bind.port, reason=reason)
        for bind in before.keys() & self._listeners.binds.keys():
            self._log.info("listening again", listener=bind.name, address=bind.address, port=bind.port)
        return changed

    def _retry_busy(self) -> None:
        if self._listeners.errors and self._was_ready and self._update_listeners(self.specs):
            self._desired = Desired(self.specs, self.version, self._listeners.binds)
            self._sync()

    def _ask_stats(self) -> _Ask:
        self._ask += 1
        ask = self._asked[self._ask] = _Ask(self._ask, set(), asyncio.Event())
        ask.waiting.update(slot.index for slot in self._slots if slot.ask_stats(self._ask))
        if not ask.waiting:
            ask.answered.set()
        return ask

    def _answered(self, index: int, number: int) -> None:
        ask = self._asked.get(number)
        if ask is not None:
            ask.waiting.discard(index)
            if not ask.waiting:
                ask.answered.set()

    async def _tick(self) -> None:
        ticks = 0
        last = self._loop.time()
        while True:
            await asyncio.sleep(TICK_S)
            now = self._loop.time()
            if now - last < 2 * TICK_S:  # else it is the supervisor that was asleep, and signs of life wait to be read
                self._watch_silence()
            last = now
            self._retry_busy()
            ticks += 1
            if ticks % STATS_EVERY_TICKS == 0:
                await self.refresh_totals()

    def _watch_silence(self) -> None:
        for slot in self._slots:
            silent_s = slot.silent_s
            if silent_s < STALL_S:
                self._stalled.discard(slot.index)
            elif silent_s >= HANG_S:
                self._log.error("worker hangs and is replaced", worker=slot.index, pid=slot.pid, silent_s=round(silent_s, 1))
                slot.kill()
            elif slot.index not in self._stalled:
                self._stalled.add(slot.index)
                self._log.warning("worker is silent", worker=slot.index, pid=slot.pid, silent_s=round(silent_s, 1))


class _Ask(NamedTuple):
    """A question for counters and the workers that have not answered it."""

    number: int
    waiting: set[int]
    answered: asyncio.Event
