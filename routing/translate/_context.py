# SPDX-License-Identifier: Apache-2.0
"""What every part of a translation shares: the store, the options, the reporter, the registry, the rules of each host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from routing.diagnostics import Reporter
from routing.names import CLUSTER_DOMAIN, cluster_name
from routing.specs import ROOT_NAMESPACE
from routing.translate._policies import host_rules
from routing.translate._registry import Registry, exported_to

if TYPE_CHECKING:
    from routing.names import Key
    from routing.resources import Resource
    from routing.store import Store
    from routing.translate._delegates import PlacedRule
    from routing.translate._policies import HostRules
    from routing.translate._registry import Host, Port, Registered

__all__ = ["Context", "TranslateOptions"]


class TranslateOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to translate.

    Args:
        cluster_domain: The cluster's DNS domain.
        root_namespace: Namespace whose DestinationRules hold for all.
        gateway_name: Gateway that VirtualServices may be bound to, besides `mesh`; any namespace before it is accepted.
        listeners: `cluster-ip`: listen on the clusterIP and port of every Service whose clusterIP is a loopback address.
        shared_binds: Addresses of the listener that finds the Service by Host and port alone; none, no such listener.
    """

    cluster_domain: str = CLUSTER_DOMAIN
    root_namespace: str = ROOT_NAMESPACE
    gateway_name: str = "acmg-gateway"
    listeners: Literal["cluster-ip", "none"] = "cluster-ip"
    shared_binds: tuple[tuple[str, int], ...] = ()


class Context:
    """One run of a translation."""

    __slots__ = ("_rules", "expanded", "options", "registry", "reporter", "store")

    def __init__(self, store: Store, options: TranslateOptions) -> None:
        self.store = store
        self.options = options
        self.reporter = Reporter()
        self.registry = Registry(store, options.cluster_domain, self.reporter.report)
        self.expanded: dict[Key, tuple[PlacedRule, ...]] = {}
        self._rules: dict[str, HostRules] = {}

    def __repr__(self) -> str:
        return f"<Context {self.store!r} {self.registry!r} {self.reporter!r}>"

    def resolve(self, host: str, about: Resource, field: str) -> Host:
        """Return what a field of an object names, and warn if Istio would see it differently."""
        found = self.registry.resolve(host, about.meta.namespace)
        if found.assumed:
            self.reporter.report("ACMG003", about, field, f"{host!r} is read as {found.name}")
        return found

    def rules(self, host: Registered) -> HostRules:
        """Return the DestinationRules that hold for a host."""
        rules = self._rules.get(host.owner)
        if rules is None:
            rules = self._rules[host.owner] = host_rules(self.store, self.options, host)
        return rules

    def clusters(self, host: Registered, port: int, subset: str = "") -> tuple[str, dict[str, str]]:
        """Return the name of a host's cluster and of its variants by the caller's namespace.

        Callers that a ServiceEntry is not exported to get a name that no cluster has.
        """
        name = cluster_name(port, subset, host.name)
        variants = self.rules(host).variant_names(port, subset, host.name)
        known = host.port(port)
        viewers = _viewers(known) if known is not None else ()
        if not viewers:
            return name, variants
        return cluster_name(port, subset, host.name, "-"), {
            viewer: variants.get(viewer, name) for viewer in viewers if viewer != "~"
        }


def _viewers(port: Port) -> tuple[str, ...]:
    """Return the namespaces that see a port; none means that all do."""
    return exported_to(port.entry.spec.export_to, port.entry.meta.namespace) if port.entry is not None else ()
