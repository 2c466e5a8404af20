# SPDX-License-Identifier: Apache-2.0
"""How long a watch waits."""

from __future__ import annotations

import pytest

from discovery.kube.backoff import Backoff, WatchLimits


def backoff(draw: float = 0.0) -> Backoff:
    return Backoff(WatchLimits(), lambda: draw)


def waits(found: Backoff, count: int) -> list[float]:
    now, result = 0.0, []
    for _ in range(count):
        result.append(found.wait_s(now))
        now += result[-1]
    return result


def test_waits_double_from_0_8_to_30_seconds() -> None:
    assert waits(backoff(), 8) == pytest.approx([0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30])


def test_chance_stretches_a_wait_up_to_twofold() -> None:
    assert waits(backoff(0.5), 2) == pytest.approx([1.2, 2.4])
    assert backoff(0.9999).wait_s(0) == pytest.approx(1.6, rel=1e-3)


def test_waits_begin_small_again_after_two_minutes_without_failure() -> None:
    found = backoff()
    waits(found, 5)
    over = sum([0.8, 1.6, 3.2, 6.4, 12.8])
    assert found.wait_s(over + 119) == pytest.approx(25.6)
    assert found.wait_s(over + 119 + 25.6 + 120.1) == pytest.approx(0.8)


def test_the_server_may_ask_for_more_but_not_for_less_and_not_for_ever() -> None:
    assert backoff().wait_s(0, 5) == 5
    assert backoff().wait_s(0, 0.1) == 0.8
    assert backoff().wait_s(0, 3600) == 120
    assert backoff(0.5).wait_s(0, 10) == 15


def test_a_server_that_fails_at_once_is_asked_seven_times_in_the_first_minute_and_twice_in_each_further_one() -> None:
    times = [0.0]
    found = backoff()
    while times[-1] < 600:
        times.append(times[-1] + found.wait_s(times[-1]))
    assert sum(time < 60 for time in times) == 7
    assert sum(300 <= time < 360 for time in times) == 2
