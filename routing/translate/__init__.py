# SPDX-License-Identifier: Apache-2.0
"""Translation: from the store of objects to the specs that workers compile, and what is to be said about the objects.

A pure function of the whole store. Only endpoints also have a way of their own, `translate_endpoints`, because they change at
every rollout of every Deployment; it gives exactly what `translate` gives for that Service.

Order of reading: `_hosts` (who may own a host), `_rules` with `_matches`, `_actions` and `_headers` (what a VirtualService
says), `_policies` (what DestinationRules say), `_endpoints` and `_identities` (who is there).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from routing.names import service_fqdn
from routing.specs import EndpointSpec, IdentitySpec, Specs
from routing.translate._context import Context, TranslateOptions, known_service
from routing.translate._endpoints import cluster_endpoints, service_members
from routing.translate._findings import report_findings
from routing.translate._hosts import add_hosts, add_listeners, services_by_age
from routing.translate._identities import Identities
from routing.translate._identities import translate_callers as _translate_callers
from routing.translate._policies import cluster_spec, plan_clusters, service_rules

if TYPE_CHECKING:
    from collections.abc import Iterable

    from routing.diagnostics import Diagnostic
    from routing.names import Key
    from routing.resources import Service
    from routing.store import Store

__all__ = ["TranslateOptions", "Translation", "pod_identity", "translate", "translate_callers", "translate_endpoints"]

_DEFAULTS = TranslateOptions()


class Translation(NamedTuple):
    """Specs, and what is to be said about the objects they come from."""

    specs: Specs
    diagnostics: list[Diagnostic]


def translate(store: Store, options: TranslateOptions = _DEFAULTS) -> Translation:
    """Translate everything."""
    context = Context(store, options)
    identities = Identities()
    specs = Specs()
    report_findings(context)
    add_hosts(context, specs)
    add_listeners(context, specs)
    for fqdn, service in services_by_age(context):
        _add_clusters(context, specs, service, fqdn, identities)
    specs.callers = _translate_callers(store, identities, reporter=context.reporter)
    specs.identities = identities.specs
    return Translation(specs, context.reporter.diagnostics())


def _add_clusters(context: Context, specs: Specs, service: Service, fqdn: str, identities: Identities) -> None:
    planned = list(plan_clusters(service, fqdn, context.rules(service.key)))
    members = service_members(context.store, service, identities)
    endpoints = cluster_endpoints(members, planned)
    specs.endpoints.update(endpoints)
    for name in members.missing_ports:
        message = f"no EndpointSlice of the Service has a port named {name!r}"
        context.reporter.report("ACMG008", service, "spec.ports", message)
    for cluster in planned:
        specs.clusters[cluster.name] = cluster_spec(service, fqdn, cluster)
        if cluster.subset is not None and not endpoints[cluster.name] and members.by_port[cluster.port.name]:
            message = f"no pod of the Service carries the labels of subset {cluster.subset.name!r}"
            context.reporter.report("IST0173", service, "spec.selector", message)


def translate_endpoints(
    store: Store, service: Key, options: TranslateOptions = _DEFAULTS
) -> dict[str, tuple[EndpointSpec, ...]]:
    """Translate the endpoints of one Service; the cost is that of the one Service.

    Args:
        store: The objects.
        service: (namespace, name) of the Service.
        options: The options of the full translation.

    Returns:
        The endpoints of each of its clusters; nothing when it does not exist. Identities that they name are those of Pods in
        the store, which `pod_identity` gives.
    """
    found = known_service(store, service)
    if found is None:
        return {}
    rules = service_rules(store, options, service)
    planned = plan_clusters(found, service_fqdn(service, options.cluster_domain), rules)
    return cluster_endpoints(service_members(store, found, Identities()), planned)


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
