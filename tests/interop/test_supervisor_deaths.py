# SPDX-License-Identifier: Apache-2.0
"""Processes die, hang and crash again and again; what can be served is served, and what ends workers is not served any more."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.interop.client import RawClient
from tests.interop.crowd import Crowd
from tests.interop.gateway import wait_for
from tests.interop.test_supervisor_replacing import metric

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.interop.client import Answer
    from tests.interop.gateway import Gateway, Service
    from tests.interop.upstream import Exchange, Upstream

_TIMEOUT_S = 30.0
_QUARANTINED = "a request has ended workers and is not served any more"


@pytest.fixture
def service(gateway: Gateway, make_upstream: Callable[..., Upstream]) -> Service:
    gateway.program = "tests.interop.deadly"
    return gateway.add_service("echo", {"v1": [make_upstream("v1")]})


def ask(service: Service, how: str = "", *, path: str = "/", request_id: str = "1") -> Answer | None:
    """Send a request that ends a worker that way; return the answer, None if there is none."""
    deadly = f"x-deadly: {how}\r\n" if how else ""
    with RawClient(service.address) as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nx-request-id: {request_id}\r\n{deadly}\r\n".encode())
        try:
            return client.answer()
        except (AssertionError, OSError):
            return None


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def wait_back(gateway: Gateway, workers: int = 2) -> None:
    """Wait until all workers serve; said by metrics, which the workers' heartbeats feed."""
    wait_for(lambda: metric(gateway, "acmg_worker_up") == workers, "all workers are up")


@pytest.mark.parametrize("how", ["segv", "abrt", "exit", "late"])
def test_a_request_that_ends_workers_is_not_served_after_the_second_death(gateway: Gateway, service: Service, how: str) -> None:
    gateway.start(workers=2)
    assert ask(service, how, path="/deadly?token=secret", request_id="a") is None
    first = gateway.wait_event("worker died")
    gateway.wait_event("a request may have ended a worker", pid=first["pid"], path="/deadly")
    wait_back(gateway)
    seen = len(gateway.events)
    assert ask(service, how, path="/deadly?token=secret", request_id="b") is None
    second = gateway.wait_event("worker died", after=seen)
    line = gateway.wait_event(_QUARANTINED)
    assert line["pids"] == [first["pid"], second["pid"]]
    assert line["listener"] == f"echo.default.svc.cluster.local:{service.address[1]}"
    assert (line["method"], line["host"], line["path"]) == ("GET", "x", "/deadly")
    assert line["route"] == ("default" if how == "late" else None)
    assert "secret" not in gateway.log
    assert ("_die" in str(second.get("stack"))) == (how != "exit")
    wait_back(gateway)
    for number in range(20):
        answer = ask(service, how, path="/deadly?token=secret", request_id=str(number))
        assert answer is not None
        assert (answer.status, answer.body) == (503, b"request quarantined")
        other = ask(service, path="/deadly?token=secret")
        assert other is not None
        assert other.status == 200
    assert metric(gateway, "acmg_quarantined_requests_total") == 20
    assert metric(gateway, "acmg_worker_restarts_total") == 2


def test_a_worker_that_somebody_else_kills_says_nothing_about_the_request(gateway: Gateway, service: Service) -> None:
    gateway.start(workers=1)
    for _ in range(3):
        assert ask(service, "kill") is None
    wait_for(lambda: metric(gateway, "acmg_worker_restarts_total") == 3, "three deaths")
    assert not [line for line in gateway.events if "request" in line["event"]]


