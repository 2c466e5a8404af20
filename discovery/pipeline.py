# SPDX-License-Identifier: Apache-2.0
"""The pipeline: objects into a store, the store into specs, and what changed to whoever serves it.

Level-triggered: specs are always made from the whole store, and what is published is the difference from what was published
before. Only EndpointSlices, by far the most frequent change, go a shorter way: the members of the Services they belong to, at the
cost of those alone; and the answers of DNS, which are put into the clusters that wait for them.

Should translation itself fail, which would be a defect of ours, the last specs stay in force and the failure is reported like a
bad object; the next change is tried on its own merits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from discovery.objects import SourceProblem
from routing.diff import diff
from routing.resources import EndpointSlice
from routing.specs import Specs, SpecsDiff
from routing.store import Store
from routing.translate import NamedEndpoint, TranslateOptions, resolved, translate, translate_endpoints

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from discovery.objects import ObjectChanges
    from routing.diagnostics import Diagnostic
    from routing.names import Key
    from routing.specs import EndpointSpec

__all__ = ["Pipeline"]


class Pipeline:
    """Turns changes of objects into changes of specs.

    Args:
        options: how to translate.
        publish: takes new specs and their difference from the ones before. Versions count up from 1; the first are published
            even when they are empty.
        look_up: told which names have to be looked up in DNS, whenever that may have changed; answers come by `take_addresses`.
    """

    def __init__(
        self,
        options: TranslateOptions,
        publish: Callable[[Specs, SpecsDiff], None],
        *,
        look_up: Callable[[frozenset[str]], None] = lambda names: None,
    ) -> None:
        self._options = options
        self._publish = publish
        self._look_up = look_up
        self._names: dict[str, tuple[NamedEndpoint, ...]] = {}
        self._known_by_address: dict[str, tuple[EndpointSpec, ...]] = {}
        self._addresses: Mapping[str, tuple[str, ...]] = {}
        self._dns_problems: tuple[SourceProblem, ...] = ()
        self._store = Store()
        self._source_problems: tuple[SourceProblem, ...] = ()
        self._failure: tuple[SourceProblem, ...] = ()
        self._diagnostics: list[Diagnostic] = []
        self._are_diagnostics_old = False
        self.specs = Specs()
        self.version = 0

    def __repr__(self) -> str:
        return f"<Pipeline version={self.version} {self._store}>"

    @property
    def problems(self) -> tuple[SourceProblem, ...]:
        """What could not be read or translated; its last good version is in force."""
        return self._source_problems + self._dns_problems + self._failure

    def diagnostics(self) -> list[Diagnostic]:
        """Return the findings about the objects as they are now.

        Members of Services come and go without their findings being looked for, so this may take a whole translation.
        """
        if self._are_diagnostics_old:
            self._guarded(self._translate)
        return self._diagnostics

    def apply(self, changes: ObjectChanges) -> None:
        """Take changes in and publish what follows from them."""
        self._source_problems = changes.problems
        services = self._services_with_new_members(changes)
        pods = self._pod_clusters(services)
        for key in changes.removed:
            self._store.delete(*key)
        for resource in changes.put.values():
            self._store.put(resource)
        if changes.put or changes.removed or not self.version:
            self._guarded(lambda: self._advance(services if pods == self._pod_clusters(services) else None))

    def take_addresses(self, addresses: Mapping[str, tuple[str, ...]], problems: tuple[SourceProblem, ...] = ()) -> None:
        """Take in what DNS answers, all of it, and publish what follows from it.

        Args:
            addresses: by name; a name without answer so far is missing.
            problems: names that cannot be looked up.
        """
        self._addresses, self._dns_problems = addresses, problems
        members = {cluster: self._members(cluster) for cluster in self._names}
        changed = {cluster: found for cluster, found in members.items() if self.specs.endpoints.get(cluster) != found}
        if changed:
            self._take_endpoints(changed)

    def _members(self, cluster: str) -> tuple[EndpointSpec, ...]:
        """Return the endpoints of a cluster of which some are known by name."""
        return self._known_by_address[cluster] + resolved(self._names[cluster], self._addresses)

    def _pod_clusters(self, services: set[Key] | None) -> set[str]:
        """Return the clusters of headless Services: one for each pod, so that other members make other clusters."""
        headless = (key for key in services or () if (found := self._store.services.get(key)) is not None and found.is_headless)
        return {cluster for key in headless for cluster in translate_endpoints(self._store, key, self._options)}

    def _guarded(self, step: Callable[[], object]) -> None:
        """Do a step of translation of which, should it fail, traffic must not suffer."""
        try:
            step()
        except Exception as error:
            reason = f"translation failed, the configuration before stays in force: {type(error).__name__}: {error}"
            self._failure = (SourceProblem(origin="acmgproxy", reason=reason),)
        else:
            self._failure = ()

    def _services_with_new_members(self, changes: ObjectChanges) -> set[Key] | None:
        """Return the Services whose members are all that changes, None if more does."""
        services: set[Key] = set()
        for key in (*changes.put, *changes.removed):
            if key.kind != EndpointSlice.kind:
                return None
            for slice_ in (changes.put.get(key), self._store.get(*key)):
                if isinstance(slice_, EndpointSlice) and slice_.service is not None:
                    services.add(slice_.service)
        return services

    def _advance(self, services: set[Key] | None) -> None:
        if services is not None and self.version and not self._failure and self._advance_endpoints(services):
            return
        specs = self._translate()
        change = diff(self.specs, specs, self.version + 1)
        if change is None and not self.version:
            change = SpecsDiff(version=1)
        if change is not None:
            self._take(specs, change)

    def _advance_endpoints(self, services: set[Key]) -> bool:
        """Publish new members of some Services; False if that is not all there is to it."""
        changed: dict[str, tuple[EndpointSpec, ...]] = {}
        for service in services:
            for cluster, members in translate_endpoints(self._store, service, self._options).items():
                if cluster not in self.specs.clusters:
                    return False
                if any(member.identity and member.identity not in self.specs.identities for member in members):
                    return False  # a Pod whose identity workers do not know yet
                if self.specs.endpoints.get(cluster) != members:
                    changed[cluster] = members
        self._are_diagnostics_old = True
        if changed:
            self._take_endpoints(changed)
        return True

    def _translate(self) -> Specs:
        specs, self._diagnostics, names = translate(self._store, self._options)
        self._are_diagnostics_old = False
        if names or self._names:
            self._names = names
            self._known_by_address = {cluster: specs.endpoints[cluster] for cluster in names}
            specs.endpoints.update({cluster: self._members(cluster) for cluster in names})
            self._look_up(frozenset(endpoint.name for found in names.values() for endpoint in found))
        return specs

    def _take_endpoints(self, changed: dict[str, tuple[EndpointSpec, ...]]) -> None:
        specs = msgspec.structs.replace(self.specs, endpoints=self.specs.endpoints | changed)
        self._take(specs, SpecsDiff(version=self.version + 1, put=Specs(endpoints=changed)))

    def _take(self, specs: Specs, change: SpecsDiff) -> None:
        self.specs, self.version = specs, change.version
        self._publish(specs, change)
