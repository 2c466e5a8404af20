# SPDX-License-Identifier: Apache-2.0
"""The clusters of one host with their endpoints: what is worked out anew whenever members come or go, and for that host alone."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from routing.translate._clusters import cluster_spec
from routing.translate._endpoints import cluster_endpoints, cluster_names, host_members, selected_pods, selecting_entries
from routing.translate._identities import Identities
from routing.translate._policies import plan_clusters
from routing.translate._registry import pod_hosts

if TYPE_CHECKING:
    from routing.names import Key
    from routing.resources.destination_rule import Subset
    from routing.specs import ClusterSpec, EndpointSpec, IdentitySpec
    from routing.translate._context import Context
    from routing.translate._endpoints import NamedEndpoint
    from routing.translate._policies import HostRules
    from routing.translate._registry import Registered

__all__ = ["HostClusters", "host_clusters"]


class HostClusters(NamedTuple):
    """Everything by cluster name, and what the clusters rest on.

    Args:
        clusters: The clusters.
        endpoints: Their endpoints that have addresses.
        names: Their endpoints that have to be looked up in DNS; clusters without are left out.
        identities: The identities of the members, by key.
        pods: Names of the host's pods that have clusters of their own.
        selected: Pods that the host's ServiceEntries select.
    """

    clusters: dict[str, ClusterSpec]
    endpoints: dict[str, tuple[EndpointSpec, ...]]
    names: dict[str, tuple[NamedEndpoint, ...]]
    identities: dict[str, IdentitySpec]
    pods: tuple[str, ...]
    selected: frozenset[Key]


def host_clusters(context: Context, host: Registered) -> HostClusters:
    """Return the clusters of a host and of its pods."""
    rules = context.rules(host)
    pods = tuple(pod_hosts(context.store, host)) if host.is_headless else ()
    inputs = (host, rules, context.memory.members.get(host.name, 0), pods)
    return context.remember("clusters", host.name, inputs, partial(_make, context, host, rules, pods))


def _make(context: Context, host: Registered, rules: HostRules, pods: tuple[Registered, ...]) -> HostClusters:
    planned = list(plan_clusters(host, rules))
    for pod in pods:
        planned += plan_clusters(pod, rules)
    identities = Identities(context.pod_identities)
    members = host_members(context.store, host, identities)
    endpoints = cluster_endpoints(members, planned)
    names = cluster_names(members, planned)
    for name in members.missing_ports:
        message = f"no EndpointSlice of the Service has a port named {name!r}"
        context.reporter.report("ACMG008", host.about, "spec.ports", message)
    for cluster in planned:
        is_empty = not endpoints[cluster.name] and cluster.name not in names
        if cluster.subset is not None and is_empty and members.by_port[cluster.port.number]:
            _report_empty(context, host, rules, cluster.subset)
    clusters = {cluster.name: cluster_spec(cluster) for cluster in planned}
    selected = frozenset(pod.key for entry in selecting_entries(host) for pod in selected_pods(context.store, entry))
    return HostClusters(clusters, endpoints, names, identities.specs, tuple(pod.pod for pod in pods), selected)


def _report_empty(context: Context, host: Registered, rules: HostRules, subset: Subset) -> None:
    for rule in rules.sources:
        for index, candidate in enumerate(rule.spec.subsets):
            if candidate is subset:
                message = f"no endpoint of {host.name} carries the labels of subset {subset.name!r}"
                context.reporter.report("IST0173", rule, f"spec.subsets[{index}].labels", message)
