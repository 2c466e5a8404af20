# SPDX-License-Identifier: Apache-2.0
"""What DestinationRules and Services say about a cluster: balancing, limits, health, encryption.

Policy is layered: rule, its port-level entry (replaces it as a whole), subset (block by block), the subset's port-level entry
(replaces it as a whole again). What a Service says (sessionAffinity, trafficDistribution) holds unless the policy says otherwise.

Preferring near endpoints is asked for by `localityLbSetting`, and then acts only beside `outlierDetection`, as in Istio; unlike
there, `outlierDetection` alone does not switch it on. `distribute` and a Service's trafficDistribution need neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from msgspec.structs import replace

from routing.resources import Service
from routing.specs import (
    ClusterSpec,
    HashSpec,
    KeepaliveSpec,
    LocalitySpec,
    OriginSpec,
    OutlierSpec,
    RetryBudgetSpec,
    TlsSpec,
    WarmupSpec,
)

if TYPE_CHECKING:
    from routing.resources.destination_rule import (
        ClientTLS,
        ConnectionPool,
        ConsistentHash,
        LoadBalancer,
        OutlierDetection,
        Policy,
        ProxyProtocol,
        RetryBudget,
        TrafficPolicy,
    )
    from routing.translate._policies import PlannedCluster

__all__ = ["Blocks", "cluster_spec", "layer"]

Balancer = Literal["LEAST_REQUEST", "ROUND_ROBIN", "RANDOM", "RING_HASH", "MAGLEV"]

_BALANCERS: dict[str, Balancer] = {"PASSTHROUGH": "RANDOM", "RANDOM": "RANDOM", "ROUND_ROBIN": "ROUND_ROBIN"}

NEAR_FIRST = frozenset({"PreferClose", "PreferSameNode", "PreferSameZone"})
"""Values of trafficDistribution; of the same node no more is known here than of its zone."""


class Blocks(NamedTuple):
    """A policy, its layers put together."""

    load_balancer: LoadBalancer | None = None
    connection_pool: ConnectionPool | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLS | None = None
    proxy_protocol: ProxyProtocol | None = None
    retry_budget: RetryBudget | None = None


_NO_BLOCKS = Blocks()


def layer(policy: TrafficPolicy | None, subset: TrafficPolicy | None, port: int) -> Blocks:
    """Return what holds on a port, for the whole host or a subset of it."""
    above, _ = _resolve_port(policy, port)
    own, is_whole = _resolve_port(subset, port)
    if own is _NO_BLOCKS and not is_whole:
        return above
    return own if is_whole else above._replace(**{name: block for name, block in own._asdict().items() if block is not None})


def _resolve_port(policy: TrafficPolicy | None, port: int) -> tuple[Blocks, bool]:
    """Return the policy of a port, and whether it is an entry of its own."""
    if policy is None:
        return _NO_BLOCKS, False
    for entry in policy.port_level_settings:
        if entry.port.number == port:
            return _blocks(entry), True
    return _blocks(policy), False


def _blocks(policy: Policy) -> Blocks:
    return Blocks(*(getattr(policy, name) for name in Blocks._fields))


def cluster_spec(planned: PlannedCluster) -> ClusterSpec:
    """Return the spec of a planned cluster."""
    host, port = planned.host, planned.port
    about = host.about if port.entry is None else port.entry
    spec = ClusterSpec(
        name=planned.name,
        service=host.owner,
        service_name=about.meta.name if isinstance(about, Service) else host.name,
        service_namespace=about.meta.namespace,
        port=port.number,
        subset=planned.subset.name if planned.subset else "",
        origins=tuple(OriginSpec(kind="DestinationRule", namespace=key[0], name=key[1]) for key in planned.rule.names),
    )
    own = planned.subset.traffic_policy if planned.subset is not None else None
    blocks = layer(planned.rule.policy, own, port.number)
    service = about if isinstance(about, Service) else None
    changes: dict[str, Any] = {}
    if blocks is not _NO_BLOCKS or service is not None:
        changes |= _balancing(blocks, service)
    if blocks.connection_pool is not None:
        changes |= _pool(blocks.connection_pool)
    if blocks.outlier_detection is not None:
        changes["outlier"] = _outlier(blocks.outlier_detection)
    if blocks.tls is not None and blocks.tls.mode != "DISABLE":
        names = port.entry.spec.subject_alt_names if port.entry is not None else ()
        changes["tls"] = _tls(blocks.tls, names)
    if blocks.proxy_protocol is not None:
        changes["proxy_protocol"] = 1 if blocks.proxy_protocol.version == "V1" else 2
    if blocks.retry_budget is not None:
        changes["retry_budget"] = _retry_budget(blocks.retry_budget)
    return replace(spec, **changes) if changes else spec


def _balancing(blocks: Blocks, service: Service | None) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    balancer = blocks.load_balancer
    is_chosen = balancer is not None and (balancer.consistent_hash is not None or balancer.simple != "UNSPECIFIED")
    if balancer is not None and balancer.consistent_hash is not None:
        changes |= _hash(balancer.consistent_hash)
    elif balancer is not None and is_chosen:
        changes["balancer"] = _BALANCERS.get(balancer.simple, "LEAST_REQUEST")
    elif service is not None and service.spec.session_affinity == "ClientIP":
        changes |= {"balancer": "RING_HASH", "hash": HashSpec(kind="source-ip")}
    if balancer is not None and changes.get("balancer", "LEAST_REQUEST") in {"LEAST_REQUEST", "ROUND_ROBIN"}:
        changes |= _warmup(balancer)
    locality = _locality(blocks, service)
    if locality is not None:
        changes["locality"] = locality
    return changes


def _hash(hashed: ConsistentHash) -> dict[str, Any]:
    # Sizes of 0 are not set, and Istio's defaults hold.
    sizes: dict[str, Any] = {}
    balancer: Balancer = "RING_HASH"
    if hashed.maglev is not None:
        balancer = "MAGLEV"
        if hashed.maglev.table_size:
            sizes["table_size"] = hashed.maglev.table_size
    elif size := hashed.ring_hash.minimum_ring_size if hashed.ring_hash is not None else hashed.minimum_ring_size:
        sizes["ring_size"] = size
    if hashed.http_header_name:
        spec = HashSpec(kind="header", name=hashed.http_header_name.lower(), **sizes)
    elif (cookie := hashed.http_cookie) is not None:
        spec = HashSpec(
            kind="cookie",
            name=cookie.name,
            path=cookie.path,
            ttl_s=None if cookie.ttl is None else float(cookie.ttl),
            attributes=tuple((attribute.name, attribute.value) for attribute in cookie.attributes),
            **sizes,
        )
    elif hashed.use_source_ip:
        spec = HashSpec(kind="source-ip", **sizes)
    elif hashed.http_query_parameter_name:
        spec = HashSpec(kind="query", name=hashed.http_query_parameter_name, **sizes)
    else:  # without anything to hash Envoy draws at random
        return {"balancer": "RANDOM"}
    return {"balancer": balancer, "hash": spec}


def _warmup(balancer: LoadBalancer) -> dict[str, Any]:
    warmup = balancer.warmup
    if warmup is None:
        duration = balancer.warmup_duration_secs
        return {} if duration is None else {"warmup": WarmupSpec(duration_s=float(duration))}
    spec = WarmupSpec(duration_s=float(warmup.duration))
    if warmup.minimum_percent is not None:
        spec = replace(spec, minimum_percent=warmup.minimum_percent)
    if warmup.aggression is not None:
        spec = replace(spec, aggression=warmup.aggression)
    return {"warmup": spec}


def _locality(blocks: Blocks, service: Service | None) -> LocalitySpec | None:
    setting = blocks.load_balancer.locality_lb_setting if blocks.load_balancer is not None else None
    if setting is None:
        is_near = service is not None and service.spec.traffic_distribution in NEAR_FIRST
        return LocalitySpec(always=True) if is_near else None
    if setting.enabled is False:
        return None
    if setting.distribute:
        return LocalitySpec(distribute=tuple((entry.from_, tuple(entry.to.items())) for entry in setting.distribute))
    if blocks.outlier_detection is None:
        return None
    return LocalitySpec(
        failover=tuple((entry.from_, entry.to) for entry in setting.failover), failover_priority=setting.failover_priority
    )


def _pool(pool: ConnectionPool) -> dict[str, Any]:
    tcp, http = pool.tcp, pool.http
    changes: dict[str, Any] = {
        "max_connections": tcp.max_connections,
        "max_pending_requests": http.http1_max_pending_requests,
        "max_requests": http.http2_max_requests,
        "max_retries": http.max_retries,
        "max_requests_per_connection": http.max_requests_per_connection,
    }
    if tcp.connect_timeout is not None:
        changes["connect_timeout_s"] = float(tcp.connect_timeout)
    if tcp.max_connection_duration is not None:
        changes["max_connection_duration_s"] = float(tcp.max_connection_duration)
    if http.idle_timeout is not None:
        changes["idle_timeout_s"] = float(http.idle_timeout)
    if (probes := tcp.tcp_keepalive) is not None:
        changes["keepalive"] = KeepaliveSpec(
            probes=probes.probes, time_s=float(probes.time or 0.0), interval_s=float(probes.interval or 0.0)
        )
    return changes


def _outlier(detection: OutlierDetection) -> OutlierSpec:
    default = OutlierSpec()

    def given(value: int | None, otherwise: int) -> int:
        return otherwise if value is None else value

    return OutlierSpec(
        consecutive_5xx=given(detection.consecutive_5xx_errors, default.consecutive_5xx),
        consecutive_gateway=given(detection.consecutive_gateway_errors, detection.consecutive_errors),
        consecutive_local_origin=given(detection.consecutive_local_origin_failures, default.consecutive_local_origin),
        split_local_origin=detection.split_external_local_origin_errors,
        interval_s=float(detection.interval or default.interval_s),
        base_ejection_s=float(detection.base_ejection_time or default.base_ejection_s),
        max_ejection_percent=detection.max_ejection_percent or default.max_ejection_percent,
        min_health_percent=detection.min_health_percent,
        status_codes=detection.outlier_detection_http_error_codes,
    )


def _tls(tls: ClientTLS, names: tuple[str, ...]) -> TlsSpec:
    return TlsSpec(
        sni=tls.sni,
        subject_alt_names=tls.subject_alt_names or names,
        ca_file=tls.ca_certificates,
        insecure_skip_verify=tls.insecure_skip_verify,
    )


def _retry_budget(budget: RetryBudget) -> RetryBudgetSpec:
    default = RetryBudgetSpec()
    return RetryBudgetSpec(
        percent=default.percent if budget.percent is None else budget.percent,
        minimum=default.minimum if budget.min_retry_concurrency is None else budget.min_retry_concurrency,
    )
