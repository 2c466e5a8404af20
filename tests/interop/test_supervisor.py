# SPDX-License-Identifier: Apache-2.0
"""The life of a real gateway: workers die, configurations change and go bad, signals come, ports are taken."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.interop.client import RawClient
from tests.interop.crowd import Crowd
from tests.interop.gateway import wait_for
from tests.interop.upstream import free_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.interop.gateway import Gateway, Service
    from tests.interop.upstream import Exchange, Upstream

_PROJECT = Path(__file__).resolve().parents[2]
_TIMEOUT_S = 30
_CLIENTS = 8
_ACCEPT_S = 4.0


class Load:
    """Clients that send one request after the other on kept connections, and connect anew when one breaks."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._stop = threading.Event()
        self.answered = [0] * _CLIENTS
        self.broken = [0] * _CLIENTS
        self.wrong: list[Any] = []
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(_CLIENTS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()
        self.wait_progress()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(_TIMEOUT_S)
            assert not thread.is_alive()

    def wait_progress(self) -> None:
        """Wait until every client had some more answers."""
        before = list(self.answered)
        wait_for(lambda: all(now >= then + 20 for now, then in zip(self.answered, before, strict=True)), "every client served")

    def _run(self, number: int) -> None:
        while not self._stop.is_set():
            try:
                self._use_connection(number)
            except (AssertionError, OSError):
                self.broken[number] += 1

    def _use_connection(self, number: int) -> None:
        with RawClient(self._service.address) as client:
            while not self._stop.is_set():
                client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                answer = client.answer()
                if answer.status != 200:
                    self.wrong.append(answer)
                self.answered[number] += 1


@contextmanager
def load_on(service: Service) -> Iterator[Load]:
    load = Load(service)
    load.start()
    try:
        yield load
    finally:
        load.stop()


def get(service: Service, path: str = "/") -> str:
    with RawClient(service.address) as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return client.answer().body.decode().strip()


def is_bound(gateway: Gateway) -> bool:
    return all(listener["bound"] for listener in json.loads(gateway.get("/listeners")))


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def command(gateway: Gateway, *, workers: int = 2) -> list[str]:
    options = ["--config", str(gateway.config), "--workers", str(workers), "--admin", "127.0.0.1:0", "--shared-port", "0"]
    return [sys.executable, "-m", "acmgproxy", "run", *options]


@contextmanager
def started(gateway: Gateway, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Start a gateway in a process group of its own, as a terminal does, and wait until it is ready."""
    argv = [*command(gateway), *options]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, cwd=_PROJECT, start_new_session=True) as process:
        try:
            assert process.stderr is not None
            lines = []
            for line in process.stderr:
                lines.append(line)
                if '"event":"ready"' in line:
                    break
            assert process.poll() is None, lines
            yield process
        finally:
            process.kill()


def workers_of(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(child) for child in children.split()]


@pytest.fixture
def service(gateway: Gateway, make_upstream: Callable[..., Upstream]) -> Service:
    return gateway.add_service("echo", {"v1": [make_upstream("v1")]})


def test_a_killed_worker_is_replaced_and_only_its_requests_fail(gateway: Gateway, service: Service) -> None:
    gateway.start(workers=2)
    victim, survivor = gateway.workers()
    with load_on(service) as load:
        gateway.kill(victim)
        killed_at = time.monotonic()
        gateway.wait_event("worker died", pid=victim, reason="killed by SIGKILL", restart_in_s=0.0)
        wait_for(lambda: len(gateway.workers()) == 2 and is_bound(gateway), "the replacement accepts")
        print(f"measured: replaced after {time.monotonic() - killed_at:.3f} s")
        load.wait_progress()
    assert survivor in gateway.workers()
    assert max(load.broken) <= 1, "a client had at most one request in flight on the dead worker"
    assert not load.wrong
    assert "ready" in gateway.get("/ready")


def test_counters_never_go_down_when_workers_die(gateway: Gateway, service: Service) -> None:
    def total() -> float:
        lines = gateway.get("/metrics").splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("istio_requests_total{"))

    gateway.start(workers=2)
    for _ in range(20):
        get(service)
    before = total()
    assert before == 20
    gateway.kill(gateway.workers()[0])
    gateway.wait_event("worker died")
    assert total() == 20
    get(service)
    assert total() == 21


def test_connections_that_wait_for_a_worker_survive_its_death(gateway: Gateway, service: Service) -> None:
    gateway.start(workers=1)
    (worker,) = gateway.workers()
    os.kill(worker, signal.SIGSTOP)
    with RawClient(service.address) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        gateway.kill(worker)
        assert client.answer().status == 200


def test_a_change_is_live_without_losing_a_request(
    gateway: Gateway,
    service: Service,
    make_upstream: Callable[..., Upstream],
) -> None:
    gateway.start(workers=2)
    other = make_upstream("v2")
    with load_on(service) as load:
        for number in range(4):
            served_by = other if number % 2 == 0 else None
            wanted = "v2" if served_by else "v3"
            gateway.set_endpoint("echo", "v1", 0, served_by or make_upstream("v3"))
            changed_at = time.monotonic()
            wait_for(lambda wanted=wanted: get(service) == wanted, f"{wanted} answers")  # type: ignore[misc]
            print(f"measured: live after {time.monotonic() - changed_at:.3f} s")
        load.wait_progress()
    assert load.broken == [0] * _CLIENTS
    assert not load.wrong


def test_services_come_and_go(gateway: Gateway, service: Service, make_upstream: Callable[..., Upstream]) -> None:
    gateway.start(workers=2)
    later = gateway.add_service("later", {"v1": [make_upstream("later")]})
    wait_for(lambda: any(one["name"].startswith("later.") for one in json.loads(gateway.get("/listeners"))), "listed")
    wait_for(lambda: is_bound(gateway), "bound")
    assert get(later) == "later"
    gateway.delete("Service", "later")
    wait_for(lambda: not can_connect(later), "later no longer listens")
    assert get(service) == "v1"
    gateway.add_service("later", {}, address=later.address)
    wait_for(lambda: can_connect(later), "later listens again")
    assert get(later) == "later"


def can_connect(service: Service) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(service.address) == 0


def test_a_bad_file_is_reported_and_the_last_good_state_serves(gateway: Gateway, service: Service) -> None:
    rules = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "echo", "namespace": "default"},
        "spec": {"hosts": ["echo"], "http": [{"directResponse": {"status": 200, "body": {"string": "good"}}}]},
    }
    path = gateway.apply(rules)
    gateway.start(workers=2)
    assert get(service) == "good"
    good = path.read_text(encoding="utf-8")

    path.write_text(good.replace("status: 200", "status: many"), encoding="utf-8")
    refused = gateway.wait_event("refused, the last good version stays in force")
    assert (refused["file"], refused["object"]) == (path.name, "VirtualService default/echo")
    assert refused["field"] == "spec.http[0].directResponse.status"
    assert refused["reason"]
    assert get(service) == "good"
    assert json.loads(gateway.get("/config"))["problems"][0]["field"] == refused["field"]

    path.write_text("a: [", encoding="utf-8")
    gateway.wait_event("no longer refused", field=refused["field"])
    assert get(service) == "good"
    assert "ready" in gateway.get("/ready")

    path.write_text(good.replace("good", "better"), encoding="utf-8")
    wait_for(lambda: get(service) == "better", "the corrected file is live")


def test_sigterm_finishes_what_is_in_flight(gateway: Gateway, service: Service, make_upstream: Callable[..., Upstream]) -> None:
    arrived, may_answer = threading.Event(), threading.Event()

    def slow(exchange: Exchange) -> None:
        arrived.set()
        may_answer.wait(_TIMEOUT_S)
        exchange.answer(200, b"late")

    upstream = make_upstream("slow")
    upstream.on("/slow", slow)
    gateway.set_endpoint("echo", "v1", 0, upstream)
    with started(gateway) as process, RawClient(service.address) as client:
        client.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        assert arrived.wait(_TIMEOUT_S)
        process.terminate()
        wait_for(lambda: not can_connect(service), "no longer accepts")
        assert process.poll() is None
        may_answer.set()
        answer = client.answer()
        assert (answer.status, answer.body) == (200, b"late")
        assert process.wait(_TIMEOUT_S) == 0


def test_sigterm_under_load_breaks_no_request(gateway: Gateway, service: Service) -> None:
    """Each request has a connection of its own: it is either refused (nobody listens any more) or answered."""
    broken: list[Exception] = []
    answered = [0] * _CLIENTS

    def run(number: int) -> None:
        while True:
            try:
                assert get(service) == "v1"
                answered[number] += 1
            except ConnectionRefusedError:
                return
            except (AssertionError, OSError) as error:
                broken.append(error)

    with started(gateway) as process:
        threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(_CLIENTS)]
        for thread in threads:
            thread.start()
        wait_for(lambda: all(count >= 20 for count in answered), "every client served")
        process.terminate()
        assert process.wait(_TIMEOUT_S) == 0
        for thread in threads:
            thread.join(_TIMEOUT_S)
            assert not thread.is_alive()
    assert not broken


def test_ctrl_c_reaches_the_whole_group_and_ends_all(gateway: Gateway, service: Service) -> None:
    with started(gateway) as process:
        workers = workers_of(process.pid)
        assert len(workers) == 2
        assert get(service) == "v1"
        for pid in workers:
            os.kill(pid, signal.SIGINT)  # not for them
        assert get(service) == "v1"
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(_TIMEOUT_S) == 0
        wait_for(lambda: all(is_gone(pid) for pid in workers), "workers are gone")


def test_a_second_ctrl_c_ends_at_once(gateway: Gateway, service: Service, make_upstream: Callable[..., Upstream]) -> None:
    arrived, may_answer = threading.Event(), threading.Event()

    def never(_: Exchange) -> None:
        arrived.set()
        may_answer.wait(_TIMEOUT_S)

    upstream = make_upstream("never")
    upstream.on("/never", never)
    gateway.set_endpoint("echo", "v1", 0, upstream)
    with started(gateway) as process, RawClient(service.address) as client:
        client.send(b"GET /never HTTP/1.1\r\nHost: x\r\n\r\n")
        assert arrived.wait(_TIMEOUT_S)
        os.killpg(process.pid, signal.SIGINT)
        wait_for(lambda: not can_connect(service), "draining")
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(_TIMEOUT_S) == 128 + signal.SIGINT
        assert client.is_closed()
    may_answer.set()


def test_workers_end_with_a_killed_supervisor_and_its_ports_are_free(gateway: Gateway, service: Service) -> None:
    with started(gateway) as process:
        workers = workers_of(process.pid)
        process.kill()
        process.wait(_TIMEOUT_S)
        wait_for(lambda: all(is_gone(pid) for pid in workers), "workers are gone")
    gateway.start(workers=2)
    assert get(service) == "v1"


def test_a_second_gateway_on_the_same_ports_says_so_and_gives_up(gateway: Gateway, service: Service) -> None:
    gateway.start(workers=2)
    second = subprocess.run(command(gateway), capture_output=True, text=True, cwd=_PROJECT, timeout=_TIMEOUT_S, check=False)
    assert second.returncode == 1
    reasons = [line["reason"] for line in map(json.loads, second.stderr.splitlines()) if line["event"] == "cannot start"]
    host, port = service.address
    assert reasons == [f"echo.default.svc.cluster.local:{port} at {host}:{port}: already in use by another program"]
    for _ in range(20):
        assert get(service) == "v1"


def test_an_address_that_is_busy_later_leaves_the_others_alone(gateway: Gateway, service: Service) -> None:
    gateway.start(workers=2)
    with socket.create_server((free_address()[0], 0)) as other:
        late = gateway.add_service("late", {}, address=other.getsockname())
        gateway.wait_event("cannot listen", listener=f"late.default.svc.cluster.local:{late.address[1]}")
        assert get(service) == "v1"
        (failed,) = [one for one in json.loads(gateway.get("/listeners")) if one["error"]]
        assert (failed["address"], failed["bound"]) == (late.address[0], False)
    gateway.wait_event("listening again")
    wait_for(lambda: is_bound(gateway), "bound")


def test_a_gateway_that_is_taken_out_of_service_fails_no_request(gateway: Gateway, service: Service) -> None:
    """Readiness goes at once; until everybody has noticed, what still comes is served, and every answer ends its connection."""
    gateway.start("--set", f"drain_accept_s={_ACCEPT_S}", workers=2)
    with Crowd(service.address) as crowd, RawClient(service.address) as silent:
        silent.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert "connection" not in silent.answer().headers
        assert crowd.closed == 0
        gateway.signal(signal.SIGTERM)
        crowd.leave_by(_ACCEPT_S - 1)
        with pytest.raises(urllib.error.HTTPError, match="503"):
            wait_for(lambda: gateway.get("/ready") != "ready\n", "not ready")
        crowd.wait_progress()
        assert crowd.closed
        assert not select.select([silent.sock], [], [], 0)[0], "idle connections live as long as others may come"
        crowd.join()
        assert silent.is_closed()
    assert not crowd.failures
    assert gateway.wait_end() == 0


def test_ctrl_c_does_not_wait_for_others_to_notice(gateway: Gateway, service: Service) -> None:
    gateway.start("--set", "drain_accept_s=1000")
    with RawClient(service.address) as kept:
        kept.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert kept.answer().status == 200
        gateway.signal(signal.SIGINT)
        assert kept.is_closed()
        assert gateway.wait_end() == 0


def test_a_second_signal_ends_the_accepting_at_once(gateway: Gateway, service: Service) -> None:
    with started(gateway, "--set", "drain_accept_s=1000") as process:
        process.terminate()
        assert get(service) == "v1"
        process.terminate()
        assert process.wait(_TIMEOUT_S) == 128 + signal.SIGTERM
        assert not can_connect(service)


def test_a_gateway_that_goes_still_learns_of_changes(
    gateway: Gateway, service: Service, make_upstream: Callable[..., Upstream]
) -> None:
    with started(gateway, "--set", "drain_accept_s=1000") as process:
        process.terminate()
        gateway.set_endpoint("echo", "v1", 0, make_upstream("v2"))
        wait_for(lambda: get(service) == "v2", "the new endpoint is used")
        process.terminate()
