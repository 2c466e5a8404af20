# SPDX-License-Identifier: Apache-2.0
"""The supervisor: N worker slots, the listening sockets, and whether the gateway is ready.

It is told a configuration (`publish`) and brings every worker to it; it is told to go (`drain`) and lets every worker finish.
Both are statements of what shall be, and everything that happens in between (a worker dies, a busy address becomes free, an
answer arrives) leads to the same comparison of what shall be with what is.

Start: nothing listens before every worker has applied the first configuration, so that no request is ever answered from an empty
table. From then on an address is opened as soon as a configuration wants it, since each worker is sent the routes before the
socket; an address that is busy is that listener's error and tried again every second. Only at the start of a gateway that a
person runs (`must_listen`) is it the end: there a busy address is a mistake that is better told at once.

The end: workers go on accepting for a while, if that is wanted, and learn of changes meanwhile; the copies of the sockets here
live until then, except for those of a worker that dies, whose queue nobody would serve. Then they go before the workers take
their last look into the queues, so that nothing is queued after it.

The supervisor is no part of any request: it may be busy, and a worker may hang, without the other noticing. A worker that hangs
is replaced (`acmgproxy.silence`), one that cannot accept is stood in for (`acmgproxy.lending`), one may be replaced on purpose
(`acmgproxy.recycling`), and a request that ends workers is served by none any more (`acmgproxy.quarantine`).
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, NamedTuple

from acmgproxy.desired import Desired
from acmgproxy.inquiry import Inquiries
from acmgproxy.lending import lend
from acmgproxy.listeners import Listeners
from acmgproxy.log_levels import Threshold
from acmgproxy.log_switch import LogSwitch
from acmgproxy.messages import (
    EndpointsReply,
    Heartbeat,
    ListenerAdded,
    ListenerFailed,
    ListenerRemoved,
    LoggingSet,
    Rejected,
    ReplacementWanted,
    Report,
    SeriesReport,
    Started,
    StatsReply,
)
from acmgproxy.metrics.totals import Totals
from acmgproxy.overview.history import History
from acmgproxy.process import WORKER_COMMAND
from acmgproxy.quarantine import QUARANTINE_S, Quarantine, describe_head
from acmgproxy.recycling import Recycling
from acmgproxy.silence import Silence
from acmgproxy.slot import Exit, SlotState, WorkerHealth, WorkerSlot
from acmgproxy.sockets import Bind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from structlog.typing import FilteringBoundLogger

    from acmgproxy.access_log import AccessLogOptions
    from acmgproxy.black_box import Note
    from acmgproxy.endpoint_state import EndpointState
    from acmgproxy.log_levels import Level
    from acmgproxy.settings import ProxySettings
    from routing.specs import Specs, SpecsDiff

__all__ = ["ListenerStatus", "Supervisor"]

TICK_S = 1.0
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
        must_listen: whether the start fails if an address of the first configuration cannot be listened on.
        command: the worker program.
        threshold: the level of `log`.

    Attributes:
        logging: how requests are logged, and the processes' own lines.
        revision: counts up with everything that may change what `listeners` and `applied` return.
        totals, history: what the workers have counted, as a whole and of late.
    """

    def __init__(
        self,
        *,
        workers: int,
        settings: ProxySettings,
        log: FilteringBoundLogger,
        must_listen: bool = True,
        command: Sequence[str] = WORKER_COMMAND,
        threshold: Threshold | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.logging = LogSwitch(settings.access_log_options, threshold or Threshold(), log)
        self._log = log
        self._settings = settings
        self._must_listen = must_listen
        self.revision = 0
        self._listeners = Listeners(workers)
        self._desired = Desired()
        self._command = command
        self._slots = [self._make_slot(index) for index in range(workers)]
        self._spare_number = workers
        self._recycling = Recycling(
            self._slots,
            make=self._make_successor,
            on_swap=self._on_swap,
            clock=self._loop.time,
            drain_timeout_s=settings.drain_timeout_s,
            log=log,
        )
        self._silence = Silence(log, self._loop.time, TICK_S)
        self._quarantine = Quarantine()
        self._is_lending = False
        self.totals = Totals()
        self.history = History(self.totals.identities)
        self.totals.observe = self.history.observe
        self._endpoint_inquiries: Inquiries[list[EndpointState]] = Inquiries()
        self._failures: dict[tuple[int, Bind], str] = {}
        self._asked: dict[int, _Ask] = {}
        self._ask = 0
        self._is_listening = False
        self._is_draining = False
        self._was_ready = False
        self._started = asyncio.Event()
        self._gone = asyncio.Event()
        self._ticker: asyncio.Task[None] | None = None

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
        self.totals.identities.update(specs.identities)
        base = self._desired.version
        touches_listeners = change.put.listeners or "listeners" in change.removed
        if touches_listeners and self._is_listening and not self._is_draining:
            self._update_listeners(specs)
        self._desired = Desired(specs, change.version, self._listeners.binds, known=(base, change))
        self._sync()

    def recycle(self, reason: str) -> bool:
        """Replace every worker by a new process, one after the other, without failing a request; False if it is not the time."""
        if not self.is_ready:
            return False
        for slot in self._slots:
            self._recycling.want(slot.index, reason)
        return True

    async def wait_started(self) -> Mapping[Bind, str]:
        """Wait until the first configuration is served, or cannot be: return the addresses that stand in the way."""
        await self._started.wait()
        return self._listeners.errors if not self._was_ready else {}

    async def drain(self, accept_s: float = 0.0) -> None:
        """Let the workers finish what is in flight and wait for their end; kill those that take too long.

        Args:
            accept_s: how long they go on accepting.
        """
        self._stop_slots(accept_s)
        if accept_s:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._gone.wait(), accept_s)
            self._listeners.close()
        try:
            await asyncio.wait_for(self._gone.wait(), self._settings.drain_timeout_s + DRAIN_MARGIN_S)
        except TimeoutError:
            late = [slot.index for slot in self._processes() if slot.state is not SlotState.GONE]
            self._log.warning("workers did not finish in time and are killed", workers=late)
            await self.kill()

    async def kill(self) -> None:
        """End all workers at once and wait for their end."""
        self._stop_slots()
        self._listeners.close()
        for slot in self._processes():
            slot.kill()
        await self._gone.wait()

    def _stop_slots(self, accept_s: float = 0.0) -> None:
        """Order a drain; when no more is accepted, drop our copies of the sockets first."""
        if self._is_draining:
            return
        self._is_draining = True
        self.revision += 1
        if self._ticker is not None:
            self._ticker.cancel()
        if not accept_s:
            self._listeners.close()
        self._recycling.stop()
        for slot in self._processes():
            slot.drain(accept_s)
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

    def applied(self) -> list[Specs]:
        """Return the configurations that requests see now, one for each worker, or fewer if some see the same."""
        serving = [*self._slots, *self._recycling.leaving]
        return list({id(slot.applied): slot.applied for slot in serving}.values())

    def listeners(self) -> list[ListenerStatus]:
        """Describe every wanted address."""
        status = [ListenerStatus(bind, (False,) * len(self._slots), error) for bind, error in self._listeners.errors.items()]
        bound = [slot.bound for slot in self._slots]
        failing = [slot.listener_errors for slot in self._slots if slot.listener_errors]
        for bind in self._desired.binds:
            errors = "; ".join(sorted({found[bind] for found in failing if bind in found})) if failing else ""
            status.append(ListenerStatus(bind, tuple([bind in one for one in bound]), errors))
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

    async def endpoints(
        self, clusters: tuple[str, ...] = (), timeout_s: float = STATS_TIMEOUT_S
    ) -> dict[int, list[EndpointState]]:
        """Ask every worker how the members of clusters are; without any, which endpoints are ejected. Answers by worker."""
        slots = {slot.index: slot for slot in self._slots}
        return await self._endpoint_inquiries.ask(slots, lambda index, ask: slots[index].ask_endpoints(ask, clusters), timeout_s)

    async def switch_logging(self, access_log: AccessLogOptions, level: Level) -> None:
        """Have requests logged so from now on, and the processes' own lines from this level on. See `logging`."""
        await self.logging.switch(self._processes(), access_log, level)

    # --- from slots ------------------------------------------------------------------------------------------------------

    def on_report(self, slot: WorkerSlot, report: Report) -> None:
        """Note a report the slot has taken in."""
        if not isinstance(report, Heartbeat | SeriesReport | StatsReply | EndpointsReply):
            self.revision += 1
        match report:
            case SeriesReport() | StatsReply():
                self._on_counts(slot.number, report)
            case Started():
                self.logging.on_started(slot)
            case LoggingSet():
                self.logging.on_set(slot, report)
            case EndpointsReply():
                self._endpoint_inquiries.on_answer(slot.index, report.ask, report.endpoints)
            case Rejected() if slot.refused:
                self._log.error("worker refused configuration", worker=slot.index, version=report.version, reason=slot.refused)
            case ListenerFailed():
                self._on_listener_failed(slot.index, report)
            case ListenerAdded():
                self._failures.pop((slot.index, Bind(report.name, report.address, report.port)), None)
            case ListenerRemoved():
                self._retry_busy()
            case ReplacementWanted():
                self._on_replacement_wanted(slot)
            case _:
                pass
        self._check_start()
        if not self._is_draining:
            self._recycling.check()
            self._lend()

    def _on_counts(self, number: int, report: SeriesReport | StatsReply) -> None:
        if isinstance(report, SeriesReport):
            self.totals.take(number, report.series)
            return
        self.totals.update(number, report.stats)
        self._answered(number, report.ask)

    def on_exit(self, slot: WorkerSlot, end: Exit) -> None:
        """Note that the slot's process is gone."""
        self.revision += 1
        has_place = slot.number == slot.index
        if self._is_draining and has_place:
            self._listeners.close_member(slot.index)
        self.totals.retire(slot.number)
        for number in list(self._asked):
            self._answered(slot.number, number)
        if has_place:
            self._endpoint_inquiries.on_exit(slot.index)
        self.logging.on_exit(slot)
        self._check_gone()
        self._log_end(slot, end)
        if end.is_fault and end.note is not None:
            self._blame(end.note, end.pid)
        if not self._is_draining:
            self._recycling.on_exit(slot, end.reason)
            self._lend()

    # --- inside ----------------------------------------------------------------------------------------------------------

    def _make_slot(self, index: int) -> WorkerSlot:
        return WorkerSlot(index, loop=self._loop, settings=self._settings, observer=self, command=self._command)

    def _make_successor(self, index: int) -> WorkerSlot:
        slot = self._make_slot(index)
        slot.number = self._spare_number
        self._spare_number += 1
        return slot

    def _on_swap(self, old: WorkerSlot, new: WorkerSlot) -> None:
        """A successor has taken its place: what the old one counts from now on is kept apart."""
        self.revision += 1
        self.totals.move(new.number, old.number)

    def _on_replacement_wanted(self, slot: WorkerSlot) -> None:
        if slot in self._slots and not self._is_draining:
            self._recycling.want(slot.index, "SIGTERM")

    def _processes(self) -> list[WorkerSlot]:
        """Return all slots: those of the workers, and those of processes that come or go."""
        return [*self._slots, *self._recycling.others]

    def _log_end(self, slot: WorkerSlot, end: Exit) -> None:
        what: dict[str, object] = {"worker": slot.index, "pid": end.pid, "reason": end.reason}
        if end.delay_s is None and not end.is_fault:
            self._log.info("worker finished", **what)
            return
        what |= {"lived_s": round(end.lived_s, 3), "restart_in_s": end.delay_s}
        if end.stacks:
            what["stack"] = end.stacks
        self._log.error("worker died", **what)

    def _blame(self, note: Note, pid: int) -> None:
        """A worker died while it worked on a request: serve it no more if it was not the first."""
        death = self._quarantine.on_death(note.head, pid, self._loop.time())
        what: dict[str, object] = {"listener": note.listener, "route": note.route or None, **describe_head(note.head)}
        if not death.is_quarantined:
            self._log.error("a request may have ended a worker", pid=pid, **what)
            return
        self._log.error("a request has ended workers and is not served any more", pids=death.pids, for_s=QUARANTINE_S, **what)
        self._tell_quarantine()

    def _tell_quarantine(self) -> None:
        for slot in self._processes():
            slot.set_quarantine(self._quarantine.heads)

    def _lend(self) -> None:
        """Have others accept for workers that cannot."""
        stalled = self._silence.stalled
        if not self._is_lending and not stalled and not any(slot.is_away for slot in self._slots):
            return
        lent = lend(self._slots, self._desired.binds, stalled)
        self._is_lending = bool(lent)
        for slot in self._slots:
            theirs = lent.get(slot.index, {})
            if slot.lent != theirs:
                slot.lent = theirs
                slot.sync()

    def _on_listener_failed(self, index: int, report: ListenerFailed) -> None:
        """Say so once: it is tried again every second."""
        if report.member is not None:
            return  # another worker's, lent for a while
        failed = index, Bind(report.name, report.address, report.port)
        if self._failures.get(failed) != report.reason:
            self._failures[failed] = report.reason
            self._log.error("worker cannot listen", worker=index, listener=report.name, reason=report.reason)

    def _sync(self) -> None:
        self.revision += 1
        if not self._is_draining:
            self._lend()
        for slot in self._processes():
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
            if self._listeners.errors and self._must_listen:
                self._started.set()
                return
            self._desired = Desired(self.specs, self.version, self._listeners.binds)
            self._sync()
        elif self._is_listening and all(slot.is_current if self._must_listen else slot.has_answered for slot in self._slots):
            self._was_ready = True
            self._started.set()

    def _check_gone(self) -> None:
        if all(slot.state is SlotState.GONE for slot in self._processes()):
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
        asked = [*self._slots, *self._recycling.leaving]
        ask.waiting.update(slot.number for slot in asked if slot.ask_stats(self._ask))
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
        while True:
            await asyncio.sleep(TICK_S)
            self._silence.look(self._processes())
            self._lend()
            self._recycling.check_time()
            if self._quarantine.expire(self._loop.time()):
                self._log.info("quarantine is over for a request", left=len(self._quarantine))
                self._tell_quarantine()
            self._retry_busy()
            for slot in self._slots:
                slot.retry_failed()
            ticks += 1
            if ticks % STATS_EVERY_TICKS == 0:
                await self.refresh_totals()
                self._recycling.check_limits(self._settings, self.totals.requests)
                self.history.tick()


class _Ask(NamedTuple):
    """A question for counters and the workers that have not answered it."""

    number: int
    waiting: set[int]
    answered: asyncio.Event
