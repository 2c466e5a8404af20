# SPDX-License-Identifier: Apache-2.0
"""Objects for the tests of the controller's decisions."""

from __future__ import annotations

from typing import Any

import msgspec

from acmgproxy.controller.objects import Namespace, Pod, Service, VirtualService

__all__ = ["make_namespace", "make_pod", "make_service", "make_virtual_service"]


def make_service(name: str = "hello", namespace: str = "default", *, meta: dict[str, Any] | None = None, **spec: Any) -> Service:
    metadata = {"name": name, "namespace": namespace, "uid": "u1", "labels": {"acmg.io/capture": "enabled"}} | (meta or {})
    ports = [{"name": "http", "port": 80}]
    given = {"clusterIP": "10.96.0.1", "selector": {"app": name}, "ports": ports} | spec
    return msgspec.convert({"metadata": metadata, "spec": given}, Service)


def make_namespace(name: str = "default", **labels: str) -> Namespace:
    return msgspec.convert(
        {"metadata": {"name": name, "labels": {f"acmg.io/{key}": value for key, value in labels.items()}}}, Namespace
    )


def make_virtual_service(name: str = "vs", namespace: str = "default", **spec: Any) -> VirtualService:
    return msgspec.convert({"metadata": {"name": name, "namespace": namespace}, "spec": spec}, VirtualService)


def make_pod(name: str = "gw", address: str = "10.1.0.1", *, ready: str = "True", **meta: Any) -> Pod:
    status = {"podIP": address, "podIPs": [{"ip": address}], "conditions": [{"type": "Ready", "status": ready}]}
    return msgspec.convert({"metadata": {"name": name, "uid": name, **meta}, "spec": {"nodeName": "n"}, "status": status}, Pod)
