# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random
from collections import Counter

from routing.balance import RingHash, Spread, make_balancer
from routing.cluster import Endpoint
from tests.unit.routing.table_kit import endpoint


def group(*ports: int) -> list[Endpoint]:
    return [Endpoint(endpoint(port=port)) for port in ports]


A, B, C = group(1, 2), group(3), group(4, 5)


def spread(*shares: float) -> Spread:
    return Spread(shares, [make_balancer("RANDOM", members) for members in (A, B, C)][: len(shares)])


def test_groups_get_their_shares() -> None:
    balancer, rng = spread(5, 3, 2), random.Random(4)
    counts = Counter(balancer.pick(rng) for _ in range(20_000))
    for members, share in ((A, 0.5), (B, 0.3), (C, 0.2)):
        assert abs(sum(counts[member] for member in members) / 20_000 - share) < 0.01


def test_a_retry_looks_into_other_groups() -> None:
    balancer, rng = spread(1, 1), random.Random(4)
    counts = Counter(balancer.pick(rng, [*A]) for _ in range(2_000))
    assert counts[B[0]] > 1_900  # only after five draws in vain does a tried one come again


def test_hashes_stay_in_their_group() -> None:
    balancer = Spread([1, 3], [RingHash(A), RingHash(B)])
    values = [index * 0x9E37_79B9_7F4A_7C15 % 2**64 for index in range(2_000)]
    first = [balancer.pick_hash(value) for value in values]
    assert first == [balancer.pick_hash(value) for value in values]
    assert 0.2 < sum(chosen in A for chosen in first) / 2_000 < 0.3


def test_beyond_leaves_out_groups_that_were_tried() -> None:
    balancer, rng = spread(6, 1, 3), random.Random(4)
    counts = Counter(balancer.beyond([A[0]]).pick(rng) for _ in range(4_000))
    assert not counts[A[0]]
    assert not counts[A[1]]
    assert 0.2 < counts[B[0]] / 4_000 < 0.3
    assert balancer.beyond([A[0], B[0], C[1]]) is balancer


def test_repr_counts_all_members() -> None:
    assert repr(spread(1, 1, 1)) == "Spread(5 endpoints)"
