# SPDX-License-Identifier: Apache-2.0
"""Kubernetes' own kinds: Service, EndpointSlice, Pod, Namespace.

Only the fields that routing uses are read; the rest of these large objects is none of our business and not noted.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta, field
from msgspec.structs import force_setattr

from routing import capture
from routing.resources._base import Fields, Resource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from routing.resources._base import OwnerReference

__all__ = [
    "Endpoint",
    "EndpointConditions",
    "EndpointPort",
    "EndpointSlice",
    "Namespace",
    "ObjectReference",
    "Pod",
    "PodCondition",
    "PodIP",
    "PodSpec",
    "PodStatus",
    "Service",
    "ServicePort",
    "ServiceSpec",
]

SHARED = 16_384
"""Sets of labels, and owners, of which equal ones are one object; as many workloads as a large cluster has."""

PortNumber = Annotated[int, Meta(ge=1, le=65535)]


_NO_ANNOTATIONS: dict[str, str] = {}


@lru_cache(maxsize=SHARED)
def _labels(items: frozenset[tuple[str, str]]) -> dict[str, str]:
    return dict(sorted(items))


@lru_cache(maxsize=SHARED)
def _owners(owners: tuple[OwnerReference, ...]) -> tuple[OwnerReference, ...]:
    return owners


@lru_cache(maxsize=16)
def _conditions(conditions: tuple[PodCondition, ...]) -> tuple[PodCondition, ...]:
    return conditions


class _Lenient(Fields, frozen=True, kw_only=True):
    unknown: ClassVar[Literal["note", "refuse", "skip"]] = "skip"


class ServicePort(_Lenient, frozen=True, kw_only=True):
    """A port of a Service. `name` may be empty when it is the only one."""

    name: str = ""
    port: PortNumber
    protocol: str = "TCP"
    app_protocol: str = ""


class ServiceSpec(_Lenient, frozen=True, kw_only=True):
    """What a Service is."""

    type: str = "ClusterIP"
    cluster_ip: str = field(default="", name="clusterIP")
    cluster_ips: tuple[str, ...] = field(default=(), name="clusterIPs")
    ports: tuple[ServicePort, ...] = ()
    selector: dict[str, str] = field(default_factory=dict)
    external_name: str = ""
    session_affinity: str = "None"
    traffic_distribution: str = ""


class Service(Resource, frozen=True, kw_only=True):
    """A Kubernetes Service."""

    kind: ClassVar[str] = "Service"
    api_versions: ClassVar[tuple[str, ...]] = ("v1",)
    unknown: ClassVar[Literal["note", "refuse", "skip"]] = "skip"

    spec: ServiceSpec = ServiceSpec()

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its cluster IPs, without repetition; none when it is headless."""
        addresses = self.spec.cluster_ips or (self.spec.cluster_ip,)
        return tuple(dict.fromkeys(address for address in addresses if address and address != "None"))

    @property
    def is_alias(self) -> bool:
        """Whether it is only another name for a host."""
        return self.spec.type == "ExternalName"

    @property
    def is_headless(self) -> bool:
        """Whether its clients address its pods."""
        return self.spec.cluster_ip == "None"

    @property
    def tcp_ports(self) -> tuple[ServicePort, ...]:
        """Its TCP ports."""
        return tuple(port for port in self.spec.ports if port.protocol == "TCP")


class EndpointConditions(_Lenient, frozen=True, kw_only=True):
    """State of an endpoint; None is "unknown", to be read as ready."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class ObjectReference(_Lenient, frozen=True, kw_only=True):
    """The object behind an endpoint."""

    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""


class Endpoint(_Lenient, frozen=True, kw_only=True):
    """One member of a slice. Consumers use the first address: the API's others are alternatives of the same pod."""

    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = EndpointConditions()
    target_ref: ObjectReference | None = None
    zone: str = ""
    hostname: str = ""


class EndpointPort(_Lenient, frozen=True, kw_only=True):
    """A port of a slice, tied to the Service's port of the same name."""

    name: str = ""
    port: PortNumber | None = None
    protocol: str = "TCP"


