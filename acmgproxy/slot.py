# SPDX-License-Identifier: Apache-2.0
"""A worker's place: the process that fills it now, what it has been told, and its replacement when it dies.

Level-triggered: `sync` compares what the worker has been told with what is desired now and sends the difference, in the order
"listeners that go, routes, listeners that come", so that a worker never accepts for routes it does not know. It is called
whenever either side moved: a new configuration, an answer, a fresh process (which has been told nothing yet).

A slow worker is not sent every version. At most `MAX_UNANSWERED` changes are under way to it; when it answers, it gets one
difference from what it has to what is desired by then. So the queue to a worker that hangs stays short and the supervisor never
waits for one. A version that a worker refuses leaves it with the one before, from which the next difference is made.

    waiting -> starting --Started--> up --process gone--> waiting (a delay, see acmgproxy.backoff)
                                     up --channel gone--> ending --process gone--> waiting
                                     up --Drain--> draining --process gone--> gone
"""

from __future__ import annotations

import enum
import signal
import socket
from collections import deque
from typing import TYPE_CHECKING, NamedTuple, Protocol

from acmgproxy.backoff import RestartBackoff
from acmgproxy.channel import Channel, encode_frame
from acmgproxy.desired import NOTHING, Desired
from acmgproxy.messages import (
    AddListener,
    Applied,
    AskStats,
    Drain,
    Heartbeat,
    ListenerAdded,
    ListenerFailed,
    ListenerRemoved,
    Order,
    Rejected,
    RemoveListener,
    Report,
    Start,
    Started,
    StatsReply,
    report_decoder,
)
from acmgproxy.process import WORKER_COMMAND, WorkerProcess
from acmgproxy.sockets import Bind

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from acmgproxy.settings import ProxySettings
    from acmgproxy.sockets import SocketGroup
    from routing.specs import Specs

__all__ = ["Exit", "SlotObserver", "SlotState", "WorkerHealth", "WorkerSlot"]

MAX_UNANSWERED = 4
"""Configuration changes under way to one worker. One is answered within a loop turn; more only pile up behind a busy worker."""

LINGER_S = 2.0
"""How long a process may outlive its end of the channel."""


class SlotState(enum.Enum):
    """Where a slot is in the life of its process."""

    WAITING = "waiting"
    STARTING = "starting"
    UP = "up"
    ENDING = "ending"
    DRAINING = "draining"
    GONE = "gone"


class Exit(NamedTuple):
    """How a process ended and what follows. `delay_s` is None when no replacement follows."""

    pid: int
    returncode: int
    lived_s: float
    delay_s: float | None

    @property
    def reason(self) -> str:
        """Describe the end for people."""
        return f"killed by {signal.Signals(-self.returncode).name}" if self.returncode < 0 else f"exit code {self.returncode}"


class WorkerHealth(NamedTuple):
    """One worker slot, as operators see it. `silent_s` is the time since its last sign of life."""

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


class SlotObserver(Protocol):
    """Who wants to know what happens in a slot."""

    def on_report(self, slot: WorkerSlot, report: Report) -> None:
        """Note a report the slot has taken in."""

    def on_exit(self, slot: WorkerSlot, end: Exit) -> None:
        """Note that the slot's process is gone."""


class _Change(NamedTuple):
    """A configuration change under way to the worker."""

    base: int
    version: int
    specs: Specs


