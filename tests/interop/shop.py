# SPDX-License-Identifier: Apache-2.0
"""A small shop behind a gateway, for looking at: Services that are split, fail, are slow, are ejected, or are never asked."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

from tests.interop.gateway import Service
from tests.interop.upstream import free_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.interop.gateway import Gateway
    from tests.interop.upstream import Exchange, Upstream

__all__ = ["REVIEWS", "Shop"]

REVIEWS = "reviews.shop.svc.cluster.local"
_NAMESPACE = "shop"
_ISTIO = "networking.istio.io/v1"
_PAUSE = threading.Event()  # never set: waiting for it takes the time given


class Shop:
    """The shop's Services, by name, and the servers behind them."""

    def __init__(self, gateway: Gateway, make_upstream: Callable[..., Upstream]) -> None:
        self._gateway = gateway
        self._make_upstream = make_upstream
        self.upstreams: dict[str, list[Upstream]] = {}
        self.services = {
            name: self._add(name, versions)
            for name, versions in {
                "catalogue": {"v1": 2},
                "checkout": {"v1": 2},
                "inventory": {"v1": 1},
                "ratings": {"v1": 4},
                "reviews": {"v1": 2, "v2": 1},
                "search": {"v3": 2},
            }.items()
        }
        self._rules()

    def get(self, service: str, path: str = "/", headers: dict[str, str] | None = None) -> int:
        """Ask a Service; return the status."""
        request = urllib.request.Request(self.services[service].url(path), headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                answer.read()
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.read()
            return error.code

    def _add(self, name: str, versions: dict[str, int]) -> Service:
        host, port = free_address()
        self._put("v1", "Service", name, {
            "spec": {"clusterIP": host, "selector": {"app": name}, "ports": [{"name": "http", "port": port}]},
        })  # fmt: skip
        for version, number in versions.items():
            for member in range(number):
                upstream = self._make_upstream(f"{name}-{version}")
                upstream.on("/fail", _fail)
                upstream.on("/slow", _slow)
                self.upstreams.setdefault(f"{name}-{version}", []).append(upstream)
                self._pod(name, version, member, upstream)
        return Service(name, _NAMESPACE, (host, port))

    def _pod(self, app: str, version: str, member: int, upstream: Upstream) -> None:
        workload = f"{app}-{version}"
        pod = f"{workload}-7c4f-{member}"
        host, port = upstream.address
        labels = {"app": app, "version": version, "pod-template-hash": "7c4f"}
        owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{workload}-7c4f", "uid": workload, "controller": True}
        self._put(
            "v1", "Pod", pod, {"status": {"phase": "Running", "podIP": host, "podIPs": [{"ip": host}]}},
            uid=pod, labels=labels, ownerReferences=[owner],
        )  # fmt: skip
        endpoint = {
            "addresses": [host],
            "zone": f"zone-{'ab'[member % 2]}",
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "targetRef": {"kind": "Pod", "name": pod, "namespace": _NAMESPACE, "uid": pod},
        }
        self._put(
            "discovery.k8s.io/v1", "EndpointSlice", pod,
            {
                "addressType": "IPv4",
                "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
                "endpoints": [endpoint],
            },
            labels={"kubernetes.io/service-name": app},
        )  # fmt: skip

    def _rules(self) -> None:
        subsets = [{"name": version, "labels": {"version": version}} for version in ("v1", "v2")]
        self._put(_ISTIO, "DestinationRule", "reviews", {"spec": {"host": "reviews", "subsets": subsets}})
        outlier = {"consecutive5xxErrors": 3, "interval": "1s", "baseEjectionTime": "300s", "maxEjectionPercent": 50}
        policy = {"outlierDetection": outlier}
        self._put(_ISTIO, "DestinationRule", "ratings", {"spec": {"host": "ratings", "trafficPolicy": policy}})
        self.split(90)

    def split(self, v1: int) -> None:
        """Send so many percent of the reviews to v1."""

        def to(version: str, weight: int) -> dict[str, Any]:
            return {"destination": {"host": "reviews", "subset": version}, "weight": weight}

        testers = {
            "name": "testers",
            "match": [{"headers": {"end-user": {"exact": "jason"}}}],
            "directResponse": {"status": 418},
        }
        split = {"name": "canary", "route": [to("v1", v1), to("v2", 100 - v1)]}
        self._put(_ISTIO, "VirtualService", "reviews", {"spec": {"hosts": ["reviews"], "http": [testers, split]}})

    def add_mistakes(self) -> None:
        """Add an object that is refused and one that leads nowhere."""
        self._put(_ISTIO, "VirtualService", "checkout", {
            "spec": {"hosts": ["checkout"], "http": [{"route": [{"destination": {"host": "chekout"}}]}]},
        })  # fmt: skip
        self._put(_ISTIO, "VirtualService", "search", {
            "spec": {"hosts": ["search"], "http": [{"timeout": "fast", "route": [{"destination": {"host": "search"}}]}]},
        })  # fmt: skip

    def _put(self, version: str, kind: str, name: str, content: dict[str, Any], **meta: Any) -> None:
        metadata = {"name": name, "namespace": _NAMESPACE, **meta}
        self._gateway.apply({"apiVersion": version, "kind": kind, "metadata": metadata, **content})


def _fail(exchange: Exchange) -> None:
    exchange.body()
    exchange.answer(500, b"no\n")


def _slow(exchange: Exchange) -> None:
    exchange.body()
    _PAUSE.wait(0.03)
    exchange.answer(200, b"at last\n")
