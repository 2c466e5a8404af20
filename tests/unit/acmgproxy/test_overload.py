# SPDX-License-Identifier: Apache-2.0
"""Facts about levels of overload."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acmgproxy.overload import ENTER, LEAVE, Budget, Level, Overload, accept_budget, level_after


@pytest.mark.parametrize(
    ("present", "pressure", "after"),
    [
        (Level.NORMAL, 0.0, Level.NORMAL),
        (Level.NORMAL, 0.919, Level.NORMAL),
        (Level.NORMAL, 0.92, Level.NO_KEEP_ALIVE),
        (Level.NORMAL, 0.95, Level.NO_REQUESTS),
        (Level.NORMAL, 0.98, Level.NO_CONNECTIONS),
        (Level.NORMAL, 7.0, Level.NO_CONNECTIONS),
        (Level.NO_CONNECTIONS, 0.95, Level.NO_CONNECTIONS),
        (Level.NO_CONNECTIONS, 0.949, Level.NO_REQUESTS),
        (Level.NO_REQUESTS, 0.92, Level.NO_REQUESTS),
        (Level.NO_REQUESTS, 0.919, Level.NO_KEEP_ALIVE),
        (Level.NO_KEEP_ALIVE, 0.88, Level.NO_KEEP_ALIVE),
        (Level.NO_KEEP_ALIVE, 0.879, Level.NORMAL),
        (Level.NO_CONNECTIONS, 0.1, Level.NORMAL),
    ],
)
def test_levels_begin_and_end_at_their_thresholds(present: Level, pressure: float, after: Level) -> None:
    assert level_after(present, pressure) is after


@given(st.sampled_from(Level), st.floats(0.0, 2.0))
def test_a_level_holds_until_the_pressure_moves(present: Level, pressure: float) -> None:
    after = level_after(present, pressure)
    assert level_after(after, pressure) is after
    assert after is Level.NO_CONNECTIONS or pressure < ENTER[after]
    assert after is Level.NORMAL or pressure >= LEAVE[after - 1]


@given(st.sampled_from(Level), st.floats(0.0, 2.0), st.floats(0.0, 2.0))
def test_more_pressure_never_means_a_lower_level(present: Level, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert level_after(present, low) <= level_after(present, high)


def test_the_tightest_resource_decides() -> None:
    overload = Overload()
    assert overload.update({"memory": 0.5, "descriptors": 0.96}) is Level.NO_REQUESTS
    assert overload.tightest == "descriptors"
    assert overload.update({"memory": 0.93, "descriptors": 0.1}) is Level.NO_KEEP_ALIVE
    assert overload.tightest == "memory"
    assert repr(overload) == "Overload(NO_KEEP_ALIVE, memory=0.93, descriptors=0.10)"


def test_each_resource_has_its_own_hysteresis() -> None:
    overload = Overload()
    overload.update({"memory": 0.96, "descriptors": 0.5})
    assert overload.update({"memory": 0.5, "descriptors": 0.93}) is Level.NO_KEEP_ALIVE
    assert overload.update({"memory": 0.5, "descriptors": 0.89}) is Level.NO_KEEP_ALIVE
    assert overload.update({"memory": 0.89, "descriptors": 0.5}) is Level.NORMAL


def test_without_limits_there_is_no_overload() -> None:
    overload = Overload()
    overload.update({"memory": 1.0})
    assert overload.update({}) is Level.NORMAL
    assert not overload.tightest


def test_connections_alone_cost_nobody_a_request() -> None:
    assert Overload().update({"connections": 1.0}) is Level.NO_KEEP_ALIVE


@pytest.mark.parametrize(
    ("clients", "most", "used", "available", "expected"),
    [
        (10, 0, 50, 0, Budget(limit=0, room=0)),
        (10, 100, 50, 0, Budget(limit=100, room=90)),
        (110, 100, 50, 0, Budget(limit=100, room=0)),
        (10, 100, 50, 60, Budget(limit=30, room=5)),
        (10, 100, 70, 60, Budget(limit=30, room=0)),
        (0, 50_000, 10, 240, Budget(limit=120, room=115)),
        (0, 50_000, 10, 20_000, Budget(limit=15_904, room=9_995)),
        (0, 0, 10, 20_000, Budget(limit=15_904, room=9_995)),
        (0, 50_000, 10, 1_000_000, Budget(limit=50_000, room=50_000)),
        (0, 5, 0, 1, Budget(limit=1, room=0)),
    ],
)
def test_descriptors_are_left_for_endpoints(clients: int, most: int, used: int, available: int, expected: Budget) -> None:
    budget = accept_budget(open_connections=clients, max_connections=most, descriptors=used, max_descriptors=available)
    assert budget == expected
