# SPDX-License-Identifier: Apache-2.0
"""Facts about a worker: it carries out orders one after the other and reports."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

import pytest

from acmgproxy import dataplane, worker
from acmgproxy.access_log import AccessLogOptions
from acmgproxy.black_box import BlackBox, Recorder
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
from acmgproxy.settings import ProxySettings
from acmgproxy.worker import Worker
from routing.specs import SpecsDiff
from tests.unit.acmgproxy.control import FakeDataPlane, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PLACE = ("127.0.0.1", 80)


@pytest.fixture(autouse=True)
def _no_gc_tuning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_tune_garbage_collection", lambda: None)


class Boss:
    """The supervisor's end."""

    def __init__(self, *, start: bool = True) -> None:
        ours, theirs = socket.socketpair()
        self.reports: list[Report] = []
        self.plane: FakeDataPlane | None = None
        self.channel: Channel[Report] = Channel(
            asyncio.get_running_loop(),
            ours,
            report_decoder(),
            on_message=lambda report, _: self.reports.append(report),
            on_close=lambda: None,
        )
        self.worker = Worker(theirs, self._make)
        self.task = asyncio.create_task(self.worker.run())
        if start:
            self.order(Start(worker_id=3, settings=ProxySettings()))

    def _make(self, _: asyncio.AbstractEventLoop, settings: ProxySettings, worker_id: int) -> FakeDataPlane:
        assert settings == ProxySettings()
        self.plane = FakeDataPlane(worker_id)
        return self.plane

    def order(self, order: Any, *fds: int) -> None:
        self.channel.send(encode_frame(order, len(fds)), fds)

    def listen(self, name: str) -> tuple[str, int]:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            self.order(AddListener(name, *PLACE), sock.fileno())
            address, port = sock.getsockname()
        return address, port

    async def expect(self, *reports: Report) -> None:
        await wait_for(lambda: all(report in self.reports for report in reports), f"{reports} in {self.reports}")

    async def expect_kind(self, kind: type[Report]) -> Report:
        await wait_for(lambda: any(isinstance(report, kind) for report in self.reports), str(kind))
        return next(report for report in self.reports if isinstance(report, kind))

    async def ready_plane(self) -> FakeDataPlane:
        await self.expect(Started())
        assert self.plane is not None
        return self.plane

    async def end(self) -> None:
        self.channel.close()
        await self.task


async def test_it_says_that_it_started_and_keeps_showing_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "HEARTBEAT_S", 0.001)
    boss = Boss()
    assert (await boss.ready_plane()).worker_id == 3
    await wait_for(lambda: sum(isinstance(report, Heartbeat) for report in boss.reports) > 3)
    beat = await boss.expect_kind(Heartbeat)
    assert isinstance(beat, Heartbeat)
    assert beat.rss_bytes > 1_000_000
    assert beat.cpu_s > 0
    await boss.end()


async def test_versions_are_applied_in_order() -> None:
    boss = Boss()
    boss.order(Apply(0, SpecsDiff(version=1)))
    boss.order(Apply(1, SpecsDiff(version=2)))
    await boss.expect(Applied(1), Applied(2))
    assert repr(boss.worker) == "<Worker version=2 listeners=0>"
    await boss.end()


async def test_a_version_that_cannot_be_applied_leaves_the_one_before() -> None:
    boss = Boss()
    (await boss.ready_plane()).refuse = {2}
    boss.order(Apply(0, SpecsDiff(version=1)))
    boss.order(Apply(1, SpecsDiff(version=2)))
    boss.order(Apply(2, SpecsDiff(version=3)))
    boss.order(Apply(1, SpecsDiff(version=4)))
    await boss.expect(
        Applied(1),
        Rejected(2, "ValueError: nonsense"),
        Rejected(3, "it follows version 2, the worker has 1"),
        Applied(4),
    )
    await boss.end()


async def test_listeners_are_added_and_removed() -> None:
    boss = Boss()
    boss.listen("a")
    boss.listen("bad")
    boss.order(RemoveListener("a", *PLACE, is_last=True))
    boss.order(RemoveListener("never", *PLACE, is_last=True))
    await boss.expect(
        ListenerAdded("a", *PLACE),
        ListenerFailed("bad", *PLACE, "KeyError: 'bad'"),
        ListenerRemoved("a", *PLACE),
        ListenerRemoved("never", *PLACE),
    )
    assert boss.plane is not None
    assert boss.plane.orders == ["add a", f"remove a {PLACE[0]} {PLACE[1]}"]
    await boss.end()


async def test_what_waits_in_the_accept_queue_is_accepted_before_a_listener_goes() -> None:
    boss = Boss()
    address = boss.listen("a")
    await boss.expect(ListenerAdded("a", *PLACE))
    assert boss.plane is not None
    client = socket.create_connection(address)
    boss.order(RemoveListener("a", *PLACE, is_last=True))
    boss.order(AskStats(1))
    for _ in range(50):
        await asyncio.sleep(0.001)
    assert "a" in boss.plane.sockets
    boss.plane.sockets["a"].accept()[0].close()
    await boss.expect(ListenerRemoved("a", *PLACE))
    client.close()
    await boss.end()


