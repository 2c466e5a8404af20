# SPDX-License-Identifier: Apache-2.0
"""The cluster as the watches have it, indexed by Service, and which Services a change concerns."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from acmgproxy.controller.eligibility import named_services
from acmgproxy.controller.names import shadow_name
from routing.capture import SERVICE_NAME_LABEL, SHADOW_OF_LABEL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from acmgproxy.controller.objects import EndpointSlice, Namespace, Service, Stored, VirtualService
    from discovery.kube import WatchChange

__all__ = ["Beside", "Store"]

Key = tuple[str, str]


class Beside(NamedTuple):
    """A Service and what is beside it."""

    service: Service | None
    shadow: Service | None
    slices: tuple[EndpointSlice, ...]
    shadow_slices: tuple[EndpointSlice, ...]


class Store:
    """What is known. Every `take_` returns the keys of the Services that are to be looked at again."""

    def __init__(self) -> None:
        self.services: dict[Key, Service] = {}
        self.namespaces: dict[str, Namespace] = {}
        self._slices: dict[Key, EndpointSlice] = {}
        self._by_service: dict[Key, dict[str, EndpointSlice]] = {}
        self._in_namespace: dict[str, set[Key]] = {}
        self._virtual_services: dict[Key, VirtualService] = {}
        self._named: dict[Key, frozenset[Key]] = {}
        self._naming: dict[Key, int] = {}

    def __repr__(self) -> str:
        return f"<Store services={len(self.services)} slices={len(self._slices)}>"

    def beside(self, key: Key) -> Beside:
        """Return a Service and what is beside it."""
        namespace, name = key
        shadow = (namespace, shadow_name(name))
        return Beside(self.services.get(key), self.services.get(shadow), self._slices_of(key), self._slices_of(shadow))

    def is_named(self, key: Key) -> bool:
        """Tell whether a VirtualService bound to the gateways names a Service."""
        return key in self._naming

    def version(self, kind: str, namespace: str, name: str) -> str | None:
        """Return the resourceVersion that a Service or EndpointSlice has here, None if it is not here."""
        found: Stored | None = (self.services if kind == "Service" else self._slices).get((namespace, name))
        return found.meta.resource_version if found is not None else None

    def take_services(self, change: WatchChange[Service]) -> set[Key]:
        """Take note of Services and shadows."""
        touched: set[Key] = set()
        for key in change.removed:
            touched |= _concerned(key, self.services.pop(key, None))
            self._in_namespace.get(key[0], set()).discard(key)
        for key, service in change.put.items():
            touched |= _concerned(key, self.services.get(key)) | _concerned(key, service)
            self.services[key] = service
            self._in_namespace.setdefault(key[0], set()).add(key)
        return touched

    def take_slices(self, change: WatchChange[EndpointSlice]) -> set[Key]:
        """Take note of EndpointSlices."""
        touched: set[Key] = set()
        for key in change.removed:
            touched |= self._drop_slice(key)
        for key, one in change.put.items():
            touched |= self._drop_slice(key)
            self._slices[key] = one
            if owner := one.meta.labels.get(SERVICE_NAME_LABEL):
                self._by_service.setdefault((key[0], owner), {})[key[1]] = one
                touched |= self._owners(one)
        return touched

    def take_namespaces(self, change: WatchChange[Namespace]) -> set[Key]:
        """Take note of Namespaces."""
        touched: set[Key] = set()
        for _, name in change.removed:
            self.namespaces.pop(name, None)
            touched |= self._in_namespace.get(name, set())
        for (_, name), namespace in change.put.items():
            before = self.namespaces.get(name)
            self.namespaces[name] = namespace
            if before is None or (before.meta.labels, before.is_going) != (namespace.meta.labels, namespace.is_going):
                touched |= self._in_namespace.get(name, set())
        return touched

    def take_virtual_services(self, change: WatchChange[VirtualService]) -> set[Key]:
        """Take note of VirtualServices."""
        changed = set(change.removed) | set(change.put)
        for key in change.removed:
            self._virtual_services.pop(key, None)
        self._virtual_services |= change.put
        changed |= {key for key, one in self._virtual_services.items() if changed & set(one.delegates)}
        return set[Key]().union(*(self._name(key) for key in changed))

    def _name(self, key: Key) -> set[Key]:
        """Note again which Services a VirtualService names; return those that it names anew or no longer."""
        before = self._named.pop(key, frozenset[Key]())
        one = self._virtual_services.get(key)
        now = frozenset[Key]()
        if one is not None:
            delegates = (self._virtual_services.get(delegate) for delegate in one.delegates)
            now = named_services(one, (delegate for delegate in delegates if delegate is not None))
        if now:
            self._named[key] = now
        for service in before - now:
            self._naming[service] -= 1
            if not self._naming[service]:
                del self._naming[service]
        for service in now - before:
            self._naming[service] = self._naming.get(service, 0) + 1
        return set(before ^ now)

    def _slices_of(self, key: Key) -> tuple[EndpointSlice, ...]:
        return tuple(self._by_service.get(key, {}).values())

    def _drop_slice(self, key: Key) -> set[Key]:
        one = self._slices.pop(key, None)
        if one is None or not (owner := one.meta.labels.get(SERVICE_NAME_LABEL)):
            return set()
        touched = self._owners(one)
        of_owner = self._by_service[key[0], owner]
        del of_owner[key[1]]
        if not of_owner:
            del self._by_service[key[0], owner]
        return touched

    def _owners(self, one: EndpointSlice) -> set[Key]:
        """Return the Services that a slice concerns: its own, or the one whose shadow that is."""
        namespace = one.meta.namespace
        owner = one.meta.labels[SERVICE_NAME_LABEL]
        if of := one.meta.labels.get(SHADOW_OF_LABEL):
            return {(namespace, of)}
        return _concerned((namespace, owner), self.services.get((namespace, owner)))


def _concerned(key: Key, service: Service | None) -> set[Key]:
    """Return what to look at when a Service changes: itself, and if it is a shadow, whose it is."""
    of = service.shadow_of if service is not None else ""
    return {key, (key[0], of)} if of else {key}


def beside_of(services: Iterable[Service], slices: Iterable[EndpointSlice], key: Key) -> Beside:
    """Return the same as `Store.beside`, from objects that were just read."""
    namespace, name = key
    shadow = shadow_name(name)
    by_name = {one.meta.name: one for one in services if one.meta.namespace == namespace}
    of: dict[str, list[EndpointSlice]] = {name: [], shadow: []}
    for one in slices:
        of.setdefault(one.meta.labels.get(SERVICE_NAME_LABEL, ""), []).append(one)
    return Beside(by_name.get(name), by_name.get(shadow), tuple(of[name]), tuple(of[shadow]))
