# SPDX-License-Identifier: Apache-2.0
"""DestinationRule: its types. What a valid one is stands in `_destination_rule_checks`.

A field that has no effect here is listed in `unsupported` and becomes supported by turning it into a field. 0 in a count means
that it is not set, as in Istio.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, field

from routing.resources._base import Duration, Fields, Resource
from routing.resources.virtual_service import Count, PortSelector

__all__ = [
    "ClientTLS",
    "ConnectionPool",
    "ConsistentHash",
    "CookieAttribute",
    "DestinationRule",
    "DestinationRuleSpec",
    "Distribution",
    "Failover",
    "HTTPCookie",
    "HTTPSettings",
    "LoadBalancer",
    "Locality",
    "Maglev",
    "OutlierDetection",
    "Policy",
    "PortTrafficPolicy",
    "ProxyProtocol",
    "RetryBudget",
    "RingHash",
    "Subset",
    "TCPSettings",
    "TcpKeepalive",
    "TrafficPolicy",
    "Warmup",
    "WorkloadSelector",
]

FieldNames = frozenset[str]

MAX_COUNT = 4_294_967_295
Percentage = Annotated[int, Meta(ge=0, le=100)]
Unsigned = Annotated[int, Meta(ge=0, le=MAX_COUNT)]


class CookieAttribute(Fields, frozen=True, kw_only=True):
    """An attribute of a cookie; without a value it is only named (`Secure`)."""

    name: str
    value: str = ""


class HTTPCookie(Fields, frozen=True, kw_only=True):
    """A cookie to hash. With `ttl` one is made when it is missing; 0s makes it last for the browser's session."""

    name: str
    path: str = ""
    ttl: Duration | None = None
    attributes: tuple[CookieAttribute, ...] = ()


class RingHash(Fields, frozen=True, kw_only=True):
    """A ring of hashes."""

    minimum_ring_size: Count = 0


class Maglev(Fields, frozen=True, kw_only=True):
    """A table of hashes; its size must be a prime."""

    table_size: Count = 0


class ConsistentHash(Fields, frozen=True, kw_only=True):
    """What is hashed, and in which structure the hash is looked up: a ring unless `maglev` is given."""

    http_header_name: str = ""
    http_cookie: HTTPCookie | None = None
    use_source_ip: bool = False
    http_query_parameter_name: str = ""
    ring_hash: RingHash | None = None
    maglev: Maglev | None = None
    minimum_ring_size: Count = 0
    """Deprecated form of ringHash.minimumRingSize."""


class Warmup(Fields, frozen=True, kw_only=True):
    """Slow start of new endpoints."""

    duration: Duration
    minimum_percent: Annotated[float, Meta(ge=0, le=100)] | None = None
    aggression: Annotated[float, Meta(ge=1)] | None = None


class Distribution(Fields, frozen=True, kw_only=True):
    """Shares of the localities that traffic from one locality goes to."""

    from_: str = field(default="", name="from")
    to: dict[str, int] = field(default_factory=dict)


class Failover(Fields, frozen=True, kw_only=True):
    """The region that stands in for another."""

    from_: str = field(default="", name="from")
    to: str = ""


class Locality(Fields, frozen=True, kw_only=True):
    """Which localities are preferred."""

    distribute: tuple[Distribution, ...] = ()
    failover: tuple[Failover, ...] = ()
    failover_priority: tuple[str, ...] = ()
    enabled: bool | None = None


class LoadBalancer(Fields, frozen=True, kw_only=True):
    """How an endpoint is picked. `warmupDurationSecs` is the deprecated form of `warmup`."""

    unsupported: ClassVar[FieldNames] = frozenset({"zoneAwareLbSetting"})

    simple: Literal["UNSPECIFIED", "LEAST_CONN", "LEAST_REQUEST", "PASSTHROUGH", "RANDOM", "ROUND_ROBIN"] = "UNSPECIFIED"
    consistent_hash: ConsistentHash | None = None
    locality_lb_setting: Locality | None = None
    warmup: Warmup | None = None
    warmup_duration_secs: Duration | None = None


