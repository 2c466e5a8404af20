# SPDX-License-Identifier: Apache-2.0
"""The registry: every host that has clusters, and what a host written in an object means.

Hosts are Services, the pods of headless Services by their own names (`pod-0.service...`), the hosts of ServiceEntries, and
aliases (Services of type ExternalName). An alias of a host in the registry has no clusters: it leads to that host's, as in Istio.
An alias of anything else is a host whose only endpoint is looked up in DNS.

A Service goes before a ServiceEntry of the same name. Several ServiceEntries may share a host with different ports; of two with
the same port the older has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from routing.names import canonical_host, covering_patterns, service_fqdn, service_key
from routing.resources import Service, ServiceEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from routing.resources import EndpointSlice
    from routing.resources.core import Endpoint
    from routing.resources.service_entry import EntryPort
    from routing.store import Store

__all__ = [
    "Alias",
    "Host",
    "Port",
    "Registered",
    "Registry",
    "endpoint_hostname",
    "exported_to",
    "pod_hosts",
    "register",
]

PLAIN_PORT = 80
"""Port of an alias that declares none and whose target is not known here."""

HTTP_PROTOCOLS = frozenset({"HTTP", "HTTP_PROXY"})
"""Protocols of ServiceEntry ports that are served."""


class Port(NamedTuple):
    """A port of a host; for a port of a ServiceEntry also the entry and its port."""

    number: int
    name: str
    entry: ServiceEntry | None = None
    entry_port: EntryPort | None = None


class Registered(NamedTuple):
    """A host that has clusters.

    Args:
        name: Full name; may be a pattern (`*.suffix`) of a ServiceEntry.
        about: What it comes from; with several ServiceEntries the oldest.
        ports: Its ports that are served.
        pod: Hostname of the only pod that is meant, "" for all.
        external: Where an alias leads that leaves the cluster.
    """

    name: str
    about: Service | ServiceEntry
    ports: tuple[Port, ...]
    pod: str = ""
    external: str = ""

    @property
    def is_headless(self) -> bool:
        """Whether its pods are hosts too."""
        return isinstance(self.about, Service) and self.about.is_headless

    @property
    def owner(self) -> str:
        """Name of the host whose DestinationRules hold."""
        return self.name.removeprefix(f"{self.pod}.") if self.pod else self.name

    def port(self, number: int) -> Port | None:
        """Return the port of a number."""
        return next((port for port in self.ports if port.number == number), None)


class Alias(NamedTuple):
    """A Service that is another name for a registered host."""

    name: str
    about: Service
    target: Registered


class Host(NamedTuple):
    """What a host in an object means: `found` is where its clusters are, None if there are none.

    `assumed` says that the name had a dot and was no full name, so that Istio would have taken it literally; `is_alias` that
    `found` is another host.
    """

    name: str
    found: Registered | None = None
    assumed: bool = False
    is_alias: bool = False


def exported_to(export_to: tuple[str, ...], namespace: str) -> tuple[str, ...]:
    """Return the namespaces that see an object of `namespace`; none means that all do."""
    if "*" in export_to:
        return ()
    return tuple(namespace if entry == "." else entry for entry in export_to)


def register(service: Service, domain: str) -> Registered:
    """Return the host of a Service that is no alias."""
    ports = tuple(Port(port.port, port.name) for port in service.tcp_ports)
    return Registered(service_fqdn(service.key, domain), service, ports)


def endpoint_hostname(store: Store, slice_: EndpointSlice, endpoint: Endpoint) -> str:
    """Return the name of an endpoint below its headless Service, "" if it has none.

    The slice says it of pods with a hostname and subdomain, as those of StatefulSets have. Where it does not, as in files written
    by hand, the name of a StatefulSet's or single Pod is taken; one of a Deployment is nobody's to address.
    """
    if endpoint.hostname:
        return endpoint.hostname
    target = slice_.pod_of(endpoint)
    pod = store.pods.get(target) if target is not None else None
    if pod is None or any(owner.kind != "StatefulSet" for owner in pod.meta.owner_references):
        return ""
    return pod.meta.name


def pod_hosts(store: Store, host: Registered) -> Iterator[Registered]:
    """Yield the hosts of a headless Service's pods, ready or not, in a fixed order."""
    if not host.is_headless:
        return
    names = {
        name
        for slice_ in store.slices_of(host.about.key)
        for endpoint in slice_.endpoints
        if (name := endpoint_hostname(store, slice_, endpoint))
    }
    for name in sorted(names):
        yield host._replace(name=f"{name}.{host.name}", pod=name)


