# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from routing.balance import Maglev
from routing.cluster import Cluster
from routing.retry import DEFAULT_PERCENT
from routing.specs import HashSpec, LocalitySpec, OutlierSpec, RetryBudgetSpec, WarmupSpec
from tests.unit.routing.table_kit import Head, cluster, endpoint

if TYPE_CHECKING:
    from routing.cluster import Endpoint


def test_a_cluster_without_endpoints_picks_none() -> None:
    empty = Cluster(cluster())
    assert empty.pick(random.Random(1)) is None
    assert empty.endpoints == []
    assert repr(empty) == "Cluster('web', Balancer(0 endpoints), active=0)"


def test_survivors_keep_their_object_and_state() -> None:
    web = Cluster(cluster())
    assert web.update([endpoint("10.0.0.1"), endpoint("10.0.0.2")]) == []
    kept, gone = web.endpoints
    kept.active, kept.pool = 3, object()
    pool = kept.pool
    removed = web.update([endpoint("10.0.0.3"), endpoint("10.0.0.1", weight=7, identity="who")])
    assert removed == [gone]
    assert gone.removed
    assert not kept.removed
    assert web.endpoints[1] is kept
    assert (kept.active, kept.pool, kept.weight, kept.identity) == (3, pool, 7, "who")


def test_another_uid_on_the_same_address_is_another_endpoint() -> None:
    web = Cluster(cluster())
    web.update([endpoint(uid="a")])
    (old,) = web.endpoints
    assert web.update([endpoint(uid="b")]) == [old]
    assert web.endpoints[0] is not old


def test_an_endpoint_that_comes_back_starts_afresh() -> None:
    web = Cluster(cluster())
    web.update([endpoint()])
    (old,) = web.endpoints
    web.update([])
    web.update([endpoint()])
    assert web.endpoints[0] is not old
    assert old.removed


def test_a_repeated_endpoint_counts_once() -> None:
    web = Cluster(cluster())
    web.update([endpoint(weight=1), endpoint(weight=5)])
    assert [member.weight for member in web.endpoints] == [1]


def test_weight_is_at_least_one() -> None:
    web = Cluster(cluster())
    web.update([endpoint(weight=0)])
    assert web.endpoints[0].weight == 1


def test_draining_endpoints_are_the_last_resort() -> None:
    web, rng = Cluster(cluster()), random.Random(1)
    web.update([endpoint("10.0.0.1", draining=True), endpoint("10.0.0.2")])
    assert {web.pick(rng) for _ in range(50)} == {web.endpoints[1]}
    web.update([endpoint("10.0.0.1", draining=True), endpoint("10.0.0.2", draining=True)])
    assert {web.pick(rng) for _ in range(50)} == set(web.endpoints)


def test_a_changed_spec_keeps_the_members() -> None:
    web = Cluster(cluster())
    web.update([endpoint("10.0.0.1"), endpoint("10.0.0.2")])
    before, pick = web.endpoints, web.pick
    web.update_spec(cluster(connect_timeout_s=1.0))
    assert (web.endpoints, web.spec.connect_timeout_s) == (before, 1.0)
    assert web.pick == pick  # the balancer and its memory stay
    web.update_spec(cluster(balancer="ROUND_ROBIN"))
    assert web.endpoints is before
    assert repr(web) == "Cluster('web', RoundRobin(2 endpoints), active=0)"


def test_the_retry_budget_follows_the_active_requests() -> None:
    web = Cluster(cluster())
    web.active = 100
    assert [web.retry_budget.try_acquire() for _ in range(21)].count(True) == 17, "one for five others"


def test_repr_tells_the_state() -> None:
    web = Cluster(cluster())
    web.update([endpoint("10.0.0.1"), endpoint("10.0.0.2", draining=True)])
    first, second = web.endpoints
    web.update([endpoint("10.0.0.2", draining=True)])
    assert repr(first) == "Endpoint(10.0.0.1:8080, active=0, removed)"
    assert repr(second) == "Endpoint(10.0.0.2:8080, active=0, draining)"
    web.update([endpoint("10.0.0.2")])
    assert repr(second) == "Endpoint(10.0.0.2:8080, active=0)"


# Features that only some clusters have.

BY_USER = HashSpec(kind="header", name="x-user")
OUTLIER = OutlierSpec(consecutive_5xx=2, max_ejection_percent=100)


