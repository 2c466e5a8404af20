# SPDX-License-Identifier: Apache-2.0
"""Facts about when a dead worker is started again."""

from __future__ import annotations

from acmgproxy.backoff import MAX_DELAY_S, RESET_AFTER_S, RestartBackoff


def test_the_first_death_costs_no_waiting() -> None:
    assert RestartBackoff().delay_s(0.0) == 0.0


def test_a_crash_loop_slows_down_to_a_limit() -> None:
    backoff = RestartBackoff()
    assert [backoff.delay_s(0.1) for _ in range(9)] == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, MAX_DELAY_S, MAX_DELAY_S]
    assert [backoff.delay_s(0.1) for _ in range(2000)][-1] == MAX_DELAY_S


def test_a_worker_that_lived_for_a_while_is_replaced_at_once_again() -> None:
    backoff = RestartBackoff()
    for _ in range(5):
        backoff.delay_s(0.1)
    assert backoff.delay_s(RESET_AFTER_S) == 0.0
    assert repr(backoff) == "<RestartBackoff quick_deaths=1>"
