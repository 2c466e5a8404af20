# SPDX-License-Identifier: Apache-2.0
"""What a cluster saves when gateways do the work of sidecars: the arithmetic, from measured figures and named assumptions.

Where there is a choice, the sidecars get the better figure: no configuration in their memory, shared pages counted once. The
gateways get the dearer one: a head of its own for each request, memory at the peak, part of their CPU left free.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.document.results import Results

__all__ = ["Assumptions", "Savings", "savings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """The cluster.

    Args:
        pods: all of them.
        requests_per_pod: sent by each, per second.
        services: each with a VirtualService.
        busy: share of a gateway's CPU that is in use.
        replicas: gateways at least, so that one can be lost.
    """

    pods: int = 1_000
    requests_per_pod: float = 10.0
    services: int = 100
    busy: float = 0.5
    replicas: int = 3

    @property
    def requests(self) -> float:
        """Requests per second of the whole cluster."""
        return self.pods * self.requests_per_pod


@dataclass(frozen=True, slots=True, kw_only=True)
class Savings:
    """Both sides, step by step. CPU in cores, memory in GB; cpu_us per request, mb per process, kib per object."""

    envoys_cpu_us: float
    gateway_cpu_us: float
    sidecar_mb: float
    worker_mb: float
    supervisor_mb: float
    route_kib: float
    endpoint_kib: float
    sidecar_cores: float
    gateway_cores: float
    workers: int
    worker_with_objects_mb: float
    sidecar_gb: float
    gateway_gb: float


def savings(results: Results, given: Assumptions) -> Savings | None:
    """Do the arithmetic; None if something that it needs was not measured."""
    labels = {"connections": 16, "headers": 10, "distinct": True}
    envoys = results.find("connections", "cpu_us", peer="envoy-two-hops", **labels)
    gateway = results.find("connections", "cpu_us", peer="acmgproxy", **labels)
    sidecar = results.find("at_rest", "pss_mb", peer="envoy")
    loaded = [row["values"]["worker_rss_mb"][0] for row in results.rows("under_load", peer="acmgproxy")]
    whole = [row["values"]["rss_mb"][0] for row in results.rows("under_load", peer="acmgproxy")]
    route = results.find("memory", "each_kib", name="route", process="worker")
    endpoint = results.find("memory", "each_kib", name="endpoint", process="worker")
    if envoys is None or gateway is None or sidecar is None or not loaded or route is None or endpoint is None:
        return None
    sidecar_cores = given.requests * envoys.median / 1e6
    gateway_cores = given.requests * gateway.median / 1e6
    workers = max(given.replicas, ceil(gateway_cores / given.busy))
    objects_kib = given.services * route.median + given.pods * endpoint.median
    with_objects = loaded[0] + objects_kib / 1024
    supervisor = whole[0] - loaded[0]
    return Savings(
        envoys_cpu_us=envoys.median,
        gateway_cpu_us=gateway.median,
        sidecar_mb=sidecar.median,
        worker_mb=loaded[0],
        supervisor_mb=supervisor,
        route_kib=route.median,
        endpoint_kib=endpoint.median,
        sidecar_cores=sidecar_cores,
        gateway_cores=gateway_cores,
        workers=workers,
        worker_with_objects_mb=with_objects,
        sidecar_gb=given.pods * sidecar.median / 1000,
        gateway_gb=(workers * with_objects + given.replicas * supervisor) / 1000,
    )
