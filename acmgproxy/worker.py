# SPDX-License-Identifier: Apache-2.0
"""The worker process: `python -m acmgproxy.worker FD`, started by the supervisor with one end of a socketpair.

A worker owns traffic and nothing else: one event loop with a `DataPlane`, told what to do by the supervisor's orders, which it
carries out strictly one after the other. It decides nothing about its own life: the terminal's Ctrl-C is not for it, and SIGTERM
makes it ask for a replacement, which comes first, so that one worker can be replaced by hand without losing a request. When the
supervisor is gone (the socketpair ends) it stops accepting at once, so that a restarted gateway finds its ports free, finishes
what is under way and exits, within the time of a drain.

Nothing here imports what only the supervisor needs: a worker starts in a fraction of a second and its memory counts N times.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import select
import signal
import socket
import sys
from collections import deque
from typing import TYPE_CHECKING, NamedTuple, Protocol

import uvloop

from acmgproxy.black_box import Recorder
from acmgproxy.channel import Channel, encode_frame
from acmgproxy.messages import (
    AddListener,
    Applied,
    Apply,
    AskEndpoints,
    AskStats,
    Drain,
    EndpointsReply,
    Heartbeat,
    ListenerAdded,
    ListenerFailed,
    ListenerRemoved,
    LoggingSet,
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
    order_decoder,
)
from acmgproxy.sockets import refuse_newcomers
from acmgproxy.stats import WorkerStats

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from acmgproxy.access_log import AccessLogOptions
    from acmgproxy.endpoint_state import EndpointState
    from acmgproxy.log_levels import Level
    from acmgproxy.settings import ProxySettings
    from acmgproxy.stats import SeriesValue
    from routing.specs import SpecsDiff

__all__ = ["HEARTBEAT_S", "Worker", "main", "run"]

HEARTBEAT_S = 1.0
"""How often a worker shows that it is alive; the supervisor's patience is a multiple of it."""

GC_THRESHOLDS = (10_000, 20, 50)
"""Collections of the youngest generation come every 10,000 net allocations (CPython: 700 or 2,000). Reference counting frees what
a request makes, so this many pile up only with new connections, and a collection of them takes well under a millisecond."""

ACCEPT_REST_S = 1.0
"""How long to look after an accept queue that never runs empty."""

HANDSHAKE_S = 0.01
"""How long handshakes under way may take when a listener goes; round trips in a cluster take about a millisecond."""

ACCEPTED_TURNS = 3
"""Turns of the loop after which an accepted connection is known to the data plane (uvloop announces it in the next one)."""

FADE_REST_S = 5.0
"""Of the time of a drain that hands over, what is left for requests that came at the last moment."""

_PAGE_BYTES = resource.getpagesize()


class _Place(NamedTuple):
    """A socket accepted from: where, and whose it is if it is another worker's."""

    name: str
    address: str
    port: int
    member: int | None


