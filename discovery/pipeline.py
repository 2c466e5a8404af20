# SPDX-License-Identifier: Apache-2.0
"""The pipeline: objects into a store, the store into specs, and what changed to whoever serves it.

Level-triggered: specs always follow from the whole store (`routing.translate` sees to it that this costs no more than what
changed), and what is published is the difference from what was published before.

Should translation itself fail, which would be a defect of ours, the last specs stay in force and the failure is reported like a
bad object; the next change is tried on its own merits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from discovery.objects import SourceProblem
from routing.specs import Specs, SpecsDiff
from routing.store import Store
from routing.translate import NamedEndpoint, Step, TranslateOptions, Translator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from discovery.objects import ObjectChanges
    from routing.diagnostics import Diagnostic

__all__ = ["Pipeline"]


class Pipeline:
    """Turns changes of objects into changes of specs.

    Args:
        options: how to translate.
        publish: takes new specs and their difference from the ones before. Versions count up from 1; the first are published
            even when they are empty.
        look_up: told which names have to be looked up in DNS, whenever that has changed; answers come by `take_addresses`.
    """

    def __init__(
        self,
        options: TranslateOptions,
        publish: Callable[[Specs, SpecsDiff], None],
        *,
        look_up: Callable[[frozenset[str]], None] = lambda names: None,
    ) -> None:
        self._publish = publish
        self._look_up = look_up
        self._store = Store()
        self._translator = Translator(self._store, options)
        self._names: dict[str, tuple[NamedEndpoint, ...]] = {}
        self._source_problems: tuple[SourceProblem, ...] = ()
        self._dns_problems: tuple[SourceProblem, ...] = ()
        self._failure: tuple[SourceProblem, ...] = ()
        self.version = 0

    def __repr__(self) -> str:
        return f"<Pipeline version={self.version} {self._store}>"

    @property
    def specs(self) -> Specs:
        """What was published last."""
        return self._translator.specs

    @property
    def problems(self) -> tuple[SourceProblem, ...]:
        """What could not be read or translated; its last good version is in force."""
        return self._source_problems + self._dns_problems + self._failure

    def diagnostics(self) -> list[Diagnostic]:
        """Return the findings about the objects as they are now."""
        return self._translator.diagnostics()

    def pod_addresses(self, namespace: str, name: str) -> tuple[str, ...]:
        """Return the addresses of a Pod, none if it is not known."""
        pod = self._store.pods.get((namespace, name))
        return pod.addresses if pod is not None else ()

    def apply(self, changes: ObjectChanges) -> None:
        """Take changes in and publish what follows from them."""
        self._source_problems = changes.problems
        for key in changes.removed:
            self._store.delete(*key)
        for resource in changes.put.values():
            self._store.put(resource)
        if changes.put or changes.removed or not self.version:
            step = self._guarded(lambda: self._translator.take(self._store.journal.take()))
            if step is None and not self.version and not self._failure:
                step = Step(self.specs, Specs(), {})
            self._advance(step)

    def take_addresses(self, addresses: Mapping[str, tuple[str, ...]], problems: tuple[SourceProblem, ...] = ()) -> None:
        """Take in what DNS answers, all of it, and publish what follows from it.

        Args:
            addresses: by name; a name without answer so far is missing.
            problems: names that cannot be looked up.
        """
        self._dns_problems = problems
        self._advance(self._translator.take_addresses(addresses))

    def _guarded(self, step: Callable[[], Step | None]) -> Step | None:
        """Do a step of translation of which, should it fail, traffic must not suffer."""
        self._failure = ()
        try:
            return step()
        except Exception as error:
            reason = f"translation failed, the configuration before stays in force: {type(error).__name__}: {error}"
            self._failure = (SourceProblem(origin="acmgproxy", reason=reason),)
            return None

    def _advance(self, step: Step | None) -> None:
        if self._translator.names != self._names:
            self._names = self._translator.names
            self._look_up(frozenset(endpoint.name for names in self._names.values() for endpoint in names))
        if step is not None:
            self.version += 1
            self._publish(step.specs, SpecsDiff(version=self.version, put=step.put, removed=step.removed))
