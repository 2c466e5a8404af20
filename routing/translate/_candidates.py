# SPDX-License-Identifier: Apache-2.0
"""Candidates: the VirtualServices that may own a host, and their rule sets.

Those bound to `mesh` are not merged: each is a candidate. Those bound only to this gateway are merged if they have a host in
common, as Istio merges what is bound to one gateway, provided that the same namespaces see them.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from routing.names import covering_patterns, pattern_rank
from routing.specs import CandidateSpec
from routing.translate._matches import MESH
from routing.translate._policies import visible
from routing.translate._registry import exported_to
from routing.translate._rules import bound_to, merge_rules, translate_rules

if TYPE_CHECKING:
    from routing.names import Key
    from routing.resources import VirtualService
    from routing.specs import RuleSetSpec, Specs
    from routing.translate._context import Context

__all__ = ["Candidates"]

_Group = tuple["VirtualService", ...]


class Candidates:
    """VirtualServices by host pattern, in groups that count as one, the oldest first. Rule sets are made when asked for."""

    def __init__(self, context: Context, specs: Specs) -> None:
        self._context = context
        self._rule_sets = specs.rule_sets
        self._made: dict[tuple[tuple[Key, ...], int], RuleSetSpec | None] = {}
        self.by_pattern: dict[str, list[_Group]] = {}
        self._has_wildcards = False
        self._mergeable: dict[tuple[str, frozenset[str]], int] = {}
        for service in sorted(context.store.virtual_services.values(), key=lambda service: service.meta.age):
            self._add(service)
        self._has_wildcards = any(pattern.startswith("*") for pattern in self.by_pattern)
        self._report_conflicts()

    def __repr__(self) -> str:
        return f"<Candidates for {len(self.by_pattern)} host patterns>"

    def _add(self, service: VirtualService) -> None:
        if not service.spec.hosts:
            return
        bound = bound_to(self._context, service)
        if not bound:
            names = ", ".join(service.spec.gateways)
            message = f"it is bound to {names} only and not used here"
            self._context.reporter.report("ACMG006", service, "spec.gateways", message)
            return
        for index, host in enumerate(service.spec.hosts):
            name = self._context.resolve(host, service, f"spec.hosts[{index}]").name
            self._report_unknown(service, name, f"spec.hosts[{index}]")
            self._join(service, name, is_mergeable=MESH not in bound)

    def _join(self, service: VirtualService, name: str, *, is_mergeable: bool) -> None:
        groups = self.by_pattern.setdefault(name, [])
        # `b` and its full name may stand beside each other.
        if any(service in group for group in groups):
            return
        viewers = frozenset(exported_to(service.spec.export_to, service.meta.namespace))
        position = self._mergeable.get((name, viewers)) if is_mergeable else None
        if position is not None:
            groups[position] += (service,)
            return
        if is_mergeable:
            self._mergeable[name, viewers] = len(groups)
        groups.append((service,))

    def _report_unknown(self, service: VirtualService, name: str, field: str) -> None:
        registry = self._context.registry
        if name in registry or name == "*":
            return
        if name.startswith("*") and registry.has_any(name):
            return
        message = f"no Service or ServiceEntry is named {name}; only requests to the gateway's own address on port 80 get here"
        self._context.reporter.report("IST0132", service, field, message)

    def _report_conflicts(self) -> None:
        for pattern, groups in self.by_pattern.items():
            public = [group for group in groups if visible(group[0].spec.export_to, group[0].meta.namespace, None)]
            for service in (service for group in public[1:] for service in group):
                first = "/".join(public[0][0].key)
                message = f"{pattern} belongs to the older VirtualService {first}; this one holds only for callers it leaves out"
                self._context.reporter.report("IST0109", service, "spec.hosts", message)

    def of(self, name: str, port: int) -> tuple[CandidateSpec, ...]:
        """Return the candidates for a host on a port."""
        if not self._has_wildcards and name not in self.by_pattern:
            return ()
        found: dict[str, CandidateSpec] = {}
        for pattern in covering_patterns(name) if self._has_wildcards else (name,):
            for group in self.by_pattern.get(pattern, ()):
                rule_set = self._rule_set(group, port)
                # A VirtualService may cover a host twice, by its short name and by a wildcard: the narrower counts.
                if rule_set is not None and rule_set.name not in found:
                    self._rule_sets[rule_set.name] = rule_set
                    found[rule_set.name] = CandidateSpec(rule_set=rule_set.name, rank=pattern_rank(pattern))
        return tuple(found.values())

    def _rule_set(self, group: _Group, port: int) -> RuleSetSpec | None:
        key = (tuple(service.key for service in group), port)
        if key in self._made:
            return self._made[key]
        rule_set = self._made[key] = self._context.remember("rule set", key, group, partial(self._make, group, port))
        return rule_set

    def _make(self, group: _Group, port: int) -> RuleSetSpec | None:
        if len(group) == 1:
            return translate_rules(self._context, group[0], port)
        parts = [(service, part) for service in group if (part := self._rule_set((service,), port)) is not None]
        if len(parts) < 2:
            return parts[0][1] if parts else None
        services, rule_sets = zip(*parts, strict=True)
        return merge_rules(self._context, services, rule_sets, port)
