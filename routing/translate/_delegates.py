# SPDX-License-Identifier: Apache-2.0
"""Delegation: a rule of a VirtualService (the root) that stands for the rules of another one (the delegate).

Each rule of the delegate takes the root rule's place with the conditions of both. A match entry of the delegate must fit into
some entry of the root; if one does not, that rule of the delegate is left out. What the delegate's rule does not say is inherited
from the root's as whole blocks. Hosts in a rule belong to the namespace of the object they are written in, so a rule remembers
where each of its blocks comes from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from routing.translate._policies import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from routing.resources import VirtualService
    from routing.resources.virtual_service import HTTPMatch, HTTPRoute, StringMatch
    from routing.translate._context import Context

__all__ = ["PlacedMatch", "PlacedRule", "expand"]

INHERITED = (
    "rewrite", "timeout", "retries", "fault", "mirror", "mirrors", "mirror_percentage", "mirror_percent",
    "mirror_percent_old", "cors_policy", "headers",
)  # fmt: skip
"""Blocks a delegate's rule takes over from the root's where it has none."""


class PlacedMatch(NamedTuple):
    """A match entry and its path."""

    match: HTTPMatch
    field: str


class PlacedRule(NamedTuple):
    """A rule, and where it and its blocks are written.

    Args:
        rule: The rule, delegation carried out.
        matches: Its match entries.
        about: The VirtualService it is written in.
        field: Its path there.
        root: Where inherited blocks are written.
        inherited: Names of the blocks that come from there.
    """

    rule: HTTPRoute
    matches: tuple[PlacedMatch, ...]
    about: VirtualService
    field: str
    root: tuple[VirtualService, str]
    inherited: frozenset[str] = frozenset()

    def place(self, block: str) -> tuple[VirtualService, str]:
        """Return the object and path of the rule that a block is written in."""
        return self.root if block in self.inherited else (self.about, self.field)


def expand(context: Context, service: VirtualService) -> tuple[PlacedRule, ...]:
    """Return the rules of a VirtualService with its delegates' in place."""
    return tuple(_expand(context, service))


def _expand(context: Context, service: VirtualService) -> Iterator[PlacedRule]:
    for index, rule in enumerate(service.spec.http):
        field = f"spec.http[{index}]"
        placed = PlacedRule(rule, _placed(rule, field), service, field, (service, field))
        if rule.delegate is None:
            yield placed
            continue
        delegate = _delegate(context, service, rule, f"{field}.delegate")
        for number, leaf in enumerate(delegate.spec.http if delegate is not None else ()):
            assert delegate is not None
            merged = _merge(placed, delegate, leaf, f"spec.http[{number}]")
            if merged is None:
                message = (
                    f"a match entry fits into none of rule {field} of VirtualService {'/'.join(service.key)}; not used there"
                )
                context.reporter.report("ACMG022", delegate, f"spec.http[{number}].match", message)
            else:
                yield merged


def _placed(rule: HTTPRoute, field: str) -> tuple[PlacedMatch, ...]:
    return tuple(PlacedMatch(match, f"{field}.match[{index}]") for index, match in enumerate(rule.match))


def _delegate(context: Context, service: VirtualService, rule: HTTPRoute, field: str) -> VirtualService | None:
    """Return the VirtualService that a rule delegates to, None when it cannot be used."""
    assert rule.delegate is not None
    key = (rule.delegate.namespace or service.meta.namespace, rule.delegate.name)
    found = context.virtual_service(key)
    problem = ""
    if found is None:
        problem = f"there is no VirtualService {'/'.join(key)}"
    elif found.spec.hosts:
        problem = f"VirtualService {'/'.join(key)} has hosts of its own, so it is no delegate"
    elif not visible(found.spec.export_to, found.meta.namespace, service.meta.namespace):
        problem = f"VirtualService {'/'.join(key)} is not exported to namespace {service.meta.namespace}"
    if problem:
        context.reporter.report("IST0101", service, field, f"{problem}; the rule is left out")
        return None
    return found


