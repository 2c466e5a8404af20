# SPDX-License-Identifier: Apache-2.0
"""ApiKind: where the objects of a kind are in the Kubernetes API, and the kinds that are used."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote

__all__ = [
    "DESTINATION_RULES",
    "ENDPOINT_SLICES",
    "EVENTS",
    "LEASES",
    "NAMESPACES",
    "NODES",
    "PODS",
    "SERVICES",
    "SERVICE_ENTRIES",
    "TELEMETRIES",
    "VIRTUAL_SERVICES",
    "ApiKind",
]


class ApiKind(NamedTuple):
    """A kind of objects.

    Args:
        group: API group, "" for the core.
        version: of the group, as requests name it.
        plural: the resource's name in paths.
        kind: as objects name it.
        namespaced: whether its objects are in namespaces.
        older: further versions, the best first, for a server that does not have `version`.
        is_custom: whether it is defined by a CRD, so that a server may not have it at all.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    older: tuple[str, ...] = ()
    is_custom: bool = False

    @property
    def api_version(self) -> str:
        """What objects of this kind have as apiVersion."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Return the path of all objects, of those of a namespace, of one object, or of its subresource."""
        root = f"/apis/{quote(self.group)}/{self.version}" if self.group else f"/api/{self.version}"
        space = ("namespaces", namespace) if namespace and self.namespaced else ()
        parts = (*space, self.plural, *([name] if name else ()), *([subresource] if subresource else ()))
        return "/".join((root, *(quote(part, safe="") for part in parts)))


_ISTIO = "networking.istio.io"
_OLDER = ("v1beta1", "v1alpha3")

SERVICES = ApiKind("", "v1", "services", "Service")
NAMESPACES = ApiKind("", "v1", "namespaces", "Namespace", namespaced=False)
PODS = ApiKind("", "v1", "pods", "Pod")
NODES = ApiKind("", "v1", "nodes", "Node", namespaced=False)
EVENTS = ApiKind("events.k8s.io", "v1", "events", "Event")
ENDPOINT_SLICES = ApiKind("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
LEASES = ApiKind("coordination.k8s.io", "v1", "leases", "Lease")
VIRTUAL_SERVICES = ApiKind(_ISTIO, "v1", "virtualservices", "VirtualService", older=_OLDER, is_custom=True)
DESTINATION_RULES = ApiKind(_ISTIO, "v1", "destinationrules", "DestinationRule", older=_OLDER, is_custom=True)
SERVICE_ENTRIES = ApiKind(_ISTIO, "v1", "serviceentries", "ServiceEntry", older=_OLDER, is_custom=True)
TELEMETRIES = ApiKind("telemetry.istio.io", "v1", "telemetries", "Telemetry", older=("v1alpha1",), is_custom=True)
