# SPDX-License-Identifier: Apache-2.0
"""Runs real `acmgctl` processes against a fake API server, and puts what capture makes into its store."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.kube import FakeApiServer

__all__ = [
    "Acmgctl",
    "Ended",
    "capture_by_hand",
    "gateway_node",
    "is_led_by_gateways",
    "native_addresses",
    "until",
    "web_service",
]

TIMEOUT_S = 60.0
DROPPED = {"KUBERNETES_SERVICE_HOST", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "COLUMNS"}

SERVICE = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
KEY = "acmg.io/captured"


class Ended(NamedTuple):
    """What a process left."""

    code: int
    out: str
    err: str


class Acmgctl:
    """Starts `acmgctl` with a kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        self.environ = {key: value for key, value in os.environ.items() if key not in DROPPED} | {"KUBECONFIG": str(kubeconfig)}

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "acmgproxy.ctl",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.environ,
        )

    async def __call__(self, *arguments: str) -> Ended:
        return await self.end(await self.start(*arguments))

    async def end(self, process: asyncio.subprocess.Process) -> Ended:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        assert process.returncode is not None
        return Ended(process.returncode, out.decode(), err.decode())


def gateway_node(api: FakeApiServer, name: str = "node-1") -> None:
    labels = {"acmg.io/gateway": "true", "topology.kubernetes.io/zone": "zone-a"}
    api.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": {}})


def web_service(api: FakeApiServer, name: str, *, namespace: str = "default", **spec: Any) -> dict[str, Any]:
    """Put a Service and a ready pod."""
    api.put(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"{name}-1", "namespace": namespace, "labels": {"app": name}},
            "spec": {"nodeName": "node-1", "containers": [{"name": "c", "image": "web:1"}]},
        }
    )
    return api.put(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}], **spec},
        }
    )


def capture_by_hand(api: FakeApiServer, name: str, *, namespace: str = "default", gateway_port: int = 20001) -> None:
    """Make what the controller makes of a Service that is captured."""
    found = api.get("Service", namespace, name)
    assert found is not None
    owner = {"apiVersion": "v1", "kind": "Service", "name": name, "uid": found["metadata"]["uid"], "controller": False}
    api.put(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": f"{name}-acmg",
                "namespace": namespace,
                "labels": {"acmg.io/shadow": "true", "acmg.io/shadow-of": name},
                "annotations": {"acmg.io/gateway-ports": f'{{"80":{gateway_port}}}'},
                "ownerReferences": [owner],
            },
            "spec": {"clusterIP": "None", "selector": {"app": name}, "ports": found["spec"]["ports"]},
        }
    )
    api.put(
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{name}-acmg-gateway-ipv4",
                "namespace": namespace,
                "labels": {SERVICE: name, MANAGED_BY: "acmg.io"},
                "ownerReferences": [owner],
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.9.0.1"], "conditions": {"ready": True}}],
            "ports": [{"name": "http", "port": gateway_port, "protocol": "TCP"}],
        }
    )
    found["spec"]["selector"][KEY] = "true"
    found["metadata"].setdefault("annotations", {})["acmg.io/status"] = "captured"
    api.put(found)


def native_addresses(api: FakeApiServer, name: str, namespace: str = "default") -> set[str]:
    """Return where a Service's own slices lead."""
    found: set[str] = set()
    for one in api.objects("EndpointSlice", namespace):
        labels = one["metadata"].get("labels") or {}
        if labels.get(SERVICE) == name and labels.get(MANAGED_BY) != "acmg.io":
            found.update(address for endpoint in one.get("endpoints") or () for address in endpoint["addresses"])
    return found


def is_led_by_gateways(api: FakeApiServer, name: str, namespace: str = "default") -> bool:
    """Tell whether anything of capture is left that leads a Service's traffic."""
    service = api.get("Service", namespace, name)
    slices = [one["metadata"].get("labels") or {} for one in api.objects("EndpointSlice", namespace)]
    ours = any(labels.get(SERVICE) == name and labels.get(MANAGED_BY) == "acmg.io" for labels in slices)
    return ours or (service is not None and KEY in service["spec"]["selector"])


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another process does."""
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():
            await asyncio.sleep(0.01)
