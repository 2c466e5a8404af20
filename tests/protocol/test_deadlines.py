# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from math import inf

import pytest

from acmgproxy.io.deadlines import TICK_S, Deadlines
from tests.protocol.mocks import MockLoop, new_loop


class Item:
    """Is asked, notes when, and says what comes next."""

    def __init__(self, *following: float) -> None:
        self.wake = inf
        self.asked: list[float] = []
        self.following = list(following)

    def on_wake(self, now: float) -> float:
        self.asked.append(now)
        return self.following.pop(0) if self.following else inf


@pytest.fixture
def loop() -> MockLoop:
    return new_loop()


@pytest.fixture
def deadlines(loop: MockLoop) -> Deadlines:
    return Deadlines(loop, loop.time)


def test_an_item_is_asked_at_its_time_and_not_before(loop: MockLoop, deadlines: Deadlines) -> None:
    item = Item()
    deadlines.wake_by(item, 1001.0)
    loop.advance(0.99)
    assert item.asked == []
    loop.advance(0.03)
    assert len(item.asked) == 1
    assert 1001.0 <= item.asked[0] <= 1001.0 + 2 * TICK_S + 1e-6
    assert item.wake == inf
    assert loop.pending_timers() == 0, "an idle worker has no timer"


def test_the_earliest_time_counts(loop: MockLoop, deadlines: Deadlines) -> None:
    item = Item()
    deadlines.wake_by(item, 1005.0)
    deadlines.wake_by(item, 1001.0)
    deadlines.wake_by(item, 1003.0)
    assert repr(deadlines) == "Deadlines(1 items in 1 buckets)"
    loop.advance(10.0)
    assert len(item.asked) == 1


def test_an_answer_is_the_next_time(loop: MockLoop, deadlines: Deadlines) -> None:
    item = Item(1002.0, 1003.0)
    deadlines.wake_by(item, 1001.0)
    loop.advance(10.0)
    assert [round(when) for when in item.asked] == [1001, 1002, 1003]


def test_a_time_that_has_passed_is_the_next_tick(loop: MockLoop, deadlines: Deadlines) -> None:
    item = Item(900.0)
    deadlines.wake_by(item, 900.0)
    loop.advance(3 * TICK_S)
    assert len(item.asked) == 2


def test_one_that_is_forgotten_is_not_asked(loop: MockLoop, deadlines: Deadlines) -> None:
    item, other = Item(), Item()
    deadlines.forget(item)
    deadlines.wake_by(item, 1001.0)
    deadlines.wake_by(other, 1001.0)
    deadlines.forget(item)
    deadlines.forget(other)
    deadlines.wake_by(other, 1001.0)
    loop.advance(2.0)
    assert (len(item.asked), len(other.asked)) == (0, 1)


def test_a_stall_of_the_loop_loses_nothing(loop: MockLoop, deadlines: Deadlines) -> None:
    items = [Item() for _ in range(3)]
    for number, item in enumerate(items):
        deadlines.wake_by(item, 1001.0 + number)
    loop.now += 3600.0
    loop.advance(0.02)
    assert [len(item.asked) for item in items] == [1, 1, 1]
    late = Item()
    deadlines.wake_by(late, loop.now + 1.0)
    loop.advance(0.9)
    assert late.asked == []
    loop.advance(0.2)
    assert len(late.asked) == 1


def test_one_that_fails_does_not_harm_the_others(loop: MockLoop, deadlines: Deadlines) -> None:
    class Failing(Item):
        def on_wake(self, now: float) -> float:
            super().on_wake(now)
            raise RuntimeError("no")

    items = [Failing(), Item(), Failing(), Item(1002.0)]
    for item in items:
        deadlines.wake_by(item, 1001.0)
    loop.advance(3.0)
    assert [len(item.asked) for item in items] == [1, 1, 1, 2]
    assert len(loop.errors) == 2


def test_asking_one_may_give_another_a_new_time(loop: MockLoop, deadlines: Deadlines) -> None:
    other = Item()

    class Meddling(Item):
        def on_wake(self, now: float) -> float:
            deadlines.wake_by(other, now + 1.0)
            return super().on_wake(now)

    deadlines.wake_by(Meddling(), 1001.0)
    loop.advance(1.5)
    assert other.asked == []
    loop.advance(1.0)
    assert len(other.asked) == 1


def test_it_can_be_stopped(loop: MockLoop, deadlines: Deadlines) -> None:
    item = Item()
    deadlines.stop()
    deadlines.wake_by(item, 1001.0)
    deadlines.stop()
    loop.advance(2.0)
    assert item.asked == []
