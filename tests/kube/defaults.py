# SPDX-License-Identifier: Apache-2.0
"""What the server fills in before it checks and stores an object: defaults, and a Service's ClusterIP.

Only what matters to a client that reads the object back: clients compare what they wish with what is there, and defaults that
they did not expect make them write for ever. Wrong types are left alone; validation names them.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.kube.cluster_ips import ClusterIps
    from tests.kube.kinds import Kind

__all__ = ["Defaults"]


class Defaults:
    """Fills objects in."""

    def __init__(self, cluster_ips: ClusterIps) -> None:
        self._cluster_ips = cluster_ips
        self._next_port = count(30000)
        self._rules: dict[tuple[str, str], Callable[[dict[str, Any]], None]] = {
            ("", "namespaces"): _namespace,
            ("", "pods"): _pod,
            ("discovery.k8s.io", "endpointslices"): _endpoint_slice,
            ("apps", "deployments"): _deployment,
            ("apps", "daemonsets"): _daemon_set,
            ("apps", "replicasets"): _replica_set,
        }

    def fill(self, kind: Kind, obj: dict[str, Any], old: dict[str, Any] | None) -> None:
        """Fill an object in; `old` is what it replaces."""
        if kind.key == ("", "services"):
            self._service(obj, old)
        elif (rule := self._rules.get(kind.key)) is not None:
            rule(obj)

    def _service(self, obj: dict[str, Any], old: dict[str, Any] | None) -> None:
        spec = obj.get("spec")
        if not isinstance(spec, dict):
            return
        spec.setdefault("type", "ClusterIP")
        spec.setdefault("sessionAffinity", "None")
        for port in spec.get("ports") or ():
            if isinstance(port, dict):
                port.setdefault("protocol", "TCP")
                port["targetPort"] = port.get("targetPort") or port.get("port")
        if spec["type"] == "ExternalName":
            return
        was = (old or {}).get("spec", {})
        for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            if not spec.get(name) and was.get(name) and was.get("type") != "ExternalName":
                spec[name] = was[name]
        if was.get("clusterIP") and spec["clusterIP"] != was["clusterIP"] and spec["clusterIPs"] == was.get("clusterIPs"):
            spec["clusterIPs"] = [spec["clusterIP"]]  # who changes one means both
        self._families(spec)
        spec.setdefault("internalTrafficPolicy", "Cluster")
        if spec["type"] in {"NodePort", "LoadBalancer"}:
            spec.setdefault("externalTrafficPolicy", "Cluster")
            for port in spec.get("ports") or ():
                if isinstance(port, dict) and not port.get("nodePort"):
                    port["nodePort"] = next(self._next_port)
        obj.setdefault("status", {"loadBalancer": {}})

    def _families(self, spec: dict[str, Any]) -> None:
        spec.setdefault("ipFamilyPolicy", "SingleStack")
        given = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
        if not spec.get("ipFamilies"):
            versions = ["IPv6" if ":" in str(one) else "IPv4" for one in given] or ["IPv4"]
            spec["ipFamilies"] = versions
            if spec["ipFamilyPolicy"] in {"PreferDualStack", "RequireDualStack"} and len(versions) == 1:
                spec["ipFamilies"] = [*versions, "IPv4" if versions[0] == "IPv6" else "IPv6"]
        if given[:1] != ["None"]:
            given = [*given, *(self._cluster_ips.free(family) for family in spec["ipFamilies"][len(given) :])]
        if not spec.get("clusterIP") or not spec.get("clusterIPs"):
            spec["clusterIP"] = given[0]
            spec["clusterIPs"] = given


def _namespace(obj: dict[str, Any]) -> None:
    labels = obj["metadata"].setdefault("labels", {})
    labels["kubernetes.io/metadata.name"] = obj["metadata"]["name"]
    obj.setdefault("spec", {"finalizers": ["kubernetes"]})
    obj.setdefault("status", {}).setdefault("phase", "Active")


def _pod(obj: dict[str, Any]) -> None:
    spec = obj.get("spec")
    if isinstance(spec, dict):
        _pod_spec(spec)
    obj.setdefault("status", {"phase": "Pending"})


def _pod_spec(spec: dict[str, Any]) -> None:
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    for container in spec.get("containers") or ():
        for port in container.get("ports") or ():
            port.setdefault("protocol", "TCP")


def _endpoint_slice(obj: dict[str, Any]) -> None:
    for port in obj.get("ports") or ():
        if isinstance(port, dict):
            port.setdefault("name", "")
            port.setdefault("protocol", "TCP")


def _template(obj: dict[str, Any]) -> None:
    spec = obj.get("spec", {}).get("template", {}).get("spec")
    if isinstance(spec, dict):
        _pod_spec(spec)


def _deployment(obj: dict[str, Any]) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    spec.setdefault("strategy", {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}})
    _template(obj)


def _daemon_set(obj: dict[str, Any]) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("updateStrategy", {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}})
    _template(obj)


def _replica_set(obj: dict[str, Any]) -> None:
    obj.setdefault("spec", {}).setdefault("replicas", 1)
    _template(obj)
