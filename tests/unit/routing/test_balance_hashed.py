# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random
from typing import TYPE_CHECKING, Literal

import pytest

from routing.balance import Balancer, Maglev, RingHash, make_hashed
from routing.balance.hashed import MAX_RING_SIZE, MAX_TABLE_SIZE
from routing.cluster import Endpoint
from routing.hashing import hash64
from routing.specs import HashSpec
from tests.unit.routing.table_kit import endpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

TOP = 2**64 - 1
PORTS = range(90, 96)

# Envoy's own tests (ring_hash_lb_test.cc and maglev_lb_test.cc, "Basic"): six hosts, 127.0.0.1:90 to :95.
ENVOY_RING = {
    833437586790550860: 94,
    928266305478181108: 92,
    1033482794131418490: 90,
    3551244743356806947: 95,
    3851675632748031481: 93,
    5583722120771150861: 91,
    6311230543546372928: 91,
    7700377290971790572: 93,
    13144177310400110813: 95,
    13444792449719432967: 92,
    15516499411664133160: 94,
    16117243373044804889: 90,
}
ENVOY_MAGLEV = [92, 94, 90, 91, 95, 90, 93]


def members(*ports: int, weights: Sequence[int] = (), address: str = "127.0.0.1") -> list[Endpoint]:
    return [
        Endpoint(endpoint(address, port, weight=weights[index] if weights else 1)) for index, port in enumerate(ports or PORTS)
    ]


def port_of(balancer: Balancer, value: int) -> int:
    chosen = balancer.pick_hash(value)
    assert chosen is not None
    return chosen.port


def test_the_ring_is_envoys() -> None:
    ring = RingHash(members(), 12)
    for point, port in ENVOY_RING.items():
        assert port_of(ring, point) == port
    following = [*list(ENVOY_RING.values())[1:], 94]
    assert [port_of(ring, point + 1) for point in ENVOY_RING] == following
    assert port_of(ring, 0) == port_of(ring, TOP) == 94


def test_the_table_is_envoys() -> None:
    maglev = Maglev(list(reversed(members())), 7)
    assert [port_of(maglev, slot) for slot in range(21)] == ENVOY_MAGLEV * 3


def test_the_lightest_member_has_a_whole_number_of_points() -> None:
    ring = RingHash(members(90, 91, 92, weights=(1, 2, 3)), 13)
    ring.pick_hash(0)
    owners = [owner.port for owner in ring._owners]
    assert [owners.count(port) for port in (90, 91, 92)] == [3, 6, 9]


def test_sizes_are_bounded() -> None:
    assert RingHash(members(), 10**9).size == MAX_RING_SIZE
    assert RingHash(members(), 0).size == 1
    assert Maglev(members(), 10**9).size == MAX_TABLE_SIZE == 65537
    assert Maglev(members(), 0).size == 2
    assert Maglev(members(), 2038).size == 2039  # the next prime


def test_a_ring_of_unequal_weights_does_not_grow_without_bound() -> None:
    ring = RingHash(members(90, 91, weights=(1, 10**9)))
    assert port_of(ring, 1) == 91
    assert len(ring._owners) <= MAX_RING_SIZE + 1


def test_ipv6_addresses_are_written_in_brackets() -> None:
    ring = RingHash(members(90, 91, address="::1"))
    assert port_of(ring, hash64(b"[::1]:90_0")) == 90
    assert port_of(ring, hash64(b"[::1]:91_7")) == 91


def test_a_random_hash_reaches_everybody() -> None:
    for balancer in (RingHash(members()), Maglev(members(), 97)):
        rng = random.Random(3)
        picked = {balancer.pick(rng, balancer.endpoints) for _ in range(300)}
        assert picked == set(balancer.endpoints)


def test_a_single_member_gets_everything() -> None:
    (only,) = members(90)
    for balancer in (RingHash([only]), Maglev([only])):
        assert {balancer.pick_hash(value) for value in (0, 1, TOP)} == {only}


# A Maglev table that replaces another.


def test_a_table_is_filled_in_slices_while_the_old_one_answers() -> None:
    everybody = members()
    old = Maglev(everybody)
    assert old.table == []  # nobody has asked yet
    before = [old.pick_hash(value) for value in range(2000)]
    assert not old.is_building
    assert [old.pick_hash(value) for value in range(2000)] == before
    gone = everybody[2]
    rest = [member for member in everybody if member is not gone]
    new = Maglev(rest, before=old)
    assert new.table is old.table
    during = [new.pick_hash(value) for value in range(8)]
    assert new.table is old.table
    assert all(now is then for now, then in zip(during, before, strict=False) if then is not gone)
    assert gone not in during
    while new.is_building:
        new.build()
    new.build()  # nothing is left to do
    fresh = Maglev(rest)
    assert [new.pick_hash(value) for value in range(2000)] == [fresh.pick_hash(value) for value in range(2000)]


def test_ticks_alone_finish_a_table() -> None:
    old = Maglev(members(90, 91))
    old.pick_hash(0)
    new = Maglev(members(92, 93), before=old)
    slices = 0
    while new.is_building:
        new.build()
        slices += 1
    assert 20 < slices < 200
    assert {port_of(new, value) for value in range(100)} == {92, 93}


def test_a_table_whose_members_have_all_left_is_replaced_at_once() -> None:
    old = Maglev(members(90, 91))
    old.pick_hash(0)
    new = Maglev(members(92, 93), before=old)
    assert port_of(new, 0) in {92, 93}
    assert not new.is_building


def test_a_table_of_another_size_is_no_help() -> None:
    old = Maglev(members(), 97)
    old.pick_hash(0)
    new = Maglev(members(), 101, old)
    assert not new.table
    assert port_of(new, 100) in PORTS


def test_a_table_follows_one_that_was_not_finished() -> None:
    everybody = members()
    first = Maglev(everybody)
    first.pick_hash(0)
    second = Maglev(everybody[1:], before=first)
    second.pick_hash(0)
    third = Maglev(everybody[2:], before=second)
    assert third.table is first.table
    assert {port_of(third, value) for value in range(500)} <= {92, 93, 94, 95}


@pytest.mark.parametrize("kind", ["RING_HASH", "MAGLEV"])
def test_nothing_is_made_anew_when_nothing_changed(kind: Literal["RING_HASH", "MAGLEV"]) -> None:
    everybody = members()
    spec = HashSpec(kind="source-ip", ring_size=64, table_size=97)
    made = make_hashed(kind, spec, everybody, None)
    assert make_hashed(kind, spec, list(reversed(everybody)), made) is made
    assert make_hashed(kind, None, everybody, made) is not made
    assert make_hashed(kind, spec, everybody[1:], made) is not made
    assert make_hashed(kind, spec, everybody, Balancer(())) is not made
    everybody[0].weight = 2
    assert make_hashed(kind, spec, everybody, made) is not made
    assert make_hashed(kind, spec, [], made).pick_hash(1) is None


def test_repr() -> None:
    assert repr(Maglev(members())) == "Maglev(6 endpoints)"
