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

A worker that is replaced on purpose has two slots for a while, the old one and its successor's (see acmgproxy.recycling). Each
process has a black box, read when it is over.
"""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from acmgproxy.backoff import RestartBackoff
from acmgproxy.black_box import BlackBox
from acmgproxy.channel import Channel, encode_frame
from acmgproxy.desired import NOTHING, Desired
from acmgproxy.messages import (
    AddListener,
    Applied,
    AskEndpoints,
    AskStats,
    Drain,
    EndpointsReply,
    Heartbeat,
    ListenerAdded,
    ListenerFailed,
    ListenerRemoved,
    Order,
    Rejected,
    RemoveListener,
    ReplacementWanted,
    Report,
    SeriesReport,
    SetLogging,
    SetQuarantine,
    Start,
    Started,
    StatsReply,
    report_decoder,
)
from acmgproxy.process import WORKER_COMMAND, WorkerProcess
from acmgproxy.slot_state import Exit, Lent, SlotObserver, SlotState, WorkerHealth
from acmgproxy.sockets import Bind

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping, Sequence

    from acmgproxy.settings import ProxySettings
    from acmgproxy.sockets import SocketGroup
    from routing.specs import Specs

__all__ = ["Exit", "SlotObserver", "SlotState", "WorkerHealth", "WorkerSlot"]

MAX_UNANSWERED = 4
"""Configuration changes under way to one worker. One is answered within a loop turn; more only pile up behind a busy worker."""

LINGER_S = 2.0
"""How long a process may outlive its end of the channel."""

STACK_S = 0.2
"""How long a process that hangs gets to write its stack down before it is killed; it takes a millisecond."""

_NOTHING_LENT: Mapping[Lent, SocketGroup] = {}


class _Change(NamedTuple):
    """A configuration change under way to the worker."""

    base: int
    version: int
    specs: Specs


class WorkerSlot:
    """One worker position of the supervisor.

    Args:
        index: the worker's number, which is also its member of every socket group.
        loop: event loop of the supervisor.
        settings: handed to the worker.
        observer: told of reports and ends.
        command: the worker program.

    Attributes:
        desired, lent, quarantine: what its process shall have: configuration and sockets; sockets of others; heads not to serve.
        number: under which its counters are kept; the worker's number as long as it has the worker's place.
        is_away: it is in a crash loop, and does not accept.
        restarts, hangs, recycles: see WorkerHealth.
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
        self.number = index
        self.desired = Desired()
        self.lent = _NOTHING_LENT
        self.quarantine: list[bytes] = []
        self.is_away = False
        self.restarts = self.hangs = self.recycles = 0
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
        self._applied_at = 0.0
        self._unanswered: deque[_Change] = deque()
        self._is_out_of_step = False
        self._told: Specs | None = None
        self._offered: dict[Bind, SocketGroup] = {}
        self._offered_all: Mapping[Bind, SocketGroup] | None = None
        self._borrowed: dict[Lent, SocketGroup] = {}
        self._black_box: BlackBox | None = None
        self._is_hung = False
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
    def applied(self) -> Specs:
        """The configuration its requests see, itself."""
        return self.desired.specs if self.has_applied else self._applied[0]

    @property
    def is_current(self) -> bool:
        """Whether it also accepts from every desired address."""
        return self.has_applied and self.bound >= self.desired.binds.keys()

    @property
    def has_answered(self) -> bool:
        """Whether it also accepts from every desired address, or has said why not."""
        return self.has_applied and (self.bound | self.listener_errors.keys()) >= self.desired.binds.keys()

    @property
    def has_served(self) -> bool:
        """Whether its process has come so far as to apply a configuration."""
        return self._applied[1] > 0

    @property
    def age_s(self) -> float:
        """Time since its process was started."""
        return self._loop.time() - self._started_at

    @property
    def silent_s(self) -> float:
        """Time since the last sign of life, 0 while there is no process."""
        return self._loop.time() - self._last_sign_at if self._process is not None else 0.0

    def health(self) -> WorkerHealth:
        """Describe the slot."""
        is_up = self.state is SlotState.UP
        health = WorkerHealth(self.index, is_up, self.pid or 0, self.version, self.restarts, self.silent_s)
        health = health._replace(hangs=self.hangs, recycles=self.recycles)
        if self._applied[1]:
            health = health._replace(config_age_s=self._loop.time() - self._applied_at)
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
            self._black_box = box = BlackBox()
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
        self._channel.send(encode_frame(Start(worker_id=self.index, settings=self._settings), fds=1), [box.fd])
        if self.quarantine:
            self._send(SetQuarantine(self.quarantine))

    def inherit(self, old: WorkerSlot) -> None:
        """Take the place of another slot of this worker, with what has been counted there."""
        self.restarts, self.hangs, self.recycles = old.restarts, old.hangs, old.recycles + 1
        self.number, old.number = old.number, self.number

    def set_quarantine(self, heads: list[bytes]) -> None:
        """Have the worker serve no request with these heads."""
        self.quarantine = heads
        if self._channel is not None:
            self._send(SetQuarantine(heads))

    def set_logging(self, order: SetLogging) -> bool:
        """Have the worker log so; return whether there is anyone to tell. One that is starting is told when it has started."""
        if self._channel is None or self.state is SlotState.STARTING:
            return False
        self._send(order)
        return True

    def forgive(self) -> None:
        """Forget how long it has been silent."""
        self._last_sign_at = self._loop.time()

    def sync(self) -> None:
        """Send what separates the worker from what is desired, as far as it may be sent now.

        Most changes are of endpoints and leave the sockets alone: then looking at thousands of these would cost more than the
        change. A worker that drains still learns where endpoints are, but nothing more about sockets.
        """
        if self.state is SlotState.DRAINING and self._told is not None and self._channel is not None:
            self._send_change()
        if self.state is not SlotState.UP:
            return
        self._give_back()
        if self._sync_own():
            self._borrow()

    def _sync_own(self) -> bool:
        """Bring configuration and sockets up to date; False if the configuration has to wait."""
        wanted = self.desired.binds
        if self._offered_all is wanted:
            return self._send_change()
        self._withdraw(wanted)
        if not self._send_change():
            return False
        for bind in [bind for bind in wanted if bind not in self._offered]:
            self._offer(bind, wanted[bind])
        self._offered_all = wanted
        return True

    def _give_back(self) -> None:
        """Have the worker leave alone what it is no longer lent."""
        for lent in [lent for lent, group in self._borrowed.items() if self.lent.get(lent) is not group]:
            bind, owner = lent
            del self._borrowed[lent]
            self._send(RemoveListener(*bind, is_last=False, member=owner))

    def _borrow(self) -> None:
        """Have the worker accept from what it is newly lent."""
        for lent in [lent for lent in self.lent if lent not in self._borrowed]:
            bind, owner = lent
            group = self._borrowed[lent] = self.lent[lent]
            assert self._channel is not None
            with contextlib.suppress(OSError):  # no descriptor left for a copy that waits: the owner will be back
                self._channel.send(encode_frame(AddListener(*bind, member=owner), fds=1), [group.members[owner].fileno()])

    def _withdraw(self, wanted: Mapping[Bind, SocketGroup]) -> None:
        """Take back the sockets that are no longer wanted."""
        kept = set(wanted.values())
        for bind, group in [(bind, group) for bind, group in self._offered.items() if wanted.get(bind) is not group]:
            del self._offered[bind]
            self.bound.discard(bind)
            self.listener_errors.pop(bind, None)
            self._send(RemoveListener(*bind, is_last=group not in kept))

    def ask_stats(self, ask: int) -> bool:
        """Ask for the counters; return whether there is anyone to ask."""
        if self._channel is None or self.state is SlotState.STARTING:
            return False
        self._send(AskStats(ask=ask))
        return True

    def ask_endpoints(self, ask: int, clusters: tuple[str, ...]) -> bool:
        """Ask how endpoints are doing; return whether there is anyone to ask."""
        if self._channel is None or self.state is SlotState.STARTING:
            return False
        self._send(AskEndpoints(ask=ask, clusters=clusters))
        return True

    def retry_failed(self) -> None:
        """Offer the sockets again that the worker could not take over."""
        if self.listener_errors:
            self._offer_failed_again()
            self.sync()

    def drain(self, accept_s: float = 0.0, *, hands_over: bool = False) -> None:
        """Let the worker finish and go, see messages.Drain; nothing replaces it here."""
        if self._restart is not None:
            self._restart.cancel()
        if self.state is SlotState.UP:
            self._send(Drain(accept_s=accept_s, hands_over=hands_over))
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

    def replace_hung(self) -> bool:
        """End a process that shows no sign of life, after a look at what it is doing. False if that has been done."""
        if self._process is None or self._is_hung:
            return False
        self._is_hung = True
        self._process.dump()
        self._loop.call_later(STACK_S, self._process.kill)
        return True

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
        try:
            self._channel.send(encode_frame(AddListener(*bind), fds=1), [group.members[self.index].fileno()])
        except OSError as error:  # no descriptor left for the copy that waits in the queue
            self.listener_errors[bind] = f"could not be handed over: {error.strerror}"

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
                self._applied_at = self._loop.time()
                self._offer_failed_again()
            case Rejected():
                self._on_rejected(report)
            case ListenerAdded():
                self._on_listener(report)
            case ListenerFailed():
                self._on_listener(report)
            case Heartbeat():
                self.heartbeat = report
            case SeriesReport() | StatsReply() | EndpointsReply() | ListenerRemoved() | ReplacementWanted():
                pass  # for the observer
        self.sync()
        if self.is_away and self.has_answered:
            self.is_away = False
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
        if report.member is not None or bind not in self._offered:
            return  # another's, or removed in the meantime
        if isinstance(report, ListenerFailed):
            self.listener_errors[bind] = report.reason
        else:
            self.bound.add(bind)
            self.listener_errors.pop(bind, None)

    def _offer_failed_again(self) -> None:
        """Make `sync` offer what failed: another configuration may be what it lacked."""
        for bind in self.listener_errors:
            self._offered.pop(bind, None)
            self._offered_all = None

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
        end = Exit(pid, returncode, self.age_s, None, is_hang=self._is_hung)
        if self._black_box is not None:
            end = end._replace(note=self._black_box.note(), stacks=tuple(self._black_box.stacks()))
            self._black_box.close()
        self.hangs += self._is_hung
        if self.state is SlotState.DRAINING:
            self.state = SlotState.GONE
        else:
            self.state = SlotState.WAITING
            end = end._replace(delay_s=(delay_s := self._backoff.delay_s(end.lived_s)))
            self.is_away = delay_s > 0
            self.restarts += 1
            self._restart = self._loop.call_later(delay_s, self.start)
        self._reset()
        self._observer.on_exit(self, end)
