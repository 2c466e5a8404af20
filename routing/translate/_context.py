# SPDX-License-Identifier: Apache-2.0
"""What every part of a translation shares: the store, the options, the reporter, and what a host written by a user names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from routing.diagnostics import Reporter
from routing.names import CLUSTER_DOMAIN, canonical_host, service_fqdn, service_key
from routing.specs import ROOT_NAMESPACE
from routing.translate._policies import service_rules

if TYPE_CHECKING:
    from routing.names import Key
    from routing.resources import Resource, Service
    from routing.store import Store
    from routing.translate._policies import ServiceRules

__all__ = ["Context", "Host", "TranslateOptions", "known_service", "resolve"]


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


class Host(NamedTuple):
    """What a host names: a Service if `service` is set.

    `assumed` says that the name had a dot and was no full name, so that Istio would have taken it literally.
    """

    name: str
    service: Key | None = None
    assumed: bool = False


def known_service(store: Store, key: Key) -> Service | None:
    """Return a Service that can have virtual hosts and clusters; an ExternalName Service is only an alias in DNS."""
    service = store.services.get(key)
    return None if service is None or service.spec.type == "ExternalName" else service


def resolve(store: Store, options: TranslateOptions, host: str, namespace: str) -> Host:
    """Return what `host` names when it is written in an object of `namespace`.

    A name without a dot is a Service of that namespace, whether it exists or not. A name with a dot is a full name, as in
    Istio, except that `service.namespace` and `service.namespace.svc` mean that Service if it exists.
    """
    name = canonical_host(host)
    if name.startswith("*") or ":" in name:
        return Host(name)
    if "." not in name:
        key = (namespace, name)
        return Host(service_fqdn(key, options.cluster_domain), key if known_service(store, key) else None)
    full = service_key(name, options.cluster_domain)
    if full is not None:
        return Host(name, full if known_service(store, full) else None)
    label, owner, *rest = name.split(".")
    key = (owner, label)
    if rest in ([], ["svc"]) and known_service(store, key):
        return Host(service_fqdn(key, options.cluster_domain), key, assumed=True)
    return Host(name)


class Context:
    """One run of a translation."""

    __slots__ = ("_rules", "options", "reporter", "store")

    def __init__(self, store: Store, options: TranslateOptions) -> None:
        self.store = store
        self.options = options
        self.reporter = Reporter()
        self._rules: dict[Key, ServiceRules] = {}

    def __repr__(self) -> str:
        return f"<Context {self.store!r} {self.reporter!r}>"

    def resolve(self, host: str, about: Resource, field: str) -> Host:
        """Return what a field of an object names, and warn if Istio would see it differently."""
        found = resolve(self.store, self.options, host, about.meta.namespace)
        if found.assumed:
            self.reporter.report("ACMG003", about, field, f"{host!r} is read as {found.name}")
        return found

    def service(self, key: Key) -> Service | None:
        """Return a Service that can have virtual hosts and clusters."""
        return known_service(self.store, key)

    def rules(self, key: Key) -> ServiceRules:
        """Return the DestinationRules that hold for a Service."""
        rules = self._rules.get(key)
        if rules is None:
            rules = self._rules[key] = service_rules(self.store, self.options, key)
        return rules
