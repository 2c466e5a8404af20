# SPDX-License-Identifier: Apache-2.0
"""Endpoints that come and go, fail and heal, and leave their addresses to others."""

from __future__ import annotations

import heapq
import random
import time
from typing import TYPE_CHECKING

import pytest

from routing.specs import OutlierSpec, RetryBudgetSpec, WarmupSpec
from tests.interop.client import RawClient
from tests.interop.gateway import wait_for
from tests.protocol.world import World, answer, request, retrying
from tests.storms.load import Load
from tests.storms.pods import Reply
from tests.storms.site import destination_rule, endpoint, virtual_service

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.protocol.mocks import MockTransport
    from tests.storms.site import Obj, Site


@pytest.mark.slow
def test_endpoints_that_flap_cost_no_request(site: Site) -> None:
    stays, flaps = site.pods.address(), [site.pods.address() for _ in range(3)]
    web = site.add_service("web", stays, *flaps)
    site.start()
    rng = random.Random(3)
    with Load(web.address, pause_s=0.001) as load:
        for _ in range(200):
            site.put_slice("web", endpoint(stays), *(endpoint(one) for one in flaps if rng.random() < 0.5))
            load.wait(40)
        load.wait_for_total(10_000)
    load.check(10_000)
    assert set(load.bodies()) == {stays, *flaps}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["given to another Service", "given to a new pod of the same Service"])
def test_an_address_that_has_another_pod_gets_nothing_on_connections_of_the_one_before(site: Site, how: str) -> None:
    stays, reused = site.pods.address(), site.pods.address()
    web, other = site.add_service("web"), site.add_service("other", stays)
    site.put_slice("web", endpoint(stays, uid="a"), endpoint(reused, uid="b"))
    site.start()
    is_moved = how == "given to another Service"
    members: list[Obj] = [] if is_moved else [endpoint(reused, uid="another")]
    hosts = {web.name: Load(web.address, host="web"), other.name: Load(other.address, host="other")}
    with hosts["web"] as load, hosts["other"]:
        load.wait(3000)
        assert site.pods.count(reused, "web")
        site.settle(lambda: site.put_slice("web", endpoint(stays, uid="a"), *members))
        if is_moved:
            site.settle(lambda: site.put_slice("other", endpoint(stays), endpoint(reused, uid="c")))
        load.wait(200)  # whatever was under way is over
        old_connections = site.pods.opened
        if not is_moved:
            # connections opened before the pod changed are told from later ones by a pause in which nobody uses them
            site.settle(lambda: site.put_slice("web", endpoint(stays, uid="a"), endpoint(reused, uid="a third")))
            load.wait(200)
        before = site.pods.count(reused, "web", until=old_connections)
        load.wait(4000)
        assert site.pods.count(reused, "web", until=old_connections) == before, "not one on an old connection"
        assert bool(site.pods.count(reused, "web", after=old_connections)) is not is_moved
        wait_for(lambda: not is_moved or site.pods.count(reused, "other"), "its new Service is served")
        load.wait_for_total(10_000)
    for one in hosts.values():
        one.check()
    load.check(10_000)


def test_pooled_connections_end_the_moment_their_endpoint_leaves() -> None:
    world = World(endpoints=2)
    clients = [world.client().send(request()) for _ in range(8)]
    answer_all(world)
    pooled = [transport for transport in world.accepted if transport.peer == ("10.0.0.2", 8080)]
    assert len(pooled) == 4
    assert not any(transport.closing for transport in pooled)
    for transport in pooled:
        transport.take()
    world.set_endpoints(1)
    assert all(transport.closing for transport in pooled)
    clients += [world.client().send(request()) for _ in range(8)]
    answer_all(world)
    assert all(b" 200 " in client.take() for client in clients)
    assert not any(transport.take() for transport in pooled)
    world.check()


def test_a_connection_that_was_under_way_as_its_endpoint_left_is_not_used() -> None:
    world = World(endpoints=2)
    connected = world.hold(2)
    clients = [world.client().send(request()) for _ in range(8)]
    assert len(world.loop.connects) == 8
    assert len(world.accepted) == 4
    world.set_endpoints(1)
    connected.set_result(None)
    world.loop.settle()
    late = [transport for transport in world.accepted if transport.peer is None or transport.peer[0] == "10.0.0.2"]
    assert len(late) == 4
    assert not any(transport.take() for transport in late)
    assert all(transport.closing for transport in late)
    answer_all(world)
    assert all(b" 200 " in client.take() for client in clients)
    world.check()


def is_busy(world: World, transport: MockTransport) -> bool:
    return any(exchange.upstream is transport.protocol for exchange in world.exchanges())


def answer_all(world: World) -> None:
    """Answer until nobody waits."""
    while world.exchanges():
        for transport in list(world.accepted):
            if not transport.closing and is_busy(world, transport):
                transport.feed(answer())


