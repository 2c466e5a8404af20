# SPDX-License-Identifier: Apache-2.0
"""Virtual hosts: who owns a host, for which caller, and the views that follow.

Candidates are tried in the order of (rank, visibility class for the caller's namespace, given order). The first that is visible
and keeps at least one entry after its source conditions owns the host completely; if there is none, the default route does; if
there is none either, nothing matches.

Where nothing of this depends on the caller, there is one view, compiled with the table, and a request pays nothing. Otherwise a
view is compiled when the first caller needs it. Callers that see the same entries and clusters share a view, so there are as many
views as there are differences, not callers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from routing.table.index import Entry, compile_rules

if TYPE_CHECKING:
    from collections.abc import Mapping

    from routing.cluster import Cluster
    from routing.request import RequestView
    from routing.specs import VirtualHostSpec
    from routing.table.head import Caller, Find
    from routing.table.route import Route
    from routing.table.rule_set import CompiledRule, CompiledRuleSet, EntryPlan

__all__ = ["CompiledVirtualHost", "never"]

_Plan: TypeAlias = "tuple[CompiledRule, tuple[EntryPlan, ...]]"


def never(head: RequestView, caller: Caller | None) -> Route | None:
    """Find nothing: the view of a host that nobody owns."""
    return None


class CompiledVirtualHost:
    """A host on a port. The object stays for as long as its key exists; `link` gives it new views.

    `candidates` are the rule sets that may own it, each behind its rank. `name` is the host it stands for, `service` the FQDN of
    the Service, "unknown" when the host is none.
    """

    __slots__ = (
        "_by_caller",
        "_clusters",
        "_default",
        "_views",
        "candidates",
        "cluster_names",
        "depends_on_caller",
        "find",
        "key",
        "name",
        "service",
        "spec",
    )

    find: Find
    spec: VirtualHostSpec
    name: str
    service: str

    def __init__(self, key: str) -> None:
        self.key = key
        self.cluster_names: set[str] = set()
        self.candidates: list[tuple[int, CompiledRuleSet]] = []
        self.depends_on_caller = False
        self.find = never
        self._default: CompiledRule | None = None
        self._clusters: Mapping[str, Cluster] = {}
        self._by_caller: dict[Caller | None, Find] = {}
        self._views: dict[tuple[object, ...], Find] = {}

    def __repr__(self) -> str:
        return f"CompiledVirtualHost({self.key!r}, {len(self._views)} views)"

    def update(self, spec: VirtualHostSpec, default: CompiledRule | None) -> None:
        """Take over a changed spec; takes effect with the next `link`."""
        self.spec = spec
        self.name = spec.name
        self.service = spec.name if spec.namespace else "unknown"
        self._default = default

    def link(self, rule_sets: Mapping[str, CompiledRuleSet], clusters: Mapping[str, Cluster]) -> None:
        """Forget all views and compile anew from the rule sets and clusters there are."""
        known = [(c.rank, rule_sets[c.rule_set]) for c in self.spec.candidates if c.rule_set in rule_sets]
        self.candidates = sorted(known, key=lambda candidate: candidate[0])
        self._clusters = clusters
        self._views = {}
        self._by_caller = {}
        default = self._default
        self.cluster_names = set().union(*(rule_set.cluster_names for _, rule_set in self.candidates))
        self.depends_on_caller = any(rule_set.depends_on_caller for _, rule_set in self.candidates)
        if default is not None:
            self.cluster_names |= default.cluster_names
            self.depends_on_caller |= bool(default.namespaces)
        self.find = self._dispatch() if self.depends_on_caller else self._view_for(None)

    def forget_callers(self) -> None:
        """Drop what is remembered per caller; views stay."""
        self._by_caller.clear()

    def _dispatch(self) -> Find:
        by_caller = self._by_caller

        def find(head: RequestView, caller: Caller | None) -> Route | None:
            view = by_caller.get(caller)
            if view is None:
                view = by_caller[caller] = self._view_for(caller)
            return view(head, caller)

        return find

    def _view_for(self, caller: Caller | None) -> Find:
        owner, plans = self.choose(caller)
        namespaces = set().union(*(rule.namespaces for rule, _ in plans))
        namespace = caller.namespace if caller is not None and caller.namespace in namespaces else ""
        signature = (owner, namespace, *(entry for _, entries in plans for entry in entries))
        view = self._views.get(signature)
        if view is None:
            view = self._views[signature] = self._compile(plans, namespace)
        return view

    def choose(self, caller: Caller | None) -> tuple[CompiledRuleSet | None, list[_Plan]]:
        """Return the rule set that owns the host for a caller, and what is left of its rules; (None, default) when none does."""
        namespace = caller.namespace if caller is not None else None
        visible = [(rank, rule_set.visibility(namespace), rule_set) for rank, rule_set in self.candidates]
        ordered = sorted(((rank, seen, rule_set) for rank, seen, rule_set in visible if seen is not None), key=lambda c: c[:2])
        for _, _, rule_set in ordered:
            plans = [(rule, tuple(entry for entry in rule.entries if entry.admits(caller))) for rule in rule_set.rules]
            plans = [(rule, entries) for rule, entries in plans if entries]
            if plans:
                return rule_set, plans
        return None, [(self._default, self._default.entries)] if self._default is not None else []

    def _compile(self, plans: list[_Plan], namespace: str) -> Find:
        entries: list[Entry] = []
        for rule, kept in plans:
            destinations = rule.build_destinations(self._clusters, namespace)
            mirrors = rule.build_mirrors(self._clusters, namespace)
            entries += (Entry(plan.path, plan.conditions, rule.build_route(plan, self, destinations, mirrors)) for plan in kept)
        return compile_rules(entries) if entries else never
