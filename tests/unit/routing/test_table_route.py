# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random
from collections import Counter

import pytest

from routing.cluster import Cluster
from routing.retry import RetryPolicy
from routing.specs import RetrySpec
from routing.table.route import Destination, Route
from routing.table.virtual_host import CompiledVirtualHost
from tests.unit.routing.table_kit import cluster


def route(*weights: int) -> Route:
    return Route(
        name="r",
        virtual_host=CompiledVirtualHost("k"),
        destinations=tuple(Destination(cluster=None, cluster_name=f"c{i}", weight=weight) for i, weight in enumerate(weights)),
        timeout_s=0.0,
        retry=RetryPolicy(RetrySpec()),
        rewrite=None,
        reply=None,
        response_ops=None,
    )


@pytest.mark.parametrize("weight", [0, 1, 100])
def test_a_single_destination_gets_everything_whatever_its_weight(weight: int) -> None:
    one = route(weight)
    assert one.single is one.destinations[0]
    assert one.pick(0.99) is one.single


def test_one_destination_with_all_the_weight_needs_no_draw() -> None:
    split = route(0, 100, 0)
    assert split.single is split.destinations[1]
    assert {split.pick(draw) for draw in (0.0, 0.5, 0.999)} == {split.destinations[1]}


def test_weights_divide_the_unit_interval() -> None:
    split = route(90, 0, 10)
    assert split.single is None
    assert [split.destinations.index(split.pick(draw)) for draw in (0.0, 0.8999, 0.9, 0.9999999)] == [0, 0, 2, 2]


def test_a_leading_zero_weight_gets_nothing_even_at_zero() -> None:
    split = route(0, 1, 1)
    assert split.pick(0.0) is split.destinations[1]


def test_no_weight_at_all_still_answers() -> None:
    nothing = route(0, 0)
    assert nothing.pick(0.5) is nothing.destinations[0]


def test_shares_follow_the_weights() -> None:
    split, rng, draws = route(1, 3, 6), random.Random(20), 20_000
    counts = Counter(split.pick(rng.random()) for _ in range(draws))
    expected = [draws * weight / 10 for weight in (1, 3, 6)]
    chi_square = sum((counts[d] - e) ** 2 / e for d, e in zip(split.destinations, expected, strict=True))
    assert chi_square < 13.8  # 2 degrees of freedom, p = 0.001


def test_repr() -> None:
    assert repr(route(1)) == "Route('r', [Destination('c0', weight=1, no cluster)])"
    assert repr(Destination(cluster=Cluster(cluster()), cluster_name="web")) == "Destination('web', weight=1)"
