# SPDX-License-Identifier: Apache-2.0
"""Specs: what the control side tells a worker, as plain data.

`routing.translate` turns a store of Kubernetes objects into one `Specs`; the supervisor sends the difference between two of
them (`SpecsDiff`) to every worker; `routing.table` compiles what arrives. Specs are the whole contract between the two sides, so
they hold names and numbers only: no object references, no compiled patterns, no Istio or Kubernetes vocabulary that a worker
would have to understand again.

There are eight sections, each a mapping by name, because the sections change at very different rates: `endpoints` many times
a second, `virtual_hosts` and `rule_sets` when a person edits something, `listeners` when a Service appears.

How a request finds its rule:

    listener (one per Service port, or the shared one)
      -> virtual host, by Host header and port, else the listener's own
        -> the first *candidate* rule set that is visible to the caller and keeps a rule for it, else the default route
          -> the first rule with a match -> action
"""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = [
    "ROOT_NAMESPACE",
    "CandidateSpec",
    "ClusterRef",
    "ClusterSpec",
    "ComparisonSpec",
    "CorsSpec",
    "DirectResponseSpec",
    "EndpointSpec",
    "FaultSpec",
    "ForwardSpec",
    "HashSpec",
    "HeaderOps",
    "IdentitySpec",
    "KeepaliveSpec",
    "LeftOutSpec",
    "ListenerSpec",
    "LocalitySpec",
    "MatchSpec",
    "MirrorSpec",
    "NamedMatch",
    "OriginSpec",
    "OutlierSpec",
    "PathMatch",
    "PathRewrite",
    "RedirectSpec",
    "RetryBudgetSpec",
    "RetrySpec",
    "RuleSetSpec",
    "RuleSpec",
    "SourceMatch",
    "Specs",
    "SpecsDiff",
    "StringMatch",
    "TelemetrySpec",
    "TlsSpec",
    "VirtualHostSpec",
    "WarmupSpec",
]

ROOT_NAMESPACE = "istio-system"
"""The mesh's root namespace (Istio meshConfig.rootNamespace)."""


