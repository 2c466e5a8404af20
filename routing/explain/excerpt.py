# SPDX-License-Identifier: Apache-2.0
"""The part of a configuration that one request can have to do with.

A table of it answers the request as a table of everything would: it has every virtual host that claims the request's Host,
directly, by a wildcard or as a short name, and the one of the listener, with all their rule sets and clusters. So an explanation
costs what one host costs to compile, not what thousands do. That the answers are equal is tested with any configuration.

Names of rules and match entries become their numbers, so that the route which the table returns says which entry it belongs to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from routing.specs import ForwardSpec, Specs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from routing.specs import IdentitySpec, ListenerSpec, RuleSetSpec, RuleSpec, VirtualHostSpec

__all__ = ["CALLER", "excerpt", "may_be_meant"]

CALLER = "(caller)"
"""Key and address of the caller in an excerpt."""


def excerpt(specs: Specs, listener: ListenerSpec, host: str, caller: IdentitySpec | None) -> Specs:
    """Return what a request on a listener can have to do with.

    Args:
        specs: The configuration.
        listener: Where the request comes in.
        host: Its Host, lower case, without port.
        caller: Who calls, None if unknown.
    """
    hosts = {key: spec for key, spec in specs.virtual_hosts.items() if key == listener.virtual_host or may_be_meant(spec, host)}
    rule_sets = {
        candidate.rule_set: _numbered_set(candidate.rule_set, specs.rule_sets[candidate.rule_set])
        for spec in hosts.values()
        for candidate in spec.candidates
        if candidate.rule_set in specs.rule_sets
    }
    names = {name for rules in rule_sets.values() for rule in rules.rules for name in _clusters_of(rule)}
    for spec in hosts.values():
        if spec.default is not None:
            names |= {spec.default.cluster, *spec.default.by_namespace.values()}
    clusters = {name: specs.clusters[name] for name in sorted(names) if name in specs.clusters}
    endpoints = {name: specs.endpoints[name] for name in clusters if name in specs.endpoints}
    keys = {member.identity for members in endpoints.values() for member in members}
    identities = {key: specs.identities[key] for key in sorted(keys) if key in specs.identities}
    return Specs(
        listeners={listener.name: listener},
        virtual_hosts=hosts,
        rule_sets=rule_sets,
        clusters=clusters,
        endpoints=endpoints,
        identities=identities | {CALLER: caller} if caller is not None else identities,
        callers={CALLER: CALLER} if caller is not None else {},
    )


def may_be_meant(spec: VirtualHostSpec, host: str) -> bool:
    """Tell whether a virtual host has a domain that a Host could fall under, in any way whatever."""
    if spec.short_name == host:
        return True
    for domain in spec.domains:
        folded = domain.lower()
        if folded == host or (folded.startswith("*") and host.endswith(folded[1:])):
            return True
    return False


def _numbered_set(key: str, rules: RuleSetSpec) -> RuleSetSpec:
    """Return a rule set under its key, with numbers for the names of rules and entries."""
    return replace(rules, name=key, rules=tuple(_numbered(rule, str(number)) for number, rule in enumerate(rules.rules)))


def _numbered(rule: RuleSpec, name: str) -> RuleSpec:
    return replace(rule, name=name, matches=tuple(replace(match, name=str(i)) for i, match in enumerate(rule.matches)))


def _clusters_of(rule: RuleSpec) -> Iterator[str]:
    if isinstance(rule.action, ForwardSpec):
        for ref in rule.action.clusters:
            yield from (ref.cluster, *ref.by_namespace.values())
        for mirror in rule.action.mirrors:
            yield from (mirror.cluster, *mirror.by_namespace.values())
