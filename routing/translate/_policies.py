# SPDX-License-Identifier: Apache-2.0
"""Which DestinationRule holds for a Service, and what it makes of the Service's clusters.

A caller's rule is looked up in three places: its own namespace, the Service's, the root namespace; the first with a rule for the
host decides alone, by its most specific host. A gateway serves callers of all namespaces, so a Service has one *base* rule, for
callers of a namespace that nothing mentions, and a variant for each namespace whose callers would see other rules. Variants
have clusters of their own, as a sidecar in that namespace would.

Policy is layered: rule, its port-level entry (replaces it as a whole), subset (block by block), the subset's port-level entry
(replaces it as a whole again).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from routing.names import canonical_host, cluster_name, covers, pattern_rank, service_fqdn
from routing.resources.destination_rule import ConnectionPool, LoadBalancer, TrafficPolicy
from routing.specs import ClusterSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Literal

    from routing.names import Key
    from routing.resources import DestinationRule, Service
    from routing.resources.core import ServicePort
    from routing.resources.destination_rule import Subset
    from routing.store import Store
    from routing.translate._context import TranslateOptions

__all__ = ["EffectiveRule", "PlannedCluster", "ServiceRules", "cluster_spec", "plan_clusters", "service_rules", "visible"]


class EffectiveRule(NamedTuple):
    """What one or several DestinationRules for a host amount to."""

    policy: TrafficPolicy | None
    subsets: dict[str, Subset]


class ServiceRules(NamedTuple):
    """The rules of a Service: for callers in general, and for those of namespaces that see others."""

    base: EffectiveRule
    variants: dict[str, EffectiveRule]

    def variant_names(self, port: int, subset: str, fqdn: str) -> dict[str, str]:
        """Return each variant's cluster name by namespace."""
        return {namespace: cluster_name(port, subset, fqdn, namespace) for namespace in self.variants}


class PlannedCluster(NamedTuple):
    """A cluster of a Service, before its policy and endpoints are worked out."""

    name: str
    port: ServicePort
    subset: Subset | None
    rule: EffectiveRule


_NOTHING = ServiceRules(EffectiveRule(None, {}), {})


def visible(export_to: Sequence[str], owner: str, namespace: str | None) -> bool:
    """Tell whether an object of namespace `owner` is exported to `namespace`; None is any namespace not mentioned."""
    if not export_to or "*" in export_to:
        return True
    return namespace is not None and (namespace in export_to or ("." in export_to and namespace == owner))


def service_rules(store: Store, options: TranslateOptions, key: Key) -> ServiceRules:
    """Return the DestinationRules that hold for Service `key`."""
    found = [(pattern, rule) for rule in store.rules_for(key) if (pattern := _pattern(rule, key, options)) is not None]
    if not found:
        return _NOTHING
    found.sort(key=lambda entry: entry[1].meta.age)
    namespaces = {key[0], options.root_namespace}
    for _, rule in found:
        namespaces.add(rule.meta.namespace)
        namespaces.update(entry for entry in rule.spec.export_to if entry not in {".", "*"})
    base = _pick(found, key, options, None)
    picked = {namespace: _pick(found, key, options, namespace) for namespace in sorted(namespaces)}
    return ServiceRules(_merge(base), {namespace: _merge(rules) for namespace, rules in picked.items() if rules != base})


def _pattern(rule: DestinationRule, key: Key, options: TranslateOptions) -> str | None:
    """Return the rule's host as a pattern that covers the Service, None when it does not."""
    if rule.spec.workload_selector is not None:
        return None
    fqdn = service_fqdn(key, options.cluster_domain)
    host = canonical_host(rule.spec.host)
    if host.startswith("*"):
        return host if covers(host, fqdn) else None
    namespace, name = key
    if "." not in host:
        return fqdn if (rule.meta.namespace, host) == key else None
    return fqdn if host in {fqdn, f"{name}.{namespace}", f"{name}.{namespace}.svc"} else None


