# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from routing.cluster import Endpoint
from routing.outlier import OutlierDetector
from routing.specs import OutlierSpec
from tests.unit.routing.table_kit import endpoint


class World:
    """A detector over some members, and how often it told of a change."""

    def __init__(self, size: int = 4, **options: Any) -> None:
        self.changes = 0
        self.members = [Endpoint(endpoint(f"10.0.0.{index}")) for index in range(size)]
        self.detector = OutlierDetector(OutlierSpec(**{"max_ejection_percent": 100, **options}), self.changed)
        self.detector.watch(self.members)

    def changed(self) -> None:
        self.changes += 1

    def answers(self, member: int, *statuses: int, now: float = 0.0) -> list[bool]:
        return [self.detector.on_status(self.members[member], status, now) for status in statuses]

    def failures(self, member: int, count: int, now: float = 0.0) -> list[bool]:
        return [self.detector.on_local_failure(self.members[member], now) for _ in range(count)]

    def ejected(self) -> list[int]:
        return [index for index, member in enumerate(self.members) if member.ejected]


def test_five_server_errors_in_a_row_eject() -> None:
    world = World()
    assert world.answers(1, 500, 501, 503, 599) == [False] * 4
    assert world.ejected() == []
    assert world.answers(1, 500) == [True]
    assert world.ejected() == [1]
    assert world.changes == 1
    assert world.detector.ejected == 1
    assert world.detector.healthy() == [world.members[0], *world.members[2:]]


@pytest.mark.parametrize("status", [200, 301, 404, 499])
def test_any_other_answer_starts_the_count_anew(status: int) -> None:
    world = World()
    world.answers(0, 500, 500, 500, 500, status, 500, 500, 500, 500)
    assert world.ejected() == []
    world.answers(0, 500)
    assert world.ejected() == [0]


def test_each_endpoint_has_its_own_count() -> None:
    world = World()
    for _ in range(4):
        for member in range(4):
            world.answers(member, 500)
    assert world.ejected() == []


def test_a_success_without_failures_leaves_no_record() -> None:
    world = World()
    world.answers(0, 200)
    assert world.members[0].record is None


def test_gateway_errors_have_a_count_of_their_own() -> None:
    world = World(consecutive_5xx=0, consecutive_gateway=3)
    assert world.answers(0, 502, 503, 500, 502, 503) == [False] * 5
    assert world.answers(0, 504) == [True]
    world = World(consecutive_5xx=3, consecutive_gateway=2)
    assert world.answers(0, 502, 500, 502) == [False, False, True]
    assert world.answers(1, 502, 503) == [False, True]


def test_zero_switches_a_count_off() -> None:
    world = World(consecutive_5xx=0)
    world.answers(0, *[500] * 50)
    world.failures(0, 50)
    assert world.ejected() == []


def test_status_codes_replace_the_class_that_is_counted() -> None:
    world = World(status_codes=(429, 404), consecutive_5xx=2)
    world.answers(0, 500, 500, 503)
    world.answers(1, 429, 500, 429)
    assert world.ejected() == []
    world.answers(1, 404)
    assert world.ejected() == [1]


def test_status_codes_leave_gateway_errors_alone() -> None:
    world = World(status_codes=(429,), consecutive_5xx=2, consecutive_gateway=2)
    assert world.answers(0, 502, 429, 502, 503) == [False, False, False, True]


def test_a_try_without_an_answer_counts_as_a_gateway_error() -> None:
    world = World()
    assert world.failures(0, 3) == [False] * 3
    assert world.answers(0, 500) == [False]
    assert world.failures(0, 1) == [True]
    assert World(consecutive_5xx=0, consecutive_gateway=2).failures(0, 2) == [False, True]


def test_split_counts_local_failures_apart() -> None:
    world = World(split_local_origin=True, consecutive_local_origin=3)
    assert world.failures(0, 2) == [False, False]
    assert world.answers(0, 200) == [False]
    assert world.failures(0, 2) == [False, False]
    assert world.answers(0, 500) == [False]  # any answer tells that it could be reached
    assert world.failures(0, 3) == [False, False, True]
    assert world.answers(1, 500, 500, 500, 500) == [False] * 4
    assert world.failures(1, 2) == [False, False]
    assert world.answers(1, 500) == [True]  # and no failure to reach it says that it works
    assert world.failures(1, 5) == [False] * 5


def test_split_with_no_limit_on_local_failures() -> None:
    world = World(split_local_origin=True, consecutive_local_origin=0)
    assert True not in world.failures(0, 20)


@pytest.mark.parametrize(
    ("size", "percent", "most"),
    [(1, 10, 1), (2, 10, 1), (4, 0, 1), (10, 10, 1), (10, 25, 2), (10, 50, 5), (3, 100, 3), (4, 400, 4), (20, 10, 2)],
)
def test_no_more_than_the_percentage_but_always_one(size: int, percent: int, most: int) -> None:
    world = World(size, max_ejection_percent=percent)
    for member in range(size):
        world.answers(member, *[500] * 5)
    assert len(world.ejected()) == most


def test_who_could_not_be_ejected_is_counted_anew() -> None:
    world = World(2, max_ejection_percent=10)
    world.answers(0, *[500] * 5)
    assert world.answers(1, *[500] * 5) == [False] * 5
    world.detector.sweep(1000.0)
    assert world.answers(1, *[500] * 5, now=1000.0) == [False] * 4 + [True]


