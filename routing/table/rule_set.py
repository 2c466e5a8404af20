# SPDX-License-Identifier: Apache-2.0
"""Rule sets compiled once: everything about a rule that depends neither on the virtual host nor on the caller.

A rule set can own several virtual hosts, each with views for different callers, so patterns, conditions, rewrites and header
programs are made here and shared; only routes, which point at a virtual host and at clusters, are made per view. Whatever can be
wrong with a spec is found here, before anything of an update is put in place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from routing.filters import compile_filters
from routing.headers import HeaderProgram, field_value
from routing.retry import RetryPolicy
from routing.specs import ClusterRef, DirectResponseSpec, ForwardSpec, HeaderOps, MatchSpec, RedirectSpec, RetrySpec, RuleSpec
from routing.table.conditions import Condition, PathCondition, compile_conditions
from routing.table.paths import compile_rewrite
from routing.table.replies import DirectReply, Redirect
from routing.table.route import Destination, Mirror, Route

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from routing.cluster import Cluster
    from routing.filters import Filter
    from routing.specs import MirrorSpec, RuleSetSpec, SourceMatch
    from routing.table.head import Caller
    from routing.table.replies import Reply
    from routing.table.virtual_host import CompiledVirtualHost

__all__ = ["CompiledRule", "CompiledRuleSet", "EntryPlan", "default_rule"]

_EVERYTHING = MatchSpec()
_DEFAULT_RETRY = RetryPolicy(RetrySpec())
_NO_RETRY = RetryPolicy(RetrySpec(attempts=0))


class DestinationPlan:
    """A destination but for its cluster."""

    __slots__ = ("_ref", "host_rewrite", "request_ops", "response_ops")

    def __init__(self, ref: ClusterRef, rule: RuleSpec, action: ForwardSpec) -> None:
        self._ref = ref
        several = len(action.clusters) > 1
        self.request_ops = HeaderProgram.for_request(*_levels(rule.request_headers, ref.request_headers, several=several))
        self.response_ops = HeaderProgram.for_response(*_levels(rule.response_headers, ref.response_headers, several=several))
        self.host_rewrite = field_value(action.host_rewrite) or _host(rule.request_headers)
        if not self.host_rewrite:
            self.host_rewrite = field_value(ref.host_rewrite) or _host(ref.request_headers)
        if self.request_ops is not None:
            self.request_ops.host = self.host_rewrite

    @property
    def cluster_names(self) -> set[str]:
        """All clusters it may lead to."""
        return {self._ref.cluster, *self._ref.by_namespace.values()}

    @property
    def namespaces(self) -> set[str]:
        """Namespaces of callers that are led to a cluster of their own."""
        return set(self._ref.by_namespace)

    def build(self, clusters: Mapping[str, Cluster], namespace: str) -> Destination:
        """Return the destination for callers of `namespace`."""
        name = self._ref.by_namespace.get(namespace, self._ref.cluster)
        return Destination(
            cluster=clusters.get(name),
            cluster_name=name,
            weight=max(self._ref.weight, 0),
            host_rewrite=self.host_rewrite,
            request_ops=self.request_ops,
            response_ops=self.response_ops,
        )


class MirrorPlan:
    """A mirror but for its cluster."""

    __slots__ = ("_spec",)

    def __init__(self, spec: MirrorSpec) -> None:
        self._spec = spec

    @property
    def cluster_names(self) -> set[str]:
        """All clusters it may lead to."""
        return {self._spec.cluster, *self._spec.by_namespace.values()}

    @property
    def namespaces(self) -> set[str]:
        """Namespaces of callers whose copies go to a cluster of their own."""
        return set(self._spec.by_namespace)

    def build(self, clusters: Mapping[str, Cluster], namespace: str) -> Mirror:
        """Return the mirror for callers of `namespace`."""
        name = self._spec.by_namespace.get(namespace, self._spec.cluster)
        return Mirror(cluster=clusters.get(name), cluster_name=name, percent=self._spec.percent)


class EntryPlan:
    """A match entry but for its route."""

    __slots__ = ("conditions", "name", "path", "reply", "rewrite", "source")

    def __init__(self, rule: RuleSpec, match: MatchSpec) -> None:
        action = rule.action
        self.name = f"{rule.name}.{match.name}" if match.name else rule.name
        self.source = match.source
        self.path = PathCondition(match.path)
        self.conditions: tuple[Condition, ...] = compile_conditions(match)
        self.rewrite: Callable[[bytes], bytes] | None = None
        self.reply: Reply | None = None
        match action:
            case ForwardSpec():
                if action.path_rewrite is not None:
                    self.rewrite = compile_rewrite(action.path_rewrite, match.path)
            case RedirectSpec():
                self.reply = Redirect(action, match.path)
            case DirectResponseSpec():
                self.reply = DirectReply(action)
            case _:
                assert_never(action)

    def admits(self, caller: Caller | None) -> bool:
        """Return whether the entry exists for this caller."""
        return self.source is None or (caller is not None and _is_from(self.source, caller))


class CompiledRule:
    """One rule: its entries, and what they share."""

    __slots__ = (
        "_filters",
        "_response_ops",
        "_retry",
        "_timeout_s",
        "cluster_names",
        "destinations",
        "entries",
        "mirrors",
        "namespaces",
    )

    def __init__(self, rule: RuleSpec) -> None:
        action = rule.action
        self.entries = tuple(EntryPlan(rule, match) for match in rule.matches or (_EVERYTHING,))
        self._response_ops = HeaderProgram.for_response(rule.response_headers)
        self.destinations: tuple[DestinationPlan, ...] = ()
        self.mirrors: tuple[MirrorPlan, ...] = ()
        self._filters: tuple[Filter, ...] = ()
        self._timeout_s = 0.0
        self._retry = _NO_RETRY
        if isinstance(action, ForwardSpec):
            # A rule without destinations is the sender's mistake; an unknown cluster answers it (503, flag NC).
            refs = action.clusters or (ClusterRef(cluster=""),)
            self.destinations = tuple(DestinationPlan(ref, rule, action) for ref in refs)
            self.mirrors = tuple(MirrorPlan(mirror) for mirror in action.mirrors if mirror.percent > 0)
            self._filters = compile_filters(rule)
            self._timeout_s = action.timeout_s
            self._retry = _DEFAULT_RETRY if action.retry == RetrySpec() else RetryPolicy(action.retry)

        plans: tuple[DestinationPlan | MirrorPlan, ...] = (*self.destinations, *self.mirrors)
        self.cluster_names: set[str] = set().union(*(plan.cluster_names for plan in plans))
        self.namespaces: set[str] = set().union(*(plan.namespaces for plan in plans))

    def build_destinations(self, clusters: Mapping[str, Cluster], namespace: str) -> tuple[Destination, ...]:
        """Return the destinations for callers of `namespace`."""
        return tuple(plan.build(clusters, namespace) for plan in self.destinations)

    def build_mirrors(self, clusters: Mapping[str, Cluster], namespace: str) -> tuple[Mirror, ...]:
        """Return the mirrors for callers of `namespace`."""
        return tuple(plan.build(clusters, namespace) for plan in self.mirrors)

    def build_route(
        self,
        entry: EntryPlan,
        virtual_host: CompiledVirtualHost,
        destinations: tuple[Destination, ...],
        mirrors: tuple[Mirror, ...],
    ) -> Route:
        """Return the route of one of the entries."""
        return Route(
            name=entry.name,
            virtual_host=virtual_host,
            destinations=destinations,
            timeout_s=self._timeout_s,
            retry=self._retry,
            rewrite=entry.rewrite,
            reply=entry.reply,
            response_ops=self._response_ops,
            filters=self._filters,
            mirrors=mirrors,
        )


class CompiledRuleSet:
    """The rules of a RuleSetSpec, with what decides who sees them.

    Raises:
        RegexError, HeaderError, RewriteError: the spec has something that cannot be compiled.
    """

    __slots__ = ("by_source", "cluster_names", "namespaces", "rules", "spec")

    def __init__(self, spec: RuleSetSpec) -> None:
        self.spec = spec
        self.rules = tuple(CompiledRule(rule) for rule in spec.rules)
        self.cluster_names: set[str] = set().union(*(rule.cluster_names for rule in self.rules))
        self.namespaces: set[str] = set().union(*(rule.namespaces for rule in self.rules))
        self.by_source = any(entry.source is not None for rule in self.rules for entry in rule.entries)

    def __repr__(self) -> str:
        return f"CompiledRuleSet({self.spec.name!r}, {len(self.rules)} rules)"

    @property
    def depends_on_caller(self) -> bool:
        """Whether two callers can see it differently."""
        return bool(self.spec.export_to or self.by_source or self.namespaces)

    def visibility(self, namespace: str | None) -> int | None:
        """Return the class of its visibility from a namespace (0 goes first), None when it is invisible there."""
        spec = self.spec
        if not spec.export_to:
            return 2
        if namespace is None or namespace not in spec.export_to:
            return None
        return 0 if spec.namespace == namespace else 1


def default_rule(ref: ClusterRef) -> CompiledRule:
    """Return the rule that a Service has without any: everything goes to its cluster."""
    return CompiledRule(RuleSpec(name="default", action=ForwardSpec(clusters=(ref,))))


def _levels(rule: HeaderOps | None, destination: HeaderOps | None, *, several: bool) -> tuple[HeaderOps | None, ...]:
    """Order the header operations of a rule and of a destination as Istio runs them.

    With several destinations Envoy runs the destination's level and then the rule's. With a single one pilot puts both lists into
    one level, the rule's first.
    """
    if several or rule is None or destination is None:
        return (destination, rule)
    both = HeaderOps(
        remove=rule.remove + destination.remove,
        set=rule.set + destination.set,
        add=rule.add + destination.add,
    )
    return (both,)


def _host(ops: HeaderOps | None) -> bytes:
    program = HeaderProgram.for_request(ops)
    return program.host if program is not None else b""


def _is_from(source: SourceMatch, caller: Caller) -> bool:
    if source.namespace and source.namespace != caller.namespace:
        return False
    return source.labels.items() <= caller.labels.items()