class _DataPlane(Protocol):
    """What a worker needs of `acmgproxy.dataplane.DataPlane`."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def apply(self, diff: SpecsDiff) -> None: ...

    def take_notes(self, recorder: Recorder) -> None: ...

    def set_quarantine(self, heads: Collection[bytes]) -> None: ...

    def set_logging(self, access_log: AccessLogOptions, level: Level) -> None: ...

    async def add_listener(self, name: str, sock: socket.socket, member: int | None = None) -> None: ...

    def remove_listener(self, name: str, address: str, port: int, member: int | None = None) -> None: ...

    def begin_drain(self) -> None: ...

    async def fade(self, timeout_s: float) -> None: ...

    async def drain(self, timeout_s: float | None = None) -> None: ...

    def report(self) -> Iterator[list[SeriesValue] | WorkerStats]: ...

    def endpoints(self, clusters: Sequence[str]) -> list[EndpointState]: ...

    @property
    def worst_lag_s(self) -> float: ...


class Worker:
    """Carries out the supervisor's orders until it is told, or found, to stop.

    Args:
        sock: the worker's end of the socketpair.
        make_data_plane: makes the data plane once settings and worker number are known.
    """

    def __init__(
        self,
        sock: socket.socket,
        make_data_plane: Callable[[asyncio.AbstractEventLoop, ProxySettings, int], _DataPlane],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._make_data_plane = make_data_plane
        self._data_plane: _DataPlane | None = None
        self._orders: deque[tuple[Order, list[int]]] = deque()
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        self._draining: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self._version = 0
        self._listeners: dict[_Place, socket.socket] = {}
        self._drain_timeout_s = 0.0
        self._beat_due = 0.0
        self._channel = Channel(self._loop, sock, order_decoder(), on_message=self._receive, on_close=self._on_supervisor_gone)

    def __repr__(self) -> str:
        return f"<Worker version={self._version} listeners={len(self._listeners)}>"

    async def run(self) -> None:
        """Work until drained, as it is told or because the supervisor is gone."""
        orders = asyncio.create_task(self._carry_out_orders())
        stopped = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((orders, stopped), return_when=asyncio.FIRST_COMPLETED)
            if orders.done():
                orders.result()  # an order that raised ends the process with its traceback
        finally:
            orders.cancel()
            stopped.cancel()
            if self._draining is not None:
                self._draining.cancel()
            if self._data_plane is not None:
                self._data_plane.stop()
            self._channel.close()

    def drain(self, accept_s: float = 0.0, *, hands_over: bool = False) -> None:
        """Begin to finish; `run` returns when done. See messages.Drain."""
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain(accept_s, hands_over=hands_over))

    def ask_for_replacement(self) -> None:
        """Have the supervisor let this worker go once another has its place."""
        self._report(ReplacementWanted())

    def _on_supervisor_gone(self) -> None:
        self._hurry.set()
        self.drain()

    def _receive(self, order: Order, fds: list[int]) -> None:
        self._orders.append((order, fds))
        self._wake.set()

    async def _carry_out_orders(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._orders:
                order, fds = self._orders.popleft()
                await self._carry_out(order, fds)

    async def _carry_out(self, order: Order, fds: list[int]) -> None:
        match order:
            case Start():
                self._data_plane = self._make_data_plane(self._loop, order.settings, order.worker_id)
                self._open_black_box(fds)
                self._data_plane.start()
                self._drain_timeout_s = order.settings.drain_timeout_s
                self._report(Started())
                self._beat_due = self._loop.time()
                self._beat()
            case Apply():
                self._apply(order)
            case AddListener():
                await self._add_listener(order, fds)
            case RemoveListener():
                place = _Place(order.name, order.address, order.port, order.member)
                if place in self._listeners:
                    await self._remove_listeners([place], are_last=order.is_last)
                self._report(ListenerRemoved(*place))
            case AskStats():
                await self._report_stats(order.ask)
            case AskEndpoints():
                self._report(EndpointsReply(ask=order.ask, endpoints=self._running.endpoints(order.clusters)))
            case Drain():
                self.drain(order.accept_s, hands_over=order.hands_over)
            case SetQuarantine():
                self._running.set_quarantine(frozenset(order.heads))
            case SetLogging():
                self._set_logging(order)

    @property
    def _running(self) -> _DataPlane:
        assert self._data_plane is not None, "Start is the first order"
        return self._data_plane

    def _open_black_box(self, fds: Sequence[int]) -> None:
        for fd in fds:
            recorder = Recorder(fd)
            recorder.record_stacks()
            self._running.take_notes(recorder)

    def _set_logging(self, order: SetLogging) -> None:
        reason = ""
        try:
            self._running.set_logging(order.access_log, order.level)
        except OSError as error:
            reason = f"{order.access_log.sink} cannot be opened: {error.strerror}"
        self._report(LoggingSet(order.ask, reason))

    def _report(self, report: Report) -> None:
        self._channel.send(encode_frame(report))

    async def _report_stats(self, ask: int) -> None:
        """Say what has been counted, a part in each turn of the loop."""
        for part in self._running.report():
            if isinstance(part, WorkerStats):
                self._report(StatsReply(ask=ask, stats=part))
                return
            if part:
                self._report(SeriesReport(part))
            await asyncio.sleep(0)

    def _apply(self, order: Apply) -> None:
        version = order.diff.version
        if order.base != self._version:
            self._report(Rejected(version=version, reason=f"it follows version {order.base}, the worker has {self._version}"))
            return
        try:
            self._running.apply(order.diff)
        except Exception as error:  # whatever is wrong with one version, the one before keeps serving
            self._report(Rejected(version=version, reason=f"{type(error).__name__}: {error}"))
            return
        if not self._version:
            _tune_garbage_collection()
        self._version = version
        self._report(Applied(version=version))

    async def _add_listener(self, order: AddListener, fds: list[int]) -> None:
        sock = socket.socket(fileno=fds[0])
        sock.setblocking(False)
        try:
            await self._running.add_listener(order.name, sock, order.member)
        except Exception as error:  # the other listeners are served
            sock.close()
            reason = f"{type(error).__name__}: {error}"
            self._report(ListenerFailed(order.name, order.address, order.port, reason, order.member))
            return
        place = _Place(order.name, order.address, order.port, order.member)
        self._listeners[place] = sock
        self._report(ListenerAdded(*place))

    async def _remove_listeners(self, places: Sequence[_Place], *, are_last: bool) -> None:
        """Close sockets.

        What waits in an accept queue is accepted first, unless someone else accepts from the socket after us: then it stays.
        """
        if are_last:
            for place in places:
                refuse_newcomers(self._listeners[place])
            await asyncio.sleep(HANDSHAKE_S)
        for place in places:
            if are_last:
                await self._accept_rest(self._listeners[place])
            del self._listeners[place]
            self._running.remove_listener(*place)
        for _ in range(ACCEPTED_TURNS):
            await asyncio.sleep(0)

    async def _accept_rest(self, sock: socket.socket) -> None:
        """Let the loop take what waits in the accept queue: closing the socket would reset it."""
        queue = select.poll()
        queue.register(sock, select.POLLIN)
        give_up_at = self._loop.time() + ACCEPT_REST_S
        while queue.poll(0) and self._loop.time() < give_up_at:  # noqa: ASYNC110 - the loop's own accepting gives no sign
            await asyncio.sleep(0)

    async def _drain(self, accept_s: float, *, hands_over: bool) -> None:
        """Let clients go while still accepting, stop accepting, finish what was accepted, and say the final counts."""
        try:
            if self._data_plane is None:
                return
            self._data_plane.begin_drain()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), accept_s)
            finish_by = self._loop.time() + self._drain_timeout_s
            if hands_over:
                await self._fade(finish_by)
            drained = asyncio.create_task(self._data_plane.drain(max(0.0, finish_by - self._loop.time())))
            await self._remove_listeners(list(self._listeners), are_last=True)
            await drained
            with contextlib.suppress(TimeoutError):  # those that came after it had found nothing under way
                async with asyncio.timeout_at(finish_by):
                    await self._data_plane.drain()
            await self._report_stats(0)
            await self._channel.flush()
        finally:
            self._stop.set()

    async def _fade(self, finish_by: float) -> None:
        """Leave the sockets to the process that accepts from them, and wait until clients have gone by themselves.

        An idle connection that is closed just when its client sends a request costs that request. Here is no hurry: nearly all
        clients ask again within the time of a drain, and the answer tells them to go.
        """
        await self._remove_listeners(list(self._listeners), are_last=False)
        rest_s = min(FADE_REST_S, self._drain_timeout_s / 2)
        fading = asyncio.create_task(self._running.fade(finish_by - rest_s - self._loop.time()))
        hurry = asyncio.create_task(self._hurry.wait())
        await asyncio.wait((fading, hurry), return_when=asyncio.FIRST_COMPLETED)
        for task in (fading, hurry):
            task.cancel()

    def _beat(self) -> None:
        now = self._loop.time()
        lag_s = max(0.0, now - self._beat_due)
        self._beat_due = now + HEARTBEAT_S
        self._loop.call_at(self._beat_due, self._beat)
        if self._channel.is_idle:  # else the supervisor is behind, and one more would only wait
            self._report(_heartbeat(max(lag_s, self._running.worst_lag_s)))


def _heartbeat(loop_lag_s: float) -> Heartbeat:
    usage = os.times()
    with open("/proc/self/statm", "rb") as statm:
        resident_pages = int(statm.read().split()[1])
    return Heartbeat(
        loop_lag_s=loop_lag_s,
        cpu_s=usage.user + usage.system,
        rss_bytes=resident_pages * _PAGE_BYTES,
        open_files=os.stat("/proc/self/fd").st_size,  # the number since Linux 6.2, else 0; listing thousands would show in p99
    )


def _tune_garbage_collection() -> None:
    """Keep the collector away from what start-up made: it lives as long as the process."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


async def run(fd: int, make_data_plane: Callable[[asyncio.AbstractEventLoop, ProxySettings, int], _DataPlane]) -> None:
    """Run a worker on the socketpair end `fd`."""
    worker = Worker(socket.socket(fileno=fd), make_data_plane)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.ask_for_replacement)
    await worker.run()


def main(argv: list[str] | None = None) -> int:
    """Run the process; the only argument is the descriptor of the socketpair."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from acmgproxy.dataplane import DataPlane  # noqa: PLC0415 - after Ctrl-C is ignored: it takes most of the start

    (fd,) = argv if argv is not None else sys.argv[1:]
    uvloop.run(run(int(fd), DataPlane))
    return 0


if __name__ == "__main__":
    sys.exit(main())