def test_ready_ones_are_preferred_and_those_that_end_still_serve(site: Site) -> None:
    ready, ending, gone = (site.pods.address() for _ in range(3))
    site.pods.behave = lambda _address, path: Reply(delay_s=1.0 if path == "/slow" else 0.0)
    web = site.add_service("web", ready, ending)
    site.start()
    with RawClient(web.address) as first, RawClient(web.address) as second, Load(web.address, pause_s=0.002) as load:
        for client in (first, second):
            client.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for(lambda: site.pods.active >= 2, "both are under way")
        leaving = (endpoint(ending, terminating=True), endpoint(gone, terminating=True, serving=False))
        site.settle(lambda: site.put_slice("web", endpoint(ready), *leaving))
        settled_at = time.monotonic()
        load.wait(500)
        assert set(load.bodies(settled_at)) == {ready}, "ready ones are preferred"
        assert [client.answer().status for client in (first, second)] == [200, 200], "what was under way is kept"
        site.settle(lambda: site.put_slice("web", *leaving))
        settled_at = time.monotonic()
        load.wait(500)
        assert set(load.bodies(settled_at)) == {ending}, "without any, those that still serve are used, and no others"
        site.settle(lambda: site.put_slice("web", endpoint(ready), *leaving))
        settled_at = time.monotonic()
        load.wait(500)
        assert set(load.bodies(settled_at)) == {ready}
    load.check()


@pytest.mark.slow
def test_when_all_are_bad_all_are_used_and_healing_is_noticed(site: Site) -> None:
    addresses = [site.pods.address() for _ in range(4)]
    bad = set(addresses)
    site.pods.behave = lambda address, _path: Reply(status=503 if address in bad else 200)
    web = site.add_service("web", *addresses)
    outlier = {
        "consecutive5xxErrors": 3,
        "interval": "1s",
        "baseEjectionTime": "1s",
        "maxEjectionPercent": 100,
        "minHealthPercent": 50,
    }
    site.put(destination_rule("web", trafficPolicy={"outlierDetection": outlier, "loadBalancer": {"simple": "ROUND_ROBIN"}}))
    site.put(virtual_service("web", ["web"], {"route": [{"destination": {"host": "web"}}], "retries": {"attempts": 0}}))
    site.start(workers=1)
    with Load(web.address, keepers=8, newcomers=0, pause_s=0.002, expected=(200, 503)) as load:
        load.wait(1000)
        shares = load.bodies(load.answers[-500].sent_at)
        assert set(shares) == set(addresses), f"all of them, and never an answer of the gateway's own: {shares}"
        assert min(shares.values()) > 50
        bad.clear()
        bad.add(addresses[0])
        wait_for(lambda: set(load.bodies(time.monotonic() - 0.2)) == set(addresses[1:]), "only the bad one stays away")
        bad.clear()
        wait_for(lambda: set(load.bodies(time.monotonic() - 0.2)) == set(addresses), "it comes back soon")
        assert {one.status for one in load.answers[-100:]} == {200}
    load.check(1500)


class Simulation:
    """Clients that ask again as soon as they have their answer, on a data plane with a manual clock.

    Args:
        world: the data plane.
        clients: how many there are.
        service_s: how long every answer takes.

    Attributes:
        asked: requests of clients; reached: those that endpoints had, `by_address` each of them.
        statuses: of all answers.
        is_bad: says whether an endpoint fails the request it gets.
    """

    def __init__(self, world: World, clients: int, *, service_s: float = 0.2, seed: int = 1) -> None:
        self.world = world
        self.service_s = service_s
        self.asked = self.reached = 0
        self.statuses: list[int] = []
        self.by_address: dict[str, int] = {}
        self.rng = random.Random(seed)
        self.is_bad: Callable[[str], bool] = lambda _address: False
        self.clients = [world.client() for _ in range(clients)]
        self._due: list[tuple[float, int, MockTransport, bytes]] = []
        self._waiting: set[int] = set()

    def run(self, seconds: float, step_s: float = 0.01) -> None:
        """Let time pass."""
        end = self.world.loop.now + seconds
        while self.world.loop.now < end:
            for number, client in enumerate(self.clients):
                if number not in self._waiting:
                    self._waiting.add(number)
                    self.asked += 1
                    client.send(request())
            self._collect()
            self.world.advance(step_s)
            while self._due and self._due[0][0] <= self.world.loop.now:
                _, _, transport, reply = heapq.heappop(self._due)
                if not transport.closing:
                    transport.feed(reply)
            for number, client in enumerate(self.clients):
                if number in self._waiting and (got := client.take()):
                    self.statuses.append(int(got.split(b" ", 2)[1]))
                    self._waiting.discard(number)

    def _collect(self) -> None:
        for transport in self.world.accepted:
            if transport.take():
                self.reached += 1
                assert transport.peer is not None
                address = transport.peer[0]
                self.by_address[address] = self.by_address.get(address, 0) + 1
                reply = answer("503 Service Unavailable") if self.is_bad(address) else answer()
                heapq.heappush(self._due, (self.world.loop.now + self.service_s, self.reached, transport, reply))


