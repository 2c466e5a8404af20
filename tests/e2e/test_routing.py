# SPDX-License-Identifier: Apache-2.0
"""What a captured Service's callers get: rules by caller, and ports that are left alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from routing.capture import CAPTURE_LABEL
from tests.e2e.rules import Endpoint
from tests.e2e.scene import Scene

if TYPE_CHECKING:
    from tests.e2e.cluster import Cluster

pytestmark = pytest.mark.e2e

CRDS = Path(__file__).resolve().parents[2] / "deploy" / "crds"


def _install_crds(cluster: Cluster) -> None:
    for file in sorted(CRDS.glob("*.yaml")):
        for definition in yaml.load_all(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader):
            if definition and definition.get("kind") == "CustomResourceDefinition":
                cluster.api.put(definition)


def _istio(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": kind,
        "metadata": {"name": "hello", "namespace": "default"},
        "spec": {"host" if kind == "DestinationRule" else "hosts": "hello" if kind == "DestinationRule" else ["hello"], **spec},
    }


async def test_rules_see_the_caller_because_its_address_is_preserved(cluster: Cluster) -> None:
    """The first client gets version 2, everybody else version 1."""
    _install_crds(cluster)
    scene = await Scene(cluster).start()
    second = await cluster.deploy(cluster.template("hello", labels={"version": "v2"}), 1)
    for pod in scene.pods:
        obj = cluster.api.get("Pod", "default", pod.name)
        assert obj is not None
        obj["metadata"]["labels"]["version"] = "v1"
        cluster.api.put(obj)
    first = [pod.name for pod in scene.pods]
    scene.pods += second
    subsets = [{"name": version, "labels": {"version": version}} for version in ("v1", "v2")]
    cluster.api.put(_istio("DestinationRule", {"subsets": subsets}))
    to = {version: [{"destination": {"host": "hello", "subset": version}}] for version in ("v1", "v2")}
    rules = [{"match": [{"sourceLabels": {"app": "client-0"}}], "route": to["v2"]}, {"route": to["v1"]}]
    cluster.api.put(_istio("VirtualService", {"http": rules}))
    await scene.capture()
    special, other = cluster.clients
    for host, expected in ((special, {pod.name for pod in second}), (other, set(first))):
        cluster.clients = [host]
        async with scene.load() as load:
            await load.until(lambda report, right=expected: bool(report.pods) and set(report.pods) <= right)  # type: ignore[misc]
            report = await load.requests(200)
        assert load.total.failures == []
        assert set(report.pods) == expected
        assert set(report.fresh) == scene.gateway_addresses()
    cluster.clients = [special, other]


async def test_a_port_that_is_not_http_keeps_leading_to_the_pods(cluster: Cluster) -> None:
    scene = Scene(cluster)
    cluster.service(
        "hello",
        scene.address,
        [{"name": "http", "port": scene.port, "targetPort": 8080}, {"name": "raw", "port": 6000, "targetPort": 8081}],
        labels={CAPTURE_LABEL: "enabled"},
    )
    scene.pods = await cluster.deploy(cluster.template("hello", ports=(8080, 8081)), 2)
    scene.gateways = await cluster.gateways(2)
    async with cluster.load(scene.address, 6000, rate=8.0) as raw, scene.load(rate=8.0) as http:
        await cluster.controller()
        await cluster.until(scene.is_captured, "captured")
        await scene.goes_through_gateways(http)
        direct = {Endpoint(pod.address, 8081) for pod in scene.pods}
        await cluster.until(lambda: cluster.leads_to(scene.address, 6000) == direct, "the other port is direct")
        await raw.requests(500)
        # The slices of the other port are the controller's: they must follow the pods.
        scene.pods = await cluster.roll(scene.pods)
        await raw.requests(500)
        scene.ask("disabled")
        await cluster.until(scene.is_direct, "released")
        await raw.requests(500)
    assert raw.total.failures == []
    assert http.total.failures == []
    assert set(raw.total.peers) == scene.client_addresses()
