# SPDX-License-Identifier: Apache-2.0
"""What it costs to choose a destination and an endpoint, and to take an endpoint update in."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Literal, get_args

import pytest

from routing.balance import BalancerKind, Maglev, RingHash
from routing.cluster import Cluster, Endpoint
from routing.retry import RetryPolicy
from routing.specs import ClusterSpec, EndpointSpec, HashSpec, LocalitySpec, OutlierSpec, RetrySpec
from routing.table import Destination, Route
from routing.table.virtual_host import CompiledVirtualHost

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

KINDS = get_args(BalancerKind)


def _specs(count: int, *, weighted: bool = False) -> list[EndpointSpec]:
    return [
        EndpointSpec(address=f"10.0.{index // 250}.{index % 250}", port=80, weight=1 + index % 3 if weighted else 1)
        for index in range(count)
    ]


def _cluster(kind: BalancerKind, count: int, *, weighted: bool = False) -> Cluster:
    cluster = Cluster(ClusterSpec(name="c", service="s", balancer=kind))
    cluster.update(_specs(count, weighted=weighted))
    return cluster


@pytest.mark.parametrize("count", [1, 3, 1_000])
@pytest.mark.parametrize("kind", KINDS)
def test_pick(benchmark: BenchmarkFixture, kind: BalancerKind, count: int) -> None:
    """Equal weights."""
    assert benchmark(_cluster(kind, count).pick, random.Random(1)) is not None


@pytest.mark.parametrize("count", [3, 1_000])
@pytest.mark.parametrize("kind", KINDS)
def test_pick_weighted(benchmark: BenchmarkFixture, kind: BalancerKind, count: int) -> None:
    """Different weights."""
    assert benchmark(_cluster(kind, count, weighted=True).pick, random.Random(1)) is not None


@pytest.mark.parametrize("kind", KINDS)
def test_pick_again(benchmark: BenchmarkFixture, kind: BalancerKind) -> None:
    """A retry: two of three were tried."""
    cluster = _cluster(kind, 3)
    assert benchmark(cluster.pick, random.Random(1), cluster.endpoints[:2]) is cluster.endpoints[2]


@pytest.mark.parametrize("count", [3, 1_000])
@pytest.mark.parametrize("kind", ["RING_HASH", "MAGLEV"])
def test_pick_hashed(benchmark: BenchmarkFixture, kind: Literal["RING_HASH", "MAGLEV"], count: int) -> None:
    """By the hash of a request."""
    cluster = Cluster(ClusterSpec(name="c", service="s", balancer=kind, hash=HashSpec(kind="source-ip")))
    cluster.update(_specs(count))
    cluster.pick(random.Random(1))
    assert benchmark(cluster.pick_for, random.Random(1), (), 0x1234_5678_9ABC_DEF0) is not None


def test_pick_by_locality(benchmark: BenchmarkFixture) -> None:
    """By the caller's locality, with a part of the nearest ejected."""
    spec = ClusterSpec(name="c", service="s", locality=LocalitySpec(), outlier=OutlierSpec(max_ejection_percent=100))
    cluster = Cluster(spec)
    cluster.update([EndpointSpec(address=f"10.0.0.{n}", port=80, locality="eu/a/1" if n < 4 else "us/a/1") for n in range(8)])
    assert cluster.outlier is not None
    for endpoint in cluster.endpoints[:2]:
        for _ in range(5):
            cluster.outlier.on_status(endpoint, 503, 0.0)
    assert cluster.ejected == 2
    assert benchmark(cluster.pick_for, random.Random(1), (), None, "eu/a/1") is not None


@pytest.mark.parametrize("status", [200, 503])
def test_outlier_count(benchmark: BenchmarkFixture, status: int) -> None:
    """What outlier detection costs with each answer; nobody is ejected."""
    cluster = Cluster(ClusterSpec(name="c", service="s", outlier=OutlierSpec(consecutive_5xx=0)))
    cluster.update(_specs(10))
    assert cluster.outlier is not None
    assert benchmark(cluster.outlier.on_status, cluster.endpoints[0], status, 0.0) is False


@pytest.mark.parametrize("count", [10, 100, 1_000])
@pytest.mark.parametrize("kind", [RingHash, Maglev])
def test_build_hashed(benchmark: BenchmarkFixture, kind: type[RingHash] | type[Maglev], count: int) -> None:
    """The ring or the first table of a cluster, of default size."""
    endpoints = [Endpoint(spec) for spec in _specs(count)]
    assert benchmark(lambda: kind(endpoints).pick_hash(1)) is not None


def test_build_slice(benchmark: BenchmarkFixture) -> None:
    """The part of a replacing table that one pick has to fill: the longest time the loop waits for it."""
    endpoints = [Endpoint(spec) for spec in _specs(100)]
    table = Maglev(endpoints)
    table.pick_hash(1)
    assert benchmark(lambda: Maglev(endpoints[1:], before=table).pick_hash(1)) is not None


@pytest.mark.parametrize("weights", [(100,), (90, 10), (70, 20, 5, 5)], ids=str)
def test_destination(benchmark: BenchmarkFixture, weights: tuple[int, ...]) -> None:
    """The weighted choice of a route."""
    route = Route(
        name="r",
        virtual_host=CompiledVirtualHost("k"),
        destinations=tuple(Destination(cluster=None, cluster_name="c", weight=weight) for weight in weights),
        timeout_s=0.0,
        retry=RetryPolicy(RetrySpec()),
        rewrite=None,
        reply=None,
        response_ops=None,
    )
    assert benchmark(route.pick, 0.92) is route.destinations[len(weights) > 1 and 1 + (len(weights) > 2)]


@pytest.mark.parametrize("count", [10, 1_000])
def test_endpoint_update(benchmark: BenchmarkFixture, count: int) -> None:
    """One endpoint leaves and comes back."""
    cluster = _cluster("LEAST_REQUEST", count)
    every = _specs(count)

    def update() -> None:
        cluster.update(every[1:])
        cluster.update(every)

    benchmark(update)
    assert len(cluster.endpoints) == count