async def test_a_queue_that_someone_else_accepts_from_is_left_to_them() -> None:
    boss = Boss()
    with socket.create_server(("127.0.0.1", 0)) as sock:
        boss.order(AddListener("a", *PLACE), sock.fileno())
        with socket.create_connection(sock.getsockname()):
            boss.order(RemoveListener("a", *PLACE, is_last=False))
            await boss.expect(ListenerRemoved("a", *PLACE))
            sock.accept()[0].close()
        with socket.create_connection(sock.getsockname(), timeout=5):
            pass
    await boss.end()


async def test_a_queue_that_never_runs_empty_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "ACCEPT_REST_S", 0.0)
    boss = Boss()
    address = boss.listen("a")
    await boss.expect(ListenerAdded("a", *PLACE))
    client = socket.create_connection(address)
    boss.order(RemoveListener("a", *PLACE, is_last=True))
    await boss.expect(ListenerRemoved("a", *PLACE))
    client.close()
    await boss.end()


async def test_endpoints_are_told_when_asked() -> None:
    boss = Boss()
    boss.order(AskEndpoints(4, ("a", "b")))
    reply = await boss.expect_kind(EndpointsReply)
    assert isinstance(reply, EndpointsReply)
    assert (reply.ask, [(one.cluster, one.active) for one in reply.endpoints]) == (4, [("a", 2), ("b", 2)])
    await boss.end()


async def test_counters_are_told_when_asked() -> None:
    boss = Boss()
    boss.order(AskStats(7))
    reply = await boss.expect_kind(StatsReply)
    assert isinstance(reply, StatsReply)
    assert (reply.ask, reply.stats.worker, reply.stats.counters) == (7, 3, {"requests": 5.0})
    kinds = [type(report) for report in boss.reports]
    assert kinds.index(SeriesReport) < kinds.index(StatsReply), "what is counted by series goes before"
    (part,) = [report for report in boss.reports if isinstance(report, SeriesReport)]
    assert [value.count for value in part.series] == [5]
    await boss.end()


async def test_a_drained_worker_finishes_stops_accepting_and_says_its_last_counts() -> None:
    boss = Boss()
    boss.listen("a")
    await boss.expect(ListenerAdded("a", *PLACE))
    plane = await boss.ready_plane()
    plane.may_finish.clear()
    boss.order(Drain())
    boss.order(Drain())
    await wait_for(lambda: f"remove a {PLACE[0]} {PLACE[1]}" in plane.orders)
    assert not boss.task.done()
    plane.may_finish.set()
    await boss.task
    assert plane.drains == 2
    await boss.expect_kind(StatsReply)
    boss.channel.close()


async def test_a_draining_worker_accepts_as_long_as_it_is_told_and_ends_nothing_before() -> None:
    boss = Boss()
    boss.listen("a")
    await boss.expect(ListenerAdded("a", *PLACE))
    plane = await boss.ready_plane()
    boss.order(Drain(accept_s=0.2))
    await wait_for(lambda: plane.is_leaving)
    assert plane.drains == 0
    assert "a" in plane.sockets
    boss.order(AskStats(7))
    await boss.expect_kind(StatsReply)
    await boss.task
    assert plane.drains == 2
    assert not plane.sockets
    boss.channel.close()


async def test_draining_ends_in_time_even_if_the_last_connections_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    boss = Boss()
    plane = await boss.ready_plane()

    async def first_at_once_then_never(_: float | None = None) -> None:
        plane.drains += 1
        if plane.drains > 1:
            await asyncio.Event().wait()

    monkeypatch.setattr(plane, "drain", first_at_once_then_never)
    monkeypatch.setattr(boss.worker, "_drain_timeout_s", 0.0)
    boss.order(Drain(accept_s=0.01))
    await boss.task
    assert plane.drains == 2
    boss.channel.close()


async def test_a_worker_that_never_started_drains_at_once() -> None:
    boss = Boss(start=False)
    boss.worker.drain()
    await boss.task
    boss.channel.close()


async def test_a_worker_whose_supervisor_is_gone_finishes_and_ends() -> None:
    boss = Boss()
    boss.listen("a")
    await boss.expect(ListenerAdded("a", *PLACE))
    plane = await boss.ready_plane()
    plane.may_finish.clear()
    boss.channel.close()
    await wait_for(lambda: not plane.sockets, "it accepts no more")
    assert plane.is_leaving
    assert not boss.task.done(), "something is under way"
    plane.may_finish.set()
    await boss.task


@pytest.mark.parametrize("order", [Drain(accept_s=1000.0), Drain(hands_over=True)])
async def test_nobody_waits_for_clients_any_more_when_the_supervisor_is_gone(order: Drain) -> None:
    boss = Boss()
    plane = await boss.ready_plane()
    plane.may_fade.clear()
    boss.order(order)
    await wait_for(lambda: plane.is_leaving)
    await boss.end()
    assert plane.drains == 2


