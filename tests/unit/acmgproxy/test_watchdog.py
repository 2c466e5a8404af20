# SPDX-License-Identifier: Apache-2.0
"""Facts about the watchdog: what counts as a stall, and that the culprit is named."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import threading
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from acmgproxy.watchdog import ORPHAN_S, Watchdog
from acmgproxy.worker_log import WorkerLog
from tests.protocol.mocks import MockLoop, new_loop
from tests.unit.acmgproxy.control import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator


class Scene:
    """A watchdog whose thread does not run: the test looks in its place."""

    def __init__(self) -> None:
        self.loop: MockLoop = new_loop()
        self.counters: Counter[str] = Counter()
        self.reading, writing = os.pipe()
        self.log = WorkerLog(0, writing)
        self.watchdog = Watchdog(self.loop, self.counters, self.log, clock=self.loop.time)
        self.watchdog.touch()
        self._writing = writing

    def stall(self, seconds: float) -> None:
        """Let time pass in which the loop does nothing."""
        self.loop.now += seconds

    def lines(self) -> list[dict[str, object]]:
        self.log.flush()
        if not select.select([self.reading], [], [], 0)[0]:
            return []
        return [json.loads(line) for line in os.read(self.reading, 65536).splitlines()]

    def close(self) -> None:
        os.close(self.reading)
        os.close(self._writing)


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.close()


@pytest.mark.parametrize(
    ("stall_s", "counted"),
    [
        (0.0, {}),
        (0.2, {}),
        (0.3, {"watchdog_misses": 1}),
        (1.1, {"watchdog_misses": 1, "watchdog_mega_misses": 1}),
    ],
)
def test_stalls_are_counted_by_their_length(scene: Scene, stall_s: float, counted: dict[str, int]) -> None:
    scene.loop.advance(1.0)
    scene.stall(stall_s)
    scene.loop.advance(1.0)
    assert scene.counters == counted


def test_the_lag_is_the_worst_of_late(scene: Scene) -> None:
    scene.loop.advance(1.0)
    assert scene.watchdog.worst_lag_s == pytest.approx(0.0)
    scene.stall(0.55)
    scene.loop.advance(0.0)
    assert scene.watchdog.worst_lag_s == pytest.approx(0.5, abs=0.06)
    scene.loop.advance(16.0)
    assert scene.watchdog.worst_lag_s > 0.4
    scene.loop.advance(31.0)
    assert scene.watchdog.worst_lag_s == pytest.approx(0.0)
    assert repr(scene.watchdog) == "Watchdog(worst_lag_s=0.000)"


def test_a_stall_that_goes_on_is_told_with_its_stack(scene: Scene) -> None:
    scene.watchdog.look()
    assert not scene.lines()
    scene.stall(0.4)
    scene.watchdog.look()
    (line,) = scene.lines()
    assert line["event"] == "event loop stalled"
    assert line["for_s"] == 0.35
    stack = line["stack"]
    assert isinstance(stack, list)
    assert any("test_a_stall_that_goes_on_is_told_with_its_stack" in frame for frame in stack)
    assert len(stack) <= 12


def test_not_every_stall_is_told(scene: Scene) -> None:
    for seconds, lines in ((0.4, 1), (0.4, 0), (9.0, 1), (1.0, 0), (9.9, 1)):
        scene.stall(seconds)
        scene.watchdog.look()
        assert len(scene.lines()) == lines
        scene.watchdog.touch()


def test_a_stall_that_lasts_is_told_once_more(scene: Scene) -> None:
    for seconds, lines in ((0.4, 1), (0.4, 0), (0.4, 1), (0.4, 0), (11.0, 1)):
        scene.stall(seconds)
        scene.watchdog.look()
        assert len(scene.lines()) == lines


def test_a_stall_without_a_supervisor_ends_the_process(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    parents = [100, 100, 1, 1]
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append((pid, number)))
    scene.watchdog = Watchdog(scene.loop, scene.counters, scene.log, clock=scene.loop.time, parent=lambda: parents.pop(0))
    scene.stall(ORPHAN_S + 1)
    scene.watchdog.look()
    assert not killed, "the supervisor acts"
    scene.watchdog.look()
    assert killed == [(os.getpid(), signal.SIGKILL)]
    scene.watchdog._due = scene.loop.time()
    scene.watchdog.look()
    assert len(killed) == 1, "a loop that turns goes on"


def test_a_thread_that_has_ended_has_no_stack(scene: Scene) -> None:
    def make() -> None:
        scene.watchdog = Watchdog(scene.loop, scene.counters, scene.log, clock=scene.loop.time)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    scene.stall(0.4)
    scene.watchdog.look()
    assert scene.lines()[0]["stack"] == []


async def test_the_real_thing() -> None:
    reading, writing = os.pipe()
    counters: Counter[str] = Counter()
    watchdog = Watchdog(asyncio.get_running_loop(), counters, WorkerLog(7, writing))
    watchdog.stop()  # before the start: nothing to do
    watchdog = Watchdog(asyncio.get_running_loop(), counters, WorkerLog(7, writing))
    watchdog.start()

    def busy() -> None:
        assert select.select([reading], [], [], 20.0)[0], "until the watchdog has said so"

    busy()
    line = json.loads(os.read(reading, 65536))
    assert line["worker"] == 7
    assert any("busy" in frame for frame in line["stack"])
    await wait_for(lambda: counters["watchdog_misses"] == 1)
    watchdog.stop()
    os.close(reading)
    os.close(writing)
