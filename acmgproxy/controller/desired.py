# SPDX-License-Identifier: Apache-2.0
"""What the controller wants to be in the cluster beside a Service: its shadow, gateway slices and direct slices.

Pure. Each object is made from scratch and compared with what is there in what it means, so that nothing is written when nothing
changed, and what others add to our objects is none of our business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from acmgproxy.controller.names import direct_slice_name, gateway_slice_name, shadow_name
from acmgproxy.controller.objects import Endpoint, EndpointConditions, EndpointPort, EndpointSlice, Meta, Owner, Service
from routing.capture import (
    CAPTURED_KEY,
    GATEWAY_PORTS_ANNOTATION,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    SERVICE_NAME_LABEL,
    SHADOW_LABEL,
    SHADOW_OF_LABEL,
    format_gateway_ports,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from acmgproxy.controller.gateways import Gateway
    from acmgproxy.controller.objects import ServicePort

__all__ = [
    "direct_slices",
    "gateway_endpoints",
    "gateway_slice",
    "is_same_slice",
    "shadow_body",
    "shadow_patch",
    "slice_body",
]

MAX_ENDPOINTS = 1000
"""An EndpointSlice holds no more (discovery/v1, `endpoints`); more gateways than that add nothing to one Service."""

ZONE_HINTS = frozenset({"PreferClose", "PreferSameNode", "PreferSameZone"})
"""Values of spec.trafficDistribution that ask to stay in the zone; gateways have nodes of their own, so never the same node."""


def shadow_body(service: Service, gateway_ports: Mapping[int, int]) -> dict[str, Any]:
    """Return a Service's shadow.

    Args:
        service: whose.
        gateway_ports: by Service port.
    """
    spec: dict[str, Any] = {
        "clusterIP": "None",
        "selector": {key: value for key, value in service.selector.items() if key != CAPTURED_KEY},
        "ports": [_shadow_port(port) for port in service.ports],
        "publishNotReadyAddresses": service.spec.publish_not_ready_addresses,
    }
    if service.spec.ip_families_:
        spec["ipFamilies"] = list(service.spec.ip_families_)
    if service.spec.ip_family_policy:
        spec["ipFamilyPolicy"] = service.spec.ip_family_policy
    metadata = {
        "name": shadow_name(service.meta.name),
        "namespace": service.meta.namespace,
        "labels": {SHADOW_LABEL: "true", SHADOW_OF_LABEL: service.meta.name},
        "annotations": {GATEWAY_PORTS_ANNOTATION: format_gateway_ports(gateway_ports)},
        "ownerReferences": [msgspec.to_builtins(_owner(service))],
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def shadow_patch(shadow: Service, wanted: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the merge patch that makes a shadow what it should be, None when it is.

    Args:
        shadow: as it is.
        wanted: from `shadow_body`.
    """
    metadata: dict[str, Any] = {}
    for field, found in (("labels", shadow.meta.labels), ("annotations", shadow.meta.annotations)):
        missing = {key: value for key, value in wanted["metadata"][field].items() if found.get(key) != value}
        if missing:
            metadata[field] = missing
    owners = wanted["metadata"]["ownerReferences"]
    if [owner.uid for owner in shadow.meta.owners] != [owner["uid"] for owner in owners]:
        metadata["ownerReferences"] = owners
    spec = _spec_patch(shadow, wanted["spec"])
    if not metadata and not spec:
        return None
    patch: dict[str, Any] = {"metadata": metadata | {"resourceVersion": shadow.meta.resource_version}}
    if spec:
        patch["spec"] = spec
    return patch


def _spec_patch(shadow: Service, wanted: Mapping[str, Any]) -> dict[str, Any]:
    patch: dict[str, Any] = {}
    selector = wanted["selector"]
    if shadow.selector != selector:
        patch["selector"] = {key: None for key in shadow.selector if key not in selector} | selector
    if [_shadow_port(port) for port in shadow.ports] != wanted["ports"]:
        patch["ports"] = wanted["ports"]
    if shadow.spec.publish_not_ready_addresses != wanted["publishNotReadyAddresses"]:
        patch["publishNotReadyAddresses"] = wanted["publishNotReadyAddresses"]
    families = {"ipFamilies": list(shadow.spec.ip_families_ or ()), "ipFamilyPolicy": shadow.spec.ip_family_policy}
    if any(field in wanted and wanted[field] != found for field, found in families.items()):
        patch |= {field: wanted[field] for field in families if field in wanted}
    return patch


def _shadow_port(port: ServicePort) -> dict[str, Any]:
    found: dict[str, Any] = {"port": port.port, "protocol": port.protocol, "targetPort": port.target}
    if port.name:
        found["name"] = port.name
    if port.app_protocol:
        found["appProtocol"] = port.app_protocol
    return found


