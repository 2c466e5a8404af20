# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Any

from routing.balance import Balancer, Maglev, Spread, make_balancer
from routing.cluster import Endpoint
from routing.locality import Localities
from routing.specs import LocalitySpec
from tests.unit.routing.table_kit import endpoint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pytest

HERE = "eu/a/1"
PLACES = (HERE, "eu/a/2", "eu/b/1", "us/a/1", "as/a/1")


class World:
    """Endpoints in some places, named by their place, and the views of callers."""

    def __init__(self, *places: str, is_failover: bool = True, labels: Sequence[dict[str, str]] = (), **options: Any) -> None:
        self.members = [
            Endpoint(endpoint(f"10.0.0.{index}", locality=place, identity=str(index))) for index, place in enumerate(places)
        ]
        self.labels = labels
        self.localities = Localities(
            LocalitySpec(**options), is_failover=is_failover, make=self.make, labels_of=lambda key: labels[int(key)]
        )
        self.localities.update(self.members, self.members)
        self.made: list[Sequence[Endpoint]] = []

    def make(self, endpoints: Sequence[Endpoint], before: Balancer | None) -> Balancer:
        self.made.append(endpoints)
        return make_balancer("RANDOM", endpoints)

    def eject(self, *indexes: int) -> None:
        self.localities.update(self.members, [m for index, m in enumerate(self.members) if index not in indexes])

    def shares(self, locality: str, labels: Mapping[str, str] | None = None) -> dict[int, float]:
        """Return the share of each endpoint in percent, by index; {} when all are alike."""
        view = self.localities.view(locality, labels)
        if view is None:
            return {}
        rng, counts = random.Random(8), Counter[Endpoint | None]()
        for _ in range(10_000):
            counts[view.pick(rng)] += 1
        return {self.members.index(member): round(count / 100) for member, count in counts.items() if member is not None}


def close(found: dict[int, float], expected: dict[int, float]) -> bool:
    return found.keys() == expected.keys() and all(abs(found[index] - expected[index]) <= 2 for index in expected)


# Priorities.


def test_the_nearest_endpoints_get_everything() -> None:
    world = World(*PLACES)
    assert world.shares(HERE) == {0: 100}
    assert world.shares("eu/b/9") == {2: 100}
    assert close(world.shares("us/b/1"), {3: 100})
    assert close(world.shares("af/a/1"), dict.fromkeys(range(5), 20))


def test_the_next_priority_takes_over_in_order() -> None:
    world = World(*PLACES)
    world.eject(0)
    assert world.shares(HERE) == {1: 100}
    world.eject(0, 1)
    assert world.shares(HERE) == {2: 100}
    world.eject(0, 1, 2)
    assert close(world.shares(HERE), {3: 50, 4: 50})
    world.eject(*range(5))
    assert world.shares(HERE) == {}
    view = world.localities.view(HERE, None)
    assert view is not None
    assert view.pick(random.Random(1)) is None


def test_a_priority_overflows_when_less_than_71_percent_of_it_are_left() -> None:
    world = World(*[HERE] * 4, "us/a/1")
    world.eject(0)  # 75 % * 1.4 is more than all
    assert close(world.shares(HERE), {1: 33, 2: 33, 3: 33})
    world.eject(0, 1)  # 50 % * 1.4
    assert close(world.shares(HERE), {2: 35, 3: 35, 4: 30})
    world.eject(0, 1, 2)  # 25 % * 1.4
    assert close(world.shares(HERE), {3: 35, 4: 65})


def test_when_all_priorities_are_sick_they_share_by_health() -> None:
    world = World(*[HERE] * 4, *["us/a/1"] * 4)
    world.eject(0, 1, 2, 4, 5, 6)  # 35 % and 35 %
    assert close(world.shares(HERE), {3: 50, 7: 50})


def test_failover_names_the_region_that_comes_next() -> None:
    world = World(*PLACES, failover=(("us", "eu"), ("eu", "as"), ("eu", "us")))
    world.eject(0, 1, 2)
    assert world.shares(HERE) == {4: 100}
    world.eject(0, 1, 2, 4)
    assert world.shares(HERE) == {3: 100}
    world = World(*PLACES, failover=(("us", "eu"),))
    world.eject(0, 1, 2)
    assert close(world.shares(HERE), {3: 50, 4: 50})


def test_without_outlier_detection_priorities_are_off() -> None:
    assert World(*PLACES, is_failover=False).shares(HERE) == {}


def test_to_a_caller_from_nowhere_all_are_alike() -> None:
    assert World(*PLACES).shares("") == {}
    assert World(*PLACES, labels=[{}] * 5, failover_priority=("app",)).shares("", None) == {}


# Priorities by labels.

LABELS = [
    {"version": "v1", "tier": "x"},
    {"version": "v1", "tier": "y"},
    {"version": "v2", "tier": "x"},
    {},
]


def by_labels(*priority: str, **options: Any) -> World:
    return World(HERE, HERE, "us/a/1", "us/a/1", labels=LABELS, failover_priority=priority, **options)


def test_endpoints_rank_by_the_leading_labels_they_share_with_the_caller() -> None:
    world = by_labels("version", "tier")
    caller = {"version": "v1", "tier": "x"}
    assert world.shares("", caller) == {0: 100}
    world.eject(0)
    assert world.shares("", caller) == {1: 100}
    world.eject(0, 1)
    assert close(world.shares("", caller), {2: 50, 3: 50})  # tier alone does not help
    assert world.shares("", {}) == {3: 100}  # what neither has they have in common, as in Istio


