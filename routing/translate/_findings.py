# SPDX-License-Identifier: Apache-2.0
"""Findings about single objects: what they give that has no effect, and hosts that name nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from routing.names import canonical_host, covers, service_fqdn
from routing.translate._endpoints import ADDRESS_TYPES

if TYPE_CHECKING:
    from routing.resources import DestinationRule, Resource
    from routing.resources.destination_rule import TrafficPolicy
    from routing.translate._context import Context

__all__ = ["report_findings"]

_CONSEQUENCES = {
    "consistentHash": "requests are balanced as without it",
    "corsPolicy": "requests are forwarded as without it",
    "fault": "no fault is injected",
    "mirror": "nothing is mirrored",
    "mirrors": "nothing is mirrored",
    "outlierDetection": "no endpoint is ejected",
    "retryBudget": "the gateway's own budget holds",
    "tcp": "these rules are not used",
    "tls": "connections to endpoints are not encrypted",
}


def report_findings(context: Context) -> None:
    """Report what is found in single objects."""
    for resource in context.store.resources():
        _report_notes(context, resource)
    report = context.reporter.report
    for service in context.store.services.values():
        if service.spec.type == "ExternalName":
            report("ACMG004", service, "spec.type", "ExternalName Services are not supported yet; this one is left out")
        if service.spec.session_affinity == "ClientIP":
            report("ACMG001", service, "spec.sessionAffinity", "session affinity is not supported yet and has no effect")
    for slice_ in context.store.endpoint_slices.values():
        if slice_.address_type not in ADDRESS_TYPES:
            report("ACMG001", slice_, "addressType", f"addresses of type {slice_.address_type} are not supported; it is left out")
    for rule in context.store.destination_rules.values():
        _report_rule(context, rule)


def _report_notes(context: Context, resource: Resource) -> None:
    for note in resource.notes:
        if note.reason == "unknown":
            context.reporter.report("ACMG002", resource, note.field, f"there is no such field in {resource.kind}")
            continue
        name = note.field.rpartition(".")[2]
        consequence = _CONSEQUENCES.get(name, "it has no effect")
        if note.field == "spec.tls":
            consequence = _CONSEQUENCES["tcp"]
        context.reporter.report("ACMG001", resource, note.field, f"{name} is not supported yet: {consequence}")


def _report_rule(context: Context, rule: DestinationRule) -> None:
    report = context.reporter.report
    if rule.spec.workload_selector is not None:
        message = "rules for some callers only are not supported yet; this one is left out"
        report("ACMG001", rule, "spec.workloadSelector", message)
    host = canonical_host(rule.spec.host)
    if host.startswith("*"):
        domain = context.options.cluster_domain
        known = any(covers(host, service_fqdn(key, domain)) for key in context.store.services)
    else:
        known = context.resolve(host, rule, "spec.host").service is not None
    if not known:
        report("IST0174", rule, "spec.host", f"no Service is named {rule.spec.host}")
    _report_policy(context, rule, rule.spec.traffic_policy, "spec.trafficPolicy")
    names: set[str] = set()
    for index, subset in enumerate(rule.spec.subsets):
        if subset.name in names:
            report("ACMG011", rule, f"spec.subsets[{index}].name", f"there is another subset {subset.name!r} before it")
        names.add(subset.name)
        _report_policy(context, rule, subset.traffic_policy, f"spec.subsets[{index}].trafficPolicy")


def _report_policy(context: Context, rule: DestinationRule, policy: TrafficPolicy | None, field: str) -> None:
    if policy is None:
        return
    levels = [(policy.load_balancer, field)]
    for index, entry in enumerate(policy.port_level_settings):
        levels.append((entry.load_balancer, f"{field}.portLevelSettings[{index}]"))
    for balancer, where in levels:
        if balancer is not None and balancer.simple == "PASSTHROUGH":
            message = "there is no original destination here; LEAST_REQUEST is used"
            context.reporter.report("ACMG001", rule, f"{where}.loadBalancer.simple", message)