class WorkerSlot:
    """One worker position of the supervisor.

    Args:
        index: its number, which is also its member of every socket group.
        loop: event loop of the supervisor.
        settings: handed to the worker.
        observer: told of reports and ends.
        command: the worker program.
    """

    def __init__(
        self,
        index: int,
        *,
        loop: asyncio.AbstractEventLoop,
        settings: ProxySettings,
        observer: SlotObserver,
        command: Sequence[str] = WORKER_COMMAND,
    ) -> None:
        self.index = index
        self.state = SlotState.WAITING
        self.desired = Desired()
        self.restarts = 0
        self._loop = loop
        self._settings = settings
        self._observer = observer
        self._command = command
        self._decoder = report_decoder()
        self._backoff = RestartBackoff()
        self._restart: asyncio.TimerHandle | None = None
        self._reset()

    def _reset(self) -> None:
        """Forget the previous process: a new one has been told nothing."""
        self._process: WorkerProcess | None = None
        self._channel: Channel[Report] | None = None
        self._returncode: int | None = None
        self._started_at = 0.0
        self._sent: tuple[Specs, int] = (NOTHING, 0)
        self._applied: tuple[Specs, int] = (NOTHING, 0)
        self._unanswered: deque[_Change] = deque()
        self._is_out_of_step = False
        self._told: Specs | None = None
        self._offered: dict[Bind, SocketGroup] = {}
        self.refused = ""
        self.bound: set[Bind] = set()
        self.listener_errors: dict[Bind, str] = {}
        self.heartbeat: Heartbeat | None = None
        self._last_sign_at = 0.0

    def __repr__(self) -> str:
        return f"<WorkerSlot {self.index} {self.state.value} pid={self.pid} version={self.version}>"

    @property
    def pid(self) -> int | None:
        """Process number, None while there is no process."""
        return self._process.pid if self._process is not None else None

    @property
    def version(self) -> int:
        """The configuration its requests see, by the newest version that is equal to it."""
        return self.desired.version if self.has_applied else self._applied[1]

    @property
    def has_applied(self) -> bool:
        """Whether its requests see the desired configuration."""
        return self.state is SlotState.UP and self._told is self.desired.specs and not self._unanswered and not self.refused

    @property
    def is_current(self) -> bool:
        """Whether it also accepts from every desired address."""
        return self.has_applied and self.bound >= self.desired.binds.keys()

    @property
    def silent_s(self) -> float:
        """Time since the last sign of life, 0 while there is no process."""
        return self._loop.time() - self._last_sign_at if self._process is not None else 0.0

    def health(self) -> WorkerHealth:
        """Describe the slot."""
        is_up = self.state is SlotState.UP
        health = WorkerHealth(self.index, is_up, self.pid or 0, self.version, self.restarts, self.silent_s)
        if self.heartbeat is None:
            return health
        beat = self.heartbeat
        return health._replace(loop_lag_s=beat.loop_lag_s, cpu_s=beat.cpu_s, rss_bytes=beat.rss_bytes, open_files=beat.open_files)

    # --- orders ----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start a process. One that cannot even be started counts as one that died at once."""
        self._restart = None
        self.state = SlotState.STARTING
        self._started_at = self._last_sign_at = self._loop.time()
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            self._end(pid=0, returncode=error.errno or 1)
            return
        try:
            self._process = WorkerProcess(self._loop, self._command, theirs, on_exit=self._on_exit)
        except OSError as error:
            ours.close()
            self._end(pid=0, returncode=error.errno or 1)
            return
        self._channel = Channel(self._loop, ours, self._decoder, on_message=self._on_report, on_close=self._on_channel_end)
        self._send(Start(worker_id=self.index, settings=self._settings))

    def sync(self) -> None:
        """Send what separates the worker from what is desired, as far as it may be sent now."""
        if self.state is not SlotState.UP:
            return
        wanted = self.desired.binds
        kept = set(wanted.values())
        for bind, group in [(bind, group) for bind, group in self._offered.items() if wanted.get(bind) is not group]:
            del self._offered[bind]
            self.bound.discard(bind)
            self.listener_errors.pop(bind, None)
            self._send(RemoveListener(*bind, is_last=group not in kept))
        if self._send_change():
            for bind in [bind for bind in wanted if bind not in self._offered]:
                self._offer(bind, wanted[bind])

    def ask_stats(self, ask: int) -> bool:
        """Ask for the counters; return whether there is anyone to ask."""
        if self._channel is None or self.state is SlotState.STARTING:
            return False
        self._send(AskStats(ask=ask))
        return True

    def drain(self) -> None:
        """Let the worker finish and go; nothing replaces it."""
        if self._restart is not None:
            self._restart.cancel()
        if self.state is SlotState.UP:
            self._send(Drain())
            self.state = SlotState.DRAINING
        elif self.state in {SlotState.STARTING, SlotState.ENDING}:
            self.kill()  # it has no connection yet, or no longer
            self.state = SlotState.DRAINING
        elif self.state is SlotState.WAITING:
            self.state = SlotState.GONE

    def kill(self) -> None:
        """End the process at once; unless draining, it is replaced."""
        if self._process is not None:
            self._process.kill()

    def _send(self, order: Order) -> None:
        assert self._channel is not None
        self._channel.send(encode_frame(order))

    def _send_change(self) -> bool:
        """Bring the configuration up to date; False if that has to wait, or the worker refuses it."""
        desired = self.desired
        if self._told is desired.specs:
            return not self.refused
        if self._is_out_of_step or len(self._unanswered) >= MAX_UNANSWERED:
            return False
        base, base_version = self._sent
        frame = desired.frame_from(base, base_version)
        self._told = desired.specs
        self.refused = ""
        if frame is not None:
            assert self._channel is not None
            self._channel.send(frame)
            self._sent = (desired.specs, desired.version)
            self._unanswered.append(_Change(base_version, desired.version, desired.specs))
        return True

    def _offer(self, bind: Bind, group: SocketGroup) -> None:
        assert self._channel is not None
        self._offered[bind] = group
        self._channel.send(encode_frame(AddListener(*bind), fds=1), [group.members[self.index].fileno()])

    # --- reports ---------------------------------------------------------------------------------------------------------

    def _on_report(self, report: Report, _fds: list[int]) -> None:
        self._last_sign_at = self._loop.time()
        match report:
            case Started():
                if self.state is SlotState.STARTING:
                    self.state = SlotState.UP
            case Applied():
                change = self._unanswered.popleft()
                self._applied = (change.specs, change.version)
                self._offer_failed_again()
            case Rejected():
                self._on_rejected(report)
            case ListenerAdded():
                self._on_listener(report)
            case ListenerFailed():
                self._on_listener(report)
            case Heartbeat():
                self.heartbeat = report
            case StatsReply() | ListenerRemoved():
                pass  # for the observer
        self.sync()
        self._observer.on_report(self, report)

    def _on_rejected(self, report: Rejected) -> None:
        """Go back to what the worker has, once it has answered all changes that built on the refused one."""
        change = self._unanswered.popleft()
        self._is_out_of_step = True
        if change.base == self._applied[1]:
            self.refused = report.reason
        else:
            self._told = None  # it only built on a refused one: it deserves a try of its own
        if not self._unanswered:
            self._sent = self._applied
            self._is_out_of_step = False

    def _on_listener(self, report: ListenerAdded | ListenerFailed) -> None:
        bind = Bind(report.name, report.address, report.port)
        if bind not in self._offered:
            return  # removed in the meantime
        if isinstance(report, ListenerFailed):
            self.listener_errors[bind] = report.reason
        else:
            self.bound.add(bind)
            self.listener_errors.pop(bind, None)

    def _offer_failed_again(self) -> None:
        """Make `sync` offer what failed: another configuration may be what it lacked."""
        for bind in self.listener_errors:
            self._offered.pop(bind, None)

    # --- the end of a process ---------------------------------------------------------------------------------------------

    def _on_channel_end(self) -> None:
        self._channel = None
        if self._returncode is not None:
            self._end(self.pid or 0, self._returncode)
        elif self._process is not None:
            if self.state is not SlotState.DRAINING:
                self.state = SlotState.ENDING
            self._loop.call_later(LINGER_S, self._process.kill)

    def _on_exit(self, returncode: int) -> None:
        self._returncode = returncode
        if self._channel is None:  # else its last words are still to be read
            self._end(self.pid or 0, returncode)

    def _end(self, pid: int, returncode: int) -> None:
        lived_s = self._loop.time() - self._started_at
        delay_s: float | None = None
        if self.state is SlotState.DRAINING:
            self.state = SlotState.GONE
        else:
            self.state = SlotState.WAITING
            delay_s = self._backoff.delay_s(lived_s)
            self.restarts += 1
            self._restart = self._loop.call_later(delay_s, self.start)
        self._reset()
        self._observer.on_exit(self, Exit(pid, returncode, lived_s, delay_s))
