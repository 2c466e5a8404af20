# SPDX-License-Identifier: Apache-2.0
"""Virtual hosts: who may own which host on which port.

Every TCP port of a Service is a virtual host; so is, on port 80 only, every VirtualService host that is no Service. The
VirtualServices whose hosts cover it are its candidates: exact hosts before longer wildcards before shorter ones, older before
younger. Which one owns the host is decided per caller, because visibility and conditions on the caller come in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from routing.names import (
    cluster_name,
    covering_patterns,
    is_loopback,
    pattern_rank,
    service_domains,
    service_fqdn,
    service_key,
    virtual_host_key,
)
from routing.specs import CandidateSpec, ClusterRef, ListenerSpec, RuleSetSpec, VirtualHostSpec
from routing.translate._policies import visible
from routing.translate._rules import bound_to, translate_rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from routing.names import Key
    from routing.resources import Service, VirtualService
    from routing.specs import Specs
    from routing.translate._context import Context

__all__ = ["add_hosts", "add_listeners", "services_by_age"]

PLAIN_PORT = 80
"""Where hosts that are no Service are served, as in Istio."""

SHARED_LISTENER = "shared"


def services_by_age(context: Context) -> Iterator[tuple[str, Service]]:
    """Yield every Service with its full name, the oldest first."""
    for service in sorted(context.store.services.values(), key=lambda service: service.meta.age):
        if context.service(service.key) is not None:
            yield service_fqdn(service.key, context.options.cluster_domain), service


class _Candidates:
    """The VirtualServices by host pattern, and their rule sets as they are asked for."""

    def __init__(self, context: Context, specs: Specs) -> None:
        self._context = context
        self._rule_sets = specs.rule_sets
        self._made: dict[tuple[Key, int], RuleSetSpec | None] = {}
        self.by_pattern: dict[str, list[VirtualService]] = {}
        for service in sorted(context.store.virtual_services.values(), key=lambda service: service.meta.age):
            self._add(service)
        self._report_conflicts()

    def _add(self, service: VirtualService) -> None:
        if not service.spec.hosts:
            return
        if not bound_to(self._context, service):
            names = ", ".join(service.spec.gateways)
            message = f"it is bound to {names} only and not used here"
            self._context.reporter.report("ACMG006", service, "spec.gateways", message)
            return
        for index, host in enumerate(service.spec.hosts):
            name = self._context.resolve(host, service, f"spec.hosts[{index}]").name
            owners = self.by_pattern.setdefault(name, [])
            # `b` and its full name may stand beside each other.
            if service not in owners[-1:]:
                owners.append(service)

    def _report_conflicts(self) -> None:
        for pattern, owners in self.by_pattern.items():
            public = [service for service in owners if visible(service.spec.export_to, service.meta.namespace, None)]
            for service in public[1:]:
                first = "/".join(public[0].key)
                message = f"{pattern} belongs to the older VirtualService {first}; this one holds only for callers it leaves out"
                self._context.reporter.report("IST0109", service, "spec.hosts", message)

    def of(self, name: str, port: int) -> tuple[CandidateSpec, ...]:
        """Return the candidates for a host on a port."""
        found: dict[str, CandidateSpec] = {}
        for pattern in covering_patterns(name):
            for service in self.by_pattern.get(pattern, ()):
                rule_set = self._rule_set(service, port)
                # A VirtualService may cover a host twice, by its short name and by a wildcard: the narrower counts.
                if rule_set is not None and rule_set.name not in found:
                    found[rule_set.name] = CandidateSpec(rule_set=rule_set.name, rank=pattern_rank(pattern))
        return tuple(found.values())

    def _rule_set(self, service: VirtualService, port: int) -> RuleSetSpec | None:
        if (service.key, port) in self._made:
            return self._made[service.key, port]
        rule_set = self._made[service.key, port] = translate_rules(self._context, service, port)
        if rule_set is not None:
            self._rule_sets[rule_set.name] = rule_set
        return rule_set


def add_hosts(context: Context, specs: Specs) -> None:
    """Put virtual hosts and rule sets into `specs`."""
    candidates = _Candidates(context, specs)
    taken: dict[tuple[str, int], Service] = {}
    for fqdn, service in services_by_age(context):
        rules = context.rules(service.key)
        for port in service.tcp_ports:
            addresses = _claim(context, service, port.port, taken)
            key = virtual_host_key(fqdn, port.port)
            specs.virtual_hosts[key] = VirtualHostSpec(
                name=fqdn,
                port=port.port,
                domains=service_domains(service.key, context.options.cluster_domain, addresses),
                short_name=service.meta.name,
                namespace=service.meta.namespace,
                candidates=candidates.of(fqdn, port.port),
                default=ClusterRef(
                    cluster=cluster_name(port.port, "", fqdn), by_namespace=rules.variant_names(port.port, "", fqdn)
                ),
            )
    for host in candidates.by_pattern:
        if (host, PLAIN_PORT) not in taken:
            _add_plain_host(context, specs, candidates, host)


def _claim(context: Context, service: Service, port: int, taken: dict[tuple[str, int], Service]) -> tuple[str, ...]:
    """Return the Service's addresses that no older Service has on this port."""
    addresses = []
    for address in service.addresses:
        owner = taken.setdefault((address, port), service)
        if owner is service:
            addresses.append(address)
        else:
            message = f"port {port} of {address} belongs to the older Service {'/'.join(owner.key)}"
            context.reporter.report("ACMG007", service, "spec.clusterIP", message)
    return tuple(addresses)


def _add_plain_host(context: Context, specs: Specs, candidates: _Candidates, host: str) -> None:
    """Add a VirtualService host, unless it is a Service."""
    service = service_key(host, context.options.cluster_domain)
    if service is not None and context.service(service) is not None:
        return
    owners = candidates.of(host, PLAIN_PORT)
    if owners:
        domain = f"[{host}]" if ":" in host else host
        key = virtual_host_key(host, PLAIN_PORT)
        specs.virtual_hosts[key] = VirtualHostSpec(name=host, port=PLAIN_PORT, domains=(domain,), candidates=owners)


def add_listeners(context: Context, specs: Specs) -> None:
    """Put listeners into `specs`."""
    options = context.options
    if options.shared_binds:
        specs.listeners[SHARED_LISTENER] = ListenerSpec(name=SHARED_LISTENER, port=0, binds=options.shared_binds)
    if options.listeners == "none":
        return
    shared = set(options.shared_binds)
    taken = set(shared)
    for fqdn, service in services_by_age(context):
        for port in service.tcp_ports:
            wanted = [(address, port.port) for address in service.addresses if is_loopback(address)]
            if shared.intersection(wanted):
                context.reporter.report("ACMG007", service, "spec.clusterIP", "it is the address of the shared listener")
            # Two Services with one address and port are reported with their virtual hosts.
            binds = tuple(bind for bind in wanted if bind not in taken)
            taken.update(binds)
            if binds:
                key = virtual_host_key(fqdn, port.port)
                specs.listeners[key] = ListenerSpec(name=key, port=port.port, binds=binds, virtual_host=key)
