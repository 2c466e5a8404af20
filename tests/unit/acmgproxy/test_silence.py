# SPDX-License-Identifier: Apache-2.0
"""Facts about silence: who is told of, who is replaced, and that a sleeping supervisor blames nobody."""

from __future__ import annotations

from typing import Any

from acmgproxy.silence import HANG_S, STALL_S, START_S, Silence
from tests.unit.acmgproxy.control import MemoryLog


class Slot:
    """As much of a slot as is looked at."""

    def __init__(self, *, has_served: bool = True) -> None:
        self.index, self.pid, self.has_served = 0, 7, has_served
        self.silent_s = 0.0
        self.is_hung = False

    def forgive(self) -> None:
        self.silent_s = 0.0

    def replace_hung(self) -> bool:
        was_hung, self.is_hung = self.is_hung, True
        return not was_hung


class Scene:
    def __init__(self, slot: Slot) -> None:
        self.now = 0.0
        self.log = MemoryLog()
        log: Any = self.log
        self.slots: Any = [slot]
        self.silence = Silence(log, lambda: self.now, 1.0)

    def look(self, after_s: float = 1.0) -> None:
        self.now += after_s
        for slot in self.slots:
            slot.silent_s += after_s
        self.silence.look(self.slots)


def test_a_silent_worker_is_told_of_once_then_replaced_once() -> None:
    slot = Slot()
    scene = Scene(slot)
    for _ in range(int(STALL_S)):
        assert not scene.silence.stalled
        scene.look()
    assert scene.silence.stalled == {0}
    assert repr(scene.silence) == "<Silence stalled=[0]>"
    for _ in range(int(HANG_S)):
        scene.look()
    assert slot.is_hung
    assert scene.log.events() == ["worker is silent", "worker hangs and is replaced"]
    slot.silent_s = 0.0
    scene.look()
    assert not scene.silence.stalled


def test_a_worker_that_starts_is_given_time() -> None:
    slot = Slot(has_served=False)
    scene = Scene(slot)
    for _ in range(int(START_S) - 1):
        scene.look()
    assert not slot.is_hung
    assert not scene.silence.stalled, "it accepts nothing yet"
    scene.look()
    assert slot.is_hung


def test_a_supervisor_that_was_asleep_blames_nobody() -> None:
    slot = Slot()
    scene = Scene(slot)
    scene.look(1000.0)
    assert not slot.is_hung
    assert slot.silent_s == 0.0
    for _ in range(int(STALL_S) - 1):
        scene.look()
    assert not scene.log.lines
