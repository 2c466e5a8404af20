# SPDX-License-Identifier: Apache-2.0
"""Virtual hosts.

A virtual host is a host on one of its ports: a Service's, a pod's of a headless Service, an alias's, a ServiceEntry's, or a host
of a VirtualService that is none of them. The VirtualServices whose hosts cover it are its candidates: exact hosts before longer
wildcards before shorter ones, older before younger. Which one owns the host is decided per caller, because visibility and
conditions on the caller come in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from routing.names import is_ip_address, service_domains, virtual_host_key
from routing.resources import Service
from routing.specs import ClusterRef, VirtualHostSpec
from routing.translate._candidates import Candidates
from routing.translate._registry import PLAIN_PORT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from routing.resources import ServiceEntry
    from routing.specs import CandidateSpec, Specs
    from routing.translate._context import Context
    from routing.translate._registry import Alias, Registered

__all__ = ["add_hosts", "host_addresses"]


_TABLE = "virtual host"


class _Names(NamedTuple):
    """By what names a host is known: the `domains` of everybody, the `short` one of callers in its namespace."""

    domains: tuple[str, ...]
    short: str = ""
    namespace: str = ""


class _Source(NamedTuple):
    """What a virtual host is made of: a host or an alias, where its default route leads, and the addresses that lead to it."""

    host: Registered | Service
    target: Registered
    addresses: tuple[str, ...] = ()


class _Claims(NamedTuple):
    """The addresses of a host on a port, and who has each address on a port."""

    of: dict[tuple[str, int], tuple[str, ...]]
    taken: dict[tuple[str, int], Service | ServiceEntry]


def add_hosts(context: Context, specs: Specs) -> None:
    """Put virtual hosts and rule sets into `specs`."""
    candidates = Candidates(context, specs)
    registry = context.registry
    claims = context.remember("addresses", "", (registry,), lambda: _claims(context))
    for host in registry.in_order:
        for port in host.ports:
            addresses = claims.of.get((host.name, port.number), ())
            _add_host(context, specs, candidates, host.name, port.number, _Source(host, host, addresses))
    for pod in registry.pods.values():
        for port in pod.ports:
            _add_host(context, specs, candidates, pod.name, port.number, _Source(pod, pod))
    for alias in registry.aliases.values():
        _add_alias(context, specs, candidates, alias)
    for name in candidates.by_pattern:
        if name not in registry and (name, PLAIN_PORT) not in claims.taken:
            _add_plain_host(specs, candidates, name)


def _add_host(context: Context, specs: Specs, candidates: Candidates, name: str, port: int, source: _Source) -> None:
    """Add a virtual host whose default route leads to a port of the source's target, the same if it has that."""
    key = virtual_host_key(name, port)
    owners = candidates.of(name, port)
    if context.is_same(source.target):  # nearly every host, whatever changes: so this is worth a shorter way than `remember`
        before, kept = context.memory.tables(_TABLE)
        known = before.get(key)
        if known is not None and known.inputs[0] == source and known.value.candidates == owners:
            kept[key] = known
            specs.virtual_hosts[key] = known.value
            return
    inputs = (source, context.rules(source.target), owners)
    specs.virtual_hosts[key] = context.remember(_TABLE, key, inputs, lambda: _virtual_host(context, name, port, source, owners))


def _virtual_host(context: Context, name: str, port: int, source: _Source, owners: tuple[CandidateSpec, ...]) -> VirtualHostSpec:
    target = source.target
    number = port if target.port(port) is not None or len(target.ports) != 1 else target.ports[0].number
    cluster, by_namespace = context.clusters(target, number)
    names = (
        _alias_names(context, source.host) if isinstance(source.host, Service) else _names(context, source.host, source.addresses)
    )
    return VirtualHostSpec(
        name=name,
        port=port,
        domains=names.domains,
        short_name=names.short,
        namespace=names.namespace,
        candidates=owners,
        default=ClusterRef(cluster=cluster, by_namespace=by_namespace),
    )


def _alias_names(context: Context, service: Service) -> _Names:
    domains = service_domains(service.key, context.options.cluster_domain, ())
    return _Names(domains, service.meta.name, service.meta.namespace)


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


def host_addresses(host: Registered) -> tuple[str, ...]:
    """Return the addresses that lead to a host as a whole, without repetition."""
    if isinstance(host.about, Service):
        return host.about.addresses
    entries = {id(port.entry): port.entry for port in host.ports}
    # A range says nothing about a single host, nor does an address that several hosts share.
    single = (entry for entry in entries.values() if entry is not None and len(entry.spec.hosts) == 1)
    return tuple(dict.fromkeys(address for entry in single for address in entry.spec.addresses if is_ip_address(address)))


def _claims(context: Context) -> _Claims:
    """Give every address, on each port, to the oldest host that has it."""
    found = _Claims({}, {})
    for host in context.registry.in_order:
        if addresses := host_addresses(host):
            for port in host.ports:
                if mine := _claim(context, host, port.number, addresses, found.taken):
                    found.of[host.name, port.number] = mine
    return found


def _claim(
    context: Context,
    host: Registered,
    port: int,
    addresses: tuple[str, ...],
    taken: dict[tuple[str, int], Service | ServiceEntry],
) -> tuple[str, ...]:
    """Return those of the host's addresses that no older one has on this port."""
    mine = []
    about = host.about
    for address in addresses:
        owner = taken.setdefault((address, port), about)
        if owner is about:
            mine.append(address)
        else:
            field = "spec.clusterIP" if isinstance(about, Service) else "spec.addresses"
            message = f"port {port} of {address} belongs to the older {owner.kind} {'/'.join(owner.key)}"
            context.reporter.report("ACMG007", about, field, message)
    return tuple(mine)


def _add_alias(context: Context, specs: Specs, candidates: Candidates, alias: Alias) -> None:
    """Add the virtual hosts of an alias: on its own ports, or its target's if it declares none."""
    service, target = alias.about, alias.target
    own = tuple(port.port for port in service.tcp_ports)
    for port in own or tuple(port.number for port in target.ports):
        if target.port(port) is None and len(target.ports) != 1:
            message = f"{target.name}, which it leads to, has no port {port}"
            context.reporter.report("ACMG004", service, "spec.ports", message)
        _add_host(context, specs, candidates, alias.name, port, _Source(service, target))


def _add_plain_host(specs: Specs, candidates: Candidates, host: str) -> None:
    """Add a VirtualService host that is nothing else."""
    owners = candidates.of(host, PLAIN_PORT)
    if owners:
        domain = f"[{host}]" if ":" in host else host
        key = virtual_host_key(host, PLAIN_PORT)
        specs.virtual_hosts[key] = VirtualHostSpec(name=host, port=PLAIN_PORT, domains=(domain,), candidates=owners)
