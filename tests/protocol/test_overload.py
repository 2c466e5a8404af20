# SPDX-License-Identifier: Apache-2.0
"""What is shed under which pressure, and that everything comes back by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from acmgproxy.io import shedding
from acmgproxy.io.shedding import POLL_S, Shedding
from tests.protocol.world import World, answer, local, relayed, request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHED = local("503 Service Unavailable", b"envoy overloaded", end="close")


class Readings:
    """What the system says, as the test wants it; stands for both memory and descriptors."""

    def __init__(self) -> None:
        self.memory: float | None = 0.0
        self.open = 10
        self.most = 0

    def pressure(self) -> float | None:
        return self.memory

    def limit(self) -> int:
        return self.most

    def used(self, clients: int) -> int:
        return self.open + clients


class Scene:
    """A world whose load is watched."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.readings = Readings()
        readings: Any = self.readings
        world.plane.shedding = self.shedding = Shedding(world.plane, memory=readings, descriptors=readings)
        self.shedding.start()

    def memory(self, pressure: float) -> None:
        self.readings.memory = pressure
        self.world.advance(POLL_S)

    @property
    def level(self) -> float:
        return self.world.plane.stats().gauges["overload_level"]

    def is_accepting(self) -> bool:
        return bool(self.world.plane.stats().gauges["accepting"])

    def served(self, *, end: str = "") -> None:
        """Have a request served."""
        client = self.world.client().send(request())
        self.world.upstream().feed(answer())
        assert client.take() == relayed(end=end)
        client.transport.reset()

    def notes(self) -> list[object]:
        return [line["event"] for line in self.world.plane.log._lines]


@pytest.fixture
def make_scene(make_world: Callable[..., World]) -> Iterator[Callable[..., Scene]]:
    scenes: list[Scene] = []

    def make(**options: Any) -> Scene:
        scenes.append(Scene(make_world(**options)))
        return scenes[-1]

    yield make
    for scene in scenes:
        scene.shedding.stop()
        scene.shedding.stop()


@pytest.fixture
def scene(make_scene: Callable[..., Scene]) -> Scene:
    return make_scene()


class TestSteps:
    def test_below_the_first_threshold_nothing_changes(self, scene: Scene) -> None:
        scene.memory(0.91)
        scene.served()
        assert scene.level == 0

    def test_first_connections_end_with_their_answer(self, scene: Scene) -> None:
        client = scene.world.client().send(request())
        scene.memory(0.92)
        scene.world.upstream().feed(answer())
        assert client.take() == relayed(end="close", ms=250)
        assert client.ended
        assert scene.level == 1

    def test_then_new_requests_are_refused_and_those_under_way_served(self, scene: Scene) -> None:
        busy, idle = scene.world.client().send(request()), scene.world.client()
        scene.memory(0.95)
        assert idle.send(request()).take() == SHED
        posted = scene.world.client().send(request("POST", "/", body=b"abc")[:-1])
        assert posted.take() == SHED
        scene.world.upstream().feed(answer())
        assert busy.take() == relayed(end="close", ms=250)
        assert scene.world.counted() == {(503, "OM"): 2, (200, "-"): 1}
        assert scene.world.plane.counters["overload_requests_shed"] == 2
        assert scene.level == 2

    def test_heads_that_come_in_pieces_are_refused_with_the_next(self, scene: Scene) -> None:
        before, silent = scene.world.client().send(request()[:20]), scene.world.client().send(request()[:20])
        scene.memory(0.95)
        refused = before.send(b"x").take()
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert refused.endswith(b"\r\n\r\nenvoy overloaded")
        assert before.ended
        assert scene.world.client().send(b"GET").ended
        assert not silent.ended
        scene.world.advance(2.25)
        assert silent.take() == refused
        assert scene.world.counted() == {(503, "OM"): 3}
        assert scene.world.plane.counters["overload_requests_shed"] == 3

    def test_then_nothing_is_accepted(self, scene: Scene) -> None:
        scene.memory(0.97)
        assert scene.is_accepting()
        assert [server.closed for server in scene.world.loop.servers] == [False]
        scene.memory(0.98)
        assert scene.level == 3
        assert not scene.is_accepting()
        assert [server.closed for server in scene.world.loop.servers] == [True]
        scene.memory(0.99)
        assert scene.world.plane.counters["accept_pauses"] == 1

    def test_everything_comes_back(self, scene: Scene) -> None:
        scene.memory(1.0)
        assert not scene.is_accepting()
        scene.memory(0.5)
        assert scene.level == 0
        assert scene.is_accepting()
        assert not scene.world.loop.servers[-1].closed
        assert len(scene.world.loop.servers) == 2
        scene.served()

    def test_it_comes_back_step_by_step(self, scene: Scene) -> None:
        levels = []
        for pressure in (0.99, 0.96, 0.94, 0.93, 0.90, 0.89, 0.87):
            scene.memory(pressure)
            levels.append(scene.level)
        assert levels == [3, 3, 2, 2, 1, 1, 0]

    def test_the_log_says_so_once(self, scene: Scene) -> None:
        for pressure in (0.93, 0.93, 0.99, 0.93, 0.5, 0.5):
            scene.memory(pressure)
        assert scene.notes() == ["overloaded", "overloaded", "no longer overloaded"]
        assert scene.world.plane.counters["overloads"] == 2
        line = scene.world.plane.log._lines[1]
        assert (line["overload"], line["resource"], line["pressure"]) == ("no_connections", "memory", 0.99)

    def test_a_drain_still_closes_connections_when_the_load_has_gone(self, scene: Scene) -> None:
        client = scene.world.client().send(request())
        task = scene.world.loop.start(scene.world.plane.drain())
        scene.memory(0.93)
        scene.memory(0.1)
        assert scene.world.plane.closes_connections
        scene.world.upstream().feed(answer())
        assert client.take() == relayed(end="close", ms=500)
        client.transport.feed_eof()
        assert task.done()

    def test_what_it_says_of_itself(self, scene: Scene) -> None:
        scene.memory(0.93)
        assert repr(scene.shedding) == "Shedding(Overload(NO_KEEP_ALIVE, memory=0.93, connections=0.00), accept_limit=50000)"


