# SPDX-License-Identifier: Apache-2.0
"""What every part of a translation shares: the store, the options, the reporter, the registry, the rules of each host,
and the memory of earlier runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeVar

import msgspec

from routing.diagnostics import Reporter
from routing.names import CLUSTER_DOMAIN, cluster_name
from routing.specs import ROOT_NAMESPACE
from routing.translate._memory import Memory, Question, Remembered
from routing.translate._policies import host_rules
from routing.translate._registry import Registry, exported_to

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from routing.names import Key
    from routing.resources import Resource, VirtualService
    from routing.specs import IdentitySpec
    from routing.store import Store
    from routing.translate._policies import HostRules
    from routing.translate._registry import Host, Port, Registered

__all__ = ["REGISTERED", "Context", "TranslateOptions"]

REGISTERED = ("Service", "ServiceEntry", "Pod")
"""Kinds that the registry is made of; Pods only as hosts of headless Services."""

_T = TypeVar("_T")


class TranslateOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to translate.

    Args:
        cluster_domain: The cluster's DNS domain.
        root_namespace: Namespace whose DestinationRules hold for all.
        gateway_name: Gateway that VirtualServices may be bound to, besides `mesh`; any namespace before it is accepted.
        listeners: `cluster-ip`: listen on the clusterIP and port of every Service whose clusterIP is a loopback address.
            `gateway-ports`: listen on the gateway ports that the shadows of captured Services name.
        gateway_addresses: Addresses to listen on for gateway ports.
        shared_binds: Addresses of the listener that finds the Service by Host and port alone; none, no such listener.
    """

    cluster_domain: str = CLUSTER_DOMAIN
    root_namespace: str = ROOT_NAMESPACE
    gateway_name: str = "acmg-gateway"
    listeners: Literal["cluster-ip", "gateway-ports", "none"] = "cluster-ip"
    gateway_addresses: tuple[str, ...] = ()
    shared_binds: tuple[tuple[str, int], ...] = ()


