# SPDX-License-Identifier: Apache-2.0
"""A cluster to watch: its objects, and an API server that holds them (the one that the tests use, as a process of its own).

Most Services have endpoints that nobody calls. Some are captured as the controller would have it: a shadow with their gateway
port, whose slice has the endpoints. Two kinds of those have upstreams that answer: one takes the steady load, the *probes* have
one endpoint each, which moves from one upstream to the other and back; the answers say which it is.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from routing.capture import (
    CAPTURED_KEY,
    GATEWAY_PORTS,
    GATEWAY_PORTS_ANNOTATION,
    SERVICE_NAME_LABEL,
    SHADOW_LABEL,
    SHADOW_OF_LABEL,
    format_gateway_ports,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.daemon import Daemon
    from bench.net import Address
    from bench.peers import Site

__all__ = ["PROJECT", "Cluster", "Member", "endpoint", "start_api"]

Obj = dict[str, Any]
PROJECT = Path(__file__).resolve().parents[1]
_PORT = 80
_FIRST_POD = int(IPv4Address("10.128.0.1"))
_NAMESPACES = 50
_NODES = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One Service: `gateway_port` is 0 when it is not captured."""

    name: str
    namespace: str
    number: int
    endpoints: int
    gateway_port: int = 0
    upstream: Address | None = None

    @property
    def slice_path(self) -> str:
        """The path of the EndpointSlice that holds its endpoints."""
        return f"/apis/discovery.k8s.io/v1/namespaces/{self.namespace}/endpointslices/{self.slice_name}"

    @property
    def slice_name(self) -> str:
        """The name of that EndpointSlice."""
        return f"{self.name}-acmg-x7k2p" if self.gateway_port else f"{self.name}-x7k2p"


class Cluster:
    """All Services of a run.

    Args:
        services: how many there are besides `steady` and the probes.
        endpoints: how many each of them has.
        captured: how many of them have gateway ports.
        steady: the upstream of the Service under load.
        probed: the upstream where each probe begins.
        probes: how many there are.
    """

    def __init__(self, *, services: int, endpoints: int, captured: int, steady: Address, probed: Address, probes: int) -> None:
        ports = iter(GATEWAY_PORTS)
        self.steady = Member(name="steady", namespace="default", number=0, endpoints=1, gateway_port=next(ports), upstream=steady)
        self.probes = [
            Member(name=f"probe-{n}", namespace="default", number=n + 1, endpoints=1, gateway_port=next(ports), upstream=probed)
            for n in range(probes)
        ]
        self.others = [
            Member(
                name=f"service-{n:05}",
                namespace=f"team-{n % _NAMESPACES:02}",
                number=n,
                endpoints=endpoints,
                gateway_port=next(ports) if n < captured else 0,
            )
            for n in range(services)
        ]

    def __repr__(self) -> str:
        return f"<Cluster of {len(self.others)} Services>"

    @property
    def members(self) -> list[Member]:
        """All Services."""
        return [self.steady, *self.probes, *self.others]

    def write(self, path: Path) -> int:
        """Write all objects to a file, one per line, and return how many there are."""
        count = 0
        with path.open("wb") as file:
            for number in range(_NODES):
                labels = {"topology.kubernetes.io/zone": f"zone-{number % 3}"}
                node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"node-{number}", "labels": labels}}
                file.write(orjson.dumps(node) + b"\n")
                count += 1
            for member in self.members:
                for obj in _objects(member):
                    file.write(orjson.dumps(obj) + b"\n")
                    count += 1
        return count


def endpoint(member: Member, index: int, *, address: str = "", ready: bool = True) -> Obj:
    """Return one endpoint of a Service's slice."""
    number = member.number * member.endpoints + index
    default = member.upstream[0] if member.upstream else str(IPv4Address(_FIRST_POD + number))
    return {
        "addresses": [address or default],
        "conditions": {"ready": ready, "serving": ready, "terminating": False},
        "nodeName": f"node-{number % _NODES}",
        "zone": f"zone-{number % _NODES % 3}",
        "targetRef": {"kind": "Pod", "namespace": member.namespace, "name": f"{member.name}-{index}"},
    }


def _objects(member: Member) -> Iterator[Obj]:
    meta, captured = {"name": member.name, "namespace": member.namespace}, bool(member.gateway_port)
    port = {"name": "http", "port": _PORT, "targetPort": 8080}
    selector = {"app": member.name}
    spec = {"selector": selector | ({CAPTURED_KEY: "true"} if captured else {}), "ports": [port]}
    yield {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}
    labels = {"app": member.name}
    holder = member.name
    if captured:
        holder = f"{member.name}-acmg"
        labels = {SHADOW_LABEL: "true", SHADOW_OF_LABEL: member.name}
        annotations = {GATEWAY_PORTS_ANNOTATION: format_gateway_ports({_PORT: member.gateway_port})}
        shadow = {"name": holder, "namespace": member.namespace, "labels": labels, "annotations": annotations}
        headless = {"selector": selector, "ports": [port], "clusterIP": "None"}
        yield {"apiVersion": "v1", "kind": "Service", "metadata": shadow, "spec": headless}
    yield {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": member.slice_name, "namespace": member.namespace, "labels": labels | {SERVICE_NAME_LABEL: holder}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": member.upstream[1] if member.upstream else 8080, "protocol": "TCP"}],
        "endpoints": [endpoint(member, index) for index in range(member.endpoints)],
    }
    for index in range(member.endpoints):
        yield _pod(member, index)


def _pod(member: Member, index: int) -> Obj:
    known = endpoint(member, index)
    address = known["addresses"][0]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{member.name}-{index}",
            "namespace": member.namespace,
            "labels": {"app": member.name, "version": f"v{index % 2 + 1}", "pod-template-hash": "6d4cf56db6"},
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{member.name}-6d4cf56db6", "uid": f"u-{member.name}"}
            ],
        },
        "spec": {
            "nodeName": known["nodeName"],
            "serviceAccountName": member.name,
            "containers": [{"name": "main", "image": f"registry.example/{member.name}:1"}],
        },
        "status": {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def start_api(site: Site, objects: Path, kubeconfig: Path) -> tuple[Daemon, str]:
    """Start the API server with the objects of a file; return it with its address once it is ready.

    Raises:
        DaemonError: it did not start.
    """
    argv: list[str | Path] = ["env", f"PYTHONPATH={PROJECT}", sys.executable, "-m", "tests.kube", "--allow-loopback"]
    daemon = site.launch([*argv, "--load", objects, "--kubeconfig", kubeconfig], site.folder("api"))
    return daemon, daemon.wait_log(" ready", timeout_s=120.0).split()[0]