def _pick(
    found: Iterable[tuple[str, DestinationRule]], key: Key, options: TranslateOptions, caller: str | None
) -> list[DestinationRule]:
    """Return the rules for callers of a namespace: those with the most specific host of the first place that has any."""
    local: list[tuple[str, DestinationRule]] = []
    owner: list[tuple[str, DestinationRule]] = []
    root: list[tuple[str, DestinationRule]] = []
    for entry in found:
        namespace, exported = entry[1].meta.namespace, visible(entry[1].spec.export_to, entry[1].meta.namespace, caller)
        if namespace == caller and caller != options.root_namespace:
            local.append(entry)
        if namespace == key[0] and exported:
            owner.append(entry)
        if namespace == options.root_namespace and exported:
            root.append(entry)
    place = local or owner or root
    best = min((pattern_rank(pattern) for pattern, _ in place), default=0)
    return [rule for pattern, rule in place if pattern_rank(pattern) == best]


def _merge(rules: Iterable[DestinationRule]) -> EffectiveRule:
    """Merge rules of one host and namespace, oldest first: the first policy, and the first subset of each name."""
    policy: TrafficPolicy | None = None
    subsets: dict[str, Subset] = {}
    for rule in rules:
        if policy is None:
            policy = rule.spec.traffic_policy
        for subset in rule.spec.subsets:
            subsets.setdefault(subset.name, subset)
    return EffectiveRule(policy, subsets)


def plan_clusters(service: Service, fqdn: str, rules: ServiceRules) -> Iterator[PlannedCluster]:
    """Yield every cluster of a Service: its ports, their subsets, and both again for each variant."""
    for port in service.tcp_ports:
        for namespace, rule in [("", rules.base), *rules.variants.items()]:
            yield PlannedCluster(cluster_name(port.port, "", fqdn, namespace), port, None, rule)
            for name, subset in rule.subsets.items():
                yield PlannedCluster(cluster_name(port.port, name, fqdn, namespace), port, subset, rule)


def _layer(rule: EffectiveRule, subset: Subset | None, port: int) -> tuple[LoadBalancer, ConnectionPool]:
    balancer, pool = _resolve_port(rule.policy, port)
    if subset is not None and subset.traffic_policy is not None:
        own_balancer, own_pool = _resolve_port(subset.traffic_policy, port)
        if any(entry.port.number == port for entry in subset.traffic_policy.port_level_settings):
            balancer, pool = own_balancer, own_pool
        else:
            balancer, pool = own_balancer or balancer, own_pool or pool
    return balancer or LoadBalancer(), pool or ConnectionPool()


def _resolve_port(policy: TrafficPolicy | None, port: int) -> tuple[LoadBalancer | None, ConnectionPool | None]:
    if policy is None:
        return None, None
    for entry in policy.port_level_settings:
        if entry.port.number == port:
            return entry.load_balancer, entry.connection_pool
    return policy.load_balancer, policy.connection_pool


_BALANCERS: dict[str, Literal["LEAST_REQUEST", "ROUND_ROBIN", "RANDOM"]] = {"ROUND_ROBIN": "ROUND_ROBIN", "RANDOM": "RANDOM"}


def cluster_spec(service: Service, fqdn: str, planned: PlannedCluster) -> ClusterSpec:
    """Return the spec of a planned cluster."""
    port = planned.port.port
    balancer, pool = _layer(planned.rule, planned.subset, port)
    spec = ClusterSpec(
        name=planned.name,
        service=fqdn,
        service_name=service.meta.name,
        service_namespace=service.meta.namespace,
        port=port,
        subset=planned.subset.name if planned.subset else "",
        balancer=_BALANCERS.get(balancer.simple, "LEAST_REQUEST"),
        max_requests_per_connection=pool.http.max_requests_per_connection,
    )
    changes: dict[str, float] = {}
    if pool.tcp.connect_timeout is not None:
        changes["connect_timeout_s"] = float(pool.tcp.connect_timeout)
    if pool.http.idle_timeout is not None:
        changes["idle_timeout_s"] = float(pool.http.idle_timeout)
    return replace(spec, **changes) if changes else spec