class TcpKeepalive(Fields, frozen=True, kw_only=True):
    """Probes on quiet connections; what is not given is the system's choice."""

    probes: Count = 0
    time: Duration | None = None
    interval: Duration | None = None


class TCPSettings(Fields, frozen=True, kw_only=True):
    """Connections to endpoints."""

    unsupported: ClassVar[FieldNames] = frozenset({"idleTimeout"})

    max_connections: Count = 0
    connect_timeout: Duration | None = None
    tcp_keepalive: TcpKeepalive | None = None
    max_connection_duration: Duration | None = None


class HTTPSettings(Fields, frozen=True, kw_only=True):
    """Requests on these connections."""

    unsupported: ClassVar[FieldNames] = frozenset({"http2KeepAlive", "maxConcurrentStreams"})

    http1_max_pending_requests: Count = field(default=0, name="http1MaxPendingRequests")
    http2_max_requests: Count = field(default=0, name="http2MaxRequests")
    max_requests_per_connection: Count = 0
    max_retries: Count = 0
    idle_timeout: Duration | None = None
    h2_upgrade_policy: Literal["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"] = field(default="DEFAULT", name="h2UpgradePolicy")
    use_client_protocol: bool = False


class ConnectionPool(Fields, frozen=True, kw_only=True):
    """Limits of a cluster's connections and requests."""

    tcp: TCPSettings = TCPSettings()
    http: HTTPSettings = HTTPSettings()


class OutlierDetection(Fields, frozen=True, kw_only=True):
    """Passive health checks; None leaves Istio's default. `consecutiveErrors` is deprecated and counts gateway errors."""

    consecutive_5xx_errors: Unsigned | None = field(default=None, name="consecutive5xxErrors")
    consecutive_gateway_errors: Unsigned | None = None
    consecutive_local_origin_failures: Unsigned | None = None
    consecutive_errors: Count = 0
    split_external_local_origin_errors: bool = False
    interval: Duration | None = None
    base_ejection_time: Duration | None = None
    max_ejection_percent: Percentage = 0
    min_health_percent: Percentage = 0
    outlier_detection_http_error_codes: tuple[Annotated[int, Meta(ge=100, le=599)], ...] = ()


class ClientTLS(Fields, frozen=True, kw_only=True):
    """TLS to endpoints."""

    unsupported: ClassVar[FieldNames] = frozenset({"caCrl", "clientCertificate", "credentialName", "privateKey"})

    mode: Literal["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"] = "DISABLE"
    ca_certificates: str = ""
    subject_alt_names: tuple[str, ...] = ()
    sni: str = ""
    insecure_skip_verify: bool = False


class ProxyProtocol(Fields, frozen=True, kw_only=True):
    """A PROXY preamble on connections to endpoints."""

    version: Literal["V1", "V2"] = "V1"


class RetryBudget(Fields, frozen=True, kw_only=True):
    """How many retries may run at once."""

    unsupported: ClassVar[FieldNames] = frozenset({"budgetInterval"})

    percent: Annotated[float, Meta(ge=0, le=100)] | None = None
    min_retry_concurrency: Unsigned | None = None


class Policy(Fields, frozen=True, kw_only=True):
    """The blocks of a policy, whatever level it is of."""

    unsupported: ClassVar[FieldNames] = frozenset({"tunnel"})

    load_balancer: LoadBalancer | None = None
    connection_pool: ConnectionPool | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLS | None = None
    proxy_protocol: ProxyProtocol | None = None
    retry_budget: RetryBudget | None = None


class PortTrafficPolicy(Policy, frozen=True, kw_only=True):
    """Policy of one port. It replaces the policy above it as a whole, blocks it leaves out included."""

    port: PortSelector


class TrafficPolicy(Policy, frozen=True, kw_only=True):
    """Policy of a host or subset."""

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
