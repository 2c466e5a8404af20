# SPDX-License-Identifier: Apache-2.0
"""The pipeline: objects into a store, the store into specs, and what changed to whoever serves it.

Level-triggered: specs are always made from the whole store, and what is published is the difference from what was published
before. Only EndpointSlices, by far the most frequent change, go a shorter way: the members of the Services they belong to, at the
cost of those alone.

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
from routing.translate import TranslateOptions, translate, translate_endpoints

if TYPE_CHECKING:
    from collections.abc import Callable

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
    """

    def __init__(self, options: TranslateOptions, publish: Callable[[Specs, SpecsDiff], None]) -> None:
        self._options = options
        self._publish = publish
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
        return self._source_problems + self._failure

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
        for key in changes.removed:
            self._store.delete(*key)
        for resource in changes.put.values():
            self._store.put(resource)
        if changes.put or changes.removed or not self.version:
            self._guarded(lambda: self._advance(services))

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
            specs = msgspec.structs.replace(self.specs, endpoints=self.specs.endpoints | changed)
            self._take(specs, SpecsDiff(version=self.version + 1, put=Specs(endpoints=changed)))
        return True

    def _translate(self) -> Specs:
        translation = translate(self._store, self._options)
        self._diagnostics = translation.diagnostics
        self._are_diagnostics_old = False
        return translation.specs

    def _take(self, specs: Specs, change: SpecsDiff) -> None:
        self.specs, self.version = specs, change.version
        self._publish(specs, change)
