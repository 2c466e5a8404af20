# SPDX-License-Identifier: Apache-2.0
"""Rules of a VirtualService for one port."""

from __future__ import annotations

from typing import TYPE_CHECKING

from routing.names import rule_set_key
from routing.specs import RuleSetSpec, RuleSpec
from routing.translate._actions import translate_action
from routing.translate._headers import translate_headers
from routing.translate._matches import MESH, bound_gateways, catches_all, translate_match

if TYPE_CHECKING:
    from routing.resources import VirtualService
    from routing.resources.virtual_service import HTTPRoute
    from routing.specs import MatchSpec
    from routing.translate._context import Context

__all__ = ["bound_to", "translate_rules"]


def bound_to(context: Context, service: VirtualService) -> frozenset[str]:
    """Return which of a VirtualService's gateways this gateway stands for; none, and it is not for us."""
    return bound_gateways(context, service.spec.gateways or (MESH,))


def translate_rules(context: Context, service: VirtualService, port: int) -> RuleSetSpec | None:
    """Return the rules that hold on a Service port, None when there are none: the VirtualService then does not own the host.

    Rules after the first that matches everything are left out: no request reaches them.
    """
    bound = bound_to(context, service)
    rules: list[RuleSpec] = []
    complete = ""
    for index, rule in enumerate(service.spec.http):
        field = f"spec.http[{index}]"
        matches = _matches(context, service, rule, field, port, bound)
        if matches is None:
            continue
        if complete:
            context.reporter.report("IST0130", service, field, f"{complete} before it matches every request")
            continue
        headers = translate_headers(context, service, rule.headers, f"{field}.headers")
        action = translate_action(context, service, rule, field, port=port, host_rewrite=headers.host_rewrite)
        if action is None:
            continue
        rules.append(
            RuleSpec(
                name=rule.name,
                matches=matches,
                action=action,
                request_headers=headers.request,
                response_headers=headers.response,
            )
        )
        if not matches or catches_all(matches[-1]):
            complete = field
    if not rules:
        return None
    namespace = service.meta.namespace
    exported = () if "*" in service.spec.export_to else service.spec.export_to
    return RuleSetSpec(
        name=rule_set_key(service.key, port),
        namespace=namespace,
        rules=tuple(rules),
        export_to=tuple(namespace if entry == "." else entry for entry in exported),
    )


def _matches(
    context: Context, service: VirtualService, rule: HTTPRoute, field: str, port: int, bound: frozenset[str]
) -> tuple[MatchSpec, ...] | None:
    """Return a rule's match entries, none of them meaning that it matches everything; None when no entry holds here."""
    matches = []
    for index, entry in enumerate(rule.match):
        match = translate_match(context, service, entry, f"{field}.match[{index}]", port=port, bound=bound)
        if match is not None:
            matches.append(match)
            if catches_all(match):
                break
    return None if rule.match and not matches else tuple(matches)