def test_a_worker_that_hangs_is_replaced_after_ten_seconds_with_its_stack(gateway: Gateway, service: Service) -> None:
    gateway.start(workers=2)
    with RawClient(service.address) as client:
        client.send(b"GET /slow HTTP/1.1\r\nHost: x\r\nx-deadly: hang\r\n\r\n")
        began = time.monotonic()
        stall = gateway.wait_event("event loop stalled")
        assert any("_die" in frame for frame in stall["stack"])
        wait_for(lambda: any(line.get("for_s", 0) > 1 for line in gateway.events), "the long stall is told as well")
        silent = gateway.wait_event("worker is silent")
        connected = [RawClient(service.address) for _ in range(16)]
        for one in connected:
            one.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert [one.answer().status for one in connected] == [200] * 16
        assert not [line for line in gateway.events if line["event"] == "worker died"], "others accept in its place"
        died = gateway.wait_event("worker died", pid=silent["pid"])
        took_s = time.monotonic() - began
        print(f"measured: replaced after {took_s:.1f} s")
        for one in connected:
            one.__exit__()
    assert died["reason"] == "hung"
    assert any("_die" in line for line in died["stack"])
    assert 9 < took_s < 20
    gateway.wait_event("a request may have ended a worker", path="/slow", pid=silent["pid"])
    assert metric(gateway, "acmg_worker_hangs_total") == 1


def test_a_worker_that_was_only_stopped_for_a_while_lives_on(gateway: Gateway, service: Service) -> None:
    gateway.start(workers=2)
    before = gateway.workers()
    os.kill(before[0], signal.SIGSTOP)
    try:
        silent = gateway.wait_event("worker is silent")
        assert silent["pid"] == before[0]
        for _ in range(16):
            answer = ask(service)
            assert answer is not None
            assert answer.status == 200
    finally:
        os.kill(before[0], signal.SIGCONT)
    wait_for(lambda: metric(gateway, "acmg_worker_silence_seconds") < 4, "it shows signs of life")
    assert gateway.workers() == before


def test_others_accept_for_a_worker_in_a_crash_loop_and_give_back_without_a_loss(
    gateway: Gateway, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = tmp_path / "bomb"
    monkeypatch.setenv("DEADLY_START", str(bomb))
    gateway.start(workers=2)
    bomb.touch()
    gateway.kill(gateway.workers()[0])
    gateway.wait_event("worker died", reason="exit code 7", restart_in_s=4.0)
    slowest_s = 0.0
    for _ in range(40):
        began = time.monotonic()
        answer = ask(service)
        slowest_s = max(slowest_s, time.monotonic() - began)
        assert answer is not None
        assert answer.status == 200
    print(f"measured: slowest of 40 new connections {slowest_s:.3f} s")
    assert slowest_s < 2.0
    with Crowd(service.address) as crowd:
        bomb.unlink()
        wait_back(gateway)
        crowd.wait_answers(1000)
    assert not crowd.failures
    assert len(gateway.workers()) == 2


def test_workers_of_a_dead_supervisor_finish_and_end(
    gateway: Gateway, service: Service, make_upstream: Callable[..., Upstream]
) -> None:
    arrived, may_answer = threading.Event(), threading.Event()

    def slow(exchange: Exchange) -> None:
        arrived.set()
        may_answer.wait(_TIMEOUT_S)
        exchange.answer(200, b"late")

    upstream = make_upstream("slow")
    upstream.on("/slow", slow)
    gateway.set_endpoint("echo", "v1", 0, upstream)
    gateway.start(workers=2)
    workers = gateway.workers()
    with RawClient(service.address) as client:
        client.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        assert arrived.wait(_TIMEOUT_S)
        gateway.kill(gateway.pid)
        wait_for(lambda: not can_connect(service), "nobody accepts any more")
        gateway.abandon()
        gateway.start(workers=2)  # at once, while the old workers still finish
        answer = ask(service)
        assert answer is not None
        assert answer.body == b"slow\n"
        assert not all(is_gone(pid) for pid in workers)
        may_answer.set()
        late = client.answer()
        assert (late.status, late.body, late.headers["connection"]) == (200, b"late", "close")
    wait_for(lambda: all(is_gone(pid) for pid in workers), "no orphan is left")


def test_a_worker_that_hangs_does_not_outlive_its_supervisor(gateway: Gateway, service: Service) -> None:
    gateway.start(workers=1)
    workers = gateway.workers()
    with RawClient(service.address) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\nx-deadly: hang\r\n\r\n")
        gateway.wait_event("event loop stalled")
        gateway.kill(gateway.pid)
        wait_for(lambda: all(is_gone(pid) for pid in workers), "no orphan is left")
    gateway.abandon()


def can_connect(service: Service) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(service.address) == 0
