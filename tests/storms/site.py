# SPDX-License-Identifier: Apache-2.0
"""Site: pods, a cluster that has them, and a real gateway that follows the cluster. What storms break upon."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from routing.capture import SERVICE_NAME_LABEL, SHADOW_LABEL, SHADOW_OF_LABEL
from tests.interop.gateway import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.interop.cluster import Cluster
    from tests.interop.gateway import Gateway, Service
    from tests.storms.pods import Pods

__all__ = ["ISTIO", "Obj", "Site", "destination_rule", "endpoint", "rss_bytes", "split", "virtual_service"]

Obj = dict[str, Any]
ISTIO = "networking.istio.io/v1"


def endpoint(address: str, *, pod: str = "", uid: str = "", terminating: bool = False, serving: bool = True) -> Obj:
    """Make an endpoint of a slice: ready, or terminating."""
    conditions = {"ready": serving and not terminating, "serving": serving, "terminating": terminating}
    found: Obj = {"addresses": [address], "conditions": conditions}
    if pod or uid:
        found["targetRef"] = {"kind": "Pod", "name": pod or "pod", "namespace": "default"} | ({"uid": uid} if uid else {})
    return found


def virtual_service(name: str, hosts: Sequence[str], *rules: Obj) -> Obj:
    """Make a VirtualService with these rules."""
    spec = {"hosts": list(hosts), "http": list(rules)}
    return {"apiVersion": ISTIO, "kind": "VirtualService", "metadata": {"name": name}, "spec": spec}


def split(host: str, **weights: int) -> Obj:
    """Make a rule that shares requests out over subsets."""
    return {"route": [{"destination": {"host": host, "subset": name}, "weight": weight} for name, weight in weights.items()]}


def destination_rule(name: str, **spec: object) -> Obj:
    """Make a DestinationRule of the Service of that name."""
    return {"apiVersion": ISTIO, "kind": "DestinationRule", "metadata": {"name": name}, "spec": {"host": name, **spec}}


class Site:
    """A gateway in a cluster with pods.

    Args:
        gateway: not yet started.
        cluster: what it watches.
        pods: the servers behind every endpoint.
        directory: for the kubeconfig.
    """

    def __init__(self, gateway: Gateway, cluster: Cluster, pods: Pods, directory: Path) -> None:
        self.gateway = gateway
        self.cluster = cluster
        self.pods = pods
        self.directory = directory
        self.options = cluster.options(directory)
        self.health_port = _free_port(cluster.address)
        self.shared = (cluster.address, _free_port(cluster.address))

    def start(self, *options: str, workers: int = 2, env: Mapping[str, str] | None = None) -> None:
        """Start the gateway and wait until it serves."""
        health = ("--health", f"{self.cluster.address}:{self.health_port}")
        at_once = ("--set", "drain_accept_s=0", "--set", "drain_timeout_s=5")
        shared = ("--shared-port", str(self.shared[1]))
        self.gateway.launch(*self.options, *health, *shared, *at_once, *options, workers=workers, env=env)
        self.gateway.wait_ready()

    # --- the cluster ------------------------------------------------------------------------------------------------------

    def add_service(self, name: str, *addresses: str) -> Service:
        """Add a captured Service with pods at these addresses."""
        service = self.cluster.add_service(name, [])
        self.put_slice(name, *(endpoint(address) for address in addresses))
        return service

    def slice(self, service: str, *endpoints: Obj, captured: bool = True) -> Obj:
        """Make the EndpointSlice of a Service."""
        shadow = {SERVICE_NAME_LABEL: f"{service}-acmg", SHADOW_LABEL: "true", SHADOW_OF_LABEL: service}
        return {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": f"{service}-acmg-0", "labels": shadow if captured else {SERVICE_NAME_LABEL: service}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": self.pods.port, "protocol": "TCP"}],
            "endpoints": list(endpoints),
        }

    def put_slice(self, service: str, *endpoints: Obj) -> None:
        """Say which endpoints a captured Service has."""
        self.cluster.put(self.slice(service, *endpoints))

    def put_pod(self, name: str, address: str, version: str) -> None:
        """Add a Pod with a label `version`, so that subsets can tell it from others."""
        self.cluster.put({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"version": version}},
            "spec": {"containers": [{"name": "main", "image": "main"}]},
            "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
        })  # fmt: skip

    def put(self, obj: Obj) -> None:
        """Create or replace any object, as it is."""
        self.cluster.put(obj, verbatim=True)

    # --- the gateway ------------------------------------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        """Return the whole configuration."""
        found: dict[str, Any] = json.loads(self.gateway.get("/config"))
        return found

    def version(self) -> int:
        """Return the version that every worker has, or -1 while they differ."""
        found = self.config()
        versions = {found["version"], *found["worker_versions"].values()}
        return int(found["version"]) if len(versions) == 1 else -1

    def settle(self, change: Callable[[], object]) -> None:
        """Make a change and wait until every worker has it."""
        before = self.version()
        change()
        wait_for(lambda: self.version() > before, "every worker has the change")

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples that have these labels."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        total = 0.0
        for line in self.gateway.get("/metrics").splitlines():
            series, _, value = line.rpartition(" ")
            if series.partition("{")[0] == name and all(label in series for label in wanted):
                total += float(value)
        return total

    def is_ready(self) -> bool:
        """Tell what /ready says."""
        return self.gateway.get("/ready") == "ready\n"

    def processes(self) -> list[int]:
        """Return the process ids of supervisor and workers."""
        return [self.gateway.pid, *self.gateway.workers()]

    def refused(self) -> set[tuple[str, str]]:
        """Return objects and fields that the log says are refused and does not say are accepted again."""
        refused: set[tuple[str, str]] = set()
        for line in self.gateway.events:
            about = (str(line.get("object")), str(line.get("field")))
            if line["event"] == "refused, the last good version stays in force":
                refused.add(about)
            elif line["event"] == "no longer refused":
                refused.discard(about)
        return refused


def rss_bytes(pid: int) -> int:
    """Return what a process holds in memory now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
        return port