def test_answers_to_earlier_requests_do_not_eject_again() -> None:
    world = World()
    world.answers(0, *[500] * 5)
    assert world.answers(0, *[500] * 20) == [False] * 20
    world.detector.sweep(30.0)
    assert world.answers(0, *[500] * 4, now=30.0) == [False] * 4


def test_panic_uses_everybody() -> None:
    world = World(4, min_health_percent=50)
    for member, healthy in ((0, 3), (1, 2), (2, 4)):
        world.answers(member, *[500] * 5)
        assert len(world.detector.healthy()) == healthy
    assert World(4, min_health_percent=50).detector.healthy()


def test_without_panic_nobody_may_be_left() -> None:
    world = World(1)
    world.answers(0, *[500] * 5)
    assert world.detector.healthy() == []


# Time.


def test_an_ejection_ends_with_the_first_sweep_after_its_time() -> None:
    world = World(base_ejection_s=25.0, interval_s=10.0)
    world.answers(0, *[500] * 5, now=100.0)
    for now in (100.0, 109.9, 110.0, 120.0, 129.9):
        assert not world.detector.sweep(now)
    assert world.detector.sweep(130.0)
    assert world.ejected() == []
    assert world.changes == 2


def test_sweeps_keep_to_their_interval_when_ticks_come_late() -> None:
    world = World(base_ejection_s=30.0, interval_s=10.0)
    world.answers(0, *[500] * 5)
    assert [now for now in (10.9, 20.0, 29.0, 30.0) if world.detector.sweep(now)] == [30.0]


def test_a_missed_sweep_is_made_up_for_once() -> None:
    world = World(base_ejection_s=1.0, interval_s=1.0)
    world.answers(0, *[500] * 5)
    assert world.detector.sweep(50.5)
    assert world.detector.is_pending  # the multiplier is left
    assert not world.detector.sweep(50.9)
    assert world.detector.is_pending
    assert not world.detector.sweep(51.0)
    assert not world.detector.is_pending


def eject_and_wait(world: World, now: float) -> float:
    """Eject member 0 and return when it came back."""
    world.answers(0, *[500] * 5, now=now)
    assert world.ejected() == [0]
    while not world.detector.sweep(now):
        now += 1.0
    return now


def test_ejections_grow_longer_up_to_a_cap() -> None:
    world = World(base_ejection_s=100.0, interval_s=1.0)
    now, lengths = 0.0, []
    for _ in range(5):
        back = eject_and_wait(world, now)
        lengths.append(back - now)
        now = back
    assert lengths == [100.0, 200.0, 300.0, 300.0, 300.0]


def test_a_base_time_over_the_cap_counts() -> None:
    world = World(base_ejection_s=400.0, interval_s=100.0)
    assert eject_and_wait(world, 0.0) == 400.0
    assert eject_and_wait(world, 400.0) == 800.0


def test_the_multiplier_decays_with_each_sweep_in_health() -> None:
    world = World(base_ejection_s=10.0, interval_s=10.0)
    now = eject_and_wait(world, 0.0)
    now += eject_and_wait(world, now) - now
    record = world.members[0].record
    assert record is not None
    assert record.multiplier == 2
    for left in (1, 0):
        now += 10.0
        assert not world.detector.sweep(now)
        assert record.multiplier == left
    assert not world.detector.is_pending
    assert not world.detector.sweep(now + 10.0)
    assert eject_and_wait(world, now) - now == 10.0


def test_a_changed_spec_counts_at_once() -> None:
    world = World()
    world.answers(0, 500, 500, 500)
    world.detector.update(OutlierSpec(consecutive_5xx=2))
    assert world.answers(0, 500) == [True]


# Members that come and go.


def test_who_leaves_is_not_counted_any_more() -> None:
    world = World(4, max_ejection_percent=50)
    for member in (0, 1):
        world.answers(member, *[500] * 5)
    gone = world.members.pop(0)
    gone.removed = True
    world.members.append(Endpoint(endpoint("10.0.0.9")))
    world.detector.watch(world.members, [gone])
    assert world.detector.ejected == 1
    assert world.answers(1, *[500] * 5) == [False] * 4 + [True]


def test_who_has_left_cannot_be_ejected() -> None:
    world = World()
    world.members[0].removed = True
    assert True not in world.answers(0, *[500] * 9)


def test_fewer_members_bring_those_ejected_first_back() -> None:
    world = World(8, max_ejection_percent=50)
    for now, member in enumerate((3, 1, 2, 0)):
        world.answers(member, *[500] * 5, now=float(now))
    world.detector.watch(world.members[:4], world.members[4:])
    assert world.ejected() == [0, 2]
    world.detector.watch(world.members[:1], world.members[1:4])
    assert world.members[0].ejected


def test_a_draining_member_is_no_longer_counted() -> None:
    world = World(4, max_ejection_percent=50)
    world.answers(0, *[500] * 5)
    world.detector.watch(world.members[1:])
    assert world.detector.ejected == 0
    assert world.detector.sweep(30.0)
    assert not world.members[0].ejected


def test_repr() -> None:
    world = World(2)
    world.answers(0, *[500] * 5)
    assert repr(world.detector) == "OutlierDetector(1 of 2 ejected)"
    assert repr(world.members[0].record) == "Record(0 errors, 0 gateway errors, 0 local failures, multiplier=1)"
    assert repr(world.members[0]) == "Endpoint(10.0.0.0:8080, active=0, ejected)"