def made(*addresses: str, **options: Any) -> Cluster:
    web = Cluster(cluster(**options))
    web.update([endpoint(address) for address in addresses])
    return web


def picked(web: Cluster, count: int = 100) -> set[Endpoint | None]:
    rng = random.Random(6)
    return {web.pick(rng) for _ in range(count)}


def fail(web: Cluster, member: Endpoint, now: float = 0.0) -> None:
    assert web.outlier is not None
    for _ in range(OUTLIER.consecutive_5xx):
        web.outlier.on_status(member, 500, now)


def is_busy(web: Cluster) -> bool:
    return web.needs_tick


def settle(web: Cluster) -> Cluster:
    """Let time stand still until everything that has begun is done."""
    assert is_busy(web)
    while is_busy(web):
        web.tick(0.0)
    return web


def test_a_plain_cluster_has_none_of_it() -> None:
    web = made("10.0.0.1", "10.0.0.2")
    assert (web.context, web.hash, web.outlier, web.limits, web.ejected, web.needs_tick) == (False, None, None, None, 0, False)
    assert not web.tick(1.0)
    web.forget_labels()
    assert web.pick_for(random.Random(1), (), None) in web.endpoints


@pytest.mark.parametrize("balancer", ["RING_HASH", "MAGLEV"])
def test_a_hash_leads_to_one_endpoint_whatever_was_tried(balancer: str) -> None:
    web, rng = made(*(f"10.0.0.{n}" for n in range(5)), balancer=balancer, hash=BY_USER), random.Random(1)
    assert web.context
    assert web.hash is not None
    value, _ = web.hash.of(Head(headers={b"x-user": b"ann"}), "10.9.9.9", rng.random)
    chosen = {web.pick_for(rng, tried, value) for tried in ((), web.endpoints, web.endpoints[:2]) for _ in range(10)}
    assert len(chosen) == 1
    assert {web.pick_for(rng, (), None) for _ in range(200)} == set(web.endpoints)
    assert picked(web, 200) == set(web.endpoints)


@pytest.mark.parametrize("balancer", ["RING_HASH", "MAGLEV"])
def test_hashing_without_a_policy_is_random(balancer: str) -> None:
    web = made("10.0.0.1", "10.0.0.2", balancer=balancer)
    assert not web.context
    assert picked(web) == set(web.endpoints)
    assert made(balancer=balancer).pick(random.Random(1)) is None
    assert made("10.0.0.1", hash=BY_USER).hash is None  # a policy without such a balancer


def test_a_table_is_kept_until_members_change_and_then_filled_by_ticks() -> None:
    web = made("10.0.0.1", "10.0.0.2", "10.0.0.3", balancer="MAGLEV", hash=BY_USER)
    web.pick(random.Random(1))
    balancer = web._balancer
    web.update([endpoint(f"10.0.0.{n}", identity="new") for n in (1, 2, 3)])
    assert web._balancer is balancer
    assert not is_busy(web)
    web.update([endpoint(f"10.0.0.{n}") for n in (1, 2)])
    assert isinstance(web._balancer, Maglev)
    assert not settle(web).tick(1.0)
    assert picked(web) == set(web.endpoints)


def test_ejected_endpoints_are_not_picked() -> None:
    web = made("10.0.0.1", "10.0.0.2", outlier=OUTLIER)
    first, second = web.endpoints
    assert not is_busy(web)
    fail(web, first)
    assert picked(web) == {second}
    assert web.ejected == 1
    assert is_busy(web)
    fail(web, second)
    assert picked(web) == {None}
    assert not web.tick(29.0)
    assert web.tick(39.0)
    assert picked(web) == {first, second}
    for now in (49.0, 59.0):
        assert not web.tick(now)
    assert not is_busy(web)


def test_draining_endpoints_are_no_way_out_of_an_ejection() -> None:
    web = Cluster(cluster(outlier=OUTLIER))
    web.update([endpoint("10.0.0.1"), endpoint("10.0.0.2", draining=True)])
    fail(web, web.endpoints[0])
    assert picked(web) == {None}


