# SPDX-License-Identifier: Apache-2.0
"""The parts of Kubernetes' objects that the controller reads, as slim records.

They are finer than `routing.resources` where the controller writes objects back (target ports, owners, whole endpoints) and have
nothing of the rest. Every list and map may be null: the API server writes an empty one so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec import field

from acmgproxy.controller.names import shadow_name
from routing.capture import SHADOW_LABEL, SHADOW_OF_LABEL

T = TypeVar("T", bound="Stored")

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Endpoint",
    "EndpointConditions",
    "EndpointPort",
    "EndpointSlice",
    "Meta",
    "Namespace",
    "Node",
    "Owner",
    "Pod",
    "Service",
    "ServicePort",
    "ServiceSpec",
    "Stored",
    "VirtualService",
    "decoder",
]


class _Slim(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename="camel", omit_defaults=True):
    pass


class Owner(_Slim, frozen=True, kw_only=True):
    """Who made an object."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool | None = None


class Meta(_Slim, frozen=True, kw_only=True):
    """An object's metadata. Times are texts in RFC 3339 and UTC, so they sort by age."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    labels_: dict[str, str] | None = field(default=None, name="labels")
    annotations_: dict[str, str] | None = field(default=None, name="annotations")
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    owners_: tuple[Owner, ...] | None = field(default=None, name="ownerReferences")

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        return self.labels_ or {}

    @property
    def annotations(self) -> dict[str, str]:
        """Its annotations."""
        return self.annotations_ or {}

    @property
    def owners(self) -> tuple[Owner, ...]:
        """Its owners."""
        return self.owners_ or ()

    @property
    def age(self) -> tuple[str, str, str]:
        """Sort key, oldest first; an object that the API server has not stored yet is the youngest."""
        return self.creation_timestamp or "~", self.namespace, self.name


class Stored(_Slim, frozen=True, kw_only=True):
    """Base of what is watched."""

    meta: Meta = field(name="metadata")

    @property
    def key(self) -> tuple[str, str]:
        """(namespace, name)."""
        return self.meta.namespace, self.meta.name

    @property
    def is_going(self) -> bool:
        """Whether it is being deleted."""
        return self.meta.deletion_timestamp is not None


class ServicePort(_Slim, frozen=True, kw_only=True):
    """A port of a Service."""

    port: int
    name: str = ""
    protocol: str = "TCP"
    app_protocol: str | None = None
    target_port: int | str | None = None

    @property
    def target(self) -> int | str:
        """Where it leads in a pod: a number or the name of a container's port."""
        return self.port if self.target_port in {None, 0, ""} else self.target_port


class ServiceSpec(_Slim, frozen=True, kw_only=True):
    """What a Service is."""

    type: str = "ClusterIP"
    cluster_ip: str = field(default="", name="clusterIP")
    ports_: tuple[ServicePort, ...] | None = field(default=None, name="ports")
    selector_: dict[str, str] | None = field(default=None, name="selector")
    ip_families_: tuple[str, ...] | None = field(default=None, name="ipFamilies")
    ip_family_policy: str | None = None
    publish_not_ready_addresses: bool = False
    internal_traffic_policy: str | None = None
    external_traffic_policy: str | None = None
    traffic_distribution: str | None = None


class Service(Stored, frozen=True, kw_only=True):
    """A Service."""

    spec: ServiceSpec = ServiceSpec()

    @property
    def ports(self) -> tuple[ServicePort, ...]:
        """Its ports."""
        return self.spec.ports_ or ()

    @property
    def selector(self) -> dict[str, str]:
        """Its selector."""
        return self.spec.selector_ or {}

    @property
    def is_shadow(self) -> bool:
        """Whether it is another's shadow, by its label or, if somebody removed that, by its owner and name."""
        if self.meta.labels.get(SHADOW_LABEL) == "true":
            return True
        return any(owner.kind == "Service" and shadow_name(owner.name) == self.meta.name for owner in self.meta.owners)

    @property
    def shadow_of(self) -> str:
        """Name of the Service whose shadow it is, "" if it is none."""
        if name := self.meta.labels.get(SHADOW_OF_LABEL, "") if self.is_shadow else "":
            return name
        return next((one.name for one in self.meta.owners if one.kind == "Service"), "") if self.is_shadow else ""

    @property
    def families(self) -> tuple[str, ...]:
        """`IPv4`, `IPv6` or both."""
        return self.spec.ip_families_ or (("IPv6",) if ":" in self.spec.cluster_ip else ("IPv4",))


