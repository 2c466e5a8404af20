# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest

from acmgproxy.access_log import AccessLog
from acmgproxy.dataplane import DataPlane
from acmgproxy.settings import ProxySettings
from acmgproxy.stats import SeriesKey
from routing.specs import IdentitySpec
from tests.protocol.world import CLIENT, World, answer, request
from tests.unit.routing.table_kit import HOST, KEY, cluster, diff, endpoint, listener, virtual_host

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CALLER = IdentitySpec(namespace="default", workload="caller")


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.check()


def key(status: int, flags: str = "-", *, source: str = "", destination: str = "", **changes: Any) -> SeriesKey:
    names = {"service": HOST, "service_name": "web", "service_namespace": "", "cluster": "web", **changes}
    return SeriesKey(source=source, destination=destination, status=status, flags=flags, **names)


UNKNOWN = {"service": "unknown", "service_name": "unknown", "service_namespace": "unknown", "cluster": ""}


class TestCounting:
    def test_a_series_per_caller_endpoint_status_and_flags(self, world: World) -> None:
        world.apply(
            identities={"caller-v1": CALLER},
            callers={CLIENT[0]: "caller-v1"},
            endpoints={"web": (endpoint("10.0.0.1", identity="web-v1"),)},
        )
        client = world.client()
        for status in ("200 OK", "200 OK", "500 No"):
            client.send(request())
            world.advance(0.002)
            world.upstream().feed(answer(status))
        stranger = world.client(("10.3.0.1", 1)).send(request())
        stranger.transport.reset()
        world.client().send(b"nonsense\r\n\r\n")
        series = world.series()
        assert set(series) == {
            key(200, source="caller-v1", destination="web-v1"),
            key(500, source="caller-v1", destination="web-v1"),
            key(0, "DC", destination="web-v1"),
            key(400, "DPE", source="caller-v1", **UNKNOWN),
        }
        good = series[key(200, source="caller-v1", destination="web-v1")]
        assert good.count == sum(good.durations_ms.buckets) == 2
        assert good.durations_ms.sum == pytest.approx(4.0)

    def test_a_series_that_was_given_up_is_counted_from_the_start(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("acmgproxy.stats.IDLE_S", 60.0)
        client = world.client()
        for expected in (None, [key(200, destination="web-v1")]):
            world.apply(endpoints={"web": (endpoint("10.0.0.1", identity="web-v1"),)})
            client.send(request("POST", body=b"abc"))
            world.upstream().feed(answer(body=b"12345"))
            ((_, series),) = world.series().items()
            assert (series.count, series.request_bytes.sum, series.response_bytes.sum) == (1, 3.0, 5.0)
            world.advance(61.0)
            given_up = world.plane.stats().given_up
            assert expected is None or [one.status for one in given_up] == [200]

    def test_an_endpoint_may_change_its_identity(self, world: World) -> None:
        client = world.client()
        for identity in ("web-v1", "web-v2"):
            world.apply(endpoints={"web": (endpoint("10.0.0.1", identity=identity),)})
            client.send(request())
            world.upstream().feed(answer())
        assert {one.destination for one in world.series_keys()} == {"web-v1", "web-v2"}
        assert len(world.accepted) == 1

    def test_requests_that_reach_no_endpoint(self, world: World) -> None:
        world.set_endpoints()
        client = world.client().send(request())
        world.apply(removed={"clusters": ("web",)})
        client.send(request())
        world.apply(removed={"virtual_hosts": (KEY,)})
        client.send(request())
        assert set(world.series_keys()) == {
            key(503, "UH"),
            key(503, "NC", **{**UNKNOWN, "cluster": "web"}),
            key(404, "NR", **UNKNOWN),
        }

    def test_gauges_and_counters(self, world: World) -> None:
        idle, busy, _ = world.client().send(request()), world.client(), world.client()
        world.upstream().feed(answer())
        busy.send(request())
        idle.send(request())
        world.upstream(1).feed(answer())
        stats = world.plane.stats()
        assert stats.worker == 7
        assert stats.gauges == {
            "downstream_connections": 3.0,
            "downstream_idle_connections": 2.0,
            "active_requests": 1.0,
            "tunnels": 0.0,
            "upstream_connections": 2.0,
            "upstream_idle_connections": 1.0,
            "accepting": 1.0,
            "overload_level": 0.0,
            "endpoints_ejected": 0.0,
            "metrics_series": 1.0,
            "deadlines": 5.0,
            "clusters": 1.0,
            "upstream_active_retries": 0.0,
            "upstream_connecting": 0.0,
            "upstream_pending_requests": 0.0,
        }
        assert all(isinstance(value, float) for value in stats.counters.values())
        assert sorted(value for name, value in stats.counters.items() if name.endswith("connections_opened")) == [2.0, 3.0]

    def test_what_it_says_of_itself(self, world: World) -> None:
        world.client()
        assert repr(world.plane) == "DataPlane(worker=7, listeners=1, connections=1)"


def test_request_ids_are_random_uuids(world: World) -> None:
    made = {world.plane.new_request_id() for _ in range(100)}
    assert len(made) == 100
    assert all(len(one) == 36 and one[14:15] == b"4" for one in made)


def test_the_date_is_made_once_a_second(world: World) -> None:
    assert world.plane.http_date() is world.plane.http_date()


async def test_it_accepts_until_told_otherwise() -> None:
    plane = DataPlane(asyncio.get_running_loop(), ProxySettings(), 0)
    plane.apply(
        diff(
            listeners={KEY: listener()},
            virtual_hosts={KEY: virtual_host()},
            clusters={"web": cluster()},
        )
    )
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    sock.setblocking(False)
    address, port = sock.getsockname()
    await plane.add_listener(KEY, sock)
    reader, writer = await asyncio.open_connection(address, port)
    writer.write(request())
    assert (await reader.readuntil(b"no healthy upstream")).startswith(b"HTTP/1.1 503 ")
    plane.remove_listener(KEY, address, port)
    plane.remove_listener(KEY, address, port)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(address, port)
    writer.write(request())
    last = await reader.read()
    assert last.startswith(b"HTTP/1.1 503 "), "open connections live on"
    assert b"connection: close" in last.lower(), "but not for ever: clients are asked to connect to where the address leads now"
    writer.close()
    await writer.wait_closed()
    await plane.drain()
    plane.deadlines.stop()


async def test_an_unknown_listener_is_refused() -> None:
    plane = DataPlane(asyncio.get_running_loop(), ProxySettings(), 0)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        with pytest.raises(KeyError):
            await plane.add_listener("nobody", sock)


def test_lines_that_were_lost_are_counted(tmp_path: Path) -> None:
    world = World(access_log=str(tmp_path / "log"))
    log = world.plane.access_log
    assert isinstance(log, AccessLog)
    log._sink.dropped = 3
    assert world.plane.stats().counters["access_log_dropped"] == 3.0
    log.close()
    world.check()


async def test_it_watches_over_itself_from_start_to_stop() -> None:
    plane = DataPlane(asyncio.get_running_loop(), ProxySettings(max_memory_bytes=1), 0)
    plane.start()
    assert plane.stats().gauges["overload_level"] == 3.0
    assert plane.worst_lag_s >= 0.0
    plane.stop()
