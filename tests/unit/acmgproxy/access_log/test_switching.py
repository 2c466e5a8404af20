# SPDX-License-Identifier: Apache-2.0
"""Facts about an access log that changes while requests go on, and about what Telemetry objects say of it and of spans."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

from acmgproxy.access_log import AccessLog, AccessLogOptions, check_sink
from acmgproxy.settings import ProxySettings
from routing.specs import ComparisonSpec, TelemetrySpec
from tests.protocol.world import World, answer, request
from tests.unit.routing.table_kit import HOST, KEY, forward, listener, rule, virtual_host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from acmgproxy.access_log.sink import Sink

FAILED = TelemetrySpec(logged=True, log_filter=((ComparisonSpec(of="status", operator=">=", value=500),),))
ON, OFF = TelemetrySpec(logged=True), TelemetrySpec(logged=False)


@pytest.fixture
def make_world() -> Iterator[Callable[..., World]]:
    worlds: list[World] = []

    def make(**settings: Any) -> World:
        worlds.append(World(rule("all", action=forward("web")), **settings))
        return worlds[-1]

    yield make
    for world in worlds:
        world.plane.set_logging(AccessLogOptions(), "info")
        world.check()


def ask(world: World, status: str = "200 OK", path: str = "/") -> None:
    client = world.client().send(request("GET", path, "Connection: close"))
    world.upstream().feed(answer(status))
    assert client.take()


def log_of(world: World) -> AccessLog | None:
    return world.plane.access_log


def sink_of(world: World) -> Sink:
    log = log_of(world)
    assert log is not None
    return log.sink


def lines(world: World, path: Path) -> list[str]:
    """Wait until what has been logged so far is written, and return the paths of the requests."""
    log = world.plane.access_log
    world.plane.access_log = None
    if log is not None:
        log.close()
    return [line.split('"')[1].split()[1] for line in path.read_text().splitlines()]


def test_it_is_switched_on_filtered_and_off(make_world: Callable[..., World], tmp_path: Path) -> None:
    world, path = make_world(), tmp_path / "log"
    ask(world, path="/before")
    world.plane.set_logging(AccessLogOptions(sink=str(path)), "info")
    sink = sink_of(world)
    ask(world, path="/on")
    world.plane.set_logging(AccessLogOptions(sink=str(path), min_status=500), "info")
    assert sink_of(world) is sink, "the same place is the same sink"
    ask(world, path="/fine")
    ask(world, "503 Service Unavailable", path="/failed")
    world.plane.set_logging(AccessLogOptions(), "info")
    ask(world, path="/off")
    assert log_of(world) is None
    sink.close()
    assert lines(world, path) == ["/on", "/failed"]


def test_a_place_that_cannot_be_opened_leaves_all_as_it_was(make_world: Callable[..., World], tmp_path: Path) -> None:
    path = tmp_path / "log"
    world = make_world(access_log=str(path))
    with pytest.raises(OSError, match="Is a directory"):
        world.plane.set_logging(AccessLogOptions(sink=str(tmp_path)), "debug")
    ask(world)
    assert lines(world, path) == ["/"]
    assert world.plane.log.threshold.level == "debug"


def test_a_pipe_without_a_reader_holds_nobody_up(make_world: Callable[..., World], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="No such device"):
        make_world().plane.set_logging(AccessLogOptions(sink=str(tmp_path / "pipe")), "info")
    with pytest.raises(OSError, match="No such device"):
        check_sink(str(tmp_path / "pipe"))


def test_a_worker_that_cannot_open_it_at_the_start_goes_without(make_world: Callable[..., World], tmp_path: Path) -> None:
    world = make_world(access_log=str(tmp_path))
    assert log_of(world) is None
    assert world.plane.log._lines[0]["event"] == "access log cannot be opened"
    ask(world)


def test_lines_lost_before_a_switch_stay_counted(make_world: Callable[..., World], tmp_path: Path) -> None:
    world = make_world(access_log=str(tmp_path / "one"))
    sink_of(world).dropped = 2
    world.plane.set_logging(AccessLogOptions(sink=str(tmp_path / "two")), "info")
    sink_of(world).dropped = 1
    assert world.plane.stats().counters["access_log_dropped"] == 3.0
    world.plane.set_logging(AccessLogOptions(), "info")
    assert world.plane.stats().counters["access_log_dropped"] == 3.0


def test_what_waits_is_written_when_the_worker_stops(make_world: Callable[..., World], tmp_path: Path) -> None:
    path = tmp_path / "log"
    world = make_world(access_log=str(path))
    ask(world)
    world.plane.stop()
    assert path.read_text().count("\n") == 1


class TestTelemetry:
    @pytest.fixture
    def world(self, make_world: Callable[..., World], tmp_path: Path) -> World:
        world = make_world(access_log=str(tmp_path / "log"))
        world.apply(virtual_hosts={KEY: virtual_host("rules", namespace="default")})
        return world

    def test_the_service_s_word_goes_before_the_gateway_s(self, world: World, tmp_path: Path) -> None:
        world.apply(telemetry={"": OFF})
        ask(world, path="/off")
        world.apply(telemetry={"default": FAILED})
        ask(world, path="/fine")
        ask(world, "500 Oops", path="/failed")
        world.apply(telemetry={HOST: ON})
        ask(world, path="/on")
        world.apply(removed={"telemetry": ("", "default", HOST)})
        ask(world, path="/as-told")
        assert lines(world, tmp_path / "log") == ["/failed", "/on", "/as-told"]

    def test_where_nothing_is_said_the_gateway_s_settings_hold(self, world: World, tmp_path: Path) -> None:
        world.apply(telemetry={"other": OFF, "": TelemetrySpec(sampling=0.5)})
        ask(world)
        assert lines(world, tmp_path / "log") == ["/"]

    def test_requests_without_a_route_count_as_their_listener_s(self, world: World, tmp_path: Path) -> None:
        world.apply(telemetry={"default": OFF}, virtual_hosts={KEY: virtual_host("nobody", namespace="default", default=None)})
        client = world.client().send(request("GET", "/nr"))
        assert client.take().startswith(b"HTTP/1.1 404 ")
        world.client().send(b"nonsense\r\n\r\n")
        world.apply(listeners={KEY: listener(virtual_host="")})
        world.client().send(b"nonsense\r\n\r\n")
        assert lines(world, tmp_path / "log") == ["-"]

    def test_a_log_that_is_off_goes_to_standard_output(
        self, make_world: Callable[..., World], capfd: pytest.CaptureFixture[str]
    ) -> None:
        world = make_world()
        world.apply(virtual_hosts={KEY: virtual_host("rules", namespace="default")}, telemetry={"default": FAILED})
        ask(world, path="/fine")
        ask(world, "503 Service Unavailable", path="/failed")
        sink = sink_of(world)
        world.apply(telemetry={"default": OFF})
        assert log_of(world) is None
        sink.close()
        world.plane.set_logging(AccessLogOptions(sink="-"), "info")
        ask(world, path="/off")
        sink_of(world).close()
        world.plane.access_log = None
        assert [line.split()[2] for line in capfd.readouterr().out.splitlines()] == ["/failed"]

    def test_no_standard_output_is_noted(self, make_world: Callable[..., World]) -> None:
        world = make_world()
        with mock.patch("acmgproxy.access_log.sink.os.dup", side_effect=OSError(9, "Bad file descriptor")):
            world.apply(telemetry={"": ON})
        assert world.plane.log._lines[0]["event"] == "access log cannot be opened"
        assert log_of(world) is None


def test_spans_are_as_the_service_s_telemetry_says(make_world: Callable[..., World]) -> None:
    world = make_world()
    tracing: Any = mock.Mock()
    tracing.begin.return_value = None
    world.plane.tracing = tracing
    world.apply(virtual_hosts={KEY: virtual_host("rules", namespace="default")})
    ask(world)
    assert tracing.begin.call_args == mock.call(mock.ANY)
    world.apply(telemetry={"default": TelemetrySpec(sampling=0.25)})
    ask(world)
    assert tracing.begin.call_args == mock.call(mock.ANY, 0.25)
    world.apply(telemetry={"default": TelemetrySpec(sampling=0.25, traced=False)})
    ask(world)
    assert tracing.begin.call_count == 2
    world.plane.tracing = None


def test_the_settings_say_what_is_logged_at_the_start() -> None:
    settings = ProxySettings(access_log="-", access_log_format="json", access_log_min_status=500)
    assert settings.access_log_options == AccessLogOptions(sink="-", format="json", min_status=500)
