# SPDX-License-Identifier: Apache-2.0
"""DestinationRule: its types. What a valid one is stands in `_destination_rule_checks`.

A field that has no effect here yet is listed in `unsupported` and becomes supported by turning it into a field.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, field

from routing.resources._base import Duration, Fields, Resource
from routing.resources.virtual_service import PortSelector

__all__ = [
    "ConnectionPool",
    "DestinationRule",
    "DestinationRuleSpec",
    "HTTPSettings",
    "LoadBalancer",
    "PortTrafficPolicy",
    "Subset",
    "TCPSettings",
    "TrafficPolicy",
    "WorkloadSelector",
]


class LoadBalancer(Fields, frozen=True, kw_only=True):
    """How an endpoint is picked."""

    unsupported: ClassVar[frozenset[str]] = frozenset(
        {"consistentHash", "localityLbSetting", "warmup", "warmupDurationSecs", "zoneAwareLbSetting"},
    )

    simple: Literal["UNSPECIFIED", "LEAST_CONN", "LEAST_REQUEST", "PASSTHROUGH", "RANDOM", "ROUND_ROBIN"] = "UNSPECIFIED"


class TCPSettings(Fields, frozen=True, kw_only=True):
    """Connections to endpoints."""

    unsupported: ClassVar[frozenset[str]] = frozenset({"idleTimeout", "maxConnectionDuration", "maxConnections", "tcpKeepalive"})

    connect_timeout: Duration | None = None


class HTTPSettings(Fields, frozen=True, kw_only=True):
    """Requests on these connections."""

    unsupported: ClassVar[frozenset[str]] = frozenset(
        {
            "h2UpgradePolicy", "http1MaxPendingRequests", "http2KeepAlive", "http2MaxRequests", "maxConcurrentStreams",
            "maxRetries", "useClientProtocol",
        },
    )  # fmt: skip

    idle_timeout: Duration | None = None
    max_requests_per_connection: Annotated[int, Meta(ge=0)] = 0


class ConnectionPool(Fields, frozen=True, kw_only=True):
    """Limits of a cluster's connections and requests."""

    tcp: TCPSettings = TCPSettings()
    http: HTTPSettings = HTTPSettings()


class PortTrafficPolicy(Fields, frozen=True, kw_only=True):
    """Policy of one port. It replaces the policy above it as a whole, blocks it leaves out included."""

    unsupported: ClassVar[frozenset[str]] = frozenset({"outlierDetection", "tls"})

    port: PortSelector
    load_balancer: LoadBalancer | None = None
    connection_pool: ConnectionPool | None = None


class TrafficPolicy(Fields, frozen=True, kw_only=True):
    """Policy of a host or subset."""

    unsupported: ClassVar[frozenset[str]] = frozenset({"outlierDetection", "proxyProtocol", "retryBudget", "tls", "tunnel"})

    load_balancer: LoadBalancer | None = None
    connection_pool: ConnectionPool | None = None
    port_level_settings: tuple[PortTrafficPolicy, ...] = ()


class Subset(Fields, frozen=True, kw_only=True):
    """Endpoints of the host that carry these labels; all of them when there are none."""

    name: str
    labels: dict[str, str] = field(default_factory=dict)
    traffic_policy: TrafficPolicy | None = None


class WorkloadSelector(Fields, frozen=True, kw_only=True):
    """Callers that a rule is for."""

    match_labels: dict[str, str] = field(default_factory=dict)


class DestinationRuleSpec(Fields, frozen=True, kw_only=True):
    """Policy and subsets of a host."""

    host: str = ""
    traffic_policy: TrafficPolicy | None = None
    subsets: tuple[Subset, ...] = ()
    export_to: tuple[str, ...] = ()
    workload_selector: WorkloadSelector | None = None


class DestinationRule(Resource, frozen=True, kw_only=True):
    """An Istio DestinationRule."""

    kind: ClassVar[str] = "DestinationRule"
    api_versions: ClassVar[tuple[str, ...]] = (
        "networking.istio.io/v1",
        "networking.istio.io/v1beta1",
        "networking.istio.io/v1alpha3",
    )
    unknown: ClassVar[Literal["note", "refuse", "skip"]] = "skip"

    spec: DestinationRuleSpec = field(default_factory=DestinationRuleSpec)