class EndpointSlice(Resource, frozen=True, kw_only=True):
    """Some of a Service's endpoints. Labels name the Service (see routing.capture)."""

    kind: ClassVar[str] = "EndpointSlice"
    api_versions: ClassVar[tuple[str, ...]] = ("discovery.k8s.io/v1",)
    unknown: ClassVar[Literal["note", "refuse", "skip"]] = "skip"

    def __post_init__(self) -> None:
        """Leave out what nobody reads: annotations that change with every endpoint."""
        force_setattr(self.meta, "annotations", _NO_ANNOTATIONS)

    address_type: str = "IPv4"
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[EndpointPort, ...] = ()

    @property
    def service(self) -> tuple[str, str] | None:
        """(namespace, name) of the Service whose endpoints it holds, None when it holds nobody's.

        A slice of a shadow holds those of the captured Service.
        """
        return capture.endpoints_of(self.meta)

    @property
    def shadow(self) -> tuple[str, str] | None:
        """(namespace, name) of the shadow it belongs to, None when it belongs to none."""
        name = self.meta.labels.get(capture.SERVICE_NAME_LABEL)
        return (self.meta.namespace, name) if name and capture.is_shadow(self.meta) else None

    def pod_of(self, endpoint: Endpoint) -> tuple[str, str] | None:
        """(namespace, name) of the Pod behind an endpoint, None when the slice does not say."""
        target = endpoint.target_ref
        if target is None or target.kind != "Pod" or not target.name:
            return None
        return target.namespace or self.meta.namespace, target.name

    def pods(self) -> Iterator[tuple[str, str]]:
        """Yield (namespace, name) of every Pod behind the endpoints."""
        for endpoint in self.endpoints:
            if (pod := self.pod_of(endpoint)) is not None:
                yield pod


class PodSpec(_Lenient, frozen=True, kw_only=True):
    """What of a Pod's spec says who it is."""

    host_network: bool = False
    service_account_name: str = ""


class PodIP(_Lenient, frozen=True, kw_only=True):
    """One of a Pod's addresses."""

    ip: str


class PodCondition(_Lenient, frozen=True, kw_only=True):
    """One aspect of a Pod's state."""

    type: str = ""
    status: str = ""


class PodStatus(_Lenient, frozen=True, kw_only=True):
    """What of a Pod's status says where and how it is."""

    phase: str = ""
    pod_ip: str = field(default="", name="podIP")
    pod_ips: tuple[PodIP, ...] = field(default=(), name="podIPs")
    conditions: tuple[PodCondition, ...] = ()


class Pod(Resource, frozen=True, kw_only=True):
    """A Kubernetes Pod, as a slim record."""

    kind: ClassVar[str] = "Pod"
    api_versions: ClassVar[tuple[str, ...]] = ("v1",)
    unknown: ClassVar[Literal["note", "refuse", "skip"]] = "skip"

    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    def __post_init__(self) -> None:
        """Share what the Pods of a workload have in common, and leave out what nobody reads, often most of the object."""
        meta, status = self.meta, self.status
        force_setattr(meta, "annotations", _NO_ANNOTATIONS)
        force_setattr(meta, "labels", _labels(frozenset(meta.labels.items())))
        force_setattr(meta, "owner_references", _owners(meta.owner_references))
        if status.conditions:
            force_setattr(status, "conditions", _conditions(tuple(entry for entry in status.conditions if entry.type == "Ready")))

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its IP addresses, without repetition."""
        addresses = (self.status.pod_ip, *(entry.ip for entry in self.status.pod_ips))
        return tuple(dict.fromkeys(address for address in addresses if address))

    @property
    def is_ready(self) -> bool:
        """Whether it takes requests, as a Pod selected by a Service would; unsaid, a running Pod does."""
        ready = next((entry.status for entry in self.status.conditions if entry.type == "Ready"), "True")
        return self.status.phase in {"", "Running"} and self.meta.deletion_timestamp is None and ready == "True"


class Namespace(Resource, frozen=True, kw_only=True):
    """A Kubernetes Namespace."""

    kind: ClassVar[str] = "Namespace"
    api_versions: ClassVar[tuple[str, ...]] = ("v1",)
    namespaced: ClassVar[bool] = False
    unknown: ClassVar[Literal["note", "refuse", "skip"]] = "skip"
