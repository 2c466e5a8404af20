# SPDX-License-Identifier: Apache-2.0
"""Facts about the supervisor: when it listens, when it is ready, and that no worker can hold it up."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest

from acmgproxy import recycling, silence
from acmgproxy import slot as slot_module
from acmgproxy import supervisor as module
from acmgproxy.messages import (
    AddListener,
    Applied,
    Apply,
    Drain,
    Heartbeat,
    ListenerAdded,
    ListenerFailed,
    Rejected,
    ReplacementWanted,
    SetQuarantine,
    Start,
    Started,
)
from acmgproxy.quarantine import fingerprint
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


async def test_every_worker_is_asked_about_endpoints(stage: Stage) -> None:
    await stage.ready(specs_with())
    said = await stage.supervisor.endpoints(("a",), 20)
    assert {worker: [one.cluster for one in states] for worker, states in said.items()} == {0: ["a"], 1: ["a"]}
    first, second = stage.processes.started
    second.is_obedient = False
    assert list(await stage.supervisor.endpoints((), 0.01)) == [0]
    asking = asyncio.create_task(stage.supervisor.endpoints((), 20))
    await asyncio.sleep(0)
    second.kill()
    assert [one.cluster for one in (await asking)[0]] == ["ejected"]
    assert first.is_obedient


async def test_a_step_of_the_history_ends_when_counters_are_fetched(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STATS_EVERY_TICKS", 1)
    await stage.ready(specs_with())
    await wait_for(lambda: len(stage.supervisor.history.times()) >= 2)


async def test_with_no_worker_up_there_is_nobody_to_ask(stage: Stage) -> None:
    assert (await stage.supervisor.refresh_totals(20)).counters() == {}


async def test_a_silent_worker_is_told_once_and_replaced_at_last(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await stage.ready(specs_with())
    monkeypatch.setattr(silence, "STALL_S", 0.0)
    await wait_for(lambda: stage.log.events().count("worker is silent") == 2)
    monkeypatch.setattr(slot_module, "STACK_S", 0.0)
    monkeypatch.setattr(silence, "HANG_S", 0.0)
    await wait_for(lambda: stage.log.events().count("worker died") >= 2)
    assert stage.log.events().count("worker is silent") == 2
    assert stage.processes.started[0].dumps == 1
    monkeypatch.setattr(silence, "STALL_S", 1000.0)


async def test_a_worker_that_is_replaced_makes_room_only_when_another_accepts(stage: Stage) -> None:
    address = free_address()
    await stage.ready(specs_with(listener("a", address)))
    first, second = stage.processes.started
    stage.processes.are_obedient = False
    assert stage.supervisor.recycle("SIGHUP")
    third = stage.processes.started[2]
    third.report(Started())
    await third.ordered(Apply)
    third.report(Applied(1))
    await third.ordered(AddListener)
    assert not any(isinstance(order, Drain) for order in first.orders)
    first.counted, third.counted = 3.0, 4.0
    assert (await stage.supervisor.refresh_totals(20)).counters() == {"requests": 3.0}
    first.is_obedient = False
    third.report(ListenerAdded("a", *address))
    await first.ordered(Drain)
    assert first.orders[-1] == Drain(hands_over=True)
    third.is_obedient = True
    await stage.supervisor.refresh_totals(0.05)
    assert stage.supervisor.totals.counters() == {"requests": 7.0}
    assert len(stage.processes.started) == 3, "one at a time"
    first.exit(0)
    assert stage.supervisor.health()[0].recycles == 1
    stage.processes.are_obedient = True
    await wait_for(lambda: len(stage.processes.started) == 4)
    await second.ordered(Drain)
    await wait_for(lambda: stage.log.events().count("worker replaced") == 2)
    assert (await stage.supervisor.refresh_totals(20)).counters() == {"requests": 7.0}
    assert all(health.is_up for health in stage.supervisor.health())


async def test_a_successor_that_dies_replaces_nobody(stage: Stage) -> None:
    assert not stage.supervisor.recycle("SIGHUP"), "nothing is served yet"
    await stage.ready(specs_with())
    stage.processes.are_obedient = False
    assert stage.supervisor.recycle("SIGHUP")
    stage.processes.started[2].exit(3)
    await wait_for(lambda: "worker could not be replaced and serves on" in stage.log.events())
    stage.processes.are_obedient = True
    assert len(stage.processes.started) == 3, "the second is not even tried"
    assert all(health.is_up for health in stage.supervisor.health())
    stage.processes.started[1].report(ReplacementWanted())
    await wait_for(lambda: "worker replaced" in stage.log.events())


async def test_a_successor_that_refuses_or_takes_too_long_replaces_nobody(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    address = free_address()
    await stage.ready(specs_with(listener("a", address)))
    stage.processes.are_obedient = False
    reasons = []

    async def replaced_by_nobody() -> None:
        reasons.append("")
        await wait_for(lambda: stage.log.events().count("worker could not be replaced and serves on") >= len(reasons))
        given_up = [fields for _, event, fields in stage.log.lines if event == "worker could not be replaced and serves on"]
        reasons[-1] = given_up[-1]["reason"]
        stage.processes.started[-1].exit(0)

    stage.supervisor.recycle("SIGHUP")
    stage.processes.started[-1].report(Started(), Rejected(1, "nonsense"))
    await replaced_by_nobody()
    await wait_for(lambda: stage.supervisor.recycle("SIGHUP") and len(stage.processes.started) == 4)
    stage.processes.started[-1].report(Started(), Applied(1), ListenerFailed("a", *address, "no descriptors"))
    await replaced_by_nobody()
    monkeypatch.setattr(recycling, "SUCCESSOR_S", 0.0)
    await wait_for(lambda: stage.supervisor.recycle("SIGHUP") and len(stage.processes.started) >= 5)
    await replaced_by_nobody()
    assert reasons == [
        "its successor refused the configuration: nonsense",
        f"its successor cannot accept at a at {address[0]}:{address[1]}: no descriptors",
        "its successor was not ready within 0 s",
    ]
    assert all(health.is_up for health in stage.supervisor.health())
    assert stage.supervisor.health()[0].recycles == 0


async def test_others_accept_for_a_worker_in_a_crash_loop(stage: Stage) -> None:
    await stage.ready(specs_with(listener("a", free_address())))
    first, second = stage.processes.started
    first.exit(3)
    await wait_for(lambda: len(stage.processes.started) == 3)
    assert second.listening() == ["+a"], "it is back at once"
    stage.processes.started[2].exit(3)
    await wait_for(lambda: second.listening() == ["+a", "+a@0"])
    await wait_for(lambda: second.listening() == ["+a", "+a@0", "-a@0"])
    assert stage.processes.started[3].listening() == ["+a"], "its owner accepts before it is given back"


async def test_a_request_that_ends_workers_is_told_to_all(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    head = b"GET /deadly HTTP/1.1\r\nHost: h\r\n\r\n"
    await stage.ready(specs_with())
    for number, returncode in ((0, -11), (1, -9), (2, -6)):
        process = stage.processes.started[number]
        await process.ordered(Start)
        assert process.recorder is not None
        process.recorder.begin(b"l", head)
        process.exit(returncode)
        await wait_for(lambda number=number: len(stage.processes.started) >= number + 3)  # type: ignore[misc]
    told = [fields for _, event, fields in stage.log.lines if event == "a request has ended workers and is not served any more"]
    assert [fields["pids"] for fields in told] == [tuple(stage.processes.started[number].pid for number in (0, 2))]
    survivor = stage.processes.started[3]
    await survivor.ordered(SetQuarantine)
    monkeypatch.setattr(stage.supervisor._quarantine, "_until", {fingerprint(head): 0.0})
    await survivor.ordered(SetQuarantine, 2)
    orders = [order for order in survivor.orders if isinstance(order, SetQuarantine)]
    assert orders == [SetQuarantine([fingerprint(head)]), SetQuarantine([])]


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
    assert not can_connect(address)


async def test_sockets_stay_open_as_long_as_draining_workers_accept(stage: Stage) -> None:
    address = free_address()
    await stage.ready(specs_with(listener("a", address)))
    for process in stage.processes.started:
        process.is_obedient = False
    draining = asyncio.create_task(stage.supervisor.drain(1000.0))
    first, second = stage.processes.started
    await second.ordered(Drain)
    assert second.orders[-1] == Drain(accept_s=1000.0)
    assert stage.supervisor.not_ready_because() == "draining"
    assert can_connect(address), "connections wait in the queue, and a worker may still take them"
    stage.publish(specs_with(listener("b", free_address())))
    await second.ordered(Apply, 2)
    assert second.listening() == ["+a"]
    first.exit(0)
    group = stage.supervisor._listeners.binds[Bind("a", *address)]
    await wait_for(lambda: group.members[0].fileno() == -1, "nobody accepts from the socket of a worker that is gone")
    assert group.members[1].fileno() != -1
    second.exit(0)
    await draining


async def test_sockets_are_closed_when_the_time_of_accepting_is_over(stage: Stage) -> None:
    address = free_address()
    await stage.ready(specs_with(listener("a", address)))
    for process in stage.processes.started:
        process.is_obedient = False
    draining = asyncio.create_task(stage.supervisor.drain(0.01))
    await wait_for(lambda: not can_connect(address))
    for process in stage.processes.started:
        process.exit(0)
    await draining


async def test_draining_is_over_when_the_workers_are(stage: Stage) -> None:
    await stage.ready(specs_with(listener("a", free_address())))
    await asyncio.wait_for(stage.supervisor.drain(1000.0), 20)


async def test_killing_ends_a_drain(stage: Stage) -> None:
    address = free_address()
    await stage.ready(specs_with(listener("a", address)))
    for process in stage.processes.started:
        process.is_obedient = False
    draining = asyncio.create_task(stage.supervisor.drain(1000.0))
    await stage.processes.started[1].ordered(Drain)
    draining.cancel()
    await stage.supervisor.kill()
    assert not can_connect(address)


async def test_a_busy_address_at_the_start_may_be_the_error_of_its_listener_alone(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage.supervisor, "_must_listen", False)
    with socket.create_server(("127.0.0.1", 0)) as other:
        good, busy = free_address(), other.getsockname()
        await stage.ready(specs_with(listener("a", good), listener("b", busy)))
        assert stage.supervisor.is_ready
        assert can_connect(good)
        assert [status.error for status in stage.supervisor.listeners()] == ["", "already in use by another program"]
    await wait_for(lambda: all(all(status.workers) for status in stage.supervisor.listeners()))


async def test_a_worker_that_cannot_take_a_socket_at_the_start_may_be_no_obstacle(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage.supervisor, "_must_listen", False)
    stage.processes.are_obedient = False
    address = free_address()
    stage.supervisor.start()
    stage.publish(specs_with(listener("a", address)))
    for process in stage.processes.started:
        process.report(Started(), Applied(1))
    first, second = stage.processes.started
    await second.ordered(AddListener)
    second.report(ListenerAdded("a", *address))
    first.report(ListenerFailed("a", *address, "no descriptors"))
    assert await stage.supervisor.wait_started() == {}
    assert stage.supervisor.is_ready
    await first.ordered(AddListener, 3)
    first.report(ListenerFailed("a", *address, "no descriptors"), ListenerAdded("a", *address))
    await wait_for(lambda: all(all(status.workers) for status in stage.supervisor.listeners()))
    assert stage.log.events().count("worker cannot listen") == 1, "it is tried every second"


async def test_what_may_change_the_listeners_changes_the_revision(stage: Stage) -> None:
    await stage.ready(specs_with(listener("a", free_address())))
    supervisor = stage.supervisor
    seen = {supervisor.revision}

    async def moved() -> None:
        await wait_for(lambda: supervisor.revision not in seen)
        seen.add(supervisor.revision)

    stage.publish(specs_with())
    await moved()
    await wait_for(lambda: len(supervisor.applied()) == 1)
    seen.add(supervisor.revision)
    stage.processes.started[0].kill()
    await moved()
    await wait_for(lambda: supervisor.health()[0].version == 2)
    seen.add(supervisor.revision)
    stage.processes.started[1].report(Heartbeat(0.0, 0.0, 0, 0))
    await wait_for(lambda: supervisor._slots[1].heartbeat)
    assert supervisor.revision in seen
    await supervisor.drain()
    await moved()


async def test_endpoints_change_without_a_look_at_the_listeners(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await stage.ready(specs_with(listener("a", free_address())))
    monkeypatch.setattr(stage.supervisor._listeners, "update", None)
    specs = stage.supervisor.specs
    stage.publish(Specs(listeners=specs.listeners, endpoints={"c": ()}))
    await wait_for(lambda: [health.version for health in stage.supervisor.health()] == [2, 2])


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