def test_an_ejected_endpoint_that_leaves_and_comes_back_starts_afresh() -> None:
    web = made("10.0.0.1", "10.0.0.2", outlier=OUTLIER)
    fail(web, web.endpoints[0])
    web.update([endpoint("10.0.0.2")])
    assert (web.ejected, web.needs_tick) == (0, False)
    web.update([endpoint("10.0.0.1"), endpoint("10.0.0.2")])
    assert picked(web) == set(web.endpoints)


def test_outlier_detection_can_be_changed_and_switched_off() -> None:
    web = made("10.0.0.1", "10.0.0.2", outlier=OUTLIER)
    detector = web.outlier
    fail(web, web.endpoints[0])
    web.update_spec(cluster(outlier=OutlierSpec()))
    assert web.outlier is detector
    assert web.ejected == 1
    web.update_spec(cluster())
    assert (web.outlier, web.ejected, web.needs_tick) == (None, 0, False)
    assert picked(web) == set(web.endpoints)
    web.update_spec(cluster(outlier=OUTLIER))
    fail(web, web.endpoints[1])
    assert picked(web) == {web.endpoints[0]}


@pytest.mark.parametrize("balancer", ["LEAST_REQUEST", "ROUND_ROBIN"])
def test_new_endpoints_warm_up(balancer: str) -> None:
    web = made("10.0.0.1", balancer=balancer, warmup=WarmupSpec(duration_s=10.0))
    web.tick(0.0)
    web.tick(10.0)
    assert not is_busy(web)
    web.update([endpoint("10.0.0.1"), endpoint("10.0.0.2")])
    old, new = web.endpoints
    assert is_busy(web)
    rng = random.Random(2)

    def share() -> float:
        return [web.pick(rng) for _ in range(4000)].count(new) / 4000

    assert share() == pytest.approx(1 / 11, abs=0.03)
    web.tick(20.0)
    web.tick(25.0)
    assert share() == pytest.approx(1 / 3, abs=0.03)
    web.tick(30.0)
    assert share() == pytest.approx(1 / 2, abs=0.03)
    assert (old.weight, new.weight, web.needs_tick) == (1, 1, False)


def test_warm_up_can_be_changed_and_switched_off() -> None:
    web = made("10.0.0.1", warmup=WarmupSpec(duration_s=10.0))
    assert web.endpoints[0].weight == 0.1
    web.update_spec(cluster(warmup=WarmupSpec(duration_s=10.0, minimum_percent=50.0)))
    web.tick(0.0)
    assert web.endpoints[0].weight == 0.5
    web.update_spec(cluster(balancer="RANDOM", warmup=WarmupSpec(duration_s=10.0)))
    assert web.endpoints[0].weight == 1
    assert not is_busy(web)
    web.update_spec(cluster(warmup=WarmupSpec(duration_s=10.0)))
    web.update([endpoint("10.0.0.1"), endpoint("10.0.0.2")])
    assert [member.weight for member in web.endpoints] == [1, 0.1]  # only who joins from then on is new


def located(*localities: str, **options: Any) -> Cluster:
    web = Cluster(cluster(**options))
    web.update([endpoint(f"10.0.0.{n}", locality=locality) for n, locality in enumerate(localities)])
    return web


def test_callers_get_the_endpoints_of_their_locality_while_these_are_well() -> None:
    web, rng = located("eu/a/1", "us/a/1", locality=LocalitySpec(), outlier=OUTLIER), random.Random(1)
    near, far = web.endpoints
    assert web.context
    assert {web.pick_for(rng, (), None, "eu/a/1") for _ in range(50)} == {near}
    assert {web.pick_for(rng, (), None) for _ in range(50)} == {near, far}
    fail(web, near)
    assert web.pick_for(rng, (), None, "eu/a/1") is far
    web.tick(30.0)
    assert web.pick_for(rng, (), None, "eu/a/1") is near


def test_outlier_detection_alone_does_not_prefer_localities() -> None:
    assert not located("eu/a/1", outlier=OUTLIER).context
    assert not located("eu/a/1", locality=LocalitySpec()).context
    assert located("eu/a/1", locality=LocalitySpec(distribute=(("eu/*", (("eu/*", 100),)),))).context


