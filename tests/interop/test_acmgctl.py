# SPDX-License-Identifier: Apache-2.0
"""Facts about real `acmgctl` processes installing acmgproxy in a (fake) cluster and looking at it."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.interop.acmgctl import Acmgctl, gateway_node, until, web_service
from tests.kube import FakeApiServer
from tests.kube.access import Denied

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.kube.controllers import Kubelet

Object = dict[str, Any]


@pytest.fixture
async def api() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer(endpointslices=True, gc=True, workloads=True, kubelet=True) as api:
        yield api


@pytest.fixture
def acmgctl(api: FakeApiServer, tmp_path: Path) -> Acmgctl:
    return Acmgctl(api.kubeconfig(tmp_path))


@pytest.fixture
def writes(api: FakeApiServer) -> list[tuple[str, str, str]]:
    seen: list[tuple[str, str, str]] = []
    api.on_write(lambda method, obj: seen.append((method, obj["kind"], obj["metadata"]["name"])))
    return seen


def kubelet(api: FakeApiServer) -> Kubelet:
    assert api.kubelet is not None
    return api.kubelet


def pods_wait(api: FakeApiServer, monkeypatch: pytest.MonkeyPatch, container: Object) -> None:
    """Let no pod become ready, and say why."""
    kubelet(api).is_ready = lambda _pod: False
    report = kubelet(api)._report

    def waiting(pod: Object) -> None:
        report(pod)
        for one in pod["status"]["containerStatuses"]:
            one.update(container)

    monkeypatch.setattr(kubelet(api), "_report", waiting)


async def test_a_dry_run_checks_every_object_and_changes_nothing(api: FakeApiServer, acmgctl: Acmgctl, writes: list[Any]) -> None:
    ended = await acmgctl("install", "--dry-run")
    assert ended.code == 0, ended.err
    assert "Namespace acmg-system created (dry run)\n" in ended.out
    assert (
        "DaemonSet acmg-system/acmg-gateway created (dry run) "
        "(checked in namespace default, acmg-system does not exist yet)\n" in ended.out
    )
    assert "Nothing was changed; 20 of them would be." in ended.out
    assert (writes, api.get("Namespace", "", "acmg-system"), api.objects("ClusterRole")) == ([], None, [])


async def test_an_installation_runs_in_the_end_and_a_second_one_changes_nothing(
    api: FakeApiServer, acmgctl: Acmgctl, writes: list[Any]
) -> None:
    gateway_node(api)
    ended = await acmgctl("install")
    assert ended.code == 0, ended.err
    assert ended.out.endswith("is running. Next: acmgctl capture SERVICE\n")
    assert "acmg-gateway: 1 of 1 ready; acmg-controller: 2 of 2 available" in ended.err
    assert [kind for method, kind, _ in writes if method == "PATCH"][:2] == ["Namespace", "CustomResourceDefinition"]
    for created in ("DaemonSet acmg-system/acmg-gateway created", "ClusterRole acmg-gateway created"):
        assert f"{created}\n" in ended.out
    writes.clear()
    again = await acmgctl("install")
    assert again.code == 0, again.err
    assert (writes, "created" in again.out, "configured" in again.out) == ([], False, False)
    assert "DaemonSet acmg-system/acmg-gateway unchanged\n" in again.out
    dry = await acmgctl("install", "--dry-run", "--set", "gateway.workers=3")
    assert "DaemonSet acmg-system/acmg-gateway configured (dry run)\n" in dry.out
    assert "Nothing was changed; 1 of them would be." in dry.out


async def test_definitions_of_somebody_else_are_kept_as_they_are(api: FakeApiServer, acmgctl: Acmgctl, writes: list[Any]) -> None:
    gateway_node(api)
    theirs = api.put(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "virtualservices.networking.istio.io", "labels": {"app": "istio-pilot"}},
            "spec": {
                "group": "networking.istio.io",
                "scope": "Namespaced",
                "names": {"plural": "virtualservices", "singular": "virtualservice", "kind": "VirtualService"},
                "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}],
            },
        }
    )
    ended = await acmgctl("install")
    assert ended.code == 0, ended.err
    line = "CustomResourceDefinition virtualservices.networking.istio.io kept (somebody else's, serves v1)\n"
    assert line in ended.out
    found = api.get("CustomResourceDefinition", "", "virtualservices.networking.istio.io")
    assert found is not None
    assert (found["spec"], found["metadata"]["labels"]) == (theirs["spec"], theirs["metadata"]["labels"])
    assert "virtualservices.networking.istio.io" not in {name for _, _, name in writes}


async def test_missing_rights_are_listed_before_anything_is_written(
    api: FakeApiServer, acmgctl: Acmgctl, writes: list[Any]
) -> None:
    api.denied = {Denied(verb="create", resource="clusterroles"), Denied(resource="daemonsets")}
    api.faults.answer(403, match=lambda one: "customresourcedefinitions" in one.path, count=None)
    ended = await acmgctl("install")
    assert ended.code == 2
    assert "  create clusterroles.rbac.authorization.k8s.io in the whole cluster\n" in ended.err
    assert "  create, get, list, patch daemonsets.apps in namespace acmg-system\n" in ended.err
    assert "cluster-admin" in ended.err
    assert writes == []


async def test_an_object_that_the_server_refuses_stops_all_before_anything_is_written(
    api: FakeApiServer, acmgctl: Acmgctl, writes: list[Any]
) -> None:
    message = 'admission webhook "policy" denied the request: no host ports'
    api.faults.answer(403, message=message, match=lambda one: one.method == "PATCH" and "daemonsets" in one.path)
    ended = await acmgctl("install")
    assert ended.code == 2
    assert f"error: DaemonSet acmg-system/acmg-gateway: {message}. Ask an administrator" in ended.err
    assert writes == []


async def test_without_a_labelled_node_the_commands_are_told(api: FakeApiServer, acmgctl: Acmgctl) -> None:
    api.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "plain"}, "spec": {}})
    ended = await acmgctl("install")
    assert ended.code == 1
    assert "kubectl label node NODE acmg.io/gateway=true\n" in ended.err
    assert "kubectl taint node NODE acmg.io/gateway=true:NoSchedule\n" in ended.err
    gateway_node(api)
    assert (await acmgctl("install")).code == 0


@pytest.mark.parametrize(
    ("container", "text"),
    [
        (
            {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}},
            "cannot be pulled (ImagePullBackOff: not found)",
        ),
        (
            {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 7}}},
            "its process keeps ending (exit code 7)",
        ),
    ],
)
async def test_pods_that_will_never_run_are_told_at_once(
    api: FakeApiServer, acmgctl: Acmgctl, monkeypatch: pytest.MonkeyPatch, container: Object, text: str
) -> None:
    gateway_node(api)
    pods_wait(api, monkeypatch, container)
    ended = await acmgctl("install", "--timeout", "50s")
    assert ended.code == 1
    assert text in ended.err


async def test_a_timeout_says_how_far_it_got_and_what_the_cluster_warned_of(api: FakeApiServer, acmgctl: Acmgctl) -> None:
    gateway_node(api)
    kubelet(api).is_ready = lambda _pod: False
    event = {"type": "Warning", "reason": "FailedCreate", "message": "exceeded quota", "lastTimestamp": "2026-01-01T00:00:00Z"}
    involved = {"involvedObject": {"kind": "DaemonSet", "name": "acmg-gateway", "namespace": "acmg-system"}}
    meta = {"name": "a", "namespace": "acmg-system"}
    api.put({"apiVersion": "v1", "kind": "Event", "metadata": meta, **event, **involved})
    ended = await acmgctl("install", "--timeout", "1s")
    assert ended.code == 1
    assert "not running after 1 s: acmg-gateway: 0 of 1 ready" in ended.err
    assert "FailedCreate: exceeded quota" in ended.err


async def test_other_values_and_another_release_replace_what_was_there(api: FakeApiServer, acmgctl: Acmgctl) -> None:
    gateway_node(api)
    assert (await acmgctl("install", "--set", "tag=0.0.1")).code == 0
    ended = await acmgctl("install", "--set", "profile=demo", "--set", "tag=0.0.2")
    assert ended.code == 0, ended.err
    assert "Version of the gateways: 0.0.1 -> 0.0.2\n" in ended.out
    assert "PodDisruptionBudget acmg-system/acmg-gateway removed (not part of these values)\n" in ended.out
    assert api.objects("PodDisruptionBudget") == []
    found = api.get("DaemonSet", "acmg-system", "acmg-gateway")
    assert found is not None
    assert "nodeSelector" not in found["spec"]["template"]["spec"]


async def test_a_wrong_value_and_a_kind_that_the_cluster_lacks_are_told(acmgctl: Acmgctl, writes: list[Any]) -> None:
    ended = await acmgctl("install", "--set", "gateway.worker=3")
    assert ended.code == 2
    assert "gateway.worker: there is no such key; did you mean gateway.workers?" in ended.err
    ended = await acmgctl("install", "--set", "monitoring.enabled=true")
    assert ended.code == 2
    assert "PodMonitor acmg-system/acmgproxy: the cluster knows no podmonitors.monitoring.coreos.com" in ended.err
    assert writes == []


async def test_an_interrupted_installation_ends_cleanly(api: FakeApiServer, acmgctl: Acmgctl) -> None:
    gateway_node(api)
    kubelet(api).is_ready = lambda _pod: False
    process = await acmgctl.start("install")
    await until(lambda: bool(api.objects("Deployment")))
    process.send_signal(signal.SIGINT)
    ended = await acmgctl.end(process)
    assert ended.code == 130
    assert ended.err.endswith("error: interrupted; what is done stays done, and running the same command again continues\n")
    assert "Traceback" not in ended.err


async def test_what_keeps_acmgctl_out_is_one_line(api: FakeApiServer, acmgctl: Acmgctl, tmp_path: Path) -> None:
    api.rotate_token("other")
    ended = await acmgctl("status")
    assert ended.code == 2
    assert f"error: the API server {api.url} does not accept these credentials" in ended.err
    await api.stop()
    ended = await acmgctl("install")
    assert ended.code == 2
    assert "gives no answer" in ended.err
    ended = await acmgctl("install", "--kubeconfig", str(tmp_path / "none"))
    assert ended.code == 2
    assert len(ended.err.splitlines()) == 1
    assert "Traceback" not in ended.err


async def test_a_manifest_is_what_would_be_installed(acmgctl: Acmgctl) -> None:
    ended = await acmgctl("manifest", "generate", "--set", "hub=reg.example.com/mesh", "--set", "tag=9")
    assert ended.code == 0
    objects = list(yaml.safe_load_all(ended.out))
    (found,) = [obj for obj in objects if obj["kind"] == "DaemonSet"]
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == "reg.example.com/mesh/acmgproxy:9"
    ended = await acmgctl("manifest", "generate", "--set", "nonsense")
    assert (ended.code, ended.out) == (2, "")
    ended = await acmgctl("manifest", "values")
    assert "gateway.workers" in ended.out


async def test_status_tells_gateways_controller_and_services_and_whether_something_is_wrong(
    api: FakeApiServer, acmgctl: Acmgctl
) -> None:
    ended = await acmgctl("status")
    assert (ended.code, ended.out) == (0, "acmgproxy is not installed in this cluster; `acmgctl install` does it\n")
    gateway_node(api)
    assert (await acmgctl("install")).code == 0
    web_service(api, "plain")
    lease = {"holderIdentity": "acmg-controller-x", "leaseDurationSeconds": 15}
    meta = {"name": "acmg-controller", "namespace": "acmg-system"}
    api.put({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": lease})
    headless = web_service(api, "db", clusterIP="None")
    headless["metadata"]["labels"] = {"acmg.io/capture": "enabled"}
    api.put(headless)
    ended = await acmgctl("status", "-o", "json")
    assert ended.code == 0, ended.out
    found = json.loads(ended.out)
    assert (found["ok"], found["installed"], found["problems"]) == (True, True, [])
    (gateway,) = found["gateways"]
    assert (gateway["node"], gateway["zone"], gateway["ready"]) == ("node-1", "zone-a", True)
    assert found["controller"]["leader"] == "acmg-controller-x"
    (refused,) = found["services"]
    assert (refused["name"], refused["state"]) == ("db", "refused")
    assert "headless" in refused["reason"]
    assert yaml.safe_load((await acmgctl("status", "-o", "yaml")).out) == found
    wanted = api.get("Service", "default", "plain")
    assert wanted is not None
    wanted["metadata"]["labels"] = {"acmg.io/capture": "enabled"}
    api.put(wanted)
    ended = await acmgctl("status")
    assert ended.code == 1
    assert "! Service default/plain is pending: the controller has not looked at it yet\n" in ended.out
    assert "\x1b" not in ended.out
    assert (await acmgctl("status", "-n", "kube-system")).code == 0


async def test_a_version_needs_no_cluster(api: FakeApiServer, acmgctl: Acmgctl) -> None:
    gateway_node(api)
    assert (await acmgctl("install", "--set", "tag=7")).code == 0
    found = json.loads((await acmgctl("version", "-o", "json")).out)
    assert found["cluster"] == {"controller": {"7": 2}, "gateway": {"7": 1}}
    assert f"client: {found['client']}\ncontroller: 7 (2 pods)\ngateway: 7 (1 pods)\n" == (await acmgctl("version")).out
    await api.stop()
    ended = await acmgctl("version")
    assert ended.code == 0
    assert "cluster: not asked: the API server" in ended.out


async def test_a_cluster_can_be_analyzed(api: FakeApiServer, acmgctl: Acmgctl) -> None:
    gateway_node(api)
    assert (await acmgctl("install")).code == 0
    web_service(api, "web")
    assert (await acmgctl("analyze", "--kubernetes")).code == 0
    rule = {"host": "web", "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}}
    api.put({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": "dr"}, "spec": rule})
    ended = await acmgctl("analyze", "--kubernetes", "-o", "json")
    assert ended.code == 1
    assert {finding["name"] for finding in json.loads(ended.out)} == {"dr"}
    assert (await acmgctl("analyze")).code == 2
