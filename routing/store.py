# SPDX-License-Identifier: Apache-2.0
"""The store: the last good version of every object, by kind and key, with the indexes translation needs.

Pure data: a source puts and deletes, translation reads. Shadows (see routing.capture) are Services that nobody calls and are kept
apart from `services`; the slices of a shadow count as those of the Service it stands for.

The indexes exist so that a change of one EndpointSlice or Pod costs
what it touches, never a walk over the cluster: slices by Service, Pods by address and by namespace, Services by Pod,
DestinationRules by what their host may mean. The journal says what changed since it was read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from routing.capture import is_shadow, shadowed
from routing.journal import Journal
from routing.names import canonical_host, covering_patterns
from routing.resources import (
    DestinationRule,
    EndpointSlice,
    Namespace,
    Pod,
    Resource,
    Service,
    ServiceEntry,
    Telemetry,
    VirtualService,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from routing.names import Key

__all__ = ["Store"]

_K = TypeVar("_K")
_V = TypeVar("_V")


class _Index(dict[_K, dict[_V, None]]):
    """Values under a key, in the order they came; a key without values does not exist."""

    def put(self, key: _K, value: _V) -> None:
        self.setdefault(key, {})[value] = None

    def discard(self, key: _K, value: _V) -> None:
        values = self[key]
        del values[value]
        if not values:
            del self[key]


class _NarrowIndex(dict[_K, tuple[_V, ...]]):
    """The same for keys that have one value or few: a quarter of the memory."""

    def put(self, key: _K, value: _V) -> None:
        values = self.get(key)
        self[key] = (value,) if values is None else (*values, value)

    def discard(self, key: _K, value: _V) -> None:
        values = self[key]
        if len(values) == 1:
            del self[key]
        else:
            self[key] = tuple(entry for entry in values if entry != value)


class Store:
    """Resources by kind and (namespace, name). The mappings are for reading; change them with `put` and `delete`."""

    __slots__ = (
        "_pods_by_address",
        "_pods_by_namespace",
        "_rules_by_labels",
        "_rules_by_pattern",
        "_services_by_pod",
        "_slices_by_service",
        "_tables",
        "destination_rules",
        "endpoint_slices",
        "journal",
        "namespaces",
        "pods",
        "service_entries",
        "services",
        "shadows",
        "telemetries",
        "virtual_services",
    )

    def __init__(self, resources: Iterable[Resource] = ()) -> None:
        self.services: dict[Key, Service] = {}
        self.shadows: dict[Key, Service] = {}
        self.endpoint_slices: dict[Key, EndpointSlice] = {}
        self.pods: dict[Key, Pod] = {}
        self.namespaces: dict[Key, Namespace] = {}
        self.virtual_services: dict[Key, VirtualService] = {}
        self.destination_rules: dict[Key, DestinationRule] = {}
        self.service_entries: dict[Key, ServiceEntry] = {}
        self.telemetries: dict[Key, Telemetry] = {}
        self._tables: dict[str, tuple[dict[Key, Any], ...]] = {
            "Service": (self.services, self.shadows),
            "EndpointSlice": (self.endpoint_slices,),
            "Pod": (self.pods,),
            "Namespace": (self.namespaces,),
            "VirtualService": (self.virtual_services,),
            "DestinationRule": (self.destination_rules,),
            "ServiceEntry": (self.service_entries,),
            "Telemetry": (self.telemetries,),
        }
        self._slices_by_service: _Index[Key, Key] = _Index()  # thousands, if there are that many endpoints
        # A Pod may be in several slices of one Service, so the slice is part of the value.
        self._services_by_pod: _NarrowIndex[Key, tuple[Key, Key]] = _NarrowIndex()
        self._pods_by_address: _NarrowIndex[str, Key] = _NarrowIndex()
        self._rules_by_labels: _Index[Key, Key] = _Index()
        self._rules_by_pattern: _Index[str, Key] = _Index()
        self._pods_by_namespace: _Index[str, Key] = _Index()
        self.journal = Journal()
        for resource in resources:
            self.put(resource)

    def __repr__(self) -> str:
        return f"<Store {', '.join(f'{sum(map(len, tables))} {kind}' for kind, tables in self._tables.items())}>"

    def put(self, resource: Resource) -> None:
        """Add an object or replace its earlier version."""
        key = resource.key
        tables = self._tables[resource.kind]
        self._take_out(tables, key)
        table = tables[-1] if isinstance(resource, Service) and is_shadow(resource.meta) else tables[0]
        table[key] = resource
        self._reindex(resource, key, add=True)

    def delete(self, kind: str, namespace: str, name: str) -> bool:
        """Take an object out; return whether it was there.

        Raises:
            KeyError: No such kind is kept.
        """
        return self._take_out(self._tables[kind], (namespace, name))

    def _take_out(self, tables: tuple[dict[Key, Any], ...], key: Key) -> bool:
        for table in tables:
            if key in table:
                self._reindex(table.pop(key), key, add=False)
                return True
        return False

    def get(self, kind: str, namespace: str, name: str) -> Resource | None:
        """Return an object, None when it is not there.

        Raises:
            KeyError: No such kind is kept.
        """
        key = (namespace, name)
        return next((table[key] for table in self._tables[kind] if key in table), None)

    def resources(self) -> Iterator[Resource]:
        """Yield every object."""
        for tables in self._tables.values():
            for table in tables:
                yield from table.values()

    def slices_of(self, service: Key) -> Iterator[EndpointSlice]:
        """Yield the EndpointSlices that hold a Service's endpoints: its own and its shadow's."""
        for key in self._slices_by_service.get(service, ()):
            yield self.endpoint_slices[key]

    def services_of(self, pod: Key) -> set[Key]:
        """Return the Services that have `pod` as an endpoint, by the EndpointSlices' word."""
        return {service for service, _ in self._services_by_pod.get(pod, ())}

    def pods_at(self, address: str) -> Iterator[Pod]:
        """Yield the Pods that have an IP address."""
        for key in self._pods_by_address.get(address, ()):
            yield self.pods[key]

    def pods_in(self, namespace: str) -> Iterator[Pod]:
        """Yield the Pods of a namespace."""
        for key in self._pods_by_namespace.get(namespace, ()):
            yield self.pods[key]

    def addresses(self) -> Iterable[str]:
        """Return every address that some Pod has."""
        return self._pods_by_address.keys()

    def rules_for(self, host: str) -> Iterator[DestinationRule]:
        """Yield the DestinationRules whose host may mean `host` (a full name or pattern): all that do, and some that do not."""
        name, _, rest = host.partition(".")
        for key in self._rules_by_labels.get((rest.partition(".")[0], name), ()):
            yield self.destination_rules[key]
        for pattern in covering_patterns(host) if self._rules_by_pattern else ():
            for key in self._rules_by_pattern.get(pattern, ()):
                yield self.destination_rules[key]

    def _reindex(self, resource: Resource, key: Key, *, add: bool) -> None:
        match resource:
            case EndpointSlice():
                self._reindex_slice(resource, add=add)
            case Pod():
                addresses = resource.addresses
                self.journal.pods.add(key)
                self.journal.addresses.update(addresses)
                _change(self._pods_by_namespace, key[0], key, add=add)
                for address in addresses:
                    _change(self._pods_by_address, address, key, add=add)
            case DestinationRule():
                self.journal.kinds.add(resource.kind)
                self._reindex_rule(resource, add=add)
            case Service():
                self.journal.kinds.add(resource.kind)
                if (captured := shadowed(resource.meta)) is not None:  # it tells what the ports in its slices are
                    self.journal.services.add(captured)
            case _:
                self.journal.kinds.add(resource.kind)

    def _reindex_slice(self, slice_: EndpointSlice, *, add: bool) -> None:
        service = slice_.service
        if service is None:
            return
        self.journal.services.add(service)
        key = slice_.key
        member = (service, key)
        _change(self._slices_by_service, service, key, add=add)
        for pod in set(slice_.pods()):
            _change(self._services_by_pod, pod, member, add=add)

    def _reindex_rule(self, rule: DestinationRule, *, add: bool) -> None:
        host = canonical_host(rule.spec.host)
        if host.startswith("*"):
            _change(self._rules_by_pattern, host, rule.key, add=add)
            return
        # Two labels tell hosts apart well enough: `s` is in the rule's namespace, and of `s.n`, `s.n.svc` and
        # `s.n.svc.<domain>` the second label is the namespace.
        name, *rest = host.split(".")
        _change(self._rules_by_labels, (rest[0] if rest else rule.meta.namespace, name), rule.key, add=add)


def _change(index: _Index[_K, _V] | _NarrowIndex[_K, _V], key: _K, value: _V, *, add: bool) -> None:
    if add:
        index.put(key, value)
    else:
        index.discard(key, value)