@pytest.mark.parametrize("service_s", [0.02, 0.5])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_storm_of_retries_is_held_by_the_budget(service_s: float, share: float) -> None:
    world = World(retrying(attempts=3, retry_on=("5xx",), backoff_base_s=0.025), endpoints=4)
    simulation = Simulation(world, 100, service_s=service_s)
    simulation.is_bad = lambda _address: simulation.rng.random() < share
    simulation.run(40 * service_s + 1)
    retries = simulation.reached - simulation.asked
    print(f"measured: {simulation.asked} requests, {retries} retries: {simulation.reached / simulation.asked:.3f} times the load")
    assert simulation.asked > 1500
    assert retries > simulation.asked / 50, "some retries are made"
    assert simulation.reached <= 1.2 * simulation.asked + 3
    world.check()


@pytest.mark.slow
def test_a_storm_of_retries_is_held_by_the_budget_of_a_real_gateway(site: Site) -> None:
    rng = random.Random(2)
    site.pods.behave = lambda _address, _path: Reply(status=503 if rng.random() < 0.5 else 200, delay_s=0.03)
    web = site.add_service("web", *(site.pods.address() for _ in range(4)))
    retries = {"attempts": 3, "retryOn": "5xx", "perTryTimeout": "5s"}
    site.put(virtual_service("web", ["web"], {"route": [{"destination": {"host": "web"}}], "retries": retries}))
    site.start()
    with Load(web.address, keepers=64, newcomers=0, expected=(200, 503)) as load:
        load.wait_for_total(10_000)
    load.check(10_000)
    reached, minimum = site.pods.calls.total(), 3 * 2
    print(f"measured: {len(load.answers)} requests, {reached / len(load.answers):.3f} times the load, at worst {site.pods.worst}")
    assert reached > 1.02 * len(load.answers)
    assert reached <= 1.2 * len(load.answers) + minimum
    assert site.pods.worst <= 64, "a retry takes the place of the try before it"


@pytest.mark.slow
def test_an_endpoint_that_flaps_every_ten_seconds_is_ejected_and_comes_back_soon() -> None:
    outlier = OutlierSpec(consecutive_5xx=5, interval_s=1.0, base_ejection_s=2.0, max_ejection_percent=50)
    rule = retrying(attempts=2, retry_on=("5xx",), ignore_previous_hosts=True)
    options = {"outlier": outlier, "retry_budget": RetryBudgetSpec(percent=100.0, minimum=8)}
    world = World(rule, endpoints=4, cluster_options=options)
    simulation = Simulation(world, 8, service_s=0.03)
    began = world.loop.now
    simulation.is_bad = lambda address: address == "10.0.0.1" and int((world.loop.now - began) / 10) % 2 == 1
    healthy_rounds = []
    for _ in range(6):
        before = dict(simulation.by_address)
        simulation.run(10.0)
        healthy_rounds.append(simulation.by_address["10.0.0.1"] - before.get("10.0.0.1", 0))
    print(f"measured: {len(simulation.statuses)} requests; the flapping endpoint had {healthy_rounds}")
    assert len(simulation.statuses) >= 10_000
    assert set(simulation.statuses) == {200}, "clients notice nothing"
    assert all(healthy > 5 * sick for healthy, sick in zip(healthy_rounds[2::2], healthy_rounds[1::2], strict=False))
    world.check()


@pytest.mark.parametrize("how", ["it was ejected", "it had left the slice"])
def test_who_has_recovered_starts_slowly(how: str) -> None:
    outlier = OutlierSpec(consecutive_5xx=3, interval_s=1.0, base_ejection_s=5.0, max_ejection_percent=50)
    warmup = WarmupSpec(duration_s=20.0, minimum_percent=10.0)
    world = World(endpoints=4, cluster_options={"outlier": outlier, "warmup": warmup})
    simulation = Simulation(world, 20, service_s=0.05)
    sick: set[str] = set()
    simulation.is_bad = lambda address: address in sick

    def share(seconds: float) -> float:
        before, total = simulation.by_address.get("10.0.0.1", 0), simulation.reached
        simulation.run(seconds, step_s=0.02)
        return (simulation.by_address.get("10.0.0.1", 0) - before) / (simulation.reached - total)

    share(30.0)
    assert share(2.0) == pytest.approx(0.25, abs=0.06), "warm"
    if how == "it was ejected":
        sick.add("10.0.0.1")
        simulation.run(1.0)
        sick.clear()
        assert share(3.0) == 0.0
        assert any(share(0.1) > 0 for _ in range(100)), "it comes back"
    else:
        world.set_endpoints(2, 3, 4)
        assert share(3.0) == 0.0
        world.set_endpoints(1, 2, 3, 4)
    assert share(2.0) < 0.12, "it begins with little"
    share(20.0)
    assert share(2.0) == pytest.approx(0.25, abs=0.06), "and grows to its part"
    world.check()
