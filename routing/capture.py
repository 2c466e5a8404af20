# SPDX-License-Identifier: Apache-2.0
"""What the controller and the gateways agree on: how a captured Service looks in the cluster.

A Service S is captured by three kinds of objects beside it. Its *shadow* is a headless Service with S's own selector, so that the
cluster keeps S's real endpoints in the shadow's EndpointSlices; the shadow also says which gateway port stands for which port of
S. The *gateway slices* and *direct slices* belong to S itself and say where its ClusterIP leads: to the gateways, or, for ports
that are not captured, to the real endpoints. The key `CAPTURED_KEY` in S's selector matches no pod and so empties S's own slices.

The controller writes these objects, gateways read the shadow. Nothing here decides whether a Service is captured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from routing.resources._base import ObjectMeta

__all__ = [
    "CAPTURED_KEY",
    "CAPTURE_LABEL",
    "EXCLUDE_PORTS_ANNOTATION",
    "GATEWAY_PORTS",
    "GATEWAY_PORTS_ANNOTATION",
    "MANAGED_BY",
    "MANAGED_BY_LABEL",
    "SERVICE_NAME_LABEL",
    "SHADOW_LABEL",
    "SHADOW_OF_LABEL",
    "STATUS_ANNOTATION",
    "endpoints_of",
    "format_gateway_ports",
    "is_shadow",
    "parse_gateway_ports",
    "shadowed",
]

CAPTURE_LABEL = "acmg.io/capture"
"""On a Service or its Namespace: `enabled` asks for capture, `disabled` on the Service wins."""

EXCLUDE_PORTS_ANNOTATION = "acmg.io/exclude-ports"
"""On a Service: ports that are not captured, by number or name, separated by commas."""

STATUS_ANNOTATION = "acmg.io/status"
"""On a Service: what the controller makes of it, and why."""

CAPTURED_KEY = "acmg.io/captured"
"""In a captured Service's selector, with the value "true"."""

SHADOW_LABEL = "acmg.io/shadow"
SHADOW_OF_LABEL = "acmg.io/shadow-of"
GATEWAY_PORTS_ANNOTATION = "acmg.io/gateway-ports"
MANAGED_BY_LABEL = "endpointslice.kubernetes.io/managed-by"
MANAGED_BY = "acmg.io"
SERVICE_NAME_LABEL = "kubernetes.io/service-name"

GATEWAY_PORTS = range(20000, 30000)
"""Ports of the gateways that stand for captured ports; below the usual ranges of ephemeral ports and NodePorts."""


def is_shadow(meta: ObjectMeta) -> bool:
    """Tell whether a Service is the shadow of another, and so none that anybody calls; EndpointSlices inherit the label."""
    return meta.labels.get(SHADOW_LABEL) == "true"


def shadowed(meta: ObjectMeta) -> tuple[str, str] | None:
    """Return (namespace, name) of the Service whose shadow a Service is, or whose real endpoints an EndpointSlice holds."""
    name = meta.labels.get(SHADOW_OF_LABEL, "") if is_shadow(meta) else ""
    return (meta.namespace, name) if name else None


def endpoints_of(meta: ObjectMeta) -> tuple[str, str] | None:
    """Return (namespace, name) of the Service whose real endpoints an EndpointSlice holds, None if it holds nobody's.

    Those of a captured Service are in its own slices before and in its shadow's after, and while it is captured or released in
    both: so both count at any time. What the controller writes itself leads to the gateways and is no endpoint of anyone.
    """
    if meta.labels.get(MANAGED_BY_LABEL) == MANAGED_BY:
        return None
    name = meta.labels.get(SERVICE_NAME_LABEL)
    return shadowed(meta) or ((meta.namespace, name) if name else None)


def format_gateway_ports(ports: Mapping[int, int]) -> str:
    """Write gateway ports by Service port, for the shadow's annotation: `{"80":20000}`."""
    return msgspec.json.encode(dict(sorted(ports.items()))).decode()


def parse_gateway_ports(text: str) -> dict[int, int]:
    """Read gateway ports by Service port.

    Raises:
        ValueError: The text is no such map, or a gateway port is out of range or stands for two.
    """
    try:
        ports = msgspec.json.decode(text, type=dict[int, int])
    except msgspec.MsgspecError as error:
        raise ValueError(f"expected a map of gateway ports by Service port, got {text!r}: {error}") from error
    for port, gateway_port in ports.items():
        if not 1 <= port <= 65535:
            raise ValueError(f"{port} is no port of a Service")
        if gateway_port not in GATEWAY_PORTS:
            raise ValueError(f"gateway port {gateway_port} is not between {GATEWAY_PORTS[0]} and {GATEWAY_PORTS[-1]}")
    if len(set(ports.values())) != len(ports):
        raise ValueError(f"a gateway port stands for two ports: {text}")
    return ports
