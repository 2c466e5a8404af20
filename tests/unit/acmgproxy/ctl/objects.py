# SPDX-License-Identifier: Apache-2.0
"""Objects of a cluster as the API has them, for the tests of acmgctl."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

Object = dict[str, Any]

__all__ = ["daemon_set", "deployment", "namespace", "node", "pod", "service", "slice_of", "virtual_service"]


def service(name: str = "hello", *, space: str = "default", captured: bool = False, **options: Any) -> Object:
    selector = {"app": name} | ({"acmg.io/captured": "true"} if captured else {})
    ports = options.get("ports", [{"name": "http", "port": 5000, "protocol": "TCP"}])
    return {
        "metadata": {
            "name": name,
            "namespace": space,
            "uid": f"uid-{name}",
            "resourceVersion": "7",
            "labels": options.get("labels", {}),
            "annotations": options.get("annotations", {}),
        },
        "spec": {
            "clusterIP": options.get("cluster_ip", "10.0.0.1"),
            "ipFamilies": ["IPv4"],
            "selector": selector,
            "ports": ports,
        },
    }


def slice_of(name: str, *addresses: str, space: str = "default", ours: str = "", **options: Any) -> Object:
    manager = "acmg.io" if ours else "endpointslice-controller.k8s.io"
    return {
        "metadata": {
            "name": ours or f"{name}-abcde",
            "namespace": space,
            "uid": f"uid-{ours or name}-slice",
            "resourceVersion": "8",
            "labels": {"kubernetes.io/service-name": name, "endpointslice.kubernetes.io/managed-by": manager},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
        "ports": [{"name": "http", "port": options.get("port", 5000), "protocol": "TCP"}],
    }


def namespace(name: str = "default", **labels: str) -> Object:
    return {"metadata": {"name": name, "labels": {f"acmg.io/{key}": value for key, value in labels.items()}}}


def virtual_service(name: str, *hosts: str, space: str = "default", gateways: tuple[str, ...] = ("acmg-gateway",)) -> Object:
    return {"metadata": {"name": name, "namespace": space}, "spec": {"hosts": list(hosts), "gateways": list(gateways)}}


def node(name: str, labels: Mapping[str, str] | None = None) -> Object:
    return {"metadata": {"name": name, "labels": dict(labels or {})}}


def pod(name: str, *, component: str = "gateway", ready: bool = True, image: str = "hub/acmgproxy:1.2", **status: Any) -> Object:
    return {
        "metadata": {
            "name": name,
            "namespace": "acmg-system",
            "labels": {"app.kubernetes.io/name": "acmgproxy", "app.kubernetes.io/component": component},
        },
        "spec": {"nodeName": "node-1", "containers": [{"name": "c", "image": image}]},
        "status": {"conditions": [{"type": "Ready", "status": str(ready)}], **status},
    }


def daemon_set(*, desired: int = 2, ready: int = 2, updated: int = 2, generation: int = 3, observed: int = 3) -> Object:
    return {
        "kind": "DaemonSet",
        "metadata": {"name": "acmg-gateway", "namespace": "acmg-system", "generation": generation},
        "spec": {"template": {"spec": {"nodeSelector": {"acmg.io/gateway": "true"}, "containers": [{"image": "acmgproxy:1.2"}]}}},
        "status": {
            "observedGeneration": observed,
            "desiredNumberScheduled": desired,
            "numberReady": ready,
            "updatedNumberScheduled": updated,
        },
    }


def deployment(*, replicas: int = 2, available: int = 2, updated: int = 2, total: int = 2, observed: int = 1) -> Object:
    return {
        "kind": "Deployment",
        "metadata": {"name": "acmg-controller", "namespace": "acmg-system", "generation": 1},
        "spec": {"replicas": replicas, "template": {"spec": {"containers": [{"image": "reg:5000/x/acmgproxy:1.2@sha256:0"}]}}},
        "status": {"observedGeneration": observed, "availableReplicas": available, "updatedReplicas": updated, "replicas": total},
    }
