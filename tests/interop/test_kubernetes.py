# SPDX-License-Identifier: Apache-2.0
"""A real gateway on a (fake) Kubernetes API: what it serves, and what it does when the API server is away, slow or wrong."""

from __future__ import annotations

import json
import signal
import socket
import statistics
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.interop.client import RawClient
from tests.interop.cluster import Cluster
from tests.interop.crowd import Crowd
from tests.interop.gateway import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.interop.gateway import Gateway, Service
    from tests.interop.upstream import Upstream

_TOKEN = "first"
_HEALTH_TIMEOUT_S = 20.0


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(token=_TOKEN) as cluster:
        yield cluster


class Pod:
    """A gateway as it runs in a pod: watching a cluster, with a health server at the address it listens on."""

    def __init__(self, gateway: Gateway, cluster: Cluster, directory: Path) -> None:
        self.gateway = gateway
        self.cluster = cluster
        with socket.socket() as probe:
            probe.bind((cluster.address, 0))
            self.health_port: int = probe.getsockname()[1]
        self.shared_port = self.health_port - 1 if self.health_port > 40_000 else self.health_port + 1
        self._options = cluster.options(directory)

    def launch(self, *options: str, workers: int = 2) -> None:
        health = f"{self.cluster.address}:{self.health_port}"
        shared = str(self.shared_port)
        at_once = ("--set", "drain_accept_s=0")
        self.gateway.launch(*self._options, "--health", health, "--shared-port", shared, *at_once, *options, workers=workers)

    def start(self, *options: str) -> None:
        self.launch(*options)
        self.gateway.wait_ready()

    def ask(self, path: str, **headers: str) -> tuple[int, str, str]:
        """Ask the health server; return status, body and ETag."""
        request = urllib.request.Request(f"http://{self.cluster.address}:{self.health_port}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=_HEALTH_TIMEOUT_S) as answer:
                return answer.status, answer.read().decode(), answer.headers["ETag"] or ""
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode(), error.headers["ETag"] or ""

    def answers(self) -> bool:
        """Whether the health server is up."""
        try:
            return self.ask("/healthz")[0] == 200
        except urllib.error.URLError:
            return False

    def listeners(self) -> dict[int, dict[str, Any]]:
        """Return what /listeners says, by port."""
        return {one["port"]: one for one in json.loads(self.ask("/listeners")[1])}

    def endpoints(self, service: Service) -> int:
        """Return how many endpoints of a Service every worker knows; -1 while it is not listened for."""
        found = self.listeners().get(service.address[1])
        count: int = found["endpoints"] if found is not None and found["bound"] else -1
        return count

    def wait_endpoints(self, service: Service, count: int) -> None:
        wait_for(lambda: self.endpoints(service) == count, f"{count} endpoints of {service}")

    def metric(self, name: str, kind: str) -> float:
        """Return a metric of the watch of a kind."""
        wanted = f'{name}{{kind="{kind}"}} '
        (line,) = [line for line in self.ask("/metrics")[1].splitlines() if line.startswith(wanted)]
        return float(line.removeprefix(wanted))


@pytest.fixture
def pod(gateway: Gateway, cluster: Cluster, tmp_path: Path) -> Pod:
    return Pod(gateway, cluster, tmp_path)


def get(address: tuple[str, int], host: str = "x") -> str:
    with RawClient(address) as client:
        client.send(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = client.answer()
        return answer.body.decode().strip() if answer.status == 200 else str(answer.status)


def can_connect(address: tuple[str, int]) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(address) == 0


def test_captured_services_are_served_at_their_gateway_ports(
    pod: Pod, cluster: Cluster, make_upstream: Callable[..., Upstream]
) -> None:
    first = cluster.add_service("first", [make_upstream("a")])
    pod.start()
    assert get(first.address, "anything") == "a"
    assert get((cluster.address, pod.shared_port), "first.default:5000") == "a"
    second = cluster.add_service("second", [make_upstream("b"), make_upstream("b")])
    pod.wait_endpoints(second, 2)
    assert get(second.address, "10.96.0.2") == "b"
    assert pod.listeners()[first.address[1]] == {
        "name": "first.default.svc.cluster.local:5000",
        "address": cluster.address,
        "port": first.address[1],
        "bound": True,
        "workers": {"0": True, "1": True},
        "error": None,
        "host": "first.default.svc.cluster.local",
        "service": "default/first",
        "service_port": 5000,
        "endpoints": 1,
    }
    cluster.do(lambda api: api.delete("Service", "default", "first-acmg"))
    wait_for(lambda: not can_connect(first.address), "released")
    assert get(second.address) == "b"


def test_health_is_told_at_the_pods_address_and_the_configuration_is_not(
    pod: Pod, cluster: Cluster, make_upstream: Callable[..., Upstream]
) -> None:
    cluster.add_service("echo", [make_upstream("a")])
    pod.start()
    assert pod.ask("/ready") == (200, "ready\n", "")
    assert pod.ask("/config")[0] == 404
    status, _, tag = pod.ask("/listeners")
    assert status == 200
    assert pod.ask("/listeners", **{"If-None-Match": tag}) == (304, "", tag)
    assert '"version"' in pod.gateway.get("/config")
    assert pod.metric("acmg_watch_synced", kind="Service") == 1
    assert pod.metric("acmg_watch_objects", kind="Service") == 2
    assert pod.metric("acmg_watch_synced", kind="ServiceEntry") == 1, "a kind that is not installed is not waited for"


def test_a_removed_endpoint_is_out_of_use_at_once(pod: Pod, cluster: Cluster, make_upstream: Callable[..., Upstream]) -> None:
    stays, goes = make_upstream("stays"), make_upstream("goes")
    service = cluster.add_service("echo", [stays, goes])
    pod.start()
    pod.wait_endpoints(service, 2)
    took_s = []
    for _ in range(15):
        began = time.monotonic()
        cluster.delete_endpoint("echo", 1)
        while pod.endpoints(service) != 1:
            assert time.monotonic() < began + 20
        took_s.append(time.monotonic() - began)
        before = len(goes.received)
        assert {get(service.address) for _ in range(4)} == {"stays"}
        assert len(goes.received) == before
        cluster.put_endpoint("echo", 1, goes)
        pod.wait_endpoints(service, 2)
    print(f"measured: removed within p50 {statistics.median(took_s) * 1000:.1f} ms, worst {max(took_s) * 1000:.1f} ms")
    assert min(took_s) < 0.05, "nothing waits for anything"


def test_without_an_api_server_it_waits_and_listens_to_nobody(
    pod: Pod, cluster: Cluster, make_upstream: Callable[..., Upstream]
) -> None:
    service = cluster.add_service("echo", [make_upstream("a")])
    cluster.stop()
    pod.launch()
    wait_for(pod.answers, "the health server answers")
    waiting = "not ready: waiting for kubernetes: Service, EndpointSlice, Namespace, Pod, "
    wait_for(lambda: pod.ask("/ready")[1].startswith(waiting), "every kind is waited for")
    wait_for(lambda: cluster.api.url in pod.ask("/ready")[1], "the reason is known")
    assert pod.ask("/ready")[0] == 503
    assert pod.metric("acmg_watch_synced", kind="Pod") == 0
    assert pod.ask("/listeners")[1].strip("[]\n") == ""
    assert not can_connect(service.address)
    assert not can_connect((cluster.address, pod.shared_port))
    pod.gateway.wait_event("watching kubernetes fails")
    cluster.start()
    pod.gateway.wait_ready()
    assert get(service.address) == "a"
    assert pod.ask("/ready")[0] == 200


def test_without_the_rights_it_waits_and_says_which(pod: Pod, cluster: Cluster, make_upstream: Callable[..., Upstream]) -> None:
    service = cluster.add_service("echo", [make_upstream("a")])
    message = 'pods is forbidden: User "acmg-gateway" cannot list resource "pods"'
    cluster.do(
        lambda api: api.faults.answer(403, count=None, match=lambda request: request.path.endswith("/pods"), message=message)
    )
    pod.launch()
    wait_for(pod.answers, "the health server answers")
    wait_for(lambda: "forbidden" in pod.ask("/ready")[1], "the reason is known")
    assert pod.ask("/ready")[1].startswith("not ready: waiting for kubernetes: Pod (")
    assert not can_connect(service.address)
    cluster.do(lambda api: api.faults.clear())
    pod.gateway.wait_ready()
    assert get(service.address) == "a"


def test_a_signal_while_it_waits_ends_it(pod: Pod, cluster: Cluster) -> None:
    cluster.stop()
    pod.launch()
    pod.gateway.wait_event("watching kubernetes fails")
    pod.gateway.signal(signal.SIGTERM)
    assert pod.gateway.wait_end() == 0


def test_an_api_server_that_goes_away_later_changes_nothing(
    pod: Pod, cluster: Cluster, make_upstream: Callable[..., Upstream]
) -> None:
    service = cluster.add_service("echo", [make_upstream("a")])
    pod.start()
    with Crowd(service.address) as crowd:
        cluster.stop()
        failing = pod.gateway.wait_event("watching kubernetes fails")
        assert failing["level"] == "warning"
        wait_for(lambda: pod.metric("acmg_watch_errors_total", kind="Service") >= 1, "the failure is counted")
        stale_s = pod.metric("acmg_watch_stale_seconds", kind="Service")
        wait_for(lambda: pod.metric("acmg_watch_stale_seconds", kind="Service") > stale_s + 1, "the metric rises")
        assert pod.ask("/ready")[0] == 200
        crowd.wait_progress()
    assert not crowd.failures
    pod.gateway.kill(pod.gateway.workers()[0])
    pod.gateway.wait_event("worker died")
    pod.wait_endpoints(service, 1)
    assert get(service.address) == "a"
    cluster.start()
    cluster.put_endpoint("echo", 1, make_upstream("b"))
    pod.wait_endpoints(service, 2)
    said = [kind for line in pod.gateway.events if line["event"] == "watching kubernetes fails" for kind in line["kinds"]]
    assert sorted(said) == sorted(set(said)), "once for each kind, not for each attempt"


def test_a_new_token_is_taken_up(pod: Pod, cluster: Cluster, make_upstream: Callable[..., Upstream], tmp_path: Path) -> None:
    service = cluster.add_service("echo", [make_upstream("a")])
    pod.start()
    cluster.do(lambda api: api.rotate_token("second"))
    cluster.api.kubeconfig(tmp_path)
    cluster.do(lambda api: api.faults.cut_watches())
    cluster.put_endpoint("echo", 1, make_upstream("b"))
    pod.wait_endpoints(service, 2)
    refused = cluster.do(lambda api: sum(request.status == 401 for request in api.requests))
    assert refused, "the old token was refused"
    assert pod.ask("/ready")[0] == 200


def test_a_bad_object_keeps_its_last_good_version(pod: Pod, cluster: Cluster, make_upstream: Callable[..., Upstream]) -> None:
    service = cluster.add_service("echo", [make_upstream("a")])
    other = cluster.add_service("other", [make_upstream("b")])
    cluster.put_answer("echo", "good")
    pod.start()
    assert get(service.address, "echo") == "good"
    cluster.put_answer("echo", "bad", status="many")
    refused = pod.gateway.wait_event("refused, the last good version stays in force")
    assert (refused["object"], refused["field"]) == ("VirtualService default/echo", "spec.http[0].directResponse.status")
    assert get(service.address, "echo") == "good"
    assert get(other.address) == "b"
    assert pod.ask("/ready")[0] == 200
    assert [line for line in pod.ask("/metrics")[1].splitlines() if line.startswith("acmg_config_problems ")] == [
        "acmg_config_problems 1.0"
    ]
    cluster.put_answer("echo", "better")
    wait_for(lambda: get(service.address, "echo") == "better", "the corrected object is in force")
    pod.gateway.wait_event("no longer refused")


def test_a_busy_gateway_port_is_the_error_of_its_listener_alone(
    pod: Pod, cluster: Cluster, make_upstream: Callable[..., Upstream]
) -> None:
    good = cluster.add_service("good", [make_upstream("a")], gateway_port=20_001)
    with socket.create_server((cluster.address, 20_002)):
        late = cluster.add_service("late", [make_upstream("b")], gateway_port=20_002)
        pod.start()
        assert get(good.address) == "a"
        found = pod.listeners()[20_002]
        assert (found["bound"], found["error"]) == (False, "already in use by another program")
        assert pod.ask("/ready")[0] == 200
    pod.wait_endpoints(late, 1)
    assert get(late.address) == "b"


def test_a_pod_that_is_deleted_fails_no_request(pod: Pod, cluster: Cluster, make_upstream: Callable[..., Upstream]) -> None:
    accept_s = 4.0
    service = cluster.add_service("echo", [make_upstream("a")])
    pod.start("--set", f"drain_accept_s={accept_s}")
    with Crowd(service.address) as crowd:
        pod.gateway.signal(signal.SIGTERM)
        crowd.leave_by(accept_s - 1)
        wait_for(lambda: pod.ask("/ready") == (503, "not ready: draining\n", ""), "not ready")
        crowd.wait_progress()
        cluster.put_endpoint("echo", 0, make_upstream("b"))
        wait_for(lambda: get(service.address) == "b", "changes still come in")
        crowd.join()
    assert not crowd.failures
    assert crowd.closed
    assert pod.gateway.wait_end() == 0


def test_ctrl_c_is_quick(pod: Pod, cluster: Cluster, make_upstream: Callable[..., Upstream]) -> None:
    service = cluster.add_service("echo", [make_upstream("a")])
    pod.start("--set", "drain_accept_s=1000")
    assert get(service.address) == "a"
    pod.gateway.signal(signal.SIGINT)
    assert pod.gateway.wait_end() == 0
