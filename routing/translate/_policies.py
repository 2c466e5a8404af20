# SPDX-License-Identifier: Apache-2.0
"""Which DestinationRule holds for a host, and which clusters that makes.

A caller's rule is looked up in three places: its own namespace, the host's, the root namespace; the first with a rule for the
host decides alone, by its most specific host. A gateway serves callers of all namespaces, so a host has one *base* rule, for
callers of a namespace that nothing mentions, and a variant for each namespace whose callers would see other rules. Variants
have clusters of their own, as a sidecar in that namespace would.

What the rules say is worked out in `_clusters`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from routing.names import canonical_host, cluster_name, covers, pattern_rank
from routing.resources import Service

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from routing.names import Key
    from routing.resources import DestinationRule
    from routing.resources.destination_rule import Subset, TrafficPolicy
    from routing.store import Store
    from routing.translate._context import TranslateOptions
    from routing.translate._registry import Port, Registered

__all__ = ["EffectiveRule", "HostRules", "PlannedCluster", "host_rules", "plan_clusters", "visible"]


class EffectiveRule(NamedTuple):
    """What one or several DestinationRules, those with the keys in `names`, for a host amount to."""

    policy: TrafficPolicy | None
    subsets: dict[str, Subset]
    names: tuple[Key, ...] = ()


class HostRules(NamedTuple):
    """The rules of a host: for callers in general, and for those of namespaces that see others; and what they come from."""

    base: EffectiveRule
    variants: dict[str, EffectiveRule]
    sources: tuple[DestinationRule, ...] = ()

    def variant_names(self, port: int, subset: str, host: str) -> dict[str, str]:
        """Return each variant's cluster name by namespace."""
        return {namespace: cluster_name(port, subset, host, namespace) for namespace in self.variants}


class PlannedCluster(NamedTuple):
    """A cluster of a host, before its policy and endpoints are worked out."""

    name: str
    host: Registered
    port: Port
    subset: Subset | None
    rule: EffectiveRule


_NOTHING = HostRules(EffectiveRule(None, {}), {})


def visible(export_to: Sequence[str], owner: str, namespace: str | None) -> bool:
    """Tell whether an object of namespace `owner` is exported to `namespace`; None is any namespace not mentioned."""
    if not export_to or "*" in export_to:
        return True
    return namespace is not None and (namespace in export_to or ("." in export_to and namespace == owner))


def host_rules(store: Store, options: TranslateOptions, host: Registered) -> HostRules:
    """Return the DestinationRules that hold for a host."""
    found = [(pattern, rule) for rule in store.rules_for(host.owner) if (pattern := _pattern(rule, host)) is not None]
    if not found:
        return _NOTHING
    found.sort(key=lambda entry: entry[1].meta.age)
    owner = host.about.meta.namespace
    namespaces = {owner, options.root_namespace}
    for _, rule in found:
        namespaces.add(rule.meta.namespace)
        namespaces.update(entry for entry in rule.spec.export_to if entry not in {".", "*"})
    base = _pick(found, owner, options, None)
    picked = {namespace: _pick(found, owner, options, namespace) for namespace in sorted(namespaces)}
    variants = {namespace: _merge(rules) for namespace, rules in picked.items() if rules != base}
    return HostRules(_merge(base), variants, tuple(rule for _, rule in found))


def _pattern(rule: DestinationRule, host: Registered) -> str | None:
    """Return the rule's host as a pattern that covers `host`, None when it does not."""
    if rule.spec.workload_selector is not None:
        return None
    name, pattern = host.owner, canonical_host(rule.spec.host)
    if pattern.startswith("*"):
        return pattern if covers(pattern, name) else None
    if pattern == name:
        return name if "." in name else None
    if not isinstance(host.about, Service):
        return None
    namespace, service = host.about.key
    if "." not in pattern:
        return name if (rule.meta.namespace, pattern) == (namespace, service) else None
    return name if pattern in {f"{service}.{namespace}", f"{service}.{namespace}.svc"} else None


def _pick(
    found: Iterable[tuple[str, DestinationRule]], owner: str, options: TranslateOptions, caller: str | None
) -> list[DestinationRule]:
    """Return the rules for callers of a namespace: those with the most specific host of the first place that has any."""
    local: list[tuple[str, DestinationRule]] = []
    owned: list[tuple[str, DestinationRule]] = []
    root: list[tuple[str, DestinationRule]] = []
    for entry in found:
        namespace, exported = entry[1].meta.namespace, visible(entry[1].spec.export_to, entry[1].meta.namespace, caller)
        if namespace == caller and caller != options.root_namespace:
            local.append(entry)
        if namespace == owner and exported:
            owned.append(entry)
        if namespace == options.root_namespace and exported:
            root.append(entry)
    place = local or owned or root
    best = min((pattern_rank(pattern) for pattern, _ in place), default=0)
    return [rule for pattern, rule in place if pattern_rank(pattern) == best]


def _merge(rules: Iterable[DestinationRule]) -> EffectiveRule:
    """Merge rules of one host and namespace, oldest first: the first policy, and the first subset of each name."""
    policy: TrafficPolicy | None = None
    subsets: dict[str, Subset] = {}
    names = []
    for rule in rules:
        names.append(rule.key)
        if policy is None:
            policy = rule.spec.traffic_policy
        for subset in rule.spec.subsets:
            subsets.setdefault(subset.name, subset)
    return EffectiveRule(policy, subsets, tuple(names))


def plan_clusters(host: Registered, rules: HostRules) -> Iterator[PlannedCluster]:
    """Yield every cluster of a host: its ports, their subsets, and both again for each variant. A single pod has no subsets."""
    for port in host.ports:
        for namespace, rule in [("", rules.base), *rules.variants.items()]:
            yield PlannedCluster(cluster_name(port.number, "", host.name, namespace), host, port, None, rule)
            if host.pod:
                continue
            for name, subset in rule.subsets.items():
                yield PlannedCluster(cluster_name(port.number, name, host.name, namespace), host, port, subset, rule)
