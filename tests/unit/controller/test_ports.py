# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from acmgproxy.controller.ports import REST_S, PortAllocator, PortsExhaustedError

KEYS = [("default", name) for name in "abcd"]
PORTS = range(20000, 20006)


class Allocations(RuleBasedStateMachine):
    """Services come and go, shadows are restored from anywhere, the controller restarts: no port is ever given to two."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.written: dict[tuple[str, str], tuple[dict[int, int], tuple[str, str, str]]] = {}
        self.released: dict[int, float] = {}
        self.allocator = self.fresh()

    def fresh(self) -> PortAllocator:
        return PortAllocator(lambda: self.now, ports=PORTS)

    @rule(key=st.sampled_from(KEYS), ports=st.sets(st.sampled_from([80, 81]), min_size=1))
    def allocate(self, key: tuple[str, str], ports: set[int]) -> None:
        before = self.allocator.given(key)
        try:
            found = self.allocator.allocate(key, sorted(ports))
        except PortsExhaustedError:
            return
        assert {port: found[port] for port in before.keys() & ports} == {port: before[port] for port in before.keys() & ports}
        for port, number in found.items():
            if port not in before:
                assert self.released.get(number, 0.0) <= self.now

    @rule(key=st.sampled_from(KEYS))
    def write(self, key: tuple[str, str]) -> None:
        if given := self.allocator.given(key):
            self.written[key] = given, (f"{self.now}", *key)
            self.allocator.claim(key, given, self.written[key][1])

    @rule(
        key=st.sampled_from(KEYS), numbers=st.lists(st.sampled_from(list(PORTS)), max_size=2, unique=True), age=st.integers(0, 9)
    )
    def restore(self, key: tuple[str, str], numbers: list[int], age: int) -> None:
        ports = dict(zip([80, 81], numbers, strict=False))
        self.written[key] = ports, (f"{age}", *key)
        losers = self.allocator.claim(key, ports, self.written[key][1])
        assert key not in losers

    @rule(key=st.sampled_from(KEYS))
    def release(self, key: tuple[str, str]) -> None:
        for number in self.allocator.given(key).values():
            self.released[number] = self.now + REST_S
        self.written.pop(key, None)
        self.allocator.unclaim(key)
        self.allocator.keep(key, ())
        assert self.allocator.given(key) == {}

    @rule()
    def restart(self) -> None:
        self.allocator = self.fresh()
        self.released.clear()
        for key, (ports, age) in self.written.items():
            self.allocator.claim(key, ports, age)

    @rule()
    def wait(self) -> None:
        self.now += REST_S / 2

    @invariant()
    def no_port_stands_for_two(self) -> None:
        numbers = [number for key in KEYS for number in self.allocator.given(key).values()]
        assert len(numbers) == len(set(numbers))


TestAllocations = Allocations.TestCase
TestAllocations.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


def test_a_service_gets_the_same_ports_again() -> None:
    one, other = PortAllocator(lambda: 0.0), PortAllocator(lambda: 0.0)
    assert one.allocate(KEYS[0], [80, 81]) == other.allocate(KEYS[0], [80, 81])


def test_the_older_of_two_claims_wins_whatever_the_order() -> None:
    orders: list[tuple[str, str]] = [("1", "2"), ("2", "1")]
    for order in orders:
        allocator = PortAllocator(lambda: 0.0)
        keys = {age: KEYS[int(age)] for age in order}
        losers = [allocator.claim(keys[age], {80: 20000}, (age, "", "")) for age in order]
        assert losers[1] == ({keys["2"]} if order == ("2", "1") else frozenset())
        assert allocator.given(keys["1"]) == {80: 20000}
        assert allocator.allocate(keys["2"], [80]) != {80: 20000}


def test_a_port_that_a_gateway_uses_for_another_is_not_given() -> None:
    taken = PortAllocator(lambda: 0.0).allocate(KEYS[0], [80])[80]
    allocator = PortAllocator(lambda: 0.0, lambda port, _key: port == taken)
    assert allocator.allocate(KEYS[0], [80]) == {80: taken + 1}


def test_a_shadow_that_was_deleted_by_mistake_gets_its_ports_again() -> None:
    allocator = PortAllocator(lambda: 0.0)
    allocator.claim(KEYS[0], {80: 20007}, ("1", "", ""))
    allocator.unclaim(KEYS[0])
    assert allocator.allocate(KEYS[0], [80]) == {80: 20007}


def test_when_all_ports_are_taken_it_says_what_to_do() -> None:
    allocator = PortAllocator(lambda: 0.0, ports=range(20000, 20001))
    allocator.allocate(KEYS[0], [80])
    with pytest.raises(PortsExhaustedError, match="release Services or exclude ports"):
        allocator.allocate(KEYS[1], [80])
