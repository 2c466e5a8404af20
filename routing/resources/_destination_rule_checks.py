# SPDX-License-Identifier: Apache-2.0
"""What a valid DestinationRule is, as Istio's admission judges it.

Stricter than Istio in two points: ISTIO_MUTUAL is refused, because sending plain text where an object asks for encryption would
be worse than not taking the object; and so is what could not be written into a head (names of headers and cookies).
"""

from __future__ import annotations

from math import isqrt
from typing import TYPE_CHECKING

from routing.names import host_problem
from routing.resources._base import Problem
from routing.resources._checks import (
    authority_problem,
    duration_problem,
    export_problems,
    header_name_problem,
    header_value_problem,
)
from routing.resources._locality_checks import locality_problems

if TYPE_CHECKING:
    from collections.abc import Iterator

    from routing.resources._base import Duration
    from routing.resources.destination_rule import (
        ClientTLS,
        ConnectionPool,
        ConsistentHash,
        DestinationRule,
        HTTPCookie,
        LoadBalancer,
        Policy,
        TrafficPolicy,
    )

__all__ = ["destination_rule_problems"]

MAX_TABLE_SIZE = 5_000_011
"""Envoy's limit on the size of a Maglev table."""

MAX_RING_SIZE = 8_388_608
"""Envoy's limit on the size of a ring."""


def destination_rule_problems(rule: DestinationRule) -> Iterator[Problem]:
    """Yield what is wrong with `rule`."""
    spec = rule.spec
    if reason := host_problem(spec.host, wildcard=True):
        yield Problem("spec.host", reason)
    yield from export_problems(spec.export_to, rule.meta.namespace)
    if spec.workload_selector is not None and set(spec.export_to) - {".", rule.meta.namespace}:
        yield Problem("spec.exportTo", "a rule with a workloadSelector holds in its own namespace only")
    yield from _traffic_policy_problems(spec.traffic_policy, "spec.trafficPolicy")
    for index, subset in enumerate(spec.subsets):
        field = f"spec.subsets[{index}]"
        # `|` separates the parts of a cluster's name.
        if not subset.name or "|" in subset.name or "@" in subset.name:
            yield Problem(f"{field}.name", f"{subset.name!r} is not a name")
        yield from _traffic_policy_problems(subset.traffic_policy, f"{field}.trafficPolicy")


def _traffic_policy_problems(policy: TrafficPolicy | None, field: str) -> Iterator[Problem]:
    if policy is None:
        return
    yield from _policy_problems(policy, field)
    for index, entry in enumerate(policy.port_level_settings):
        yield from _policy_problems(entry, f"{field}.portLevelSettings[{index}]")


def _policy_problems(policy: Policy, field: str) -> Iterator[Problem]:
    if policy.load_balancer is not None:
        yield from _balancer_problems(policy.load_balancer, f"{field}.loadBalancer")
    if policy.connection_pool is not None:
        yield from _pool_problems(policy.connection_pool, f"{field}.connectionPool")
    outlier = policy.outlier_detection
    if outlier is not None:
        yield from _durations(f"{field}.outlierDetection", interval=outlier.interval, baseEjectionTime=outlier.base_ejection_time)
    if policy.tls is not None:
        yield from _tls_problems(policy.tls, f"{field}.tls")


def _durations(field: str, **durations: Duration | None) -> Iterator[Problem]:
    for name, duration in durations.items():
        if duration is not None and (reason := duration_problem(duration)):
            yield Problem(f"{field}.{name}", reason)


def _balancer_problems(balancer: LoadBalancer, field: str) -> Iterator[Problem]:
    if balancer.consistent_hash is not None:
        if balancer.simple != "UNSPECIFIED":
            yield Problem(field, "simple and consistentHash exclude each other")
        yield from _hash_problems(balancer.consistent_hash, f"{field}.consistentHash")
    if balancer.locality_lb_setting is not None:
        yield from locality_problems(balancer.locality_lb_setting, f"{field}.localityLbSetting")
    if balancer.warmup is not None:
        yield from _durations(f"{field}.warmup", duration=balancer.warmup.duration)
    yield from _durations(field, warmupDurationSecs=balancer.warmup_duration_secs)


def _hash_problems(hashed: ConsistentHash, field: str) -> Iterator[Problem]:
    given = [
        name
        for name, value in (
            ("httpHeaderName", hashed.http_header_name),
            ("httpCookie", hashed.http_cookie),
            ("useSourceIp", hashed.use_source_ip),
            ("httpQueryParameterName", hashed.http_query_parameter_name),
        )
        if value
    ]
    if len(given) > 1:
        yield Problem(field, f"{' and '.join(given)} exclude each other")
    if hashed.http_header_name and (reason := header_name_problem(hashed.http_header_name)):
        yield Problem(f"{field}.httpHeaderName", reason)
    if hashed.http_cookie is not None:
        yield from _cookie_problems(hashed.http_cookie, f"{field}.httpCookie")
    if hashed.ring_hash is not None and hashed.maglev is not None:
        yield Problem(field, "ringHash and maglev exclude each other")
    ring = hashed.ring_hash.minimum_ring_size if hashed.ring_hash is not None else hashed.minimum_ring_size
    if ring > MAX_RING_SIZE:
        yield Problem(f"{field}.ringHash.minimumRingSize", f"must be at most {MAX_RING_SIZE}")
    size = hashed.maglev.table_size if hashed.maglev is not None else 0
    if size and not (size < MAX_TABLE_SIZE and _is_prime(size)):
        yield Problem(f"{field}.maglev.tableSize", f"must be a prime number below {MAX_TABLE_SIZE}")


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, isqrt(number) + 1))


def _cookie_problems(cookie: HTTPCookie, field: str) -> Iterator[Problem]:
    if reason := header_name_problem(cookie.name):
        yield Problem(f"{field}.name", reason.replace("header", "cookie"))
    if header_value_problem(cookie.path) or ";" in cookie.path:
        yield Problem(f"{field}.path", f"{cookie.path!r} is not a path")
    for index, attribute in enumerate(cookie.attributes):
        if header_name_problem(attribute.name) or header_value_problem(attribute.value) or ";" in attribute.value:
            yield Problem(f"{field}.attributes[{index}]", f"{attribute.name}={attribute.value!r} is not an attribute of a cookie")


def _pool_problems(pool: ConnectionPool, field: str) -> Iterator[Problem]:
    tcp, http = pool.tcp, pool.http
    yield from _durations(f"{field}.tcp", connectTimeout=tcp.connect_timeout, maxConnectionDuration=tcp.max_connection_duration)
    if tcp.tcp_keepalive is not None:
        yield from _durations(f"{field}.tcp.tcpKeepalive", time=tcp.tcp_keepalive.time, interval=tcp.tcp_keepalive.interval)
    if http.idle_timeout is not None and (reason := duration_problem(http.idle_timeout, zero=True)):
        yield Problem(f"{field}.http.idleTimeout", reason)


def _tls_problems(tls: ClientTLS, field: str) -> Iterator[Problem]:
    if tls.mode == "ISTIO_MUTUAL":
        reason = "ISTIO_MUTUAL needs an identity of Istio's, which this gateway does not have; use DISABLE or SIMPLE"
        yield Problem(f"{field}.mode", reason)
    if tls.sni and (wrong := authority_problem(tls.sni) or host_problem(tls.sni, wildcard=False)):
        yield Problem(f"{field}.sni", wrong)
