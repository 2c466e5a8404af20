# SPDX-License-Identifier: Apache-2.0
"""Consistent hashing: the structures are what their plain definitions say, they share hashes out by weight, and a member that
leaves takes little more than its own hashes along.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh64_intdigest

from routing.balance import Maglev, RingHash, Spread
from routing.cluster import Cluster, Endpoint
from routing.retry import RetryPolicy
from routing.specs import ClusterSpec, EndpointSpec, HashSpec, RetrySpec
from routing.table import Destination, Route
from routing.table.virtual_host import CompiledVirtualHost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from routing.balance import Balancer

PATIENT = settings(deadline=None, max_examples=60)


def members(count: int, weights: Sequence[int] = ()) -> list[Endpoint]:
    return [
        Endpoint(EndpointSpec(address=f"10.0.{index // 250}.{index % 250}", port=80, weight=weights[index] if weights else 1))
        for index in range(count)
    ]


def key(endpoint: Endpoint) -> str:
    return f"{endpoint.address}:{endpoint.port}"


def hashes(count: int, seed: int = 2026) -> list[int]:
    rng = random.Random(seed)
    return [rng.getrandbits(64) for _ in range(count)]


# Plain twins, written after Envoy's sources (maglev_lb.cc, ring_hash_lb.cc).


def naive_maglev(endpoints: Sequence[Endpoint], size: int) -> list[Endpoint]:
    ordered = sorted(endpoints, key=key)
    heaviest = max(endpoint.weight for endpoint in ordered)
    table: list[Endpoint | None] = [None] * size
    following, targets = [0] * len(ordered), [0.0] * len(ordered)
    filled = iteration = 0
    while filled < size:
        iteration += 1
        for index, endpoint in enumerate(ordered):
            if filled == size or iteration * endpoint.weight < targets[index]:
                continue
            targets[index] += heaviest
            offset = xxh64_intdigest(key(endpoint).encode()) % size
            skip = xxh64_intdigest(key(endpoint).encode(), 1) % (size - 1) + 1
            while table[slot := (offset + skip * following[index]) % size] is not None:
                following[index] += 1
            table[slot] = endpoint
            filled += 1
    return [endpoint for endpoint in table if endpoint is not None]


def naive_ring(endpoints: Sequence[Endpoint], size: int) -> list[tuple[int, str]]:
    total = sum(endpoint.weight for endpoint in endpoints)
    least = min(endpoint.weight for endpoint in endpoints) / total
    scale = -(-least * size // 1) / least
    ring: list[tuple[int, str]] = []
    target = 0.0
    for endpoint in sorted(endpoints, key=key):
        target += scale * (endpoint.weight / total)
        number = 0
        while len(ring) < target:
            ring.append((xxh64_intdigest(f"{key(endpoint)}_{number}".encode()), key(endpoint)))
            number += 1
    return sorted(ring)


weight_lists = st.lists(st.integers(1, 5), min_size=1, max_size=12)


@PATIENT
@given(weight_lists, st.sampled_from([2, 7, 101, 251, 257, 263, 521, 2039]))
def test_a_table_is_what_the_naive_algorithm_makes(weights: list[int], size: int) -> None:
    endpoints = members(len(weights), weights)
    table = Maglev(endpoints, size)
    assert [table.pick_hash(slot) for slot in range(size)] == naive_maglev(endpoints, size)


@PATIENT
@given(weight_lists, st.integers(1, 300))
def test_a_ring_is_what_the_naive_algorithm_makes(weights: list[int], size: int) -> None:
    endpoints = members(len(weights), weights)
    ring, naive = RingHash(endpoints, size), naive_ring(endpoints, size)
    for value in [*hashes(50), *(point for point, _ in naive), 0, 2**64 - 1]:
        owner = next((name for point, name in naive if point >= value), naive[0][1])
        chosen = ring.pick_hash(value)
        assert chosen is not None
        assert key(chosen) == owner


# Change.


def settle(cluster: Cluster) -> None:
    while cluster.needs_tick:
        cluster.tick(0.0)


@PATIENT
@given(st.lists(st.sets(st.integers(0, 9), min_size=1), min_size=1, max_size=5), st.integers(0, 300))
def test_a_table_under_construction_never_leads_to_who_has_left(stages: list[set[int]], slices: int) -> None:
    everybody = members(10)
    before: Balancer | None = None
    for stage in stages:
        present = [everybody[index] for index in stage]
        table = Maglev(present, 2039, before)
        for value in hashes(5):
            assert table.pick_hash(value) in present
        for _ in range(slices):
            table.build()
        before = table
    while table.is_building:
        table.build()
    assert table.table == naive_maglev(present, 2039)


@pytest.mark.parametrize("leaving", [0, 37, 99])
@pytest.mark.parametrize(("kind", "surplus"), [("RING_HASH", 0.001), ("MAGLEV", 0.01)])
def test_who_leaves_takes_little_more_than_its_own_hashes_along(kind: str, surplus: float, leaving: int) -> None:
    cluster = Cluster(ClusterSpec(name="c", service="s", balancer=kind, hash=HashSpec(kind="source-ip")))  # type: ignore[arg-type]
    specs = [EndpointSpec(address=f"10.0.0.{index}", port=80) for index in range(100)]
    cluster.update(specs)
    rng, values = random.Random(1), hashes(20_000)
    before = [cluster.pick_for(rng, (), value) for value in values]
    gone = cluster.endpoints[leaving]
    cluster.update(specs[:leaving] + specs[leaving + 1 :])
    cluster.pick(rng)
    settle(cluster)
    after = [cluster.pick_for(rng, (), value) for value in values]
    moved = sum(now is not then for now, then in zip(after, before, strict=True))
    least = before.count(gone)
    assert gone not in after
    assert moved - least <= surplus * len(values)
    cluster.update(specs)
    settle(cluster)
    again = [cluster.pick_for(rng, (), value) for value in values]
    assert [member and member.address for member in again] == [member and member.address for member in before]


# Shares. Bounds of chi-square are for p = 0.001.


def chi_square(counts: Counter[Endpoint | None], shares: dict[Endpoint, float], draws: int) -> float:
    return sum((counts[endpoint] - draws * share) ** 2 / (draws * share) for endpoint, share in shares.items())


@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (1, 2, 3, 4), (9, 1, 1, 1)], ids=str)
def test_a_table_shares_hashes_out_by_weight(weights: tuple[int, ...]) -> None:
    endpoints, draws = members(4, weights), 40_000
    table = Maglev(endpoints)
    counts = Counter(table.pick_hash(value) for value in hashes(draws))
    shares = {endpoint: endpoint.weight / sum(weights) for endpoint in endpoints}
    assert chi_square(counts, shares, draws) < 16.3  # 3 degrees of freedom


@pytest.mark.parametrize("count", [3, 10, 100])
def test_hashes_meet_a_ring_by_the_length_of_its_arcs(count: int) -> None:
    endpoints, draws = members(count), 40_000
    ring = RingHash(endpoints)
    naive = naive_ring(endpoints, 1024)
    lengths: Counter[str] = Counter()
    for (point, name), (previous, _) in zip(naive, [naive[-1], *naive], strict=False):
        lengths[name] += (point - previous) % 2**64
    shares = {endpoint: lengths[key(endpoint)] / 2**64 for endpoint in endpoints}
    counts = Counter(ring.pick_hash(value) for value in hashes(draws))
    assert chi_square(counts, shares, draws) < {3: 13.8, 10: 27.9, 100: 148.3}[count]
    assert all(0.4 < share * count < 2.0 for share in shares.values())  # as even as so few points can be


@pytest.mark.parametrize("weights", [(1, 1), (90, 10), (1, 2, 7), (5, 0, 95), (98, 1, 1)], ids=str)
def test_splits_follow_their_weights(weights: tuple[int, ...]) -> None:
    destinations = tuple(Destination(cluster=None, cluster_name=str(n), weight=weight) for n, weight in enumerate(weights))
    host = CompiledVirtualHost("k")
    route = Route(
        name="r",
        virtual_host=host,
        destinations=destinations,
        timeout_s=0.0,
        retry=RetryPolicy(RetrySpec(attempts=0)),
        rewrite=None,
        reply=None,
        response_ops=None,
    )
    rng, draws = random.Random(3), 40_000
    counts = Counter(route.pick(rng.random()) for _ in range(draws))
    drawn = [destination for destination in destinations if destination.weight]
    expected = {destination: draws * destination.weight / sum(weights) for destination in drawn}
    assert set(counts) == set(drawn)
    assert sum((counts[destination] - want) ** 2 / want for destination, want in expected.items()) < 13.8  # 2 degrees


def test_a_spread_follows_its_shares() -> None:
    endpoints, rng, draws = members(3), random.Random(5), 40_000
    spread = Spread([0.2, 0.3, 0.5], [RingHash([endpoint]) for endpoint in endpoints])
    shares = dict(zip(endpoints, (0.2, 0.3, 0.5), strict=True))
    assert chi_square(Counter(spread.pick(rng) for _ in range(draws)), shares, draws) < 13.8
    assert chi_square(Counter(spread.pick_hash(value) for value in hashes(draws)), shares, draws) < 13.8
