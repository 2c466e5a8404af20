# SPDX-License-Identifier: Apache-2.0
"""Rules of a VirtualService for one port, and of several that are merged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from routing.names import merged_rule_set_key, rule_set_key
from routing.specs import LeftOutSpec, OriginSpec, RuleSetSpec, RuleSpec
from routing.translate._actions import translate_action
from routing.translate._delegates import expand
from routing.translate._filters import translate_cors, translate_fault
from routing.translate._headers import translate_headers
from routing.translate._matches import MESH, Ineffective, bound_gateways, catches_all, never_holds, translate_match
from routing.translate._registry import exported_to

if TYPE_CHECKING:
    from collections.abc import Sequence

    from routing.resources import VirtualService
    from routing.specs import MatchSpec
    from routing.translate._context import Context
    from routing.translate._delegates import PlacedRule

__all__ = ["bound_to", "merge_rules", "translate_rules"]


def bound_to(context: Context, service: VirtualService) -> frozenset[str]:
    """Return which of a VirtualService's gateways this gateway stands for; none, and it is not for us."""
    return bound_gateways(context, service.spec.gateways or (MESH,))


def translate_rules(context: Context, service: VirtualService, port: int) -> RuleSetSpec | None:
    """Return the rules that hold on a Service port, None when there are none: the VirtualService then does not own the host.

    Rules after the first that matches everything are left out: no request reaches them.
    """
    bound = bound_to(context, service)
    rules: list[RuleSpec] = []
    left_out: list[LeftOutSpec] = []
    ineffective = Ineffective(context.reporter)
    complete = ""
    for placed in expand(context, service):
        matches = _matches(context, placed, port, bound, left_out)
        if matches is None:
            continue
        if complete:
            left_out.append(LeftOutSpec(origin=_origin(placed.about, placed.field), reason=f"{complete} takes every request"))
            context.reporter.report("IST0130", placed.about, placed.field, f"{complete} before it matches every request")
            continue
        for match, field in matches:
            ineffective.check(placed.about, match, field)
        rules.append(_rule(context, placed, matches, port))
        if not matches or catches_all(matches[-1][0]):
            complete = placed.field
    if not rules:
        return None
    namespace = service.meta.namespace
    return RuleSetSpec(
        name=rule_set_key(service.key, port),
        namespace=namespace,
        rules=tuple(rules),
        export_to=exported_to(service.spec.export_to, namespace),
        left_out=tuple(left_out),
    )


def _origin(about: VirtualService, field: str) -> OriginSpec:
    return OriginSpec(kind=about.kind, namespace=about.meta.namespace, name=about.meta.name, field=field)


def _rule(context: Context, placed: PlacedRule, matches: list[tuple[MatchSpec, str]], port: int) -> RuleSpec:
    about, field = placed.place("headers")
    headers = translate_headers(context, about, placed.rule.headers, f"{field}.headers")
    return RuleSpec(
        name=placed.rule.name,
        matches=tuple(match for match, _ in matches),
        action=translate_action(context, placed, port=port, host_rewrite=headers.host_rewrite),
        request_headers=headers.request,
        response_headers=headers.response,
        fault=translate_fault(context, placed),
        cors=translate_cors(context, placed),
        origin=_origin(placed.about, placed.field),
        match_fields=tuple(field for _, field in matches),
    )


def _matches(
    context: Context, placed: PlacedRule, port: int, bound: frozenset[str], left_out: list[LeftOutSpec]
) -> list[tuple[MatchSpec, str]] | None:
    """Return a rule's match entries with their paths, none of them meaning that it matches everything; None when no entry
    holds here. What is left out is added to `left_out`.
    """
    about, _ = placed.place("match")
    matches = []
    for entry, field in placed.matches:
        match = translate_match(context, about, entry, field, port=port, bound=bound)
        if match is None:
            reason = never_holds(context, entry, port=port, bound=bound)
            left_out.append(LeftOutSpec(origin=_origin(about, field), reason=reason))
        else:
            matches.append((match, field))
            if catches_all(match):
                break
    return None if placed.matches and not matches else matches


def merge_rules(context: Context, services: Sequence[VirtualService], rule_sets: Sequence[RuleSetSpec], port: int) -> RuleSetSpec:
    """Return the rules of several VirtualServices of one host as one list, as Istio merges those bound to a gateway.

    Rules stand in the order of the VirtualServices' age, and what matches every request goes to the end; of several such the
    oldest is reached.

    Args:
        context: The translation.
        services: The VirtualServices, at least two, the oldest first.
        rule_sets: Their rules.
        port: The Service port.
    """
    rules: list[RuleSpec] = []
    last: list[RuleSpec] = []
    left_out = [one for rule_set in rule_sets for one in rule_set.left_out]
    for service, rule_set in zip(services, rule_sets, strict=True):
        for rule in rule_set.rules:
            if not rule.matches:
                catching, rest = rule, None
            elif catches_all(rule.matches[-1]):
                catching = replace(rule, matches=rule.matches[-1:], match_fields=rule.match_fields[-1:])
                others = replace(rule, matches=rule.matches[:-1], match_fields=rule.match_fields[:-1])
                rest = others if others.matches else None
            else:
                catching, rest = None, rule
            if rest is not None:
                rules.append(rest)
            if catching is not None and last:
                message = f"a rule of the older VirtualService {'/'.join(services[0].key)} matches every request before"
                context.reporter.report("IST0130", service, "spec.http", message)
                assert catching.origin is not None
                left_out.append(LeftOutSpec(origin=catching.origin, reason=message))
            elif catching is not None:
                last.append(catching)
    keys = [service.key for service in services]
    name = merged_rule_set_key(keys, port)
    return replace(rule_sets[0], name=name, rules=(*rules, *last), left_out=tuple(left_out))