def gateway_endpoints(gateways: Iterable[Gateway], family: str, service: Service) -> tuple[Endpoint, ...]:
    """Return the endpoints that lead to gateways, those with an address of the family."""
    endpoints = [
        Endpoint(
            addresses=(gateway.addresses[family],),
            conditions=EndpointConditions(ready=True, serving=True, terminating=False),
            node_name=gateway.node or None,
            zone=gateway.zone or None,
            target_ref={"kind": "Pod", "namespace": gateway.namespace, "name": gateway.name, "uid": gateway.uid},
        )
        for gateway in sorted(gateways, key=lambda one: one.name)
        if family in gateway.addresses
    ]
    return _hinted(endpoints[:MAX_ENDPOINTS], service)


def gateway_slice(
    service: Service, family: str, endpoints: tuple[Endpoint, ...], ports: Iterable[tuple[ServicePort, int]]
) -> EndpointSlice:
    """Return the slice that makes a Service lead to gateways.

    Args:
        service: which.
        family: `IPv4` or `IPv6`.
        endpoints: from `gateway_endpoints`.
        ports: ports of the Service with the gateway ports that stand for them.
    """
    return EndpointSlice(
        meta=_slice_meta(service, gateway_slice_name(service.meta.name, family)),
        address_type=family,
        ports_=tuple(
            EndpointPort(name_=port.name, port=gateway_port, protocol=port.protocol, app_protocol=port.app_protocol)
            for port, gateway_port in ports
        ),
        endpoints_=endpoints,
    )


def direct_slices(service: Service, shadow_slices: Iterable[EndpointSlice], ports: frozenset[str]) -> tuple[EndpointSlice, ...]:
    """Return the slices that lead to real endpoints, one for each of the shadow's that has some for these ports.

    Args:
        service: which.
        shadow_slices: of its shadow.
        ports: names of the ports that do not lead to gateways.
    """
    found = []
    for one in shadow_slices:
        kept = tuple(port for port in one.ports if port.name in ports)
        if kept and one.endpoints:
            found.append(
                EndpointSlice(
                    meta=_slice_meta(service, direct_slice_name(service.meta.name, one.meta.name)),
                    address_type=one.address_type,
                    ports_=kept,
                    endpoints_=_hinted(one.endpoints, service),
                )
            )
    return tuple(found)


def is_same_slice(found: EndpointSlice, wanted: EndpointSlice) -> bool:
    """Tell whether a slice means what it should; order means nothing."""
    return (
        wanted.meta.labels.items() <= found.meta.labels.items()
        and {owner.uid for owner in wanted.meta.owners} == {owner.uid for owner in found.meta.owners}
        and found.address_type == wanted.address_type
        and {_port_facts(port) for port in found.ports} == {_port_facts(port) for port in wanted.ports}
        and len(found.endpoints) == len(wanted.endpoints)
        and {one.addresses: one for one in found.endpoints} == {one.addresses: one for one in wanted.endpoints}
    )


def slice_body(wanted: EndpointSlice, *, resource_version: str = "") -> dict[str, Any]:
    """Return a slice as it is sent; with a resourceVersion, the server refuses it if somebody was quicker."""
    body: dict[str, Any] = msgspec.to_builtins(wanted)
    if resource_version:
        body["metadata"]["resourceVersion"] = resource_version
    body.setdefault("endpoints", [])
    return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": wanted.address_type} | body


def _port_facts(port: EndpointPort) -> tuple[str, int | None, str, str | None]:
    return port.name, port.port, port.protocol, port.app_protocol or None


def _slice_meta(service: Service, name: str) -> Meta:
    labels = {SERVICE_NAME_LABEL: service.meta.name, MANAGED_BY_LABEL: MANAGED_BY}
    owner = replace(_owner(service), controller=True)
    return Meta(name=name, namespace=service.meta.namespace, labels_=labels, owners_=(owner,))


def _owner(service: Service) -> Owner:
    """Return the reference that makes an object go when the Service goes; it blocks nothing, which would need more rights."""
    return Owner(api_version="v1", kind="Service", name=service.meta.name, uid=service.meta.uid)


def _hinted(endpoints: Iterable[Endpoint], service: Service) -> tuple[Endpoint, ...]:
    """Give each endpoint its own zone as a hint if the Service asks to stay in the zone; kube-proxy wants all hinted or none."""
    found = tuple(endpoints)
    wanted = service.spec.traffic_distribution in ZONE_HINTS and all(one.zone for one in found)
    return tuple(replace(one, hints={"forZones": [{"name": one.zone}]} if wanted else None) for one in found)