class Context:
    """One run of a translation.

    What a remembered function wants to know of the objects beyond what it is given it asks here (`named`, `covers_any`, `rules`,
    `virtual_service`), so that the memory knows what its result rests on.
    """

    __slots__ = (
        "_asked",
        "_rules",
        "_same_hosts",
        "_settled",
        "has_same_rules",
        "memory",
        "options",
        "pod_identities",
        "registry",
        "reporter",
        "store",
    )

    def __init__(self, store: Store, options: TranslateOptions, memory: Memory | None = None) -> None:
        self.store = store
        self.options = options
        self.memory = Memory() if memory is None else memory
        self.reporter = Reporter()
        self.pod_identities: dict[int, tuple[str, IdentitySpec]] = {}
        self._asked: list[Question] | None = None
        self._rules: dict[str, HostRules] = {}
        versions, changed = self.memory.versions, self.memory.changed
        earlier = self.memory.tables("registry")[0].get("")
        self.registry: Registry = self.remember(
            "registry",
            "",
            tuple(versions.get(kind, 0) for kind in REGISTERED),
            lambda: Registry(store, options.cluster_domain, self.reporter.report, earlier.value if earlier is not None else None),
        )
        is_same = changed.isdisjoint(REGISTERED)
        self.has_same_rules = is_same and "DestinationRule" not in changed
        """Whether hosts and the DestinationRules that hold for them are as in the translation before."""
        self._same_hosts = earlier.value.hosts if earlier is not None and "DestinationRule" not in changed else {}
        if self._same_hosts:
            self.memory.keep_all("rules")
        self._settled = {
            "named": is_same,
            "covers_any": is_same,
            "rules": self.has_same_rules,
            "virtual_service": "VirtualService" not in changed,
        }

    def __repr__(self) -> str:
        return f"<Context {self.store!r} {self.registry!r} {self.reporter!r}>"

    # Memory.

    def remember(self, table: str, name: Hashable, inputs: tuple[object, ...], make: Callable[[], _T]) -> _T:
        """Return what `make` returns, or what it returned earlier if that still stands; findings are reported either way.

        Args:
            table: What kind of thing is made.
            name: Which of its kind.
            inputs: What it is made of; all that `make` uses, save for what it asks of the context.
            make: Makes it.
        """
        before, kept = self.memory.tables(table)
        found = before.get(name) or kept.get(name)
        if found is None or found.inputs != inputs or (found.questions and not all(map(self._stands, found.questions))):
            found = self._work_out(inputs, make)
        kept[name] = found
        if found.findings:
            self.reporter.repeat(found.findings)
        if self._asked is not None:
            self._asked += found.questions
        value: _T = found.value
        return value

    def _work_out(self, inputs: tuple[object, ...], make: Callable[[], object]) -> Remembered:
        outer = self.reporter, self._asked
        self.reporter, self._asked = Reporter(), []
        try:
            value = make()
            return Remembered(inputs, value, tuple(self._asked), self.reporter.findings())
        finally:
            self.reporter, self._asked = outer

    def _stands(self, question: Question) -> bool:
        """Tell whether a question has the answer that it had."""
        if self._settled[question.method]:
            return True
        outer, self._asked = self._asked, None
        answer = getattr(self, question.method)(*question.arguments)
        self._asked = outer
        return bool(answer == question.answer)

    def _note(self, method: str, arguments: tuple[object, ...], answer: _T) -> _T:
        if self._asked is not None:
            self._asked.append(Question(method, arguments, answer))
        return answer

    def is_same(self, host: Registered) -> bool:
        """Tell whether a host and its rules are as in the translation before, by a look alone; if in doubt they are not."""
        return self._same_hosts.get(host.name) is host

    # Questions.

    def named(self, host: str, namespace: str) -> Host:
        """Return what a host means that is written in an object of a namespace."""
        return self._note("named", (host, namespace), self.registry.resolve(host, namespace))

    def covers_any(self, pattern: str) -> bool:
        """Tell whether a host pattern covers any registered host."""
        return self._note("covers_any", (pattern,), self.registry.has_any(pattern))

    def virtual_service(self, key: Key) -> VirtualService | None:
        """Return a VirtualService."""
        return self._note("virtual_service", (key,), self.store.virtual_services.get(key))

    def rules(self, host: Registered) -> HostRules:
        """Return the DestinationRules that hold for a host."""
        rules = self._rules.get(host.owner)
        if rules is None:
            rules = self._rules[host.owner] = self._host_rules(host)
        if self._asked is not None:
            self._asked.append(Question("rules", (host,), rules))
        return rules

    def _host_rules(self, host: Registered) -> HostRules:
        before, kept = self.memory.tables("rules")
        found = before.get(host.owner) or kept.get(host.owner)
        if found is None or "DestinationRule" in self.memory.changed or found.inputs[0] is not host.about:
            inputs = host.about, *self.store.rules_for(host.owner)
            if found is None or found.inputs != inputs:
                found = Remembered(inputs, host_rules(self.store, self.options, host))
        kept[host.owner] = found
        rules: HostRules = found.value
        return rules

    def resolve(self, host: str, about: Resource, field: str) -> Host:
        """Return what a field of an object names, and warn if Istio would see it differently."""
        found = self.named(host, about.meta.namespace)
        if found.assumed:
            self.reporter.report("ACMG003", about, field, f"{host!r} is read as {found.name}")
        return found

    def clusters(self, host: Registered, port: int, subset: str = "") -> tuple[str, dict[str, str]]:
        """Return the name of a host's cluster and of its variants by the caller's namespace.

        Callers that a ServiceEntry is not exported to get a name that no cluster has.
        """
        name = cluster_name(port, subset, host.name)
        variants = self.rules(host).variant_names(port, subset, host.name)
        known = host.port(port)
        viewers = _viewers(known) if known is not None else ()
        if not viewers:
            return name, variants
        return cluster_name(port, subset, host.name, "-"), {
            viewer: variants.get(viewer, name) for viewer in viewers if viewer != "~"
        }


def _viewers(port: Port) -> tuple[str, ...]:
    """Return the namespaces that see a port; none means that all do."""
    return exported_to(port.entry.spec.export_to, port.entry.meta.namespace) if port.entry is not None else ()
