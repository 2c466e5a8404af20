# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus finds a gateway and a controller as in a cluster, scrapes them, and computes what is known to have happened.

One gateway, one controller and one Prometheus for all tests of this module: the traffic is sent once, and then asked about.
"""

from __future__ import annotations

import http.client
import json
import math
import subprocess
import sys
import threading
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

from acmgproxy.overview.quantile import quantile
from tests.interop.cluster import Cluster
from tests.interop.gateway import Gateway, wait_for
from tests.interop.istio_queries import KIALI, MESH, SERVER_SIDE, SERVICE, VARIABLES, WORKLOAD, filled
from tests.interop.prometheus import Prometheus, pod_targets, promtool
from tests.interop.upstream import Upstream, free_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.interop.gateway import Service
    from tests.interop.upstream import Address, Exchange

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "dashboards" / "acmgproxy.json").read_text(encoding="utf-8"))
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]

FAST, SLOW, BAD = 160, 20, 20
SLOW_S = 0.12
WEB = "web.default.svc.cluster.local"
SELECTOR = f'{{job="acmgproxy",destination_service="{WEB}"}}'
REQUESTS = f"istio_requests_total{SELECTOR}"
VALUES = {
    "qrep": "source|waypoint", "service": "busy.default.svc.cluster.local", "srcwl": ".*", "srcns": ".*", "name": "busy",
    "namespace": "default", "workload": "busy-0",
}  # fmt: skip
NEVER = ("acmg_controller_writes_total", "acmg_controller_write_errors_total", "acmg_controller_capture_seconds")
"""What does not happen in this world: the controller has nothing to do."""


class World(NamedTuple):
    """What all tests ask about."""

    prometheus: Prometheus
    metrics: str


def slow(exchange: Exchange) -> None:
    threading.Event().wait(SLOW_S)
    exchange.answer(body=b"late")


def get(service: Service, path: str, caller: str, *, times: int = 1, expect: int = 200) -> None:
    """Send requests from a caller's address, over one connection."""
    connection = http.client.HTTPConnection(*service.address, timeout=20, source_address=(caller, 0))
    for _ in range(times):
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == expect
    connection.close()


def pod(name: str, component: str, address: str, port: int) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": "acmgproxy", "app.kubernetes.io/component": component}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "acmg-system", "labels": labels},
        "spec": {
            "containers": [{"name": component, "image": "acmgproxy:1", "ports": [{"name": "health", "containerPort": port}]}]
        },
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        directory = tmp_path_factory.mktemp("prometheus")
        cluster, upstream = stack.enter_context(Cluster()), stack.enter_context(Upstream("v1"))
        upstream.on("/slow", slow)
        upstream.on("/bad", lambda exchange: exchange.answer(503))
        cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "acmg-system"}})
        web, empty = cluster.add_service("web", [upstream]), cluster.add_service("empty", [])
        busy = cluster.add_service("busy", [stack.enter_context(Upstream("v1"))])
        caller = free_address()[0]
        labels = {"app": "shop", "version": "v2"}
        status = {"phase": "Running", "podIP": caller, "podIPs": [{"ip": caller}]}
        spec = {"containers": [{"name": "main", "image": "main"}]}
        cluster.put(
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "shop-1", "labels": labels}, "spec": spec, "status": status}
        )
        health = free_address()[1]
        gateway = Gateway(directory)
        stack.callback(gateway.stop)
        gateway.launch(*cluster.options(directory), "--health", f"{cluster.address}:{health}", "--shared-port", "0", workers=2)
        gateway.wait_ready()
        page = f"http://{cluster.address}:{health}/metrics"
        get(web, "/", caller)
        get(web, "/slow", caller)
        get(web, "/bad", caller, expect=503)
        get(empty, "/", caller, expect=503)
        beside = free_address()
        controller = stack.enter_context(controller_process(cluster, directory, beside))
        pods = [pod("acmg-gateway-1", "gateway", cluster.address, health), pod("acmg-controller-1", "controller", *beside)]
        jobs = [
            pod_targets(pods),
            pod_targets(
                pods,
                job="as-destination",
                metric_relabel_configs=[
                    {"source_labels": ["reporter"], "regex": "waypoint", "target_label": "reporter", "replacement": "destination"}
                ],
            ),
        ]
        own = directory / "data-of-prometheus"
        own.mkdir()
        prometheus = stack.enter_context(Prometheus(own, jobs))
        wait_for(lambda: len(prometheus.query(f"{REQUESTS} offset 1s")) >= 2, "two scrapes")
        get(web, "/", caller, times=FAST)
        get(web, "/slow", caller, times=SLOW)
        get(web, "/bad", caller, times=BAD, expect=503)
        get(empty, "/", caller, times=5, expect=503)
        total = 3 + FAST + SLOW + BAD
        wait_for(lambda: prometheus.value(f"sum({REQUESTS})") == total, "all is scraped")
        wait_for(lambda: prometheus.value(f"sum({REQUESTS} offset 2s)") == total, "and once more")
        stack.enter_context(traffic(busy, caller))
        moving = filled('count(irate(istio_requests_total{destination_service="$service"}[$__rate_interval]) > 0)', **VALUES)
        wait_for(lambda: prometheus.value(moving) == len(jobs), "traffic is seen by both jobs")
        assert controller.poll() is None
        yield World(prometheus, urllib.request.urlopen(page, timeout=20).read().decode())


