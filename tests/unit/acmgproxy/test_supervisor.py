# SPDX-License-Identifier: Apache-2.0
"""Facts about the supervisor: when it listens, when it is ready, and that no worker can hold it up."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest

from acmgproxy import slot as slot_module
from acmgproxy import supervisor as module
from acmgproxy.messages import Applied, Apply, Drain, ListenerFailed, Rejected, Started
from acmgproxy.settings import ProxySettings
from acmgproxy.slot import SlotState
from acmgproxy.sockets import Bind
from acmgproxy.supervisor import Supervisor
from routing.diff import diff
from routing.specs import Specs, SpecsDiff
from tests.unit.acmgproxy.control import MemoryLog, free_address, listener, specs_with, wait_for
from tests.unit.acmgproxy.fake_process import FakeProcesses

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Stage:
    """A supervisor of two workers played by the test."""

    def __init__(self, processes: FakeProcesses) -> None:
        self.processes = processes
        self.log = MemoryLog()
        log: Any = self.log
        self.supervisor = Supervisor(workers=2, settings=ProxySettings(drain_timeout_s=0.0), log=log)

    def publish(self, specs: Specs) -> None:
        version = self.supervisor.version + 1
        change = diff(self.supervisor.specs, specs, version)
        self.supervisor.publish(specs, change or SpecsDiff(version=version))

    async def ready(self, specs: Specs) -> None:
        self.supervisor.start()
        self.publish(specs)
        assert await self.supervisor.wait_started() == {}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TICK_S", 0.01)
    monkeypatch.setattr(module, "DRAIN_MARGIN_S", 0.05)


@pytest.fixture
async def stage(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    processes = FakeProcesses()
    monkeypatch.setattr(slot_module, "WorkerProcess", processes)
    stage = Stage(processes)
    yield stage
    await stage.supervisor.kill()


def can_connect(address: tuple[str, int]) -> bool:
    with socket.socket() as sock:
        sock.settimeout(1)
        return sock.connect_ex(address) == 0


async def test_nothing_listens_before_every_worker_has_the_first_configuration(stage: Stage) -> None:
    address = free_address()
    stage.processes.are_obedient = False
    supervisor = stage.supervisor
    assert supervisor.not_ready_because() == "no configuration yet"
    supervisor.start()
    stage.publish(specs_with(listener("a", address)))
    first, second = stage.processes.started
    for process in (first, second):
        process.report(Started())
    await second.ordered(Apply)
    first.report(Applied(1))
    await wait_for(lambda: supervisor.health()[0].version == 1)
    assert not can_connect(address)
    assert supervisor.not_ready_because() == "waiting for worker 1"
    for process in (first, second):
        process.is_obedient = True
    second.report(Applied(1))
    assert await supervisor.wait_started() == {}
    assert supervisor.is_ready
    assert can_connect(address)
    (status,) = supervisor.listeners()
    assert status == (Bind("a", *address), (True, True), "")
    assert "ready=True" in repr(supervisor)


async def test_readiness_stays_while_configurations_change_and_workers_die(stage: Stage) -> None:
    await stage.ready(specs_with(listener("a", free_address())))
    stage.publish(specs_with())
    stage.processes.started[0].kill()
    assert stage.supervisor.is_ready
    await wait_for(lambda: stage.supervisor.health()[0].version == 2)
    assert stage.supervisor.health()[0].restarts == 1
    assert "worker died" in stage.log.events()


async def test_listeners_follow_the_configuration(stage: Stage) -> None:
    first, second = free_address(), free_address()
    await stage.ready(specs_with(listener("a", first)))
    stage.publish(specs_with(listener("b", second)))
    await wait_for(lambda: all(all(status.workers) for status in stage.supervisor.listeners()))
    assert can_connect(second)
    assert not can_connect(first)


async def test_a_busy_address_at_the_start_is_told(stage: Stage) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        stage.supervisor.start()
        stage.publish(specs_with(listener("a", free_address()), listener("b", other.getsockname())))
        errors = await stage.supervisor.wait_started()
        assert errors == {Bind("b", *other.getsockname()): "already in use by another program"}
    assert not stage.supervisor.is_ready


async def test_a_busy_address_later_is_the_error_of_its_listener_until_it_is_free(stage: Stage) -> None:
    await stage.ready(specs_with())
    with socket.create_server(("127.0.0.1", 0)) as other:
        bind = Bind("b", *other.getsockname())
        stage.publish(specs_with(listener("a", free_address()), listener("b", other.getsockname())))
        await wait_for(lambda: [all(status.workers) for status in stage.supervisor.listeners()] == [True, False])
        assert stage.supervisor.listeners()[1] == (bind, (False, False), "already in use by another program")
        assert stage.log.events().count("cannot listen") == 1
    await wait_for(lambda: all(all(status.workers) for status in stage.supervisor.listeners()))
    assert "listening again" in stage.log.events()


async def test_a_worker_that_cannot_take_a_socket_is_told(stage: Stage) -> None:
    address = free_address()
    await stage.ready(specs_with(listener("a", address)))
    stage.processes.started[0].report(ListenerFailed("a", *address, "why ever"))
    await wait_for(lambda: stage.supervisor.listeners()[0].error)
    assert stage.supervisor.listeners()[0].error == "why ever"
    assert "worker cannot listen" in stage.log.events()


async def test_a_refused_configuration_is_told(stage: Stage) -> None:
    await stage.ready(specs_with())
    first = stage.processes.started[0]
    first.is_obedient = False
    stage.publish(specs_with(listener("a")))
    first.report(Rejected(2, "nonsense"))
    await wait_for(stage.supervisor.refusals)
    assert stage.supervisor.refusals() == {0: "nonsense"}
    assert "worker refused configuration" in stage.log.events()
    stage.publish(specs_with(listener("b")))
    stage.publish(specs_with(listener("c")))
    first.report(Rejected(3, "nonsense"), Rejected(4, "it follows version 3"))
    await wait_for(lambda: len(first.versions()) == 5)
    assert stage.log.events().count("worker refused configuration") == 2


async def test_counters_of_the_dead_and_of_those_that_do_not_answer_count(stage: Stage) -> None:
    await stage.ready(specs_with())
    first, second = stage.processes.started
    first.counted, second.counted = 3.0, 4.0
    assert (await stage.supervisor.refresh_totals(20)).counters() == {"requests": 7.0}
    second.is_obedient = False
    first.counted = 5.0
    assert (await stage.supervisor.refresh_totals(0.01)).counters() == {"requests": 9.0}
    asking = asyncio.create_task(stage.supervisor.refresh_totals(20))
    await asyncio.sleep(0)
    second.kill()
    assert (await asking).counters() == {"requests": 9.0}
    await wait_for(lambda: len(stage.processes.started) == 3)


async def test_counters_are_fetched_now_and_then(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STATS_EVERY_TICKS", 1)
    await stage.ready(specs_with())
    stage.processes.started[0].counted = 3.0
    await wait_for(lambda: stage.supervisor.totals.counters() == {"requests": 3.0})


async def test_with_no_worker_up_there_is_nobody_to_ask(stage: Stage) -> None:
    assert (await stage.supervisor.refresh_totals(20)).counters() == {}


async def test_a_silent_worker_is_told_once_and_replaced_at_last(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await stage.ready(specs_with())
    monkeypatch.setattr(module, "STALL_S", 0.0)
    await wait_for(lambda: stage.log.events().count("worker is silent") == 2)
    monkeypatch.setattr(module, "HANG_S", 0.0)
    await wait_for(lambda: stage.log.events().count("worker died") >= 2)
    assert stage.log.events().count("worker is silent") == 2
    monkeypatch.setattr(module, "STALL_S", 1000.0)


async def test_a_supervisor_that_was_asleep_does_not_blame_workers(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await stage.ready(specs_with())
    monkeypatch.setattr(module, "TICK_S", 0.0)
    monkeypatch.setattr(module, "STALL_S", 0.0)
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert "worker is silent" not in stage.log.events()


async def test_draining_waits_for_the_workers_and_leaves_nothing_behind(stage: Stage) -> None:
    address = free_address()
    await stage.ready(specs_with(listener("a", address)))
    await stage.supervisor.drain()
    assert not stage.supervisor.is_ready
    assert stage.supervisor.not_ready_because() == "draining"
    assert all(not health.is_up for health in stage.supervisor.health())
    assert stage.log.events().count("worker finished") == 2
    assert not can_connect(address)
    stage.publish(specs_with(listener("b", address)))
    assert stage.supervisor.version == 1


async def test_workers_that_do_not_finish_are_killed(stage: Stage) -> None:
    await stage.ready(specs_with())
    stage.processes.started[1].is_obedient = False
    await stage.supervisor.drain()
    assert ("warning", "workers did not finish in time and are killed", {"workers": [1]}) in stage.log.lines
    assert [slot.state for slot in stage.supervisor._slots] == [SlotState.GONE] * 2


async def test_a_start_that_is_interrupted_ends(stage: Stage) -> None:
    stage.processes.are_obedient = False
    stage.supervisor.start()
    await stage.supervisor.drain()
    assert all(not any(isinstance(order, Drain) for order in process.orders) for process in stage.processes.started)
