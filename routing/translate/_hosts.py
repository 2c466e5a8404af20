# SPDX-License-Identifier: Apache-2.0
"""Virtual hosts and listeners.

A virtual host is a host on one of its ports: a Service's, a pod's of a headless Service, an alias's, a ServiceEntry's, or a host
of a VirtualService that is none of them. The VirtualServices whose hosts cover it are its candidates: exact hosts before longer
wildcards before shorter ones, older before younger. Which one owns the host is decided per caller, because visibility and
conditions on the caller come in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from routing.names import is_ip_address, is_loopback, service_domains, virtual_host_key
from routing.resources import Service
from routing.specs import ClusterRef, ListenerSpec, VirtualHostSpec
from routing.translate._candidates import Candidates
from routing.translate._registry import PLAIN_PORT, sorted_hosts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from routing.resources import ServiceEntry
    from routing.specs import Specs
    from routing.translate._context import Context
    from routing.translate._registry import Alias, Registered

__all__ = ["add_hosts", "add_listeners"]

SHARED_LISTENER = "shared"


class _Names(NamedTuple):
    """By what names a host is known: the `domains` of everybody, the `short` one of callers in its namespace."""

    domains: tuple[str, ...]
    short: str = ""
    namespace: str = ""


def add_hosts(context: Context, specs: Specs) -> None:
    """Put virtual hosts and rule sets into `specs`."""
    candidates = Candidates(context, specs)
    taken: dict[tuple[str, int], Service | ServiceEntry] = {}
    for host in sorted_hosts(context.registry.hosts.values()):
        for port in host.ports:
            addresses = _claim(context, host, port.number, taken)
            names = _names(context, host, addresses)
            _add_host(context, specs, candidates, host.name, port.number, names, host)
    for pod in context.registry.pods.values():
        for port in pod.ports:
            _add_host(context, specs, candidates, pod.name, port.number, _names(context, pod, ()), pod)
    for alias in context.registry.aliases.values():
        _add_alias(context, specs, candidates, alias)
    for name in candidates.by_pattern:
        if name not in context.registry and (name, PLAIN_PORT) not in taken:
            _add_plain_host(specs, candidates, name)


def _add_host(
    context: Context, specs: Specs, candidates: Candidates, name: str, port: int, names: _Names, target: Registered
) -> None:
    """Add a virtual host whose default route leads to a port of `target`, the same if it has that."""
    number = port if target.port(port) is not None or len(target.ports) != 1 else target.ports[0].number
    cluster, by_namespace = context.clusters(target, number)
    specs.virtual_hosts[virtual_host_key(name, port)] = VirtualHostSpec(
        name=name,
        port=port,
        domains=names.domains,
        short_name=names.short,
        namespace=names.namespace,
        candidates=candidates.of(name, port),
        default=ClusterRef(cluster=cluster, by_namespace=by_namespace),
    )


def _names(context: Context, host: Registered, addresses: tuple[str, ...]) -> _Names:
    about, domain = host.about, context.options.cluster_domain
    if not isinstance(about, Service):
        return _Names((host.name, *_in_brackets(addresses)), "", about.meta.namespace)
    below = f"{host.pod}." if host.pod else ""
    domains = tuple(f"{below}{name}" for name in service_domains(about.key, domain, ()))
    return _Names((*domains, *_in_brackets(addresses)), below + about.meta.name, about.meta.namespace)


def _in_brackets(addresses: Iterable[str]) -> Iterator[str]:
    """Yield addresses as they stand in a Host."""
    for address in addresses:
        yield f"[{address}]" if ":" in address else address


def _addresses(host: Registered) -> Iterator[str]:
    """Yield the addresses that lead to a host as a whole."""
    if isinstance(host.about, Service):
        yield from host.about.addresses
        return
    entries = {id(port.entry): port.entry for port in host.ports}
    for entry in entries.values():
        # A range says nothing about a single host, nor does an address that several hosts share.
        if entry is not None and len(entry.spec.hosts) == 1:
            yield from (address for address in entry.spec.addresses if is_ip_address(address))


def _claim(
    context: Context, host: Registered, port: int, taken: dict[tuple[str, int], Service | ServiceEntry]
) -> tuple[str, ...]:
    """Return the host's addresses that no older one has on this port."""
    addresses = []
    about = host.about
    for address in dict.fromkeys(_addresses(host)):
        owner = taken.setdefault((address, port), about)
        if owner is about:
            addresses.append(address)
        else:
            field = "spec.clusterIP" if isinstance(about, Service) else "spec.addresses"
            message = f"port {port} of {address} belongs to the older {owner.kind} {'/'.join(owner.key)}"
            context.reporter.report("ACMG007", about, field, message)
    return tuple(addresses)


def _add_alias(context: Context, specs: Specs, candidates: Candidates, alias: Alias) -> None:
    """Add the virtual hosts of an alias: on its own ports, or its target's if it declares none."""
    service, target = alias.about, alias.target
    own = tuple(port.port for port in service.tcp_ports)
    names = _Names(service_domains(service.key, context.options.cluster_domain, ()), service.meta.name, service.meta.namespace)
    for port in own or tuple(port.number for port in target.ports):
        if target.port(port) is None and len(target.ports) != 1:
            message = f"{target.name}, which it leads to, has no port {port}"
            context.reporter.report("ACMG004", service, "spec.ports", message)
        _add_host(context, specs, candidates, alias.name, port, names, target)


def _add_plain_host(specs: Specs, candidates: Candidates, host: str) -> None:
    """Add a VirtualService host that is nothing else."""
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
    for host in sorted_hosts(context.registry.hosts.values()):
        for port in host.ports:
            wanted = [(address, port.number) for address in _addresses(host) if is_loopback(address)]
            if shared.intersection(wanted):
                field = "spec.clusterIP" if isinstance(host.about, Service) else "spec.addresses"
                context.reporter.report("ACMG007", host.about, field, "it is the address of the shared listener")
            # Two hosts with one address and port are reported with their virtual hosts.
            binds = tuple(bind for bind in dict.fromkeys(wanted) if bind not in taken)
            taken.update(binds)
            if binds:
                key = virtual_host_key(host.name, port.number)
                specs.listeners[key] = ListenerSpec(name=key, port=port.number, binds=binds, virtual_host=key)