@contextmanager
def traffic(service: Service, caller: str) -> Iterator[None]:
    """Send requests until the end: who asks for the rate between the last two scrapes wants some."""
    stop = threading.Event()

    def send() -> None:
        while not stop.is_set():
            get(service, "/", caller, times=50)

    thread = threading.Thread(target=send, name="traffic")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(20)


@contextmanager
def controller_process(cluster: Cluster, directory: Path, address: Address) -> Iterator[subprocess.Popen[bytes]]:
    """Run a controller. It leads in a namespace without gateways, and so leaves the Services of this test alone."""
    where = f"{address[0]}:{address[1]}"
    options = ["--kubeconfig", str(cluster.api.kubeconfig(directory)), "--health", where, "--identity", "one"]
    argv = [sys.executable, "-m", "acmgproxy", "controller", *options, "--namespace", "elsewhere"]
    process = subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.DEVNULL)

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"http://{where}/metrics", timeout=20):
                return True
        except OSError:
            return False

    try:
        wait_for(answers, "the controller answers")
        yield process
    finally:
        process.terminate()
        process.wait(20)


def test_gateways_and_controllers_are_found_and_scraped_without_error(world: World) -> None:
    targets = world.prometheus.targets()
    assert {(one["labels"]["pod"], one["labels"]["component"]) for one in targets} == {
        ("acmg-gateway-1", "gateway"),
        ("acmg-controller-1", "controller"),
    }
    assert {one["lastError"] for one in targets} == {""}
    assert {one["health"] for one in targets} == {"up"}
    assert world.prometheus.query("up == 0") == []


def test_counts_are_those_of_the_traffic(world: World) -> None:
    by_code = world.prometheus.query(f"sum by (response_code, response_flags) ({REQUESTS})")
    assert {(labels["response_code"], labels["response_flags"]): count for labels, count in by_code} == {
        ("200", "-"): 2 + FAST + SLOW,
        ("503", "-"): 1 + BAD,
    }
    unhealthy = 'istio_requests_total{job="acmgproxy",destination_service_name="empty",response_flags="UH"}'
    assert world.prometheus.value(f"sum({unhealthy})") == 6


def test_both_ends_have_their_names(world: World) -> None:
    (labels, _), *_ = world.prometheus.query(f'{REQUESTS[:-1]},response_code="200"}}')
    expected = {
        "reporter": "waypoint", "source_workload": "shop-1", "source_workload_namespace": "default", "source_app": "shop",
        "source_version": "v2", "source_canonical_service": "shop", "source_canonical_revision": "v2",
        "source_cluster": "Kubernetes", "source_principal": "unknown", "destination_workload": "web-0",
        "destination_workload_namespace": "default", "destination_app": "web", "destination_version": "v1",
        "destination_canonical_service": "web", "destination_canonical_revision": "v1", "destination_cluster": "Kubernetes",
        "destination_principal": "unknown", "destination_service": WEB, "destination_service_name": "web",
        "destination_service_namespace": "default", "request_protocol": "http", "response_code": "200", "response_flags": "-",
        "connection_security_policy": "none",
    }  # fmt: skip
    assert {name: labels.get(name) for name in expected} == expected


def test_a_rate_over_a_window_is_what_happened_in_it(world: World) -> None:
    sent = FAST + SLOW + BAD
    increase = world.prometheus.value(f"sum(increase({REQUESTS}[5m]))")
    assert sent <= increase < 1.1 * sent, "Prometheus extrapolates to the ends of the window"
    assert math.isclose(world.prometheus.value(f"sum(rate({REQUESTS}[5m])) * 300"), increase, rel_tol=0.02)


