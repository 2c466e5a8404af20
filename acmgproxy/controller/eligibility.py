# SPDX-License-Identifier: Apache-2.0
"""Which Services are captured, which of their ports, and why one that asks for it is refused.

Pure. Who asks: the label on the Service decides; without one, that on its Namespace; without either, a VirtualService bound to
the gateways that names the Service. Texts end up in the annotation `acmg.io/status` and in Events, so they say what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from routing.capture import CAPTURE_LABEL, CAPTURED_KEY, EXCLUDE_PORTS_ANNOTATION

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from acmgproxy.controller.objects import Namespace, Service, ServicePort, VirtualService

__all__ = ["GATEWAY", "PROTECTED_NAMESPACES", "Verdict", "captured_ports", "is_switched_off", "judge", "named_services"]

GATEWAY = "acmg-gateway"
"""What a VirtualService's `gateways` says, with or without a namespace, to be bound to the gateways."""

PROTECTED_NAMESPACES = frozenset({"kube-system"})
"""Never captured, beside the controller's own: the cluster's own parts must not depend on gateways."""

HTTP_PROTOCOLS = frozenset({"http", "kubernetes.io/ws"})
"""Values of appProtocol that gateways speak."""

MAX_PORTS = 100
"""An EndpointSlice holds no more (discovery/v1, `ports`)."""


class Verdict(NamedTuple):
    """Whether a Service is captured.

    Args:
        answer: `unasked`: nobody wants it. `refused`: somebody does, but it cannot be. `captured`: it should be.
        reason: why it is refused.
        ports: numbers of the ports to capture.
    """

    answer: Literal["unasked", "refused", "captured"]
    reason: str = ""
    ports: tuple[int, ...] = ()


UNASKED = Verdict("unasked")


def judge(
    service: Service, namespace: Namespace | None, *, is_named: bool = False, system_namespace: str, is_off: bool = False
) -> Verdict:
    """Decide about a Service.

    Args:
        service: which.
        namespace: the one it is in, None if it is not known (yet).
        is_named: whether a VirtualService bound to the gateways names it.
        system_namespace: where the gateways are.
        is_off: whether capture is switched off for the whole cluster.
    """
    if is_off or service.is_shadow or not _is_asked(service, namespace, is_named=is_named):
        return UNASKED
    if reason := _refusal(service, system_namespace):
        return Verdict("refused", reason)
    ports = captured_ports(service)
    if not ports:
        return Verdict(
            "refused",
            "no port is HTTP: name a TCP port `http` or `http-...`, or set its appProtocol to `http` "
            f"(ports in the annotation {EXCLUDE_PORTS_ANNOTATION} and names ending in `metrics` do not count)",
        )
    return Verdict("captured", "", ports)


def is_switched_off(system_namespace: Namespace | None) -> bool:
    """Tell whether the label on the gateways' own Namespace asks to release every Service."""
    return system_namespace is not None and system_namespace.meta.labels.get(CAPTURE_LABEL) == "disabled"


def captured_ports(service: Service) -> tuple[int, ...]:
    """Return the numbers of a Service's ports that gateways take over."""
    excluded = {part.strip() for part in service.meta.annotations.get(EXCLUDE_PORTS_ANNOTATION, "").split(",")}
    return tuple(port.port for port in service.ports if _is_http(port) and not excluded & {port.name or " ", str(port.port)})


def named_services(virtual_service: VirtualService, delegates: Iterable[VirtualService] = ()) -> frozenset[tuple[str, str]]:
    """Return the Services that a VirtualService captures, if they exist: none unless it is bound to the gateways.

    Wildcard hosts name no Service: `*` would capture the whole cluster by accident.

    Args:
        virtual_service: which.
        delegates: those it leaves rules to.
    """
    if not any(name.rpartition("/")[2] == GATEWAY for name in virtual_service.gateways):
        return frozenset()
    own = virtual_service.meta.namespace
    keys = {_service_key(host, own) for host in (*virtual_service.hosts, *virtual_service.destinations)}
    for delegate in delegates:
        keys |= {_service_key(host, delegate.meta.namespace) for host in delegate.destinations}
    return frozenset(key for key in keys if key is not None)


def _is_asked(service: Service, namespace: Namespace | None, *, is_named: bool) -> bool:
    labels = (service.meta.labels, namespace.meta.labels if namespace is not None else {})
    for wish in (one.get(CAPTURE_LABEL, "") for one in labels):
        if wish in {"enabled", "disabled"}:
            return wish == "enabled"
    return is_named


def _refusal(service: Service, system_namespace: str) -> str:
    namespace = service.meta.namespace
    if service.key == ("default", "kubernetes"):
        return "it is the API server's own Service"
    if namespace in PROTECTED_NAMESPACES or namespace == system_namespace:
        return f"Services in namespace {namespace} are never captured"
    return _kind_refusal(service) or _policy_refusal(service)


def _kind_refusal(service: Service) -> str:
    spec = service.spec
    if spec.type == "ExternalName":
        return "spec.type is ExternalName: it has no ClusterIP to take over"
    if spec.cluster_ip == "None":
        return "spec.clusterIP is None (headless): clients connect to its pods without a ClusterIP"
    if not set(service.selector) - {CAPTURED_KEY}:
        return "spec.selector is empty: its endpoints are managed by somebody else; give it a selector"
    return ""


def _policy_refusal(service: Service) -> str:
    spec = service.spec
    if spec.type in {"NodePort", "LoadBalancer"} and spec.external_traffic_policy == "Local":
        return f"spec.externalTrafficPolicy is Local on type {spec.type}: gateways are on other nodes; set it to Cluster"
    if spec.internal_traffic_policy == "Local":
        return "spec.internalTrafficPolicy is Local: gateways are on other nodes; set it to Cluster"
    if len(service.ports) > MAX_PORTS:
        return f"it has {len(service.ports)} ports; at most {MAX_PORTS} fit into an EndpointSlice"
    return ""


def _is_http(port: ServicePort) -> bool:
    if port.protocol != "TCP" or port.name.endswith("metrics"):
        return False
    if port.app_protocol:
        return port.app_protocol.lower() in HTTP_PROTOCOLS
    return port.name == "http" or port.name.startswith("http-")


def _service_key(host: str, namespace: str) -> tuple[str, str] | None:
    """Return (namespace, name) of the Service that a host of a VirtualService would be, whatever the cluster's domain."""
    name = host.lower().removesuffix(".")
    if not name or "*" in name:
        return None
    parts: Collection[str] = name.split(".")
    match parts:
        case [service]:
            return namespace, service
        case [service, other]:
            return other, service
        case [service, other, "svc", *_]:
            return other, service
    return None
