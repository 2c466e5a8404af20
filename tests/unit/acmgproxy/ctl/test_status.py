# SPDX-License-Identifier: Apache-2.0
"""Facts about what status calls a problem, and how it looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from acmgproxy.ctl.overview import look_around
from acmgproxy.ctl.status import show
from acmgproxy.ctl.versions import count_versions
from discovery.kube import ApiError
from tests.unit.acmgproxy.ctl.objects import daemon_set, deployment, namespace, node, pod, service, slice_of
from tests.unit.acmgproxy.ctl.stub import StubClient

if TYPE_CHECKING:
    import pytest

SYSTEM = "/namespaces/acmg-system"
DAEMON_SET = f"/apis/apps/v1{SYSTEM}/daemonsets/acmg-gateway"
DEPLOYMENT = f"/apis/apps/v1{SYSTEM}/deployments/acmg-controller"
LEASE = f"/apis/coordination.k8s.io/v1{SYSTEM}/leases/acmg-controller"
PODS = f"/api/v1{SYSTEM}/pods"
SERVICES = "/api/v1/services"
SLICES = "/apis/discovery.k8s.io/v1/endpointslices"
GATEWAY = node("node-1", {"acmg.io/gateway": "true"})


def cluster(**changes: Any) -> StubClient:
    """Return a cluster in which all is well, but for `changes`, by what they concern."""
    metrics = changes.get(
        "metrics", 'acmg_config_version 3\nacmg_config_changed_timestamp_seconds 100\nacmg_worker_up{worker="0"} 1'
    )
    answers: dict[str, Any] = {
        DAEMON_SET: changes.get("daemon_set", daemon_set(desired=1, ready=1, updated=1)),
        DEPLOYMENT: changes.get("deployment", deployment()),
        LEASE: changes.get("lease", {"spec": {"holderIdentity": "c-1"}}),
        PODS: {"items": changes.get("pods", [pod("gw"), pod("c-1", component="controller")])},
        f"{PODS}/gw%3A15021/proxy/listeners": changes.get("listeners", [{"bound": True}]),
        f"{PODS}/gw%3A15021/proxy/metrics": metrics,
        "/api/v1/nodes": changes.get("nodes", {"items": [GATEWAY]}),
        "/api/v1/namespaces": {"items": [namespace(), *changes.get("namespaces", ())]},
        SERVICES: {"items": changes.get("services", [])},
        SLICES: {"items": changes.get("slices", [])},
    }
    return StubClient({("GET", path): [answer] for path, answer in answers.items() if answer is not None})


async def problems(**changes: Any) -> list[str]:
    overview = await look_around(cluster(**changes).client, "")
    assert overview.ok == (not overview.problems)
    return overview.problems


async def test_when_all_is_well_there_is_no_problem() -> None:
    assert await problems() == []
    assert await problems(nodes=ApiError(403, "Forbidden", "x")) == []


async def test_each_thing_that_is_wrong_is_a_problem_of_its_own() -> None:
    assert "DaemonSet acmg-system/acmg-gateway is missing" in (await problems(daemon_set=None))[0]
    assert "Deployment acmg-system/acmg-controller is missing" in (await problems(deployment=None))[0]
    none = daemon_set(desired=0, ready=0, updated=0)
    (problem,) = await problems(daemon_set=none, pods=[], nodes={"items": [node("plain")]})
    assert "kubectl label node" in problem
    unready = await problems(daemon_set=daemon_set(desired=1, ready=0, updated=1), pods=[pod("gw", ready=False)])
    assert unready == [
        "gateways: 0 of 1 ready",
        "gateway gw is not ready; see `kubectl describe pod -n acmg-system gw`",
    ]
    (problem,) = await problems(listeners=[{"bound": True}, {"bound": False}])
    assert problem == "gateway gw listens on 1 of 2 addresses; its log says why"
    (problem,) = await problems(metrics='acmg_config_version 3\nacmg_worker_up{worker="0"} 0')
    assert problem == "gateway gw has 0 of 1 workers; its log says why"
    (problem,) = await problems(metrics="acmg_config_version 3\nacmg_watch_stale_seconds 100")
    assert "has heard nothing of the API server for 100 s" in problem
    (problem,) = await problems(deployment=deployment(available=0))
    assert "controller: 0 of 2 available: what is captured stays so" in problem
    (problem,) = await problems(lease=None)
    assert problem == "no controller has taken the Lease yet; see its log"


async def test_services_that_wait_are_problems_and_refused_ones_are_not() -> None:
    asked = {"acmg.io/capture": "enabled"}
    refused = service("db", labels=asked, cluster_ip="None")
    (problem,) = await problems(services=[service(labels=asked), refused, service("plain")])
    assert problem == "Service default/hello is pending: the controller has not looked at it yet"
    (problem,) = await problems(services=[service()], slices=[slice_of("hello", ours="x")])
    assert problem.startswith("Service default/hello is releasing: ")


async def test_what_is_left_without_an_installation_is_told() -> None:
    left: dict[str, Any] = {"daemon_set": None, "deployment": None, "pods": []}
    assert await problems(**left) == []
    (problem,) = await problems(**left, services=[service(captured=True)])
    assert "which is not installed" in problem


async def test_a_switch_that_is_off_is_told_and_nothing_waits(capsys: pytest.CaptureFixture[str]) -> None:
    asked = service(labels={"acmg.io/capture": "enabled"})
    overview = await look_around(cluster(services=[asked], namespaces=[namespace("acmg-system", capture="disabled")]).client, "")
    assert (overview.switched_off, overview.problems, overview.services) == (True, [], [])
    show(overview, now=0.0)
    assert "Capture is switched off for the whole cluster" in capsys.readouterr().out


async def test_a_table_is_made_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    labels = {"acmg.io/shadow": "true", "acmg.io/shadow-of": "hello"}
    shadow = service("hello-acmg", labels=labels, annotations={"acmg.io/gateway-ports": '{"5000":20001}'})
    captured = service(labels={"acmg.io/capture": "enabled"}, captured=True, annotations={"acmg.io/status": "captured"})
    overview = await look_around(cluster(services=[captured, shadow]).client, "")
    show(overview, now=100 + 3 * 3600)
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["GATEWAYS"],
        ["POD", "NODE", "ZONE", "READY", "VERSION", "CONFIG", "WORKERS", "LISTENERS", "NOTE"],
        ["gw", "node-1", "-", "yes", "1.2", "3", "(3h)", "1/1", "1/1", "-"],
        [],
        ["CONTROLLER", "2", "of", "2", "available,", "version", "1.2,", "leader", "c-1"],
        [],
        ["SERVICES"],
        ["NAMESPACE", "SERVICE", "STATE", "PORTS", "WHY"],
        ["default", "hello", "captured", "5000", "->", "20001", "-"],
    ]


async def test_what_cannot_be_known_is_a_dash_and_problems_come_last(capsys: pytest.CaptureFixture[str]) -> None:
    refusal = ApiError(403, "Forbidden", "x")
    overview = await look_around(cluster(listeners=refusal, deployment=deployment(available=0)).client, "")
    show(overview, now=0.0)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split()[5:8] == ["-", "-", "-"]
    assert lines[-2] == "No Service asks for capture; `acmgctl capture SERVICE` does"
    assert lines[-1].startswith("! controller: 0 of 2 available")


def test_versions_are_counted_by_component() -> None:
    pods = [pod("a"), pod("b"), pod("c", component="controller"), pod("d", image="acmgproxy:2")]
    assert count_versions(pods) == {"controller": {"1.2": 1}, "gateway": {"1.2": 2, "2": 1}}
