# SPDX-License-Identifier: Apache-2.0
"""The translator: translates a store again and again, each time at the cost of what changed.

The truth is a translation of everything (`translate`); this gives the same, sooner, in two ways. When objects that people write
changed, the whole translation runs again, with a memory of the earlier ones (see `_memory`), so that it mostly finds what it did
before. When only Pods and EndpointSlices did, by far the most frequent case, nothing else can follow than other members of the
hosts they belong to, other callers, and other identities; that is all that is looked at, unless the pods of a headless Service
have other names now, as each is a host.

Specs that were given away are never changed: sections that differ are copied (0.1 ms for 50,000 entries), the others shared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from routing.diagnostics import Reporter
from routing.diff import diff
from routing.journal import Changes
from routing.names import service_fqdn
from routing.specs import Specs
from routing.translate._census import Census
from routing.translate._context import Context, TranslateOptions
from routing.translate._endpoints import resolved, selecting_entries, selects
from routing.translate._findings import report_findings, report_slices
from routing.translate._host_clusters import HostClusters, host_clusters
from routing.translate._hosts import add_hosts
from routing.translate._identities import Identities, translate_callers
from routing.translate._listeners import translate_listeners
from routing.translate._memory import Memory
from routing.translate._policy_findings import report_policies
from routing.translate._registry import pod_hosts
from routing.translate._telemetry import translate_telemetry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from routing.diagnostics import Diagnostic
    from routing.names import Key
    from routing.resources import Pod
    from routing.specs import EndpointSpec, IdentitySpec
    from routing.store import Store
    from routing.translate._endpoints import NamedEndpoint
    from routing.translate._registry import Registered, Registry

__all__ = ["Step", "Translation", "Translator", "translate"]

_DEFAULTS = TranslateOptions()
_WRITTEN = frozenset({"Service", "ServiceEntry", "VirtualService", "DestinationRule", "Telemetry"})
_NOTHING = Changes(frozenset(), frozenset(), frozenset(), frozenset())


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


class Step(NamedTuple):
    """New specs and what separates them from those before: entries to put and keys to remove, by section."""

    specs: Specs
    put: Specs
    removed: dict[str, tuple[str, ...]]


class Translator:
    """Translates one store.

    Args:
        store: The objects.
        options: How to translate.
    """

    def __init__(self, store: Store, options: TranslateOptions = _DEFAULTS) -> None:
        self._store = store
        self._options = options
        self._addresses: Mapping[str, tuple[str, ...]] = {}
        self._findings: tuple[Diagnostic, ...] = ()
        self.specs = Specs()
        self.names: dict[str, tuple[NamedEndpoint, ...]] = {}
        self._forget()

    def __repr__(self) -> str:
        return f"<Translator of {self._store!r}, {self._memory!r}>"

    def _forget(self) -> None:
        """Begin anew, but for what has been given away."""
        self._memory = Memory()
        self._registry: Registry | None = None
        self._units: dict[str, HostClusters] = {}
        self._census = Census()
        self._callers: dict[str, str] = {}
        self._disputed: dict[str, tuple[Pod, Pod]] = {}
        self._selecting: dict[str, list[Registered]] = {}

    def take(self, changes: Changes = _NOTHING) -> Step | None:
        """Take in what changed in the store.

        Args:
            changes: What changed since the last time; the first time everything did.

        Returns:
            What follows from it, None when nothing does. Should this fail, the next time everything is worked out anew.
        """
        try:
            return self._take(changes)
        except BaseException:
            self._forget()
            raise

    def take_addresses(self, addresses: Mapping[str, tuple[str, ...]]) -> Step | None:
        """Take in what DNS answers, all of it: addresses by name; a name without answer so far is missing."""
        self._addresses = addresses
        return self._step_of_members({name for name, unit in self._units.items() if unit.names}, ())

    def diagnostics(self) -> list[Diagnostic]:
        """Return the findings about the objects, worst first."""
        reporter = Reporter()
        reporter.repeat(self._findings)
        kept = self._memory.kept("clusters")
        for name in self._units:
            reporter.repeat(kept[name].findings)
        report_slices(self._store, reporter)
        for address, (pod, other) in sorted(self._disputed.items()):
            message = f"{address} is also the address of running Pod {'/'.join(other.key)}"
            reporter.report("ACMG005", pod, "status.podIP", message)
        return reporter.diagnostics()

    # Deciding what has to be looked at.

    def _take(self, changes: Changes) -> Step | None:
        registry = self._registry
        if registry is None:
            return self._run(frozenset(), set(), self._store.addresses())
        hosts = self._hosts_with_other_members(changes)
        for name in hosts:
            self._memory.note_members(name)
        kinds = changes.kinds & _WRITTEN
        if any(self._has_other_pods(registry.hosts[name]) for name in hosts if name in self._units):
            kinds |= {"Pod"}
        if kinds:
            return self._run(kinds, hosts, changes.addresses)
        return self._step_of_members(hosts, changes.addresses)

    def _hosts_with_other_members(self, changes: Changes) -> set[str]:
        services = {service for pod in changes.pods for service in self._store.services_of(pod)}
        hosts = {service_fqdn(service, self._options.cluster_domain) for service in services | changes.services}
        for key in changes.pods if self._selecting else ():
            hosts.update(host.name for host in self._selecting.get(key[0], ()) if self._has_to_do_with(host, key))
        return hosts

    def _has_to_do_with(self, host: Registered, key: Key) -> bool:
        """Tell whether a host's ServiceEntry selects a Pod, or did."""
        pod = self._store.pods.get(key)
        is_meant = pod is not None and any(selects(entry, pod) for entry in selecting_entries(host))
        return is_meant or key in self._units[host.name].selected

    def _has_other_pods(self, host: Registered) -> bool:
        return tuple(pod.pod for pod in pod_hosts(self._store, host)) != self._units[host.name].pods

    # Translating.

    def _run(self, kinds: frozenset[str], hosts: set[str], addresses: Iterable[str]) -> Step | None:
        """Translate everything, with the memory of earlier runs.

        Args:
            kinds: Kinds of which objects changed.
            hosts: Hosts with other members.
            addresses: Addresses with other callers.
        """
        self._memory.begin(kinds)
        context = Context(self._store, self._options, self._memory)
        specs = Specs()
        report_findings(context)
        report_policies(context)
        add_hosts(context, specs)
        specs.listeners = translate_listeners(context)
        specs.telemetry = translate_telemetry(context)
        self._findings = context.reporter.findings()
        if context.has_same_rules and self._units:
            self._memory.keep_all("clusters")
            specs.clusters = self.specs.clusters
            endpoints = self._other_endpoints(context, hosts)
            specs.endpoints = self.specs.endpoints | endpoints if endpoints else self.specs.endpoints
        else:
            self._translate_clusters(context, specs, hosts)
        self._memory.end(self._units)
        self._registry = context.registry
        self._take_callers(addresses, context.pod_identities)
        self._census.settle()
        specs.identities, specs.callers = self._census.specs, self._callers
        change = diff(self.specs, specs, 1)
        self.specs = specs
        return Step(specs, change.put, change.removed) if change is not None else None

    def _translate_clusters(self, context: Context, specs: Specs, others: set[str]) -> None:
        """Put the clusters of all hosts and their endpoints into `specs`; `others` are hosts with other members."""
        units = {}
        before, kept = self._memory.tables("clusters")
        for host in context.registry.in_order:
            name = host.name
            if context.is_same(host) and name not in others:
                units[name], kept[name] = self._units[name], before[name]
            else:
                units[name] = host_clusters(context, host)
        self.names = {}
        for unit in units.values():
            specs.clusters.update(unit.clusters)
            specs.endpoints.update(unit.endpoints)
            for cluster, names in unit.names.items():
                self.names[cluster] = names
                specs.endpoints[cluster] += resolved(names, self._addresses)
        self._count(units, self._units)
        self._units = units
        self._selecting = _selecting(context.registry)

    def _step_of_members(self, hosts: set[str], addresses: Iterable[str]) -> Step | None:
        """Translate the members of some hosts and the callers at some addresses."""
        if self._registry is None:
            return None
        self._memory.changed = frozenset()
        context = Context(self._store, self._options, self._memory)
        endpoints = self._other_endpoints(context, hosts)
        callers, left = self._take_callers(addresses, context.pod_identities)
        identities, gone = self._census.settle()
        removed = {section: keys for section, keys in (("identities", gone), ("callers", left)) if keys}
        if not (endpoints or callers or identities or removed):
            return None
        put = Specs(endpoints=endpoints, callers=callers, identities=identities)
        before = self.specs
        self.specs = Specs(
            listeners=before.listeners,
            virtual_hosts=before.virtual_hosts,
            rule_sets=before.rule_sets,
            clusters=before.clusters,
            endpoints=before.endpoints | endpoints if endpoints else before.endpoints,
            identities=self._census.specs,
            callers=self._callers,
            telemetry=before.telemetry,
        )
        return Step(self.specs, put, removed)

    def _other_endpoints(self, context: Context, hosts: Iterable[str]) -> dict[str, tuple[EndpointSpec, ...]]:
        """Look at the members of some hosts, of which nothing else changed; return the endpoints of clusters that have others."""
        units = {name: host_clusters(context, context.registry.hosts[name]) for name in hosts if name in self._units}
        self._count(units, {name: self._units[name] for name in units})
        self._units |= units
        known = self.specs.endpoints
        other: dict[str, tuple[EndpointSpec, ...]] = {}
        for unit in units.values():
            for cluster, found in unit.endpoints.items():
                members = found + resolved(unit.names[cluster], self._addresses) if cluster in unit.names else found
                if known[cluster] != members:
                    other[cluster] = members
        return other

    def _count(self, units: Mapping[str, HostClusters], before: Mapping[str, HostClusters]) -> None:
        """Note which identities members have now, and no longer."""
        for name, unit in units.items():
            if before.get(name) is not unit:
                self._census.add(unit.identities, unit.identities)
        for name, unit in before.items():
            if units.get(name) is not unit:
                self._census.drop(unit.identities)

    def _take_callers(
        self, addresses: Iterable[str], known: dict[int, tuple[str, IdentitySpec]]
    ) -> tuple[dict[str, str], tuple[str, ...]]:
        """Note who is at some addresses; return the callers that are new or others, and the addresses without any longer."""
        addresses = tuple(addresses)
        identities = Identities(known)
        found, disputed = translate_callers(self._store, identities, addresses)
        changed = {address: key for address, key in found.items() if self._callers.get(address) != key}
        left = tuple(address for address in addresses if address in self._callers and address not in found)
        self._census.add(changed.values(), identities.specs)
        self._census.drop(self._callers[address] for address in (*changed, *left) if address in self._callers)
        if changed or left:
            self._callers = self._callers | changed
            for address in left:
                del self._callers[address]
        for address in addresses:
            self._disputed.pop(address, None)
        self._disputed |= disputed
        return changed, left


def _selecting(registry: Registry) -> dict[str, list[Registered]]:
    """Return the hosts of ServiceEntries that select Pods, by namespace."""
    found: dict[str, list[Registered]] = {}
    for host in registry.in_order:
        for namespace in {entry.meta.namespace for entry in selecting_entries(host)}:
            found.setdefault(namespace, []).append(host)
    return found


def translate(store: Store, options: TranslateOptions = _DEFAULTS) -> Translation:
    """Translate everything."""
    translator = Translator(store, options)
    translator.take()
    return Translation(translator.specs, translator.diagnostics(), translator.names)