def test_the_error_ratio_is_that_of_the_traffic(world: World) -> None:
    bad = f'{REQUESTS[:-1]},response_code=~"5.."}}'
    ratio = world.prometheus.value(f"sum(increase({bad}[5m])) / sum(increase({REQUESTS}[5m]))")
    assert math.isclose(ratio, BAD / (FAST + SLOW + BAD), rel_tol=0.05)
    assert world.prometheus.value(f"sum({bad}) / sum({REQUESTS})") == (1 + BAD) / (3 + FAST + SLOW + BAD)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_quantiles_are_those_of_the_traffic_and_of_our_own_dashboard(world: World, share: float) -> None:
    name = "istio_request_duration_milliseconds_bucket"
    theirs = world.prometheus.value(f"histogram_quantile({share}, sum by (le) ({name}{SELECTOR}))")
    cumulative: dict[str, float] = {}
    for family in text_string_to_metric_families(world.metrics):
        for sample in family.samples:
            if sample.name == name and sample.labels["destination_service"] == WEB:
                cumulative[sample.labels["le"]] = cumulative.get(sample.labels["le"], 0) + sample.value
    counts = list(cumulative.values())
    ours = quantile(share, [int(count - before) for count, before in zip(counts, [0.0, *counts], strict=False)])
    assert ours is not None
    assert math.isclose(theirs, ours)
    if share == 0.99:
        assert theirs > 1000 * SLOW_S * 0.8, "one request in ten took longer"


def test_what_is_scraped_passes_promtool(world: World) -> None:
    done = promtool("check", "metrics", stdin=world.metrics)
    complaints = [
        line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("istio_request_duration_milli")
    ]
    assert complaints == [], "only Istio's own name is not as Prometheus advises"


@pytest.mark.parametrize("expression", [*MESH, *SERVICE, *WORKLOAD, *VARIABLES, *KIALI])
def test_what_istios_dashboards_and_kiali_ask_has_an_answer(world: World, expression: str) -> None:
    found = world.prometheus.query(filled(expression, **VALUES))
    assert any(not math.isnan(value) for _, value in found)


@pytest.mark.parametrize("expression", SERVER_SIDE)
def test_panels_of_the_destinations_side_have_data_when_the_reporter_is_relabelled(world: World, expression: str) -> None:
    found = world.prometheus.query(filled(expression, **VALUES))
    assert any(not math.isnan(value) for _, value in found)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_panel_of_our_dashboard_has_data(world: World, expression: str) -> None:
    found = world.prometheus.query(filled(expression, service=".*", namespace=".*"))
    assert any(not math.isnan(value) for _, value in found) or any(name in expression for name in NEVER)


@pytest.mark.parametrize("variable", [one for one in DASHBOARD["templating"]["list"] if one["type"] == "query"], ids=str)
def test_variables_of_our_dashboard_offer_what_there_is(world: World, variable: dict[str, Any]) -> None:
    series, _, label = variable["definition"].removeprefix("label_values(").removesuffix(")").rpartition(", ")
    assert world.prometheus.label_values(label, filled(series, namespace=".*"))


def test_five_thousand_routes_are_a_handful_of_series(gateway: Gateway, make_upstream: Callable[..., Upstream]) -> None:
    web = gateway.add_service("web", {"v1": [make_upstream()]})
    rules = [
        {"match": [{"uri": {"prefix": f"/r{number}/"}}], "route": [{"destination": {"host": "web"}}]} for number in range(5000)
    ]
    gateway.apply(
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"hosts": ["web"], "http": [{"name": f"r{number}", **rule} for number, rule in enumerate(rules)]},
        }
    )
    gateway.start()
    connection = http.client.HTTPConnection(*web.address, timeout=20)
    for number in range(0, 5000, 10):
        connection.request("GET", f"/r{number}/page-{number}")
        assert connection.getresponse().read() is not None
    connection.close()
    wait_for(lambda: 'response_code="200"' in gateway.get("/metrics"), "they are counted")
    lines = [line for line in gateway.get("/metrics").splitlines() if not line.startswith("#")]
    assert [line.rpartition(" ")[2] for line in lines if line.startswith("istio_requests_total{")] == ["500"]
    assert len(lines) < 200