class Registry:
    """The hosts of a store. The mappings are for reading; `in_order` has the hosts, the oldest first.

    Args:
        store: The objects.
        domain: The cluster's DNS domain.
        report: Takes findings (code, object, field, message); only while the registry is made.
        earlier: An earlier registry. Hosts that are as they were there are the same objects.
    """

    def __init__(
        self,
        store: Store,
        domain: str,
        report: Callable[[str, Service | ServiceEntry, str, str], None],
        earlier: Registry | None = None,
    ) -> None:
        self._domain = domain
        self._report = report
        self.hosts: dict[str, Registered] = {}
        self.pods: dict[str, Registered] = {}
        self.aliases: dict[str, Alias] = {}
        self._patterns: set[str] | None = None
        self._earlier = {**earlier.hosts, **earlier.pods} if earlier is not None else {}
        services = sorted(store.services.values(), key=lambda service: service.meta.age)
        for service in services:
            if not service.is_alias:
                known = self._earlier.get(service_fqdn(service.key, domain))
                host = known if known is not None and known.about is service else self._same(register(service, domain))
                self.hosts[host.name] = host
                self.pods.update((pod.name, self._same(pod)) for pod in pod_hosts(store, host))
        aliases = {service_fqdn(service.key, domain): service for service in services if service.is_alias}
        for entry in sorted(store.service_entries.values(), key=lambda entry: entry.meta.age):
            self._add_entry(entry, aliases)
        for name, service in aliases.items():
            self._add_alias(name, service, aliases)
        self._earlier = {}
        # Services and entries have come in this order; only aliases that lead out of the cluster are Services that came last.
        has_late = any(host.external for host in self.hosts.values())
        self.in_order = _by_seniority(self.hosts.values()) if has_late else list(self.hosts.values())

    def __repr__(self) -> str:
        return f"<Registry {len(self.hosts)} hosts, {len(self.pods)} pods, {len(self.aliases)} aliases>"

    def _same(self, host: Registered) -> Registered:
        """Return the earlier object of a host that is as it was."""
        known = self._earlier.get(host.name)
        return known if known is not None and known == host else host

    def __contains__(self, name: str) -> bool:
        return name in self.hosts or name in self.pods or name in self.aliases

    def find(self, name: str) -> Registered | None:
        """Return the host that has the clusters of a full name."""
        alias = self.aliases.get(name)
        return alias.target if alias is not None else self.hosts.get(name) or self.pods.get(name)

    def names(self) -> Iterator[str]:
        """Yield every full name."""
        yield from self.hosts
        yield from self.pods
        yield from self.aliases

    def has_any(self, pattern: str) -> bool:
        """Tell whether a pattern covers any name."""
        if self._patterns is None:
            # Most names share what follows their first label.
            parents = {f"*.{name.partition('.')[2]}" for name in self.names()}
            self._patterns = {wider for parent in parents for wider in covering_patterns(parent)}.union(self.names())
        return pattern in self._patterns

    def resolve(self, host: str, namespace: str) -> Host:
        """Return what `host` means when it is written in an object of `namespace`.

        A name without a dot is a Service of that namespace, whether it exists or not. A name with a dot is a full name, as in
        Istio, except that the shorter forms of a Service's or pod's name that DNS understands mean it if it exists.
        """
        name = canonical_host(host)
        if name.startswith("*") or ":" in name:
            return Host(name, self.find(name))
        if "." not in name:
            name = service_fqdn((namespace, name), self._domain)
        if name not in self and (longer := self._longer(name, namespace)):
            return Host(longer, self.find(longer), True, longer in self.aliases)
        return Host(name, self.find(name), False, name in self.aliases)

    def _longer(self, name: str, namespace: str) -> str:
        """Return the full name that a shorter one stands for, "" if there is none."""
        return next((form for form in self._forms(name, namespace) if form in self), "")

    def _forms(self, name: str, namespace: str) -> tuple[str, str]:
        return f"{name.removesuffix('.svc')}.svc.{self._domain}", f"{name}.{namespace}.svc.{self._domain}"

    def _add_entry(self, entry: ServiceEntry, aliases: dict[str, Service]) -> None:
        ports = tuple(self._entry_ports(entry))
        for index, host in enumerate(entry.spec.hosts):
            field, name = f"spec.hosts[{index}]", canonical_host(host)
            known = self.resolve(name, entry.meta.namespace).found if "." in name else None
            is_alias = name in aliases or any(form in aliases for form in self._forms(name, entry.meta.namespace))
            if is_alias or (known is not None and isinstance(known.about, Service)):
                self._report("ACMG019", entry, field, f"{host} is the name of a Service, which goes first")
                continue
            earlier = self.hosts.get(name)
            if earlier is None:
                self.hosts[name] = self._same(Registered(name, entry, ports))
                continue
            taken = {port.number: port.entry for port in earlier.ports}
            for port in ports:
                owner = taken.get(port.number)
                if owner is not None:
                    message = f"port {port.number} of {host} belongs to the older ServiceEntry {'/'.join(owner.key)}"
                    self._report("ACMG019", entry, field, message)
            free = tuple(port for port in ports if port.number not in taken)
            self.hosts[name] = self._same(earlier._replace(ports=(*earlier.ports, *free)))

    def _entry_ports(self, entry: ServiceEntry) -> Iterator[Port]:
        for index, port in enumerate(entry.spec.ports):
            if port.protocol.upper() in HTTP_PROTOCOLS:
                yield Port(port.number, port.name, entry, port)
            else:
                message = f"only HTTP is served, not {port.protocol or 'a port without protocol'}; the port is left out"
                self._report("ACMG020", entry, f"spec.ports[{index}].protocol", message)

    def _add_alias(self, name: str, service: Service, aliases: dict[str, Service]) -> None:
        target, seen = name, {name}
        while target in aliases:
            target = canonical_host(aliases[target].spec.external_name)
            if target in seen:
                self._report("ACMG004", service, "spec.externalName", f"{name} is an alias of itself")
                return
            seen.add(target)
        found = self.hosts.get(target) or self.pods.get(target)
        if found is not None:
            self.aliases[name] = Alias(name, service, found)
            return
        if self._is_service_name(target):
            self._report("ACMG004", service, "spec.externalName", f"there is no Service {target}; it is looked up in DNS")
        if target:
            ports = tuple(Port(port.port, port.name) for port in service.tcp_ports) or (Port(PLAIN_PORT, ""),)
            self.hosts[name] = self._same(Registered(name, service, ports, external=target))

    def _is_service_name(self, name: str) -> bool:
        return service_key(name, self._domain) is not None


def _by_seniority(hosts: Iterable[Registered]) -> list[Registered]:
    """Return hosts, the oldest first, Services before ServiceEntries: the order in which addresses are given out."""
    return sorted(hosts, key=lambda host: (isinstance(host.about, ServiceEntry), host.about.meta.age))