class _Spec(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Base of all specs: immutable, compared by value, absent fields are not sent."""


class OriginSpec(_Spec, frozen=True, kw_only=True):
    """Where something is written: an object and, if not all of it is meant, the field. For explanations; workers pay no heed."""

    kind: str
    namespace: str
    name: str
    field: str = ""


class StringMatch(_Spec, frozen=True, kw_only=True):
    """A condition on one string. `regex` is RE2 and must match the whole value; `present` ignores `value`."""

    kind: Literal["exact", "prefix", "regex", "present"]
    value: str = ""


class PathMatch(_Spec, frozen=True, kw_only=True):
    """A condition on the path without its query.

    `prefix` is a raw string prefix (VirtualService: `/foo` matches `/foobar`); `segments` is segment-wise (HTTPRoute PathPrefix).
    `ignore_case` has no effect on `regex`.
    """

    kind: Literal["exact", "prefix", "segments", "regex"]
    value: str
    ignore_case: bool = False


class NamedMatch(_Spec, frozen=True, kw_only=True):
    """A condition on a header (`name` in lower case) or a query parameter (`name` as written).

    `invert` is VirtualService's withoutHeaders: the condition must not hold, a missing header counting as an empty value, save
    for `present`, which then asks for absence.
    """

    name: str
    match: StringMatch
    invert: bool = False


class SourceMatch(_Spec, frozen=True, kw_only=True):
    """A condition on the caller. An unknown caller satisfies none. Evaluated once per caller, not per request."""

    namespace: str = ""
    labels: dict[str, str] = {}


class MatchSpec(_Spec, frozen=True, kw_only=True):
    """One entry of a rule's match list: every condition given must hold."""

    name: str = ""
    path: PathMatch | None = None
    method: StringMatch | None = None
    scheme: StringMatch | None = None
    authority: StringMatch | None = None
    headers: tuple[NamedMatch, ...] = ()
    query: tuple[NamedMatch, ...] = ()
    source: SourceMatch | None = None


class HeaderOps(_Spec, frozen=True, kw_only=True):
    """Changes to a head's fields, in this order: remove, set, add. Names in lower case."""

    remove: tuple[str, ...] = ()
    set: tuple[tuple[str, str], ...] = ()
    add: tuple[tuple[str, str], ...] = ()


class PathRewrite(_Spec, frozen=True, kw_only=True):
    r"""How the path changes; the query is always kept.

    `prefix` replaces what the matching entry's prefix matched (the whole path for an exact or regex entry), literally;
    `segments` the same with HTTPRoute's slash repair; `full` the whole path; `regex` substitutes every match of `pattern` (RE2),
    with `\1` groups in `value`.
    """

    kind: Literal["prefix", "segments", "full", "regex"]
    value: str
    pattern: str = ""


class RetrySpec(_Spec, frozen=True, kw_only=True):
    """When and how often a request is tried again. Defaults: Istio's default retry policy (pilot retry.go).

    `attempts` is what may follow the first try. `retry_on` holds Envoy's retry-on tokens; `status_codes` are the upstream status
    codes that `retriable-status-codes` and numeric tokens name. 0 for `per_try_timeout_s` means none.
    """

    attempts: int = 2
    retry_on: tuple[str, ...] = ("connect-failure", "refused-stream", "unavailable", "cancelled", "retriable-status-codes")
    status_codes: tuple[int, ...] = ()
    per_try_timeout_s: float = 0.0
    backoff_base_s: float = 0.025
    ignore_previous_hosts: bool = True
    remote_localities: bool = False


class ClusterRef(_Spec, frozen=True, kw_only=True):
    """One weighted destination of a route.

    `cluster` names a ClusterSpec; a name without one is an unknown destination (503, flag NC) for its share only.
    `by_namespace` names the variant for callers of a namespace that has its own DestinationRule for the host.
    """

    cluster: str
    weight: int = 1
    by_namespace: dict[str, str] = {}
    request_headers: HeaderOps | None = None
    response_headers: HeaderOps | None = None
    host_rewrite: str = ""


class MirrorSpec(_Spec, frozen=True, kw_only=True):
    """A copy of requests to another cluster: fire and forget, the answer is read and dropped. `percent` of them are copied."""

    cluster: str
    percent: float = 100.0
    by_namespace: dict[str, str] = {}


class FaultSpec(_Spec, frozen=True, kw_only=True):
    """Faults to inject before routing: first the delay, then the abort, each drawn for itself (Envoy HTTPFault).

    `abort_status` 0 means no abort. Percentages are 0 to 100 with a resolution of 0.0001.
    """

    delay_s: float = 0.0
    delay_percent: float = 0.0
    abort_status: int = 0
    abort_percent: float = 0.0


class CorsSpec(_Spec, frozen=True, kw_only=True):
    """Cross-origin policy (VirtualService corsPolicy). Lists come joined by ","; "" means that the field is not sent.

    A preflight of an origin that is not allowed is forwarded like any request, whatever unmatchedPreflights says: FORWARD asks
    for that, and with IGNORE the filter does nothing special either.
    """

    allow_origins: tuple[StringMatch, ...] = ()
    allow_methods: str = ""
    allow_headers: str = ""
    expose_headers: str = ""
    max_age: str = ""
    allow_credentials: bool = False


class ForwardSpec(_Spec, frozen=True, kw_only=True, tag="forward"):
    """Send the request to one of `clusters`, drawn by weight. `timeout_s` 0 means none; it covers all tries."""

    clusters: tuple[ClusterRef, ...]
    timeout_s: float = 0.0
    retry: RetrySpec = RetrySpec()
    path_rewrite: PathRewrite | None = None
    host_rewrite: str = ""
    mirrors: tuple[MirrorSpec, ...] = ()


class RedirectSpec(_Spec, frozen=True, kw_only=True, tag="redirect"):
    """Answer with a Location. Empty strings and port 0 keep what the request had.

    `port_from` says what happens without `port`: keep the port the client put into Host (""), the scheme's default
    ("protocol-default") or the port the request arrived on ("request-port").
    """

    status: int = 301
    scheme: str = ""
    authority: str = ""
    port: int = 0
    port_from: Literal["", "protocol-default", "request-port"] = ""
    path_rewrite: PathRewrite | None = None


class DirectResponseSpec(_Spec, frozen=True, kw_only=True, tag="direct"):
    """Answer with this status and body; no upstream is contacted."""

    status: int
    body: bytes = b""


class RuleSpec(_Spec, frozen=True, kw_only=True):
    """One rule. No `matches` means it matches everything. Header operations of the rule level apply to every action.

    `origin` is where it is written, `match_fields` the fields of its `matches`, as far as that is known.
    """

    name: str = ""
    matches: tuple[MatchSpec, ...] = ()
    action: ForwardSpec | RedirectSpec | DirectResponseSpec
    request_headers: HeaderOps | None = None
    response_headers: HeaderOps | None = None
    fault: FaultSpec | None = None
    cors: CorsSpec | None = None
    origin: OriginSpec | None = None
    match_fields: tuple[str, ...] = ()


class LeftOutSpec(_Spec, frozen=True, kw_only=True):
    """A rule or match entry that cannot hold here and is therefore no part of a rule set, and why. For explanations."""

    origin: OriginSpec
    reason: str


class RuleSetSpec(_Spec, frozen=True, kw_only=True):
    """The ordered rules of one VirtualService (or several merged ones) for one port.

    Key: `virtualservice/<namespace>/<name>@<port>`, of merged ones with all names joined by `+`. `export_to`
    empty means public; else the namespaces that see it, `.` already replaced by its own.
    """

    name: str
    namespace: str
    rules: tuple[RuleSpec, ...]
    export_to: tuple[str, ...] = ()
    left_out: tuple[LeftOutSpec, ...] = ()


class CandidateSpec(_Spec, frozen=True, kw_only=True):
    """A rule set that may own a virtual host. Lower `rank` first (exact host, then longer wildcards); within a rank by the
    caller's visibility class (private to its namespace, exported to it, public), then in the order given (oldest first).
    """

    rule_set: str
    rank: int = 0


class VirtualHostSpec(_Spec, frozen=True, kw_only=True):
    """A host on a port and who may own it. Key: `<name>:<port>`.

    Args:
        name: FQDN of the Service, or the VirtualService host (may be `*.suffix`).
        port: Service port the table applies to.
        domains: every Host value it answers to, lower case, without port: aliases, ClusterIPs, `*.suffix`.
        short_name: the bare Service name, valid only for callers of `namespace`; "" for none.
        namespace: namespace of the Service, "" when the host is no Service.
        candidates: rule sets that may own it.
        default: cluster of the default route, None when the host is no Service (no rule then means 404).
    """

    name: str
    port: int
    domains: tuple[str, ...]
    short_name: str = ""
    namespace: str = ""
    candidates: tuple[CandidateSpec, ...] = ()
    default: ClusterRef | None = None


class HashSpec(_Spec, frozen=True, kw_only=True):
    """What a consistent hash is computed of (DestinationRule consistentHash), and the size of the structure it is looked up in.

    `ttl_s` is for cookies: None generates none, 0 a session cookie, else one with that Max-Age. Defaults: Istio's.
    """

    kind: Literal["header", "cookie", "source-ip", "query"]
    name: str = ""
    path: str = ""
    ttl_s: float | None = None
    attributes: tuple[tuple[str, str], ...] = ()
    ring_size: int = 1024
    table_size: int = 65537


class WarmupSpec(_Spec, frozen=True, kw_only=True):
    """Slow start of new endpoints (DestinationRule warmup; Envoy slow_start_config)."""

    duration_s: float
    minimum_percent: float = 10.0
    aggression: float = 1.0


class LocalitySpec(_Spec, frozen=True, kw_only=True):
    """Which localities traffic goes to, seen from the caller's (DestinationRule localityLbSetting).

    `distribute`: (from, ((to, percent), ...)) pairs, localities as `region/zone/subzone` with "*" at the end. `failover`: (from
    region, to region). `failover_priority`: label names or `name=value`. Without `distribute` endpoints have priorities, the near
    ones first; they count only beside outlier detection, unless `always` (a Service's trafficDistribution).
    """

    distribute: tuple[tuple[str, tuple[tuple[str, int], ...]], ...] = ()
    failover: tuple[tuple[str, str], ...] = ()
    failover_priority: tuple[str, ...] = ()
    always: bool = False


class OutlierSpec(_Spec, frozen=True, kw_only=True):
    """Passive health checks (DestinationRule outlierDetection). Defaults: Istio's. 0 switches a count off.

    `status_codes`, when given, replaces the class of answers that `consecutive_5xx` counts.
    """

    consecutive_5xx: int = 5
    consecutive_gateway: int = 0
    consecutive_local_origin: int = 5
    split_local_origin: bool = False
    interval_s: float = 10.0
    base_ejection_s: float = 30.0
    max_ejection_percent: int = 10
    min_health_percent: int = 0
    status_codes: tuple[int, ...] = ()


class TlsSpec(_Spec, frozen=True, kw_only=True):
    """TLS to the upstream (DestinationRule tls mode SIMPLE).

    Empty `ca_file` means the system's certificate authorities; empty `sni` the request's Host; empty `subject_alt_names` that the
    name of the SNI is checked.
    """

    sni: str = ""
    subject_alt_names: tuple[str, ...] = ()
    ca_file: str = ""
    insecure_skip_verify: bool = False


class KeepaliveSpec(_Spec, frozen=True, kw_only=True):
    """TCP keep-alive probes; 0 leaves the system's value."""

    probes: int = 0
    time_s: float = 0.0
    interval_s: float = 0.0


class RetryBudgetSpec(_Spec, frozen=True, kw_only=True):
    """How many retries may run at once, as a share of active requests and as a minimum. Defaults: Envoy's."""

    percent: float = 20.0
    minimum: int = 3


class ClusterSpec(_Spec, frozen=True, kw_only=True):
    """A destination: one Service port or a subset of it. Key and name: `outbound|<port>|<subset>|<fqdn>`, with `@<namespace>`
    appended for a variant made by the DestinationRule of a caller's namespace.

    0 means no limit. Limits are per gateway pod; the data plane divides them over its workers. When every endpoint is ejected
    there is none (503, flag UH), as in Istio.

    `origins`: the objects that shape it, for explanations.

    connect_timeout_s: Istio meshConfig.connectTimeout, 10 s. idle_timeout_s: how long an idle pooled connection is kept; common
    servers close at 5 s or more, so 4 s.
    """

    name: str
    service: str
    service_name: str = ""
    service_namespace: str = ""
    port: int = 0
    subset: str = ""
    balancer: Literal["LEAST_REQUEST", "ROUND_ROBIN", "RANDOM", "RING_HASH", "MAGLEV"] = "LEAST_REQUEST"
    hash: HashSpec | None = None
    warmup: WarmupSpec | None = None
    locality: LocalitySpec | None = None
    outlier: OutlierSpec | None = None
    tls: TlsSpec | None = None
    proxy_protocol: Literal[0, 1, 2] = 0
    connect_timeout_s: float = 10.0
    idle_timeout_s: float = 4.0
    max_connections: int = 0
    max_pending_requests: int = 0
    max_requests: int = 0
    max_retries: int = 0
    max_requests_per_connection: int = 0
    max_connection_duration_s: float = 0.0
    keepalive: KeepaliveSpec | None = None
    retry_budget: RetryBudgetSpec | None = None
    origins: tuple[OriginSpec, ...] = ()


class EndpointSpec(_Spec, frozen=True, kw_only=True):
    """One member of a cluster. `identity` keys an IdentitySpec ("" when unknown); `uid` tells a new pod that reuses an address
    from the old one. `draining` endpoints (serving but terminating) are used only when nothing else is left.
    """

    address: str
    port: int
    identity: str = ""
    uid: str = ""
    weight: int = 1
    draining: bool = False
    locality: str = ""


class IdentitySpec(_Spec, frozen=True, kw_only=True):
    """What is known of a pod as caller or destination; many pods share one. Key: any string that is equal for equal identities.

    From `workload` on come Istio's telemetry labels (SEMANTICS: canonical service and revision rules), "unknown" when missing.
    `locality` is `region/zone/subzone`, "" when unknown.
    """

    namespace: str
    labels: dict[str, str] = {}
    service_account: str = ""
    workload: str = "unknown"
    app: str = "unknown"
    version: str = "unknown"
    canonical_service: str = "unknown"
    canonical_revision: str = "latest"
    locality: str = ""


class ListenerSpec(_Spec, frozen=True, kw_only=True):
    """An address the gateway listens on. Key and name: `<service fqdn>:<port>`, or `shared`.

    Args:
        name: the key.
        port: Service port (what rules and metrics call the port); 0 on the shared listener.
        binds: (address, port) pairs to listen on.
        virtual_host: key of the connected Service's virtual host; "" on the shared listener, where an unknown host is 404.
    """

    name: str
    port: int
    binds: tuple[tuple[str, int], ...]
    virtual_host: str = ""


class ComparisonSpec(_Spec, frozen=True, kw_only=True):
    """A comparison of how a request ended: its status, 0 when the client left before the answer, or how long it took."""

    of: Literal["status", "duration_s"]
    operator: Literal["==", "!=", "<", "<=", ">", ">="]
    value: float


class TelemetrySpec(_Spec, frozen=True, kw_only=True):
    """What is told of requests besides metrics (Telemetry). Key: FQDN of the Service, a namespace, or "" for the mesh; the
    nearest decides alone.

    Args:
        logged: whether they are in the access log; None leaves it to the gateway's settings.
        log_filter: of those that are `logged`: one of these conjunctions must hold; none, no condition.
        sampling: fraction of requests without a trace context that are traced; None leaves it to the settings.
        traced: whether there are spans at all.
    """

    logged: bool | None = None
    log_filter: tuple[tuple[ComparisonSpec, ...], ...] = ()
    sampling: float | None = None
    traced: bool = True


class Specs(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A complete configuration. `callers` maps a source IP to a key of `identities`."""

    listeners: dict[str, ListenerSpec] = {}
    virtual_hosts: dict[str, VirtualHostSpec] = {}
    rule_sets: dict[str, RuleSetSpec] = {}
    clusters: dict[str, ClusterSpec] = {}
    endpoints: dict[str, tuple[EndpointSpec, ...]] = {}
    identities: dict[str, IdentitySpec] = {}
    callers: dict[str, str] = {}
    telemetry: dict[str, TelemetrySpec] = {}


class SpecsDiff(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What turns one `Specs` into another: per section the entries to put in place and the keys to remove.

    Applying a diff is atomic for requests: each sees all of it or nothing. `version` counts up from 1 with each diff sent.
    """

    version: int
    put: Specs = msgspec.field(default_factory=Specs)
    removed: dict[str, tuple[str, ...]] = {}
