# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, get_args

import pytest

from routing.balance import BalancerKind, make_balancer
from routing.cluster import Endpoint
from tests.unit.routing.table_kit import endpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

KINDS: Sequence[BalancerKind] = get_args(BalancerKind)


class Draws:
    """A random source that gives what it is told."""

    def __init__(self, *draws: float) -> None:
        self._draws = list(draws)

    def random(self) -> float:
        return self._draws.pop(0)


def members(*weights: int) -> list[Endpoint]:
    return [Endpoint(endpoint(f"10.0.0.{index}", weight=weight)) for index, weight in enumerate(weights)]


@pytest.mark.parametrize("kind", KINDS)
def test_no_member_no_pick(kind: BalancerKind) -> None:
    assert make_balancer(kind, []).pick(random.Random(1)) is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_member_is_picked_even_when_tried(kind: BalancerKind) -> None:
    (only,) = members(1)
    balancer = make_balancer(kind, [only])
    assert balancer.pick(Draws()) is only
    assert balancer.pick(Draws(), [only]) is only


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (1, 2, 3, 4)], ids=["equal", "weighted"])
def test_tried_members_are_avoided_while_there_are_others(kind: BalancerKind, weights: tuple[int, ...]) -> None:
    endpoints, rng = members(*weights), random.Random(7)
    balancer = make_balancer(kind, endpoints)
    for left in endpoints:
        tried = [member for member in endpoints if member is not left]
        assert {balancer.pick(rng, tried) for _ in range(200)} == {left}
    assert {balancer.pick(rng, endpoints[:2]) for _ in range(200)} == set(endpoints[2:])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weights", [(1, 1, 1), (1, 2, 3)], ids=["equal", "weighted"])
def test_a_tried_member_comes_again_when_all_were(kind: BalancerKind, weights: tuple[int, ...]) -> None:
    endpoints = members(*weights)
    assert make_balancer(kind, endpoints).pick(random.Random(3), endpoints) in endpoints


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_of_great_weight_that_was_tried_is_avoided_too(kind: BalancerKind) -> None:
    heavy, light = endpoints = members(1_000_000_000, 1)
    assert make_balancer(kind, endpoints).pick(random.Random(5), {heavy}) is light


def test_least_request_prefers_the_less_busy_of_two() -> None:
    first, second, third = endpoints = members(1, 1, 1)
    first.active, second.active, third.active = 5, 2, 9
    balancer = make_balancer("LEAST_REQUEST", endpoints)
    pairs = {divmod(cell, 3): balancer.pick(Draws((cell + 0.5) / 9)) for cell in range(9)}
    assert pairs == {(a, b): min(endpoints[a], endpoints[b], key=lambda e: e.active) for a in range(3) for b in range(3)}


def test_least_request_takes_the_first_on_a_tie() -> None:
    endpoints = members(1, 1)
    assert make_balancer("LEAST_REQUEST", endpoints).pick(Draws(0.3)) is endpoints[0]
    assert make_balancer("LEAST_REQUEST", endpoints).pick(Draws(0.6)) is endpoints[1]


def test_least_request_divides_the_load_by_the_weight() -> None:
    small, big = endpoints = members(1, 4)
    balancer = make_balancer("LEAST_REQUEST", endpoints)
    small.active, big.active = 1, 3
    assert balancer.pick(Draws(0.0, 0.99)) is big
    small.active, big.active = 1, 5
    assert balancer.pick(Draws(0.99, 0.0)) is small


def test_least_request_keeps_load_level() -> None:
    endpoints, rng = members(1, 1, 1, 1, 2), random.Random(11)
    balancer = make_balancer("LEAST_REQUEST", endpoints)
    for _ in range(6_000):
        chosen = balancer.pick(rng)
        assert chosen is not None
        chosen.active += 1
    assert all(abs(member.active / member.weight - 1_000) < 10 for member in endpoints)


def test_round_robin_goes_round_from_a_random_member() -> None:
    endpoints = members(1, 1, 1)
    balancer = make_balancer("ROUND_ROBIN", endpoints)
    rng = Draws(0.7)  # asked for once
    assert [endpoints.index(balancer.pick(rng) or endpoints[0]) for _ in range(5)] == [2, 0, 1, 2, 0]


def test_weighted_round_robin_is_exact_and_spread() -> None:
    endpoints, rng = members(5, 1, 1), random.Random(2)
    balancer = make_balancer("ROUND_ROBIN", endpoints)
    picks = [balancer.pick(rng) for _ in range(700)]
    assert Counter(picks) == {endpoints[0]: 500, endpoints[1]: 100, endpoints[2]: 100}
    runs = "".join("x" if pick is endpoints[0] else "." for pick in picks)
    assert "x" * 8 not in runs


def test_random_follows_the_draw() -> None:
    endpoints = members(1, 1, 1, 1)
    balancer = make_balancer("RANDOM", endpoints)
    assert [balancer.pick(Draws(draw)) for draw in (0.0, 0.26, 0.51, 0.999999)] == endpoints
    endpoints = members(1, 3)
    balancer = make_balancer("RANDOM", endpoints)
    assert [balancer.pick(Draws(draw)) for draw in (0.0, 0.2499, 0.25, 0.999999)] == [endpoints[0]] * 2 + [endpoints[1]] * 2


def test_repr_tells_kind_and_size() -> None:
    assert repr(make_balancer("RANDOM", members(1, 2))) == "WeightedRandom(2 endpoints)"