async def test_a_worker_that_hands_over_leaves_the_queue_and_lets_clients_go_by_themselves() -> None:
    boss = Boss()
    with socket.create_server(("127.0.0.1", 0)) as sock:
        boss.order(AddListener("a", *PLACE), sock.fileno())
        plane = await boss.ready_plane()
        plane.may_fade.clear()
        boss.order(Drain(hands_over=True))
        await wait_for(lambda: plane.fades)
        assert plane.is_leaving
        assert not plane.sockets
        assert plane.drains == 0, "idle connections stay"
        with socket.create_connection(sock.getsockname(), timeout=5):
            sock.accept()[0].close()
        plane.may_fade.set()
        await boss.task
    assert 0 < plane.fades[0] <= ProxySettings().drain_timeout_s - worker.FADE_REST_S
    assert plane.drains == 2
    boss.channel.close()


async def test_sockets_of_others_are_kept_apart() -> None:
    boss = Boss()
    boss.listen("a")
    with socket.create_server(("127.0.0.1", 0)) as sock:
        boss.order(AddListener("a", *PLACE, member=1), sock.fileno())
        boss.order(AddListener("bad", *PLACE, member=1), sock.fileno())
        boss.order(RemoveListener("a", *PLACE, is_last=False, member=1))
        await boss.expect(
            ListenerAdded("a", *PLACE),
            ListenerAdded("a", *PLACE, member=1),
            ListenerFailed("bad", *PLACE, "KeyError: 'bad'", member=1),
            ListenerRemoved("a", *PLACE, member=1),
        )
    plane = await boss.ready_plane()
    assert list(plane.sockets) == ["a"]
    boss.order(RemoveListener("a", *PLACE, is_last=True))
    await boss.expect(ListenerRemoved("a", *PLACE))
    await boss.end()


async def test_it_notes_what_it_works_on_and_learns_what_not_to_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recorder, "record_stacks", lambda _: None)
    boss = Boss(start=False)
    box = BlackBox()
    boss.order(Start(worker_id=3, settings=ProxySettings()), box.fd)
    boss.order(SetQuarantine([b"1", b"2"]))
    plane = await boss.ready_plane()
    await wait_for(lambda: plane.quarantine)
    assert plane.quarantine == {b"1", b"2"}
    assert plane.recorder is not None
    plane.recorder.begin(b"a", b"head\r\n\r\n")
    assert box.note() == ("a", b"head\r\n\r\n", "")
    box.close()
    await boss.end()


async def test_a_defect_in_an_order_ends_the_worker() -> None:
    boss = Boss(start=False)
    boss.order(AskStats(1))
    with pytest.raises(AssertionError, match="Start is the first order"):
        await boss.task
    boss.channel.close()


@pytest.fixture
def signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals")
async def test_sigterm_asks_for_a_replacement() -> None:
    ours, theirs = socket.socketpair()
    reports: list[Report] = []
    channel = Channel(
        asyncio.get_running_loop(), ours, report_decoder(),
        on_message=lambda report, _: reports.append(report), on_close=lambda: None,
    )  # fmt: skip
    running = asyncio.create_task(worker.run(theirs.detach(), lambda *_: FakeDataPlane()))
    await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGTERM)
    await wait_for(lambda: reports == [ReplacementWanted()])
    assert not running.done()
    channel.close()
    await running


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize("is_given", [True, False])
def test_the_process_ends_when_its_supervisor_is_gone(monkeypatch: pytest.MonkeyPatch, *, is_given: bool) -> None:
    monkeypatch.setattr(dataplane, "DataPlane", FakeDataPlane)
    ours, theirs = socket.socketpair()
    ours.close()
    fd = str(theirs.detach())
    monkeypatch.setattr(sys, "argv", ["worker", fd])
    assert worker.main([fd] if is_given else None) == 0
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_garbage_collection_is_tuned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    done: list[object] = []
    monkeypatch.setattr(gc, "collect", lambda: done.append("collect"))
    monkeypatch.setattr(gc, "freeze", lambda: done.append("freeze"))
    tune: Callable[[], None] = worker._tune_garbage_collection
    monkeypatch.setattr(gc, "set_threshold", lambda *numbers: done.append(numbers))
    tune()
    assert done == ["collect", "freeze", worker.GC_THRESHOLDS]


async def test_logs_are_switched_and_what_cannot_be_opened_is_told() -> None:
    boss = Boss()
    await boss.expect_kind(Started)
    boss.order(SetLogging(4, AccessLogOptions(sink="-", min_status=500), "debug"))
    boss.order(SetLogging(5, AccessLogOptions(sink="/bad"), "info"))
    await boss.expect(LoggingSet(4, ""), LoggingSet(5, "/bad cannot be opened: Permission denied"))
    assert boss.plane is not None
    assert boss.plane.orders == ["log - debug"]