def test_localities_can_be_changed() -> None:
    web, rng = located("eu/a/1", "us/a/1", locality=LocalitySpec(), outlier=OUTLIER), random.Random(1)
    kept = web._localities
    web.update_spec(cluster(locality=LocalitySpec(), outlier=OUTLIER, connect_timeout_s=3.0))
    assert web._localities is kept
    web.update_spec(cluster(locality=LocalitySpec(distribute=(("eu/*", (("us/*", 100),)),)), outlier=OUTLIER))
    assert web.pick_for(rng, (), None, "eu/a/1") is web.endpoints[1]
    web.update_spec(cluster(outlier=OUTLIER))
    assert not web.context


def test_a_retry_may_leave_its_priority() -> None:
    options: dict[str, Any] = {"locality": LocalitySpec(), "outlier": OUTLIER}
    web, rng = located("eu/a/1", "eu/a/1", "us/a/1", **options), random.Random(1)
    sick, near, far = web.endpoints
    fail(web, sick)
    stays = [web.pick_for(rng, [near], None, "eu/a/1") for _ in range(100)]
    leaves = {web.pick_for(rng, [near], None, "eu/a/1", remote=True) for _ in range(100)}
    assert far in stays
    assert leaves == {far}
    assert near in {web.pick_for(rng, (), None, "eu/a/1", remote=True) for _ in range(100)}


def test_hashes_work_within_localities() -> None:
    options: dict[str, Any] = {"locality": LocalitySpec(), "outlier": OUTLIER, "balancer": "MAGLEV", "hash": BY_USER}
    web, rng = located("eu/a/1", "eu/a/1", "us/a/1", **options), random.Random(1)
    first = [web.pick_for(rng, (), value, "eu/a/1") for value in range(40)]
    assert set(first) == set(web.endpoints[:2])
    web.update([endpoint(f"10.0.0.{n}", locality="eu/a/1") for n in range(4)])
    web.pick_for(rng, (), 0, "eu/a/1")
    settle(web)
    assert {web.pick_for(rng, (), value, "eu/a/1") for value in range(100)} == set(web.endpoints)


def test_labels_of_endpoints_come_with_their_identities() -> None:
    labels = {"one": {"v": "1"}, "two": {"v": "2"}}
    spec = cluster(locality=LocalitySpec(failover_priority=("v",)), outlier=OUTLIER)
    web, rng = Cluster(spec, labels_of=labels.__getitem__), random.Random(1)
    web.update([endpoint("10.0.0.1", identity="one"), endpoint("10.0.0.2", identity="two")])
    assert web.pick_for(rng, (), None, "", {"v": "2"}) is web.endpoints[1]
    labels["one"], labels["two"] = labels["two"], labels["one"]
    web.forget_labels()
    assert web.pick_for(rng, (), None, "", {"v": "2"}) is web.endpoints[0]
    unlabelled = Cluster(spec)
    unlabelled.update([endpoint("10.0.0.1")])
    assert unlabelled.pick_for(rng, (), None, "", {}) is unlabelled.endpoints[0]
    located("eu/a/1", locality=LocalitySpec(), outlier=OUTLIER).forget_labels()


def test_limits_and_budget_are_one_workers_part() -> None:
    budget = RetryBudgetSpec(percent=50.0, minimum=4)
    web = Cluster(cluster(max_connections=10, max_retries=2, retry_budget=budget), workers=4)
    assert repr(web.limits) == "Limits(connections=3, pending=0, requests=0, retries=1)"
    assert (web.retry_budget.percent, web.retry_budget.minimum, web.retry_budget.maximum) == (50.0, 1, 0)
    web.update_spec(cluster(max_retries=2))
    assert (web.retry_budget.percent, web.retry_budget.minimum, web.retry_budget.maximum) == (DEFAULT_PERCENT, 3, 1)
    web.update_spec(cluster())
    assert (web.limits, web.retry_budget.maximum) == (None, 0)


def test_the_balancer_for_a_caller_is_the_one_that_is_asked() -> None:
    near = Cluster(cluster(locality=LocalitySpec(always=True)))
    near.update([endpoint("10.0.0.1", locality="r/a/"), endpoint("10.0.0.2", locality="r/b/")])
    for locality, addresses in (("r/a/", {"10.0.0.1"}), ("r/b/", {"10.0.0.2"}), ("", {"10.0.0.1", "10.0.0.2"})):
        assert {one.address for one in near.balancer_for(locality, None).endpoints} == addresses
        picked = {near.pick_for(random.Random(seed), (), None, locality) for seed in range(20)}
        assert {one.address for one in picked if one is not None} == addresses
