# SPDX-License-Identifier: Apache-2.0
"""A cluster for the gateway under test: the fake API server in a thread of its own, and captured Services in it.

"Pods" are upstream servers on loopback addresses, and a gateway port is at a loopback address, too, so that everything runs on
one machine. What the controller would write (the shadow of a Service, its annotation) is written here.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Self, TypeVar

from routing.capture import (
    GATEWAY_PORTS,
    GATEWAY_PORTS_ANNOTATION,
    SERVICE_NAME_LABEL,
    SHADOW_LABEL,
    SHADOW_OF_LABEL,
    format_gateway_ports,
)
from tests.interop.gateway import Service
from tests.interop.upstream import free_address
from tests.kube import FakeApiServer

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path

    from tests.interop.upstream import Upstream

__all__ = ["Cluster"]

T = TypeVar("T")
_DEADLINE_S = 30.0
_SERVICE_PORT = 5000


class Cluster:
    """The fake API server, and what is in it.

    Attributes:
        api: the server; to be used within `do` only.
        address: where the gateway is to listen.
    """

    def __init__(self, *, token: str | None = None) -> None:
        self.api = FakeApiServer(allow_loopback=True, token=token)
        self.address = free_address()[0]
        self._numbers = itertools.count(1)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="api server", daemon=True)
        for plural, kind in (("virtualservices", "VirtualService"), ("destinationrules", "DestinationRule")):
            self.api.put(_definition(plural, kind))

    def __enter__(self) -> Self:
        self._thread.start()
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_DEADLINE_S)
        self._loop.close()

    def start(self) -> None:
        """Let the API server listen; after a stop, at the same port."""
        self._run(self.api.start())

    def stop(self) -> None:
        """End the API server, and every connection to it."""
        self._run(self.api.stop())

    def do(self, action: Callable[[FakeApiServer], T]) -> T:
        """Do something with the API server in its own thread."""
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(action(self.api))
            except BaseException as error:
                done.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return done.result(_DEADLINE_S)

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_DEADLINE_S)

    def put(self, obj: dict[str, Any], *, verbatim: bool = False) -> None:
        """Create or replace an object."""
        self.do(lambda api: api.put(obj, verbatim=verbatim))

    def options(self, directory: Path) -> list[str]:
        """Return the options with which a gateway uses the cluster."""
        return ["--kubernetes", "--kubeconfig", str(self.api.kubeconfig(directory)), "--listen", self.address]

    def add_service(self, name: str, upstreams: Sequence[Upstream], *, gateway_port: int = 0) -> Service:
        """Add a Service, captured already, with pods behind it; return it with its gateway port."""
        gateway_port = gateway_port or GATEWAY_PORTS[secrets.randbelow(len(GATEWAY_PORTS))]
        spec: dict[str, Any] = {"selector": {"app": name}, "ports": [{"name": "http", "port": _SERVICE_PORT}]}
        cluster_ip = f"10.96.0.{next(self._numbers)}"
        self.put({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": spec | {"clusterIP": cluster_ip, "clusterIPs": [cluster_ip]},
        })  # fmt: skip
        self.put({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": f"{name}-acmg",
                "labels": {SHADOW_LABEL: "true", SHADOW_OF_LABEL: name},
                "annotations": {GATEWAY_PORTS_ANNOTATION: format_gateway_ports({_SERVICE_PORT: gateway_port})},
            },
            "spec": spec | {"clusterIP": "None", "clusterIPs": ["None"]},
        })  # fmt: skip
        for number, upstream in enumerate(upstreams):
            self.put_endpoint(name, number, upstream)
        return Service(name, "default", (self.address, gateway_port))

    def put_endpoint(self, service: str, number: int, upstream: Upstream) -> None:
        """Add or replace a pod of a Service, and the EndpointSlice that holds it alone."""
        host, port = upstream.address
        self.put({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"{service}-{number}", "labels": {"app": service, "version": upstream.name}},
            "spec": {"containers": [{"name": "main", "image": "main"}]},
            "status": {"phase": "Running", "podIP": host, "podIPs": [{"ip": host}]},
        })  # fmt: skip
        self.put({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{service}-acmg-{number}",
                "labels": {SERVICE_NAME_LABEL: f"{service}-acmg", SHADOW_LABEL: "true", SHADOW_OF_LABEL: service},
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
            "endpoints": [{
                "addresses": [host],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "targetRef": {"kind": "Pod", "name": f"{service}-{number}", "namespace": "default"},
            }],
        })  # fmt: skip

    def delete_endpoint(self, service: str, number: int) -> None:
        """Take a pod out of a Service."""
        assert self.do(lambda api: api.delete("EndpointSlice", "default", f"{service}-acmg-{number}"))

    def put_answer(self, service: str, body: str, *, status: object = 200) -> None:
        """Let a VirtualService answer for a Service; a status that is no number makes it a bad one."""
        answer = {"status": status, "body": {"string": body}}
        rules = {
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": {"name": service},
            "spec": {"hosts": [service], "http": [{"directResponse": answer}]},
        }
        self.put(rules, verbatim=True)


def _definition(plural: str, kind: str) -> dict[str, Any]:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.networking.istio.io"},
        "spec": {
            "group": "networking.istio.io",
            "names": {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"},
            "scope": "Namespaced",
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }
