# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from routing.cluster import Endpoint
from routing.specs import WarmupSpec
from routing.warmup import Warmup
from tests.unit.routing.table_kit import endpoint


def members(*weights: int) -> list[Endpoint]:
    return [Endpoint(endpoint(f"10.0.0.{index}", weight=weight)) for index, weight in enumerate(weights)]


def shares(warmup: Warmup, member: Endpoint, *times: float) -> list[float]:
    """Return the weight of a member after each of these ticks."""
    found = []
    for now in times:
        warmup.tick(now)
        found.append(round(member.weight, 4))
    return found


def test_weight_grows_with_age_from_the_first_tick_on() -> None:
    warmup = Warmup(WarmupSpec(duration_s=10.0))
    (new,) = members(1)
    warmup.update([new], [])
    assert new.weight == 0.1
    assert shares(warmup, new, 100.0, 100.5, 102.0, 105.0, 109.9) == [0.1, 0.1, 0.2, 0.5, 0.99]
    assert warmup
    assert shares(warmup, new, 110.0) == [1.0]
    assert not warmup


@pytest.mark.parametrize(("aggression", "expected"), [(1.0, 0.25), (2.0, 0.5), (0.5, 0.1)])
def test_aggression_bends_the_curve(aggression: float, expected: float) -> None:
    warmup = Warmup(WarmupSpec(duration_s=100.0, aggression=aggression))
    (new,) = members(1)
    warmup.update([new], [])
    assert shares(warmup, new, 0.0, 25.0)[1] == expected


def test_without_aggression_the_weight_stays_at_its_minimum() -> None:
    warmup = Warmup(WarmupSpec(duration_s=100.0, aggression=0.0, minimum_percent=30.0))
    (new,) = members(10)
    warmup.update([new], [])
    assert shares(warmup, new, 0.0, 99.0, 100.0) == [3.0, 3.0, 10.0]


@pytest.mark.parametrize(("percent", "expected"), [(0.0, 0.01), (50.0, 0.5), (200.0, 1.0)])
def test_the_minimum_has_bounds(percent: float, expected: float) -> None:
    warmup = Warmup(WarmupSpec(duration_s=100.0, minimum_percent=percent))
    (new,) = members(1)
    warmup.update([new], [])
    assert new.weight == expected


def test_a_clock_that_does_not_move_forward_does_no_harm() -> None:
    warmup = Warmup(WarmupSpec(duration_s=10.0))
    (new,) = members(1)
    warmup.update([new], [])
    assert shares(warmup, new, 5.0, 5.0, 4.0) == [0.1, 0.1, 0.1]


def test_the_old_keep_their_weight_and_the_young_theirs() -> None:
    warmup = Warmup(WarmupSpec(duration_s=10.0))
    old, first, second = members(1, 4, 4)
    warmup.update([first], [])
    warmup.tick(0.0)
    warmup.tick(5.0)
    second.update(endpoint("10.0.0.2", weight=8))
    warmup.update([second], [])
    assert [old.weight, first.weight, second.weight] == pytest.approx([1, 2.0, 0.8])
    first.update(endpoint("10.0.0.1", weight=8))
    warmup.update([], [second])
    assert first.weight == 4.0
    assert repr(warmup) == "Warmup(1 endpoints)"


def test_dismissed_everybody_has_the_full_weight() -> None:
    warmup = Warmup(WarmupSpec(duration_s=10.0))
    (new,) = members(3)
    warmup.update([new], [])
    warmup.dismiss()
    assert new.weight == 3
    assert not warmup
