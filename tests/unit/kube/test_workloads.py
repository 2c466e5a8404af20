# SPDX-License-Identifier: Apache-2.0
"""Deployments and DaemonSets roll out, and the kubelet makes their Pods look alive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.kube import FakeApiServer
from tests.unit.kube.kit import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LABELS = {"app": "web"}


@pytest.fixture
async def api() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer(workloads=True, kubelet=True, gc=True) as server:
        yield server


def node(name: str, *, labels: dict[str, str] | None = None, taint: str = "", effect: str = "NoSchedule") -> dict[str, Any]:
    taints = [{"key": taint, "value": "true", "effect": effect}] if taint else []
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels or {}}, "spec": {"taints": taints}}


def workload(kind: str, *, image: str = "i:1", spec: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "c", "image": image}], **(spec or {})}}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": LABELS}, "template": template, **fields},
    }


async def settled(api: FakeApiServer) -> list[dict[str, Any]]:
    await until(lambda: all(one.idle for one in api.controllers))
    return api.objects("Pod")


def status(api: FakeApiServer, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = (api.get(kind, "default", "web") or {})["status"]
    return found


async def test_deployment_makes_ready_pods(api: FakeApiServer) -> None:
    api.put(node("n1"))
    api.put(workload("Deployment", replicas=3))
    pods = await settled(api)
    assert len({one["status"]["podIP"] for one in pods}) == 3
    assert all(one["spec"]["nodeName"] == "n1" and one["status"]["phase"] == "Running" for one in pods)
    assert pods[0]["metadata"]["ownerReferences"][0]["kind"] == "ReplicaSet"
    counted = status(api, "Deployment")
    assert {key: counted[key] for key in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")} == dict.fromkeys(
        ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), 3
    )
    assert (counted["conditions"][0]["type"], counted["conditions"][0]["status"]) == ("Available", "True")


async def test_deployment_rolls_without_fewer_ready_pods_than_allowed(api: FakeApiServer) -> None:
    api.put(node("n1"))
    api.put(workload("Deployment", replicas=2))
    await settled(api)
    least: list[int] = []
    api.store.on_change(lambda *_: least.append(sum(one["status"].get("podIP") is not None for one in api.objects("Pod"))))
    api.put(workload("Deployment", replicas=2, image="i:2"))
    pods = await settled(api)
    assert [one["spec"]["containers"][0]["image"] for one in pods] == ["i:2", "i:2"]
    assert min(least) == 2


async def test_rollout_stops_where_new_pods_are_not_ready(api: FakeApiServer) -> None:
    assert api.kubelet is not None
    api.put(node("n1"))
    api.put(workload("Deployment", replicas=2))
    await settled(api)
    api.kubelet.is_ready = lambda pod: pod["spec"]["containers"][0]["image"] == "i:1"
    api.put(workload("Deployment", replicas=2, image="i:2"))
    pods = await settled(api)
    assert sorted(one["spec"]["containers"][0]["image"] for one in pods) == ["i:1", "i:1", "i:2"]
    api.kubelet.is_ready = lambda pod: True
    api.kubelet.look()
    assert [one["spec"]["containers"][0]["image"] for one in await settled(api)] == ["i:2", "i:2"]


async def test_deployment_scales(api: FakeApiServer) -> None:
    api.put(node("n1"))
    api.put(workload("Deployment", replicas=1))
    await settled(api)
    api.put(workload("Deployment", replicas=3))
    assert len(await settled(api)) == 3
    api.put(workload("Deployment", replicas=0))
    assert await settled(api) == []


async def test_deleted_deployment_takes_its_pods(api: FakeApiServer) -> None:
    api.put(node("n1"))
    api.put(workload("Deployment"))
    await settled(api)
    api.delete("Deployment", "default", "web")
    assert await settled(api) == []
    assert api.objects("ReplicaSet") == []


async def test_pods_wait_for_a_node_that_takes_them(api: FakeApiServer) -> None:
    api.put(node("tainted", taint="acmg.io/gateway"))
    api.put(workload("Deployment"))
    (waiting,) = await settled(api)
    assert (waiting["spec"].get("nodeName"), waiting["status"]["phase"]) == (None, "Pending")
    api.put(node("free"))
    (running,) = await settled(api)
    assert running["spec"]["nodeName"] == "free"


async def test_daemon_set_runs_on_the_nodes_that_fit(api: FakeApiServer) -> None:
    mine = {"acmg.io/gateway": "true"}
    api.put(node("plain"))
    api.put(node("labelled", labels=mine))
    api.put(node("tainted", labels=mine, taint="acmg.io/gateway"))
    api.put(node("other", labels=mine, taint="other"))
    tolerations = [{"key": "acmg.io/gateway", "operator": "Equal", "value": "true", "effect": "NoSchedule"}]
    api.put(workload("DaemonSet", spec={"nodeSelector": mine, "tolerations": tolerations}))
    pods = await settled(api)
    assert sorted(one["spec"]["nodeName"] for one in pods) == ["labelled", "tainted"]
    counted = status(api, "DaemonSet")
    assert (counted["desiredNumberScheduled"], counted["numberReady"], counted["updatedNumberScheduled"]) == (2, 2, 2)


async def test_daemon_set_follows_nodes(api: FakeApiServer) -> None:
    api.put(workload("DaemonSet", spec={"nodeSelector": {"in": "yes"}}))
    api.put(node("a", labels={"in": "yes"}))
    assert len(await settled(api)) == 1
    # a new taint that only keeps new Pods away leaves the old one where it is
    api.put(node("a", labels={"in": "yes"}, taint="x"))
    assert len(await settled(api)) == 1
    api.put(node("a", labels={"in": "yes"}, taint="x", effect="NoExecute"))
    assert await settled(api) == []
    api.put(node("a", labels={"in": "yes"}))
    assert len(await settled(api)) == 1
    api.put(node("a"))
    assert await settled(api) == []


async def test_daemon_set_replaces_one_pod_at_a_time(api: FakeApiServer) -> None:
    assert api.kubelet is not None
    for name in ("a", "b", "c"):
        api.put(node(name))
    api.put(workload("DaemonSet"))
    await settled(api)
    api.kubelet.is_ready = lambda pod: pod["spec"]["containers"][0]["image"] == "i:1"
    api.put(workload("DaemonSet", image="i:2"))
    assert sorted(one["spec"]["containers"][0]["image"] for one in await settled(api)) == ["i:1", "i:1", "i:2"]
    api.kubelet.is_ready = lambda pod: True
    api.kubelet.look()
    assert {one["spec"]["containers"][0]["image"] for one in await settled(api)} == {"i:2"}


async def test_daemon_set_waits_until_the_old_pod_has_ended(api: FakeApiServer) -> None:
    assert api.kubelet is not None
    api.put(node("a"))
    api.put(workload("DaemonSet"))
    await settled(api)
    api.kubelet.may_end = lambda pod: False
    api.put(workload("DaemonSet", image="i:2"))
    (ending,) = await settled(api)
    assert ending["metadata"]["deletionTimestamp"]
    api.kubelet.may_end = lambda pod: True
    api.kubelet.look()
    (new,) = await settled(api)
    assert new["spec"]["containers"][0]["image"] == "i:2"


async def test_addresses_can_be_chosen(api: FakeApiServer) -> None:
    assert api.kubelet is not None
    api.kubelet.address = lambda pod: "127.0.20.1"
    api.put(node("a"))
    api.put(workload("DaemonSet"))
    (one,) = await settled(api)
    assert one["status"]["podIPs"] == [{"ip": "127.0.20.1"}]
