# SPDX-License-Identifier: Apache-2.0
"""Findings about DestinationRules: hosts that name nothing, settings that mean something else here or nothing at all."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from routing.names import canonical_host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from routing.resources import DestinationRule
    from routing.resources.destination_rule import LoadBalancer, OutlierDetection, Policy, TrafficPolicy
    from routing.translate._context import Context

__all__ = ["report_policies"]

LIMITS_ANNOTATION = "acmg.io/limits"
"""On a DestinationRule: its author knows that limits are per gateway pod."""


class _Level(NamedTuple):
    """A policy with its path, and whether outlier detection holds where it does."""

    policy: Policy
    field: str
    is_watched: bool


def report_policies(context: Context) -> None:
    """Report what is found in DestinationRules."""
    for rule in context.store.destination_rules.values():
        context.remember("policies", rule.key, (rule,), partial(_report_rule, context, rule))


def _report_rule(context: Context, rule: DestinationRule) -> None:
    _report_host(context, rule)
    _report_subsets(context, rule)
    if rule.spec.workload_selector is not None:
        message = "rules for some callers of a namespace only are not supported; this one is left out"
        context.reporter.report("ACMG001", rule, "spec.workloadSelector", message)
    for level in _levels(rule):
        _report_level(context, rule, level)


def _report_host(context: Context, rule: DestinationRule) -> None:
    report, host = context.reporter.report, canonical_host(rule.spec.host)
    if host.startswith("*"):
        if not context.covers_any(host):
            report("IST0174", rule, "spec.host", f"{rule.spec.host} covers no Service or ServiceEntry host")
        return
    named = context.resolve(host, rule, "spec.host")
    if named.found is None:
        report("IST0174", rule, "spec.host", f"no Service or ServiceEntry is named {rule.spec.host}")
    elif named.is_alias:
        report("IST0174", rule, "spec.host", f"{rule.spec.host} is an alias; the rules of {named.found.name} hold")
    elif named.found.pod:
        report("IST0174", rule, "spec.host", f"{rule.spec.host} is a pod; the rules of {named.found.owner} hold")


def _report_subsets(context: Context, rule: DestinationRule) -> None:
    names: set[str] = set()
    for index, subset in enumerate(rule.spec.subsets):
        if subset.name in names:
            message = f"there is another subset {subset.name!r} before it"
            context.reporter.report("ACMG011", rule, f"spec.subsets[{index}].name", message)
        names.add(subset.name)


def _levels(rule: DestinationRule) -> Iterator[_Level]:
    above = rule.spec.traffic_policy
    policies = [(above, "spec.trafficPolicy", False)]
    is_watched = above is not None and above.outlier_detection is not None
    for index, subset in enumerate(rule.spec.subsets):
        policies.append((subset.traffic_policy, f"spec.subsets[{index}].trafficPolicy", is_watched))
    for policy, field, is_watched_above in policies:
        if policy is not None:
            yield from _policy_levels(policy, field, is_watched=is_watched_above)


def _policy_levels(policy: TrafficPolicy, field: str, *, is_watched: bool) -> Iterator[_Level]:
    yield _Level(policy, field, is_watched or policy.outlier_detection is not None)
    for index, entry in enumerate(policy.port_level_settings):
        yield _Level(entry, f"{field}.portLevelSettings[{index}]", entry.outlier_detection is not None)


def _report_level(context: Context, rule: DestinationRule, level: _Level) -> None:
    policy, field, _ = level
    for code, where, message in _findings(level):
        context.reporter.report(code, rule, f"{field}.{where}", message)
    limits = list(_limits(policy))
    if limits and rule.meta.annotations.get(LIMITS_ANNOTATION) != "gateway":
        message = f"{', '.join(limits)}: a limit holds for all callers of a gateway pod together, not for each sidecar"
        context.reporter.report("ACMG015", rule, f"{field}.connectionPool", message)


def _findings(level: _Level) -> Iterator[tuple[str, str, str]]:
    """Yield code, path below the level, and message."""
    policy = level.policy
    if policy.load_balancer is not None:
        yield from _balancer_findings(policy.load_balancer, is_watched=level.is_watched)
    if policy.outlier_detection is not None:
        yield from _outlier_findings(policy.outlier_detection)
    if policy.connection_pool is not None:
        http = policy.connection_pool.http
        if http.h2_upgrade_policy == "UPGRADE":
            yield "ACMG001", "connectionPool.http.h2UpgradePolicy", "endpoints are spoken to in HTTP/1.1"
        if http.use_client_protocol:
            yield "ACMG021", "connectionPool.http.useClientProtocol", "callers and endpoints are spoken to in HTTP/1.1"
    if policy.tls is not None and policy.tls.mode == "MUTUAL":
        yield "ACMG016", "tls.mode", "MUTUAL is not supported: no client certificate is presented, otherwise as SIMPLE"


def _balancer_findings(balancer: LoadBalancer, *, is_watched: bool) -> Iterator[tuple[str, str, str]]:
    hashed, locality = balancer.consistent_hash, balancer.locality_lb_setting
    if balancer.simple == "PASSTHROUGH":
        yield "ACMG001", "loadBalancer.simple", "there is no original destination here; RANDOM is used"
    if balancer.simple == "LEAST_CONN":
        yield "ACMG013", "loadBalancer.simple", "LEAST_CONN is now LEAST_REQUEST"
    if hashed is not None:
        keys = (hashed.http_header_name, hashed.http_cookie, hashed.use_source_ip, hashed.http_query_parameter_name)
        if not any(keys):
            yield "ACMG014", "loadBalancer.consistentHash", "nothing is given to hash; endpoints are picked at random"
        if hashed.minimum_ring_size:
            where = "loadBalancer.consistentHash.minimumRingSize"
            yield "ACMG013", where, "minimumRingSize is now ringHash.minimumRingSize"
    if balancer.warmup_duration_secs is not None:
        yield "ACMG013", "loadBalancer.warmupDurationSecs", "warmupDurationSecs is now warmup.duration"
    if balancer.warmup is not None or balancer.warmup_duration_secs is not None:
        name = "warmup" if balancer.warmup is not None else "warmupDurationSecs"
        if hashed is not None or balancer.simple in {"PASSTHROUGH", "RANDOM"}:
            yield "ACMG014", f"loadBalancer.{name}", "it works with LEAST_REQUEST and ROUND_ROBIN only"
    if locality is not None and locality.enabled is not False and not locality.distribute and not is_watched:
        yield "ACMG014", "loadBalancer.localityLbSetting", "failover needs outlierDetection beside it, as in Istio"


def _outlier_findings(detection: OutlierDetection) -> Iterator[tuple[str, str, str]]:
    field = "outlierDetection"
    if detection.consecutive_errors:
        yield "ACMG013", f"{field}.consecutiveErrors", "consecutiveErrors is now consecutiveGatewayErrors"
    if detection.consecutive_local_origin_failures is not None and not detection.split_external_local_origin_errors:
        where = f"{field}.consecutiveLocalOriginFailures"
        yield "ACMG014", where, "it counts only with splitExternalLocalOriginErrors"


def _limits(policy: Policy) -> Iterator[str]:
    pool = policy.connection_pool
    if pool is None:
        return
    for name, value in (
        ("maxConnections", pool.tcp.max_connections),
        ("http1MaxPendingRequests", pool.http.http1_max_pending_requests),
        ("http2MaxRequests", pool.http.http2_max_requests),
        ("maxRetries", pool.http.max_retries),
    ):
        if value:
            yield name
