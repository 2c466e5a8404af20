# SPDX-License-Identifier: Apache-2.0
"""Facts about what the log says of the objects."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from acmgproxy.app import reports as module
from acmgproxy.app.reports import Reports
from discovery.objects import SourceProblem
from routing.diagnostics import Diagnostic
from tests.unit.acmgproxy.control import MemoryLog, wait_for

if TYPE_CHECKING:
    import pytest


class Stage:
    def __init__(self) -> None:
        self.memory = MemoryLog()
        self.found: list[Diagnostic] = []
        self.looks = 0
        self.cost_s = 0.0
        self.now = 0.0
        log: Any = self.memory
        self.reports = Reports(log, self.find, clock=lambda: self.now)

    def find(self) -> list[Diagnostic]:
        self.looks += 1
        self.now += self.cost_s
        return self.found


def problem(name: str) -> SourceProblem:
    return SourceProblem(origin="a.yaml", kind="Service", namespace="default", name=name, field="spec", reason="nonsense")


def finding(code: str) -> Diagnostic:
    return Diagnostic(
        code=code, severity="warning", kind="Service", namespace="default", name="a", field="spec", message="hm", remedy="do"
    )


def test_a_problem_is_said_once_and_its_end_once() -> None:
    stage = Stage()
    stage.reports.say_problems(())
    stage.reports.say_problems((problem("a"),))
    stage.reports.say_problems((problem("a"), problem("b")))
    stage.reports.say_problems((problem("b"),))
    stage.reports.say_problems(())
    said = [(event.partition(",")[0], fields["object"]) for _, event, fields in stage.memory.lines]
    assert said == [
        ("refused", "Service default/a"),
        ("refused", "Service default/b"),
        ("no longer refused", "Service default/a"),
        ("no longer refused", "Service default/b"),
    ]


def test_a_finding_is_said_once_each_time_it_appears() -> None:
    stage = Stage()
    for codes in (["A"], ["A", "B"], ["B"], ["A", "B"]):
        stage.found = [finding(code) for code in codes]
        stage.reports.diagnose()
    assert [fields["code"] for _, _, fields in stage.memory.lines] == ["A", "B", "A"]
    assert stage.memory.lines[0][:2] == ("warning", "hm")
    assert {one.code for one in stage.reports.diagnostics} == {"A", "B"}
    assert "diagnostics=2" in repr(stage.reports)


async def test_many_changes_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DIAGNOSE_AFTER_S", 0.01)
    stage = Stage()
    for _ in range(5):
        stage.reports.diagnose_soon()
    await wait_for(lambda: stage.looks)
    assert stage.looks == 1
    stage.reports.diagnose_soon()
    stage.reports.close()
    stage.reports.close()
    assert stage.reports._waiting is None


def delay_s(stage: Stage) -> float:
    assert stage.reports._waiting is not None
    return round(stage.reports._waiting.when() - asyncio.get_running_loop().time(), 1)


async def test_the_longer_looking_takes_the_rarer_it_is() -> None:
    stage = Stage()
    stage.reports.diagnose_soon(is_routine=True)
    delays = [delay_s(stage)]
    for cost_s in (0.5, 0.0, 0.0):
        stage.cost_s = cost_s
        stage.reports.diagnose()
        stage.reports.diagnose_soon(is_routine=True)
        delays.append(delay_s(stage))
    assert delays == [0.2, 150.0, 75.0, 37.5]
    stage.reports.diagnose_soon()
    assert delay_s(stage) == 0.2, "what a person changed is looked at soon"
    stage.reports.diagnose_soon(is_routine=True)
    assert delay_s(stage) == 0.2
    stage.reports.close()
