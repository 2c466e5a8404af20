# SPDX-License-Identifier: Apache-2.0
"""Facts about switching logs: all workers follow, those that start later too, and those that cannot are named."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from acmgproxy import log_switch as switch_module
from acmgproxy import slot as slot_module
from acmgproxy.access_log import AccessLogOptions
from acmgproxy.log_levels import Threshold
from acmgproxy.messages import LoggingSet, SetLogging, Started
from acmgproxy.settings import ProxySettings
from acmgproxy.supervisor import Supervisor
from tests.unit.acmgproxy.control import MemoryLog, wait_for
from tests.unit.acmgproxy.fake_process import FakeProcesses

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

OPTIONS = AccessLogOptions(sink="/log", format="json")


class Stage:
    def __init__(self, processes: FakeProcesses) -> None:
        self.processes = processes
        self.memory = MemoryLog()
        self.threshold = Threshold("info")
        log: Any = self.memory
        settings = ProxySettings(drain_timeout_s=0.0, access_log="-")
        self.supervisor = Supervisor(workers=2, settings=settings, log=log, threshold=self.threshold)

    def switches(self, index: int) -> list[SetLogging]:
        return [order for order in self.processes.started[index].orders if isinstance(order, SetLogging)]


@pytest.fixture
async def stage(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    processes = FakeProcesses()
    monkeypatch.setattr(slot_module, "WorkerProcess", processes)
    stage = Stage(processes)
    stage.supervisor.start()
    await wait_for(lambda: all(slot.is_up for slot in stage.supervisor.health()))
    yield stage
    for process in stage.processes.started:
        process.is_obedient = True
    await stage.supervisor.kill()


async def test_all_workers_are_told_and_so_is_this_process(stage: Stage) -> None:
    assert stage.supervisor.logging.access_log.sink == "-"
    await stage.supervisor.switch_logging(OPTIONS, "debug")
    assert [stage.switches(index) for index in (0, 1)] == [[SetLogging(1, OPTIONS, "debug")]] * 2
    assert (stage.threshold.level, stage.supervisor.logging.level) == ("debug", "debug")
    assert stage.supervisor.logging.failures == {}
    assert ("info", "logging switched", {"access_log": "/log", "format": "json", "lines_from": "debug"}) in stage.memory.lines


async def test_one_that_starts_later_is_told_what_was_switched(stage: Stage) -> None:
    assert stage.switches(0) == [], "settings come with the start"
    await stage.supervisor.switch_logging(OPTIONS, "error")
    stage.processes.started[0].kill()
    await wait_for(lambda: len(stage.processes.started) == 3)
    await stage.processes.started[2].ordered(SetLogging)
    assert stage.switches(2) == [SetLogging(0, OPTIONS, "error")]


async def test_one_that_cannot_is_named_until_it_can(stage: Stage) -> None:
    switching = asyncio.create_task(stage.supervisor.switch_logging(OPTIONS, "info"))
    stage.processes.started[1].is_obedient = False
    await stage.processes.started[1].ordered(SetLogging)
    stage.processes.started[1].report(LoggingSet(1, "/log cannot be opened: Is a directory"))
    await switching
    assert stage.supervisor.logging.failures == {1: "/log cannot be opened: Is a directory"}
    assert "worker cannot log requests so" in stage.memory.events()
    assert "failures={1:" in repr(stage.supervisor.logging)
    stage.processes.started[1].is_obedient = True
    await stage.supervisor.switch_logging(AccessLogOptions(), "info")
    assert stage.supervisor.logging.failures == {}


async def test_one_that_says_nothing_is_named_too(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switch_module, "TIMEOUT_S", 0.02)
    stage.processes.started[0].is_obedient = False
    await stage.supervisor.switch_logging(OPTIONS, "info")
    assert stage.supervisor.logging.failures == {0: "no answer within 0 s"}
    stage.processes.started[0].kill()
    await wait_for(lambda: stage.supervisor.logging.failures == {}, "its replacement")


async def test_one_that_is_starting_is_not_waited_for(stage: Stage) -> None:
    stage.processes.are_obedient = False
    stage.processes.started[0].kill()
    await wait_for(lambda: len(stage.processes.started) == 3)
    await stage.supervisor.switch_logging(OPTIONS, "info")
    assert stage.supervisor.logging.failures == {}
    assert stage.switches(2) == []
    stage.processes.started[2].report(Started())
    await stage.processes.started[2].ordered(SetLogging)