def test_a_label_may_be_given_its_value() -> None:
    world = by_labels("version=v2")
    assert world.shares("", {"version": "v1"}) == {2: 100}
    assert world.shares("", None) == {2: 100}


def test_topology_labels_come_from_the_locality() -> None:
    world = by_labels("topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone")
    assert close(world.shares("us/a/9", {}), {2: 50, 3: 50})
    world = by_labels("topology.kubernetes.io/region", "version")
    assert world.shares("us/z/z", {"version": "v2"}) == {2: 100}


def test_failover_decides_among_those_that_labels_leave_equal() -> None:
    places = (HERE, "us/a/1", "as/a/1")
    world = World(*places, labels=[{"v": "1"}, {"v": "2"}, {"v": "2"}], failover_priority=("v",), failover=(("eu", "as"),))
    assert world.shares(HERE, {"v": "2"}) == {2: 100}
    world = World(*places, labels=[{"v": "1"}, {"v": "2"}, {"v": "2"}], failover_priority=("v",))
    assert close(world.shares(HERE, {"v": "2"}), {1: 50, 2: 50})


def test_changed_labels_make_new_views() -> None:
    labels = [{"v": "1"}, {"v": "2"}]
    world = World(HERE, HERE, labels=labels, failover_priority=("v",))
    assert world.shares("", {"v": "2"}) == {1: 100}
    labels[0]["v"] = "2"
    assert world.shares("", {"v": "2"}) == {1: 100}
    world.localities.forget()
    assert close(world.shares("", {"v": "2"}), {0: 50, 1: 50})


# Shares.


def test_distribute_shares_out_by_percent_and_unlisted_localities_get_nothing() -> None:
    world = World(*PLACES, is_failover=False, distribute=(("eu/*", (("eu/a/*", 80), ("us/*", 20))),))
    assert close(world.shares(HERE), {0: 40, 1: 40, 3: 20})
    assert close(world.shares("eu/z/z"), {0: 40, 1: 40, 3: 20})
    assert world.shares("us/a/1") == {}
    assert world.shares("") == {}


def test_the_first_origin_that_holds_the_caller_counts() -> None:
    entries = (("eu/a/1", (("us/a/1", 100),)), ("*", (("as", 100),)))
    world = World(*PLACES, is_failover=False, distribute=entries)
    assert world.shares(HERE) == {3: 100}
    assert world.shares("eu/a/2") == {4: 100}
    assert world.shares("") == {4: 100}


def test_an_endpoint_belongs_to_the_most_exact_locality() -> None:
    world = World(*PLACES, is_failover=False, distribute=(("eu/*", (("eu/*", 10), ("eu/a/1", 90))),))
    assert close(world.shares(HERE), {0: 90, 1: 5, 2: 5})


def test_what_a_sick_locality_loses_goes_to_the_others() -> None:
    world = World(HERE, HERE, "us/a/1", distribute=(("eu/*", (("eu/*", 50), ("us/*", 50))),))
    world.eject(0)  # half of it: 1.4 * 50 % of its 50 are left
    assert close(world.shares(HERE), {1: 41, 2: 59})
    world.eject(0, 1)
    assert world.shares(HERE) == {2: 100}


def test_a_locality_without_endpoints_gets_nothing() -> None:
    world = World(HERE, is_failover=False, distribute=(("eu/*", (("eu/*", 10), ("us/*", 90))),))
    assert world.shares(HERE) == {0: 100}


# Views.


def test_callers_of_one_place_share_a_view_and_views_share_balancers() -> None:
    world = World(*PLACES)
    view = world.localities.view(HERE, None)
    assert world.localities.view(HERE, {"any": "label"}) is view
    assert world.localities.view("eu/a/1/extra", None) is not None
    world.localities.view("eu/a/1/other", None)
    assert [len(made) for made in world.made] == [1, 2]
    assert repr(world.localities) == "Localities(3 views)"


def test_kinds_of_callers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("routing.locality._MAX_VIEWS", 3)
    world = World(*PLACES)
    for zone in range(10):
        world.shares(f"eu/{zone}/1")
    assert repr(world.localities) == "Localities(1 views)"


def test_a_table_starts_from_the_one_of_the_same_group() -> None:
    members = [Endpoint(endpoint(f"10.0.0.{index}", locality=HERE)) for index in range(3)]
    localities = Localities(
        LocalitySpec(),
        is_failover=True,
        make=lambda endpoints, before: Maglev(endpoints, before=before),
        labels_of=lambda _: {},
    )
    localities.update(members, members)
    first = localities.view(HERE, None)
    assert isinstance(first, Maglev)
    first.pick_hash(1)
    assert list(localities.building()) == []
    localities.update(members, members[1:])
    localities.forget()
    second = localities.view(HERE, None)
    assert isinstance(second, Maglev)
    assert second.table is first.table
    assert list(localities.building()) == [second]


def test_shares_and_priorities_are_spread() -> None:
    world = World(HERE, HERE, "us/a/1")
    world.eject(0)
    assert isinstance(world.localities.view(HERE, None), Spread)
