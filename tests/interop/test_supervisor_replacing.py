# SPDX-License-Identifier: Apache-2.0
"""Processes are replaced on purpose, under load, and no request fails: SIGTERM, SIGHUP, limits, one worker by hand."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.interop.client import RawClient
from tests.interop.crowd import Crowd, Tunnel, Tunnels, echo
from tests.interop.gateway import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.interop.gateway import Gateway, Service
    from tests.interop.upstream import Upstream

_REQUESTS = 10_000
_MESSAGES = 10_000
_ACCEPT_S = 4.0
_SHORT = ("--set", "drain_timeout_s=2")
_HELLO = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def service(gateway: Gateway, make_upstream: Callable[..., Upstream]) -> Service:
    upstream = make_upstream("v1")
    upstream.on("/ws", echo)
    return gateway.add_service("echo", {"v1": [upstream]})


@contextmanager
def load_on(service: Service) -> Iterator[tuple[Crowd, Tunnels]]:
    """Clients that keep connections, that open new ones, and that talk through tunnels; none may fail."""
    with Crowd(service.address) as crowd, Tunnels(service.address) as tunnels:
        yield crowd, tunnels
    assert not crowd.failures
    assert not tunnels.failures
    print(f"measured: {sum(crowd.answered)} requests, {sum(tunnels.answered)} messages, none failed")


def metric(gateway: Gateway, name: str) -> float:
    lines = gateway.get("/metrics").splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((name + "{", name + " ")))


def wait_replaced(gateway: Gateway, before: list[int]) -> list[int]:
    """Wait until none of the workers of before is left and all places are filled."""
    wait_for(lambda: not set(before) & set(gateway.workers()), "the old workers are gone", timeout_s=60)
    wait_for(lambda: len(gateway.workers()) == len(before), "as many workers as before", timeout_s=60)
    return gateway.workers()


def test_sigterm_under_load_fails_nothing(gateway: Gateway, service: Service) -> None:
    gateway.start("--set", f"drain_accept_s={_ACCEPT_S}", *_SHORT, workers=2)
    with load_on(service) as (crowd, tunnels):
        crowd.wait_answers(_REQUESTS)
        tunnels.wait_answers(_MESSAGES)
        gateway.signal(signal.SIGTERM)
        crowd.leave_by(_ACCEPT_S - 1)
        tunnels.leave_by(_ACCEPT_S - 1)
        gateway.wait_event("draining")
        crowd.wait_answers(1)
        crowd.join()
        tunnels.join()
        assert gateway.wait_end() == 0
    assert crowd.closed


def test_sighup_under_load_replaces_every_worker_and_fails_nothing(gateway: Gateway, service: Service) -> None:
    gateway.start(*_SHORT, workers=2)
    before = gateway.workers()
    with load_on(service) as (crowd, tunnels):
        gateway.signal(signal.SIGHUP)
        gateway.wait_event("replacing worker", worker=0, reason="SIGHUP")
        crowd.wait_answers(_REQUESTS // 2)
        tunnels.wait_answers(_MESSAGES // 2)
        after = wait_replaced(gateway, before)
        crowd.wait_answers(_REQUESTS // 2)
        tunnels.wait_answers(_MESSAGES // 2)
    assert len(after) == 2
    assert metric(gateway, "acmg_worker_recycles_total") == 2
    assert metric(gateway, "acmg_worker_restarts_total") == 0
    total = sum(crowd.answered)
    wait_for(lambda: metric(gateway, "istio_requests_total") >= total, "what the old workers counted is not lost")
    order = [(line["event"], line["worker"]) for line in gateway.events if "worker" in line]
    steps = [(event, worker) for worker in (0, 1) for event in ("replacing worker", "worker replaced", "worker finished")]
    assert order == steps, "one after the other, the new process first, the next when the old one has gone"


def test_recycling_by_limit_under_load_fails_nothing(gateway: Gateway, service: Service) -> None:
    gateway.start(*_SHORT, "--set", "recycle_after_requests=1500", workers=2)
    before = gateway.workers()
    with load_on(service) as (crowd, tunnels):
        crowd.wait_answers(_REQUESTS)
        tunnels.wait_answers(_MESSAGES)
        wait_replaced(gateway, before)
    reasons = [line["reason"] for line in gateway.events if line["event"] == "worker replaced"]
    assert all(int(reason.removesuffix(" requests")) >= 1500 for reason in reasons)
    assert metric(gateway, "acmg_worker_recycles_total") == len(reasons)


def test_sigterm_to_one_worker_replaces_it_and_fails_nothing(gateway: Gateway, service: Service) -> None:
    gateway.start(*_SHORT, workers=2)
    first, second = gateway.workers()
    with load_on(service) as (crowd, _):
        os.kill(first, signal.SIGTERM)
        gateway.wait_event("worker replaced", old_pid=first, reason="SIGTERM")
        gateway.wait_event("worker finished", pid=first)
        crowd.wait_progress()
    assert second in gateway.workers()
    assert len(gateway.workers()) == 2


def test_a_client_that_is_idle_meanwhile_may_ask_once_more(gateway: Gateway, service: Service) -> None:
    gateway.start(workers=1)
    (before,) = gateway.workers()
    with RawClient(service.address) as client:
        client.send(_HELLO)
        assert "connection" not in client.answer().headers
        gateway.signal(signal.SIGHUP)
        gateway.wait_event("worker replaced", old_pid=before)

        def is_told_to_go() -> bool:  # the old worker may not have been told itself when the log says so
            client.send(_HELLO)
            answer = client.answer()
            assert answer.status == 200
            return answer.headers.get("connection") == "close"

        wait_for(is_told_to_go, "an answer that ends the connection")
    gateway.wait_event("worker finished", pid=before)


def test_a_tunnel_gets_the_grace_period_and_then_a_close(gateway: Gateway, service: Service) -> None:
    gateway.start(*_SHORT, workers=1)
    (before,) = gateway.workers()
    with Tunnel(service.address) as tunnel:
        gateway.signal(signal.SIGHUP)
        gateway.wait_event("worker replaced", old_pid=before)
        replaced_at = time.monotonic()
        tunnel.say()
        assert before in gateway.workers()
        assert tunnel.is_closed()
        assert time.monotonic() - replaced_at > 1.5
    gateway.wait_event("worker finished", pid=before, reason="exit code 0")


def test_code_that_does_not_start_replaces_nothing(
    gateway: Gateway, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = tmp_path / "bomb"
    monkeypatch.setenv("DEADLY_START", str(bomb))
    gateway.program = "tests.interop.deadly"
    gateway.start(*_SHORT, workers=2)
    before = gateway.workers()
    bomb.touch()
    with load_on(service) as (crowd, _):
        gateway.signal(signal.SIGHUP)
        line = gateway.wait_event("worker could not be replaced and serves on")
        assert line["reason"] == "its successor died: exit code 7"
        crowd.wait_progress()
    assert gateway.workers() == before
    bomb.unlink()
    gateway.signal(signal.SIGHUP)
    wait_replaced(gateway, before)
    assert all(listener["bound"] for listener in json.loads(gateway.get("/listeners")))
