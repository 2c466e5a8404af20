# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random

from routing.cluster import Cluster
from tests.unit.routing.table_kit import cluster, endpoint


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
    assert [web.retry_budget.try_acquire() for _ in range(21)].count(True) == 20


def test_repr_tells_the_state() -> None:
    web = Cluster(cluster())
    web.update([endpoint("10.0.0.1"), endpoint("10.0.0.2", draining=True)])
    first, second = web.endpoints
    web.update([endpoint("10.0.0.2", draining=True)])
    assert repr(first) == "Endpoint(10.0.0.1:8080, active=0, removed)"
    assert repr(second) == "Endpoint(10.0.0.2:8080, active=0, draining)"
    web.update([endpoint("10.0.0.2")])
    assert repr(second) == "Endpoint(10.0.0.2:8080, active=0)"