class TestTrimming:
    def test_idle_connections_are_closed_on_both_sides(self, scene: Scene) -> None:
        silent, kept, busy = scene.world.client(), scene.world.client().send(request()), scene.world.client()
        scene.world.upstream().feed(answer())
        half = scene.world.client().send(request()[:20])
        assert scene.world.idle() == 1
        scene.world.advance(2.0)
        busy.send(request())
        scene.world.upstream().feed(answer())
        busy.send(request())
        scene.memory(0.92)
        assert silent.ended
        assert kept.ended
        assert not busy.ended
        assert not half.ended, "it has its own time limit"
        scene.world.upstream().feed(answer())
        scene.world.advance(2.5)
        assert scene.world.idle() == 0
        counters = scene.world.plane.counters
        assert counters["overload_downstream_connections_closed"] == 3, "busy has got its answer and lingers"
        assert counters["overload_upstream_connections_closed"] == 1

    def test_a_client_that_does_not_hang_up_is_not_waited_for_as_long(self, scene: Scene) -> None:
        scene.memory(0.92)
        client = scene.world.client().send(request())
        scene.world.upstream().feed(answer())
        assert client.take() == relayed(end="close")
        scene.world.advance(1.9)
        assert not client.transport.closing
        scene.world.advance(0.5)
        assert client.transport.lost

    def test_connections_just_used_are_left_alone(self, scene: Scene) -> None:
        client = scene.world.client().send(request())
        scene.world.upstream().feed(answer())
        scene.memory(0.92)
        assert not client.ended
        assert scene.world.idle() == 1

    def test_not_all_at_once(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shedding, "MOST_CLOSED", 2)
        clients = [scene.world.client() for _ in range(5)]
        scene.world.advance(3.0)
        closed = []
        for _ in range(3):
            scene.memory(0.92)
            closed.append(sum(client.ended for client in clients))
        assert closed == [2, 4, 5]

    def test_free_memory_is_given_back_now_and_then(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        times: list[float] = []
        monkeypatch.setattr(shedding, "shrink_heap", lambda: times.append(scene.world.loop.now))
        scene.memory(0.96)
        scene.world.advance(3.0)
        assert len(times) == 2
        assert times[1] - times[0] >= 2.0


class TestResources:
    def test_descriptors(self, scene: Scene) -> None:
        scene.readings.most = 100
        scene.readings.open = 93
        scene.world.advance(POLL_S)
        assert scene.level == 1
        assert scene.world.plane.stats().gauges["overload_descriptors_pressure"] == 0.93

    def test_requests_under_way(self, make_scene: Callable[..., Scene]) -> None:
        scene = make_scene(max_active_requests=10)
        busy = [scene.world.client().send(request()) for _ in range(10)]
        scene.world.advance(POLL_S)
        assert scene.level == 3
        for upstream in list(scene.world.accepted):
            upstream.feed(answer())
        assert all(client.take() == relayed(end="close", ms=250) for client in busy)
        scene.world.advance(POLL_S)
        assert scene.level == 0
        scene.served()

    def test_without_limits_nothing_is_watched(self, make_scene: Callable[..., Scene]) -> None:
        scene = make_scene(max_connections=0)
        scene.readings.memory = None
        scene.world.advance(POLL_S)
        assert not scene.shedding.overload.pressures


class TestConnectionLimit:
    def test_the_last_one_ends_accepting_at_once(self, make_scene: Callable[..., Scene]) -> None:
        scene = make_scene(max_connections=20)
        clients = [scene.world.client() for _ in range(19)]
        assert scene.is_accepting()
        clients.append(scene.world.client())
        assert not scene.is_accepting()
        assert scene.world.plane.counters["accept_pauses"] == 1
        scene.world.advance(POLL_S)
        assert scene.level == 1, "nobody is refused"
        assert not scene.is_accepting()
        clients[0].transport.reset()
        assert not scene.is_accepting(), "not for every single one"
        clients[1].transport.reset()
        assert scene.is_accepting()

    def test_one_place_is_given_away_at_the_next_look(self, make_scene: Callable[..., Scene]) -> None:
        scene = make_scene(max_connections=1)
        client = scene.world.client()
        assert not scene.is_accepting()
        scene.world.advance(POLL_S)
        client.transport.reset()
        scene.world.advance(POLL_S)
        assert scene.is_accepting()

    def test_idle_ones_make_room(self, make_scene: Callable[..., Scene]) -> None:
        scene = make_scene(max_connections=2)
        clients = [scene.world.client() for _ in range(2)]
        scene.world.advance(1.9)
        assert not any(client.ended for client in clients)
        scene.world.advance(0.6)
        assert all(client.ended for client in clients)
        assert scene.is_accepting()
        scene.served()

    def test_it_is_lower_where_descriptors_are_scarce(self, scene: Scene) -> None:
        scene.readings.most = 40
        scene.world.advance(POLL_S)
        assert scene.shedding.accept_limit == 15, "half of the 30 that are left"
        clients = [scene.world.client() for _ in range(15)]
        assert not scene.is_accepting()
        scene.world.advance(POLL_S)
        assert scene.is_accepting()
        assert scene.shedding.accept_limit == 20, "half of all, for the other half may be needed for endpoints"
        clients += [scene.world.client() for _ in range(5)]
        assert not scene.is_accepting()
        scene.world.advance(POLL_S)
        assert not scene.is_accepting()

    def test_a_pause_for_another_reason_goes_on(self, make_scene: Callable[..., Scene]) -> None:
        scene = make_scene(max_connections=20)
        client = scene.world.client()
        scene.memory(0.99)
        client.transport.reset()
        assert not scene.is_accepting()


class TestRequestsPerConnection:
    def test_the_last_answer_says_so(self, make_world: Callable[..., World]) -> None:
        world = make_world(max_requests_per_connection=2)
        client = world.client().send(request())
        world.upstream().feed(answer())
        assert client.take() == relayed()
        client.send(request())
        world.upstream().feed(answer())
        assert client.take() == relayed(end="close")
        assert client.ended

    def test_what_is_pipelined_behind_it_is_not_served(self, make_world: Callable[..., World]) -> None:
        world = make_world(max_requests_per_connection=1)
        client = world.client().send(request() + request())
        world.upstream().feed(answer())
        assert client.take() == relayed(end="close")
        assert len(world.accepted) == 1
        assert world.upstream().take().count(b"HTTP/1.1") == 1

    def test_an_early_answer_does_not_keep_it_either(self, make_world: Callable[..., World]) -> None:
        world = make_world(max_requests_per_connection=1, endpoints=0)
        client = world.client().send(request("POST", "/", body=b"abc")[:-1])
        assert client.take() == local("503 Service Unavailable", b"no healthy upstream", end="close")

    def test_there_is_no_limit_by_default(self, world: World) -> None:
        client = world.client()
        for _ in range(1000):
            client.send(request())
            world.upstream().feed(answer())
            assert client.take() == relayed()
