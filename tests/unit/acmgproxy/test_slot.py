# SPDX-License-Identifier: Apache-2.0
"""Facts about a worker slot: what a worker is sent, and what happens when it answers, refuses, hangs or dies."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest

from acmgproxy import desired
from acmgproxy import slot as module
from acmgproxy.desired import Desired
from acmgproxy.messages import (
    AddListener,
    Applied,
    Apply,
    Drain,
    Heartbeat,
    ListenerAdded,
    ListenerFailed,
    Rejected,
    RemoveListener,
    Report,
    SetQuarantine,
    Start,
    Started,
    StatsReply,
)
from acmgproxy.settings import ProxySettings
from acmgproxy.slot import MAX_UNANSWERED, Exit, SlotState, WorkerSlot
from acmgproxy.sockets import Bind, SocketGroup
from routing.diff import diff
from tests.unit.acmgproxy.control import listener, specs_with, wait_for
from tests.unit.acmgproxy.fake_process import FakeProcess, FakeProcesses

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from routing.specs import Specs

A, B = Bind("a", "127.0.0.1", 80), Bind("b", "127.0.0.2", 80)


class Watcher:
    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.exits: list[Exit] = []

    def on_report(self, slot: WorkerSlot, report: Report) -> None:
        assert slot.index == 0
        self.reports.append(report)

    def on_exit(self, slot: WorkerSlot, end: Exit) -> None:
        assert slot.index == 0
        self.exits.append(end)


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> FakeProcesses:
    fake = FakeProcesses()
    monkeypatch.setattr(module, "WorkerProcess", fake)
    return fake


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture
async def slot(processes: FakeProcesses, watcher: Watcher) -> AsyncIterator[WorkerSlot]:
    loop = asyncio.get_running_loop()
    slot = WorkerSlot(0, loop=loop, settings=ProxySettings(), observer=watcher)
    yield slot
    slot.drain()
    slot.kill()
    for process in processes.started:
        process.exit(0)
    await wait_for(lambda: slot.state is SlotState.GONE, repr(slot))


@pytest.fixture
def group() -> Iterator[SocketGroup]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield SocketGroup("127.0.0.1", 80, (sock,))


def specs(number: int) -> Specs:
    return specs_with(listener(f"l{number}"))


def want(slot: WorkerSlot, desired: Desired) -> None:
    slot.desired = desired
    slot.sync()


async def started(slot: WorkerSlot, processes: FakeProcesses) -> FakeProcess:
    slot.start()
    await wait_for(lambda: slot.state is SlotState.UP or not processes.are_obedient)
    process = processes.started[-1]
    await process.ordered(Start)
    if not processes.are_obedient:
        process.report(Started())
        await wait_for(lambda: slot.state is SlotState.UP)
    return process


async def test_a_worker_gets_the_routes_before_the_socket(slot: WorkerSlot, processes: FakeProcesses, group: SocketGroup) -> None:
    slot.desired = Desired(specs(1), 1, {A: group})
    assert not slot.is_current
    process = await started(slot, processes)
    await wait_for(lambda: slot.is_current)
    assert [type(order) for order in process.orders] == [Start, Apply, AddListener]
    assert process.versions() == [(0, 1)]
    assert slot.version == 1
    assert repr(slot) == f"<WorkerSlot 0 up pid={process.pid} version=1>"


async def test_listeners_go_before_the_routes_and_come_after(
    slot: WorkerSlot, processes: FakeProcesses, group: SocketGroup
) -> None:
    slot.desired = Desired(specs(1), 1, {A: group})
    process = await started(slot, processes)
    await wait_for(lambda: slot.is_current)
    want(slot, Desired(specs(2), 2, {B: group}))
    await wait_for(lambda: slot.is_current)
    assert process.listening() == ["+a", "-a", "+b"]
    assert isinstance(process.orders[-2], Apply)
    assert slot.bound == {B}


async def test_a_new_socket_for_the_same_address_replaces_the_old(
    slot: WorkerSlot, processes: FakeProcesses, group: SocketGroup
) -> None:
    config = specs(1)
    slot.desired = Desired(config, 1, {A: group})
    process = await started(slot, processes)
    await wait_for(lambda: slot.is_current)
    want(slot, Desired(config, 1, {A: SocketGroup("127.0.0.1", 80, group.members)}))
    await wait_for(lambda: process.listening() == ["+a", "-a", "+a"])


async def test_a_known_difference_is_not_computed_again(
    slot: WorkerSlot, processes: FakeProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = specs(1), specs(2)
    slot.desired = Desired(first, 1)
    process = await started(slot, processes)
    await wait_for(lambda: slot.is_current)
    change = diff(first, second, 2)
    assert change is not None
    monkeypatch.setattr(desired, "diff", None)
    want(slot, Desired(second, 2, known=(1, change)))
    await wait_for(lambda: slot.is_current)
    assert process.versions() == [(0, 1), (1, 2)]
    assert repr(slot.desired) == "<Desired version=2 binds=0>"


async def test_an_equal_configuration_is_not_sent(slot: WorkerSlot, processes: FakeProcesses) -> None:
    slot.desired = Desired(specs(1), 1)
    process = await started(slot, processes)
    await wait_for(lambda: slot.is_current)
    want(slot, Desired(specs(1), 2))
    assert slot.is_current
    want(slot, Desired(specs(3), 3))
    await wait_for(lambda: slot.is_current)
    assert process.versions() == [(0, 1), (1, 3)]


async def test_a_slow_worker_gets_one_difference_for_all_it_missed(
    slot: WorkerSlot, processes: FakeProcesses, group: SocketGroup
) -> None:
    processes.are_obedient = False
    process = await started(slot, processes)
    for number in range(1, 50):
        want(slot, Desired(specs(number), number, {A: group}))
    await process.ordered(Apply, MAX_UNANSWERED)
    process.report(*(Applied(number) for number in range(1, MAX_UNANSWERED + 1)))
    await process.ordered(Apply, MAX_UNANSWERED + 1)
    process.report(Applied(49))
    await wait_for(lambda: slot.has_applied)
    assert process.versions()[-1] == (MAX_UNANSWERED, 49)
    assert process.listening() == ["+a"]


async def test_a_refused_version_leaves_the_worker_with_the_one_before(
    slot: WorkerSlot, processes: FakeProcesses, group: SocketGroup
) -> None:
    processes.are_obedient = False
    slot.desired = Desired(specs(1), 1)
    process = await started(slot, processes)
    process.report(Applied(1))
    await wait_for(lambda: slot.is_current)
    want(slot, Desired(specs(2), 2, {A: group}))
    process.report(Rejected(2, "nonsense"))
    await wait_for(lambda: slot.refused)
    slot.sync()
    assert not slot.is_current
    want(slot, Desired(specs(3), 3, {A: group}))
    assert not slot.refused
    process.report(Applied(3))
    await wait_for(lambda: slot.has_applied)
    await wait_for(lambda: process.versions() == [(0, 1), (1, 2), (1, 3)])


async def test_versions_that_build_on_a_refused_one_get_a_try_of_their_own(slot: WorkerSlot, processes: FakeProcesses) -> None:
    processes.are_obedient = False
    slot.desired = Desired(specs(1), 1)
    process = await started(slot, processes)
    process.report(Applied(1))
    await wait_for(lambda: slot.is_current)
    want(slot, Desired(specs(2), 2))
    want(slot, Desired(specs(3), 3))
    await process.ordered(Apply, 3)
    process.report(Rejected(2, "nonsense"))
    await wait_for(lambda: slot.refused)
    want(slot, Desired(specs(4), 4))
    assert len(process.versions()) == 3
    process.report(Rejected(3, "it follows version 2"))
    await process.ordered(Apply, 4)
    assert process.versions()[-1] == (1, 4)
    process.report(Applied(4))
    await wait_for(lambda: slot.is_current)


async def test_a_socket_a_worker_could_not_take_is_offered_again_with_the_next_configuration(
    slot: WorkerSlot, processes: FakeProcesses, group: SocketGroup
) -> None:
    processes.are_obedient = False
    slot.desired = Desired(specs(1), 1, {A: group})
    process = await started(slot, processes)
    process.report(Applied(1), ListenerFailed(*A, "no such listener"))
    await wait_for(lambda: slot.listener_errors)
    assert slot.listener_errors == {A: "no such listener"}
    want(slot, Desired(specs(2), 2, {A: group}))
    process.report(Applied(2), ListenerAdded(*A))
    await wait_for(lambda: slot.is_current)
    assert not slot.listener_errors
    process.report(ListenerAdded(*B), Heartbeat(0.25, 1.5, 7, 8))
    await wait_for(lambda: slot.heartbeat)
    assert slot.bound == {A}


async def test_a_dead_worker_is_replaced_and_told_everything(
    slot: WorkerSlot, processes: FakeProcesses, watcher: Watcher, group: SocketGroup
) -> None:
    slot.desired = Desired(specs(1), 1, {A: group})
    first = await started(slot, processes)
    await wait_for(lambda: slot.is_current)
    first.kill()
    await wait_for(lambda: len(processes.started) == 2 and slot.is_current)
    assert processes.started[1].versions() == [(0, 1)]
    assert slot.restarts == 1
    (end,) = watcher.exits
    assert (end.pid, end.reason, end.delay_s) == (first.pid, "killed by SIGKILL", 0.0)
    processes.started[1].exit(3)
    await wait_for(lambda: len(watcher.exits) == 2)
    assert watcher.exits[1].reason == "exit code 3"
    assert watcher.exits[1].delay_s == 0.5
    assert slot.state is SlotState.WAITING
    assert slot.health()[:10] == (0, False, 0, 0, 2, 0.0, 0.0, 0.0, 0, 0)


async def test_last_words_are_heard(slot: WorkerSlot, processes: FakeProcesses, watcher: Watcher) -> None:
    process = await started(slot, processes)
    process.counted = 9.0
    process.report(StatsReply(0, process.stats()))
    process.is_alive = False
    process._on_exit(0)  # noticed before what it said
    assert slot.pid == process.pid
    process.channel.close()
    await wait_for(lambda: watcher.exits)
    assert StatsReply(0, process.stats()) in watcher.reports


async def test_a_process_that_outlives_its_channel_is_killed(
    slot: WorkerSlot, processes: FakeProcesses, monkeypatch: pytest.MonkeyPatch, watcher: Watcher
) -> None:
    monkeypatch.setattr(module, "LINGER_S", 0.0)
    process = await started(slot, processes)
    process.channel.close()
    await wait_for(lambda: watcher.exits)
    assert watcher.exits[0].returncode == -9


async def test_a_process_between_channel_and_end_gets_no_orders(slot: WorkerSlot, processes: FakeProcesses) -> None:
    process = await started(slot, processes)
    process.channel.close()
    await wait_for(lambda: slot.state is SlotState.ENDING)
    want(slot, Desired(specs(1), 1))
    assert not slot.ask_stats(1)
    assert slot.health().is_up is False
    slot.drain()
    assert slot.state is SlotState.DRAINING


async def test_a_worker_that_cannot_be_started_is_tried_again_later(
    slot: WorkerSlot, processes: FakeProcesses, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes.error = OSError(11, "no processes left")
    slot.start()
    await wait_for(lambda: len(watcher.exits) == 2)
    assert [end.returncode for end in watcher.exits] == [11, 11]

    def no_sockets() -> None:
        raise OSError(24, "no descriptors left")

    with monkeypatch.context() as patch:
        patch.setattr(socket, "socketpair", no_sockets)
        slot.start()
    assert watcher.exits[-1].returncode == 24


async def test_draining_ends_a_worker_for_good(slot: WorkerSlot, processes: FakeProcesses, watcher: Watcher) -> None:
    process = await started(slot, processes)
    assert slot.ask_stats(1)
    slot.drain()
    slot.drain()
    await wait_for(lambda: slot.state is SlotState.GONE)
    assert sum(isinstance(order, Drain) for order in process.orders) == 1
    assert watcher.exits[0].delay_s is None


async def test_a_draining_worker_still_learns_of_changes_but_gets_no_sockets(
    slot: WorkerSlot, processes: FakeProcesses, group: SocketGroup
) -> None:
    slot.desired = Desired(specs(1), 1, {A: group})
    process = await started(slot, processes)
    await wait_for(lambda: slot.is_current)
    process.is_obedient = False
    slot.drain(accept_s=7.5)
    await process.ordered(Drain)
    assert process.orders[-1] == Drain(accept_s=7.5)
    want(slot, Desired(specs(2), 2, {B: group}))
    await process.ordered(Apply, 2)
    assert process.versions() == [(0, 1), (1, 2)]
    assert process.listening() == ["+a"]


async def test_a_change_that_leaves_the_sockets_alone_does_not_look_at_them(
    slot: WorkerSlot, processes: FakeProcesses, group: SocketGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    binds = {A: group}
    slot.desired = Desired(specs(1), 1, binds)
    process = await started(slot, processes)
    await wait_for(lambda: slot.is_current)
    monkeypatch.setattr(slot, "_withdraw", None)
    want(slot, Desired(specs(2), 2, binds))
    await wait_for(lambda: slot.version == 2)
    assert process.listening() == ["+a"]


async def test_what_a_worker_could_not_listen_on_is_offered_again(
    slot: WorkerSlot, processes: FakeProcesses, group: SocketGroup
) -> None:
    processes.are_obedient = False
    slot.desired = Desired(specs(1), 1, {A: group, B: group})
    process = await started(slot, processes)
    await process.ordered(AddListener, 2)
    process.report(Applied(1), ListenerAdded(*A))
    await wait_for(lambda: slot.bound)
    assert not slot.has_answered
    slot.retry_failed()
    assert process.listening() == ["+a", "+b"]
    process.report(ListenerFailed(*B, "no descriptors"))
    await wait_for(lambda: slot.has_answered)
    assert not slot.is_current
    slot.retry_failed()
    await process.ordered(AddListener, 3)
    process.report(ListenerAdded(*B))
    await wait_for(lambda: slot.is_current)
    assert process.listening() == ["+a", "+b", "+b"]


async def test_a_socket_that_cannot_be_handed_over_for_want_of_descriptors_is_tried_again(
    slot: WorkerSlot, processes: FakeProcesses, group: SocketGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = await started(slot, processes)
    assert slot._channel is not None
    send = slot._channel.send

    def none_left(frame: bytes, fds: Sequence[int] = ()) -> None:
        if fds:
            raise OSError(24, "too many open files")
        send(frame)

    with monkeypatch.context() as patch:
        patch.setattr(slot._channel, "send", none_left)
        want(slot, Desired(specs(1), 1, {A: group}))
        await wait_for(lambda: slot.version == 1)
        assert slot.listener_errors == {A: "could not be handed over: too many open files"}
    slot.retry_failed()
    await wait_for(lambda: slot.is_current)
    assert process.listening() == ["+a"]


async def test_what_requests_see_is_known(slot: WorkerSlot, processes: FakeProcesses) -> None:
    processes.are_obedient = False
    slot.desired = Desired(specs(1), 1)
    process = await started(slot, processes)
    assert not slot.applied.listeners
    process.report(Applied(1))
    await wait_for(lambda: slot.applied is slot.desired.specs)
    first = slot.applied
    want(slot, Desired(specs(2), 2))
    assert slot.applied is first


async def test_draining_does_not_wait_for_a_worker_that_only_starts(
    slot: WorkerSlot, processes: FakeProcesses, watcher: Watcher
) -> None:
    processes.are_obedient = False
    slot.start()
    assert not slot.ask_stats(1)
    slot.drain()
    processes.started[0].report(Started())
    await wait_for(lambda: watcher.exits)
    assert slot.state is SlotState.GONE


async def test_draining_a_slot_that_waits_cancels_its_restart(
    slot: WorkerSlot, processes: FakeProcesses, watcher: Watcher
) -> None:
    slot.drain()
    assert slot.state is SlotState.GONE
    slot.state = SlotState.WAITING
    processes.error = OSError(11, "no processes left")
    slot.start()
    await wait_for(lambda: len(watcher.exits) == 2)
    slot.drain()
    assert slot.state is SlotState.GONE


async def test_health_is_what_the_heartbeat_says(slot: WorkerSlot, processes: FakeProcesses) -> None:
    process = await started(slot, processes)
    process.report(Heartbeat(0.25, 1.5, 7, 8))
    await wait_for(lambda: slot.heartbeat)
    health = slot.health()
    assert health[:5] == (0, True, process.pid, 0, 0)
    assert health[6:10] == (0.25, 1.5, 7, 8)
    assert health.config_age_s == 0, "it has none"
    want(slot, Desired(specs(1), 1))
    await wait_for(lambda: slot.has_applied)
    assert 0 < slot.health().config_age_s < 20
    assert health.silent_s < 20


async def test_sockets_of_others_come_after_the_routes_and_go_back(
    slot: WorkerSlot, processes: FakeProcesses, group: SocketGroup
) -> None:
    both = SocketGroup("127.0.0.1", 80, (group.members[0], group.members[0].dup()))
    slot.desired = Desired(specs(1), 1, {A: both})
    slot.lent = {(A, 1): both}
    process = await started(slot, processes)
    await wait_for(lambda: slot.is_current)
    await process.ordered(AddListener, 2)
    assert process.listening() == ["+a", "+a@1"]
    assert slot.bound == {A}
    slot.lent = {}
    slot.sync()
    await wait_for(lambda: process.listening() == ["+a", "+a@1", "-a@1"])
    removed = process.orders[-1]
    assert isinstance(removed, RemoveListener)
    assert not removed.is_last, "its owner accepts from it"
    assert slot.bound == {A}
    both.members[1].close()


async def test_a_crash_loop_is_away_until_it_accepts_again(slot: WorkerSlot, processes: FakeProcesses) -> None:
    slot.desired = Desired(specs(1), 1)
    first = await started(slot, processes)
    first.exit(3)
    await wait_for(lambda: len(processes.started) == 2)
    await wait_for(lambda: not slot.is_away)
    processes.started[1].exit(3)
    await wait_for(lambda: slot.is_away)
    processes.are_obedient = False
    await wait_for(lambda: len(processes.started) == 3)
    third = processes.started[2]
    third.report(Started())
    await third.ordered(Apply)
    assert slot.is_away, "it does not accept yet"
    third.report(Applied(1))
    await wait_for(lambda: not slot.is_away)
    assert slot.is_current


async def test_what_a_dead_worker_left_behind_is_read(slot: WorkerSlot, processes: FakeProcesses, watcher: Watcher) -> None:
    process = await started(slot, processes)
    await process.ordered(Start)
    recorder = process.recorder
    assert recorder is not None
    recorder.begin(b"listener", b"GET / HTTP/1.1\r\n\r\n")
    process.exit(-11)
    await wait_for(lambda: watcher.exits)
    (end,) = watcher.exits
    assert end.note == ("listener", b"GET / HTTP/1.1\r\n\r\n", "")
    assert end.is_fault
    await wait_for(lambda: len(processes.started) == 2)


async def test_a_process_that_hangs_says_where_and_is_killed(
    slot: WorkerSlot, processes: FakeProcesses, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STACK_S", 0.0)
    assert not slot.replace_hung(), "there is none"
    process = await started(slot, processes)
    assert slot.replace_hung()
    assert not slot.replace_hung(), "once is enough"
    await wait_for(lambda: watcher.exits)
    assert process.dumps == 1
    assert (watcher.exits[0].reason, watcher.exits[0].is_fault) == ("hung", True)
    assert slot.health().hangs == 1


async def test_quarantine_is_told_at_once_and_to_every_new_process(slot: WorkerSlot, processes: FakeProcesses) -> None:
    slot.set_quarantine([b"1"])
    first = await started(slot, processes)
    await first.ordered(SetQuarantine)
    slot.set_quarantine([b"1", b"2"])
    await first.ordered(SetQuarantine, 2)
    assert first.orders[-1] == SetQuarantine([b"1", b"2"])
    first.kill()
    await wait_for(lambda: len(processes.started) == 2)
    await processes.started[1].ordered(SetQuarantine)
    assert processes.started[1].orders[1] == SetQuarantine([b"1", b"2"])


async def test_silence_can_be_forgiven(slot: WorkerSlot, processes: FakeProcesses) -> None:
    await started(slot, processes)
    slot._last_sign_at -= 1000.0
    assert slot.silent_s >= 1000.0
    slot.forgive()
    assert slot.silent_s < 1000.0