def _merge(root: PlacedRule, delegate: VirtualService, leaf: HTTPRoute, field: str) -> PlacedRule | None:
    """Return a delegate's rule in the place of a root's, None when they do not fit together."""
    matches = _merge_matches(root.matches, _placed(leaf, field))
    if matches is None:
        return None
    inherited = {name for name in INHERITED if getattr(leaf, name) in (None, ()) and getattr(root.rule, name) not in (None, ())}
    if leaf.mirror is not None or leaf.mirrors:
        inherited -= {name for name in inherited if name in {"mirror", "mirrors"}}
    blocks = {name: getattr(root.rule, name) for name in inherited}
    if not leaf.match:
        inherited.add("match")
    merged = replace(leaf, name=_joined(root.rule.name, leaf.name), **blocks)
    return PlacedRule(merged, matches, delegate, field, root.root, frozenset(inherited))


def _joined(root: str, leaf: str) -> str:
    return f"{root}-{leaf}" if root and leaf else root or leaf


def _merge_matches(root: tuple[PlacedMatch, ...], leaf: tuple[PlacedMatch, ...]) -> tuple[PlacedMatch, ...] | None:
    """Return every pair that fits, None if an entry of the delegate fits nowhere."""
    if not root or not leaf:
        return root or leaf
    merged: list[PlacedMatch] = []
    for entry in leaf:
        pairs = [
            PlacedMatch(_merge_match(above.match, entry.match), entry.field) for above in root if _fit(above.match, entry.match)
        ]
        if not pairs:
            return None
        merged += pairs
    return tuple(merged)


def _fit(root: HTTPMatch, leaf: HTTPMatch) -> bool:
    """Tell whether an entry of a delegate narrows one of its root, and contradicts it nowhere."""
    return (
        root.ignore_uri_case == leaf.ignore_uri_case
        and all(_narrows(getattr(root, name), getattr(leaf, name)) for name in ("uri", "scheme", "method", "authority"))
        and all(_all_narrow(getattr(root, name), getattr(leaf, name)) for name in ("headers", "without_headers", "query_params"))
        and (root.port is None or leaf.port is None or root.port == leaf.port)
        and (not root.source_namespace or root.source_namespace == leaf.source_namespace)
        and all(root.source_labels.get(name, value) == value for name, value in leaf.source_labels.items())
        and (not root.gateways or set(leaf.gateways) <= set(root.gateways))
    )


def _all_narrow(root: Mapping[str, StringMatch | None], leaf: Mapping[str, StringMatch | None]) -> bool:
    return all(_narrows(root.get(name), match) for name, match in leaf.items())


def _narrows(root: StringMatch | None, leaf: StringMatch | None) -> bool:
    """Tell whether a delegate's condition may stand below its root's (stringMatchConflict in Istio's pilot).

    What expressions match is not compared: one on either side beside anything on the other does not fit.
    """
    if root is None or leaf is None:
        return True
    if root.regex or leaf.regex:
        other = leaf if root.regex else root
        return not (other.regex or other.prefix or other.exact)
    if root.exact:
        return not leaf.prefix and leaf.exact == root.exact
    value = leaf.prefix or leaf.exact
    return bool(root.prefix and value and value.startswith(root.prefix))


def _merge_match(root: HTTPMatch, leaf: HTTPMatch) -> HTTPMatch:
    return replace(
        leaf,
        name=_joined(root.name, leaf.name),
        uri=leaf.uri or root.uri,
        scheme=leaf.scheme or root.scheme,
        method=leaf.method or root.method,
        authority=leaf.authority or root.authority,
        headers={**root.headers, **leaf.headers},
        without_headers={**root.without_headers, **leaf.without_headers},
        query_params={**root.query_params, **leaf.query_params},
        port=leaf.port or root.port,
        source_labels={**root.source_labels, **leaf.source_labels},
        source_namespace=leaf.source_namespace or root.source_namespace,
        gateways=leaf.gateways or root.gateways,
        stat_prefix=leaf.stat_prefix or root.stat_prefix,
    )