class EndpointConditions(_Slim, frozen=True, kw_only=True):
    """What state an endpoint is in. Unsaid, it is ready."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Endpoint(_Slim, frozen=True, kw_only=True):
    """One address of a slice, whole, since direct slices repeat it."""

    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = EndpointConditions()
    hostname: str | None = None
    node_name: str | None = None
    zone: str | None = None
    hints: dict[str, Any] | None = None
    target_ref: dict[str, Any] | None = None

    @property
    def is_usable(self) -> bool:
        """Whether kube-proxy sends traffic there: ready, or serving while it terminates when nothing else is left."""
        if self.conditions.ready is not False:
            return True
        return self.conditions.terminating is True and self.conditions.serving is True

    @property
    def is_ready(self) -> bool:
        """Whether it is ready."""
        return self.conditions.ready is not False


class EndpointPort(_Slim, frozen=True, kw_only=True):
    """A port of a slice."""

    name_: str | None = field(default=None, name="name")
    port: int | None = None
    protocol: str = "TCP"
    app_protocol: str | None = None

    @property
    def name(self) -> str:
        """Its name, that of the Service's port; may be empty."""
        return self.name_ or ""


class EndpointSlice(Stored, frozen=True, kw_only=True):
    """An EndpointSlice."""

    address_type: str = "IPv4"
    ports_: tuple[EndpointPort, ...] | None = field(default=None, name="ports")
    endpoints_: tuple[Endpoint, ...] | None = field(default=None, name="endpoints")

    @property
    def ports(self) -> tuple[EndpointPort, ...]:
        """Its ports; each goes with every endpoint."""
        return self.ports_ or ()

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Its endpoints."""
        return self.endpoints_ or ()


class Namespace(Stored, frozen=True, kw_only=True):
    """A Namespace."""

    @property
    def key(self) -> tuple[str, str]:
        """("", name)."""
        return "", self.meta.name


class Node(Stored, frozen=True, kw_only=True):
    """A Node; its zone is a label."""


class _PodIP(_Slim, frozen=True, kw_only=True):
    ip: str = ""


class _PodCondition(_Slim, frozen=True, kw_only=True):
    type: str = ""
    status: str = ""


class _PodSpec(_Slim, frozen=True, kw_only=True):
    node_name: str = ""


class _PodStatus(_Slim, frozen=True, kw_only=True):
    pod_ip: str = field(default="", name="podIP")
    pod_ips: tuple[_PodIP, ...] | None = field(default=None, name="podIPs")
    conditions: tuple[_PodCondition, ...] | None = None


class Pod(Stored, frozen=True, kw_only=True):
    """A gateway's pod."""

    spec: _PodSpec = _PodSpec()
    status: _PodStatus = _PodStatus()

    @property
    def addresses(self) -> dict[str, str]:
        """Its address by family, the first of each."""
        found: dict[str, str] = {}
        for address in (self.status.pod_ip, *(entry.ip for entry in self.status.pod_ips or ())):
            if address:
                found.setdefault("IPv6" if ":" in address else "IPv4", address)
        return found

    @property
    def is_ready(self) -> bool:
        """Whether the kubelet calls it ready."""
        return any(one.type == "Ready" and one.status == "True" for one in self.status.conditions or ())


class _Host(_Slim, frozen=True, kw_only=True):
    host: str = ""


class _Destination(_Slim, frozen=True, kw_only=True):
    destination: _Host = _Host()


class _Delegate(_Slim, frozen=True, kw_only=True):
    name: str = ""
    namespace: str = ""


class _HTTPRoute(_Slim, frozen=True, kw_only=True):
    route: tuple[_Destination, ...] | None = None
    mirror: _Host | None = None
    mirrors: tuple[_Destination, ...] | None = None
    delegate: _Delegate | None = None


class _VirtualServiceSpec(_Slim, frozen=True, kw_only=True):
    gateways: tuple[str, ...] | None = None
    hosts: tuple[str, ...] | None = None
    http: tuple[_HTTPRoute, ...] | None = None


class VirtualService(Stored, frozen=True, kw_only=True):
    """A VirtualService: whom it is for and where it leads."""

    spec: _VirtualServiceSpec = _VirtualServiceSpec()

    @property
    def gateways(self) -> tuple[str, ...]:
        """Names of the gateways it is bound to."""
        return self.spec.gateways or ()

    @property
    def hosts(self) -> tuple[str, ...]:
        """Its hosts."""
        return self.spec.hosts or ()

    @property
    def destinations(self) -> tuple[str, ...]:
        """Hosts that its rules send requests to, or copies of them."""
        found: list[str] = []
        for rule in self.spec.http or ():
            found.extend(one.destination.host for one in (*(rule.route or ()), *(rule.mirrors or ())))
            if rule.mirror is not None:
                found.append(rule.mirror.host)
        return tuple(dict.fromkeys(host for host in found if host))

    @property
    def delegates(self) -> tuple[tuple[str, str], ...]:
        """(namespace, name) of the VirtualServices that have further rules of its own."""
        own = self.meta.namespace
        delegates = (rule.delegate for rule in self.spec.http or () if rule.delegate is not None and rule.delegate.name)
        return tuple(dict.fromkeys((one.namespace or own, one.name) for one in delegates))


def decoder(kind: type[T]) -> Callable[[bytes], T]:
    """Return what reads a kind from JSON; it raises `msgspec.DecodeError` or `msgspec.ValidationError`."""
    return msgspec.json.Decoder(kind, strict=True).decode
