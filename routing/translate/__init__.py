# SPDX-License-Identifier: Apache-2.0
"""Translation: from the store of objects to the specs that workers compile, and what is to be said about the objects.

A pure function of the whole store. Only endpoints also have a way of their own, `translate_endpoints`, because they change at
every rollout of every Deployment; it gives exactly what `translate` gives for that Service.

Order of reading: `_registry` (which hosts there are), `_hosts` and `_candidates` (who may own one), `_rules` with `_delegates`,
`_matches`, `_actions`, `_filters` and `_headers` (what a VirtualService says), `_policies` and `_clusters` (what DestinationRules
say), `_endpoints` and `_identities` (who is there), `_findings` and `_policy_findings` (what else is to be said).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from routing.specs import EndpointSpec, IdentitySpec, Specs
from routing.translate._clusters import cluster_spec
from routing.translate._context import Context, TranslateOptions
from routing.translate._endpoints import NamedEndpoint, cluster_endpoints, cluster_names, host_members, resolved
from routing.translate._findings import report_findings
from routing.translate._hosts import add_hosts, add_listeners
from routing.translate._identities import Identities
from routing.translate._identities import translate_callers as _translate_callers
from routing.translate._policies import host_rules, plan_clusters
from routing.translate._policy_findings import report_policies
from routing.translate._registry import pod_hosts, register, sorted_hosts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from routing.diagnostics import Diagnostic
    from routing.names import Key
    from routing.resources.destination_rule import Subset
    from routing.store import Store
    from routing.translate._registry import Registered

__all__ = [
    "NamedEndpoint",
    "TranslateOptions",
    "Translation",
    "pod_identity",
    "resolved",
    "translate",
    "translate_callers",
    "translate_endpoints",
]

_DEFAULTS = TranslateOptions()


class Translation(NamedTuple):
    """Specs, and what is to be said about the objects they come from.

    Args:
        specs: The configuration.
        diagnostics: The findings, worst first.
        names: By cluster, the endpoints that have to be looked up in DNS; `resolved` makes endpoints of the answers, to be put
            after those that `specs` has for the cluster.
    """

    specs: Specs
    diagnostics: list[Diagnostic]
    names: dict[str, tuple[NamedEndpoint, ...]]


def translate(store: Store, options: TranslateOptions = _DEFAULTS) -> Translation:
    """Translate everything."""
    context = Context(store, options)
    identities = Identities()
    specs = Specs()
    names: dict[str, tuple[NamedEndpoint, ...]] = {}
    report_findings(context)
    report_policies(context)
    add_hosts(context, specs)
    add_listeners(context, specs)
    for host in sorted_hosts(context.registry.hosts.values()):
        names |= _add_clusters(context, specs, host, identities)
    specs.callers = _translate_callers(store, identities, reporter=context.reporter)
    specs.identities = identities.specs
    return Translation(specs, context.reporter.diagnostics(), names)


def _add_clusters(
    context: Context, specs: Specs, host: Registered, identities: Identities
) -> dict[str, tuple[NamedEndpoint, ...]]:
    rules = context.rules(host)
    planned = list(plan_clusters(host, rules))
    members = host_members(context.store, host, identities)
    for pod in pod_hosts(context.store, host):
        planned += plan_clusters(pod, rules)
    endpoints = cluster_endpoints(members, planned)
    names = cluster_names(members, planned)
    specs.endpoints.update(endpoints)
    for name in members.missing_ports:
        message = f"no EndpointSlice of the Service has a port named {name!r}"
        context.reporter.report("ACMG008", host.about, "spec.ports", message)
    for cluster in planned:
        specs.clusters[cluster.name] = cluster_spec(cluster)
        is_empty = not endpoints[cluster.name] and cluster.name not in names
        if cluster.subset is not None and is_empty and members.by_port[cluster.port.number]:
            _report_empty(context, host, cluster.subset)
    return names


def _report_empty(context: Context, host: Registered, subset: Subset) -> None:
    for rule in context.store.rules_for(host.name):
        for index, candidate in enumerate(rule.spec.subsets):
            if candidate is subset:
                message = f"no endpoint of {host.name} carries the labels of subset {subset.name!r}"
                context.reporter.report("IST0173", rule, f"spec.subsets[{index}].labels", message)


def translate_endpoints(store: Store, service: Key, options: TranslateOptions = _DEFAULTS) -> dict[str, tuple[EndpointSpec, ...]]:
    """Translate the endpoints of one Service; the cost is that of the one Service.

    Args:
        store: The objects.
        service: (namespace, name) of the Service.
        options: The options of the full translation.

    Returns:
        The endpoints of each of its clusters; nothing when it does not exist or is an alias. Identities that they name are those
        of Pods in the store, which `pod_identity` gives.
    """
    found = store.services.get(service)
    if found is None or found.is_alias:
        return {}
    host = register(found, options.cluster_domain)
    rules = host_rules(store, options, host)
    planned = list(plan_clusters(host, rules))
    for pod in pod_hosts(store, host):
        planned += plan_clusters(pod, rules)
    return cluster_endpoints(host_members(store, host, Identities()), planned)


def translate_callers(store: Store, addresses: Iterable[str]) -> dict[str, str]:
    """Translate the callers at some addresses; the cost is that of these addresses.

    Returns:
        Keys of identities. An address that is missing belongs to no caller, or no longer.
    """
    return _translate_callers(store, Identities(), addresses)


def pod_identity(store: Store, pod: Key) -> tuple[str, IdentitySpec] | None:
    """Return the identity of a Pod with its key, None when there is no such Pod."""
    found = store.pods.get(pod)
    if found is None:
        return None
    identities = Identities()
    key = identities.key(found)
    return key, identities.specs[key]
