# SPDX-License-Identifier: Apache-2.0
"""Match entries of a VirtualService, for one port.

Of an entry's conditions, `port` and `gateways` are settled here: rule sets are made per port, and this gateway stands for `mesh`
and for itself. Conditions on the caller become part of the spec. An entry that can never hold here is left out.
"""

from __future__ import annotations

from bisect import insort
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from routing.specs import MatchSpec, NamedMatch, PathMatch, SourceMatch, StringMatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from routing.diagnostics import Reporter
    from routing.resources import VirtualService
    from routing.resources.virtual_service import HTTPMatch
    from routing.resources.virtual_service import StringMatch as UserMatch
    from routing.translate._context import Context

__all__ = ["MESH", "Ineffective", "bound_gateways", "catches_all", "never_holds", "translate_match"]

MESH = "mesh"
"""The gateway that stands for all traffic between Services."""


def bound_gateways(context: Context, gateways: tuple[str, ...]) -> frozenset[str]:
    """Return which of `gateways` this gateway stands for, by their bare names.

    A bare name is a gateway of the VirtualService's namespace; ours has none, so any namespace before its name will do.
    """
    own = context.options.gateway_name
    return frozenset(
        MESH if gateway == MESH else own for gateway in gateways if gateway == MESH or gateway.rpartition("/")[2] == own
    )


def translate_match(
    context: Context, about: VirtualService, match: HTTPMatch, field: str, *, port: int, bound: frozenset[str]
) -> MatchSpec | None:
    """Return an entry as it holds on a port, None if it does not.

    Args:
        context: The translation.
        about: The VirtualService.
        match: The entry.
        field: Its path.
        port: Service port the rule set is for.
        bound: What the VirtualService as a whole is bound to, of what this gateway stands for.
    """
    reason = never_holds(context, match, port=port, bound=bound)
    if reason:
        if reason == _claim(match):
            context.reporter.report("ACMG010", about, field, f"{reason}; the match entry never holds")
        return None
    if match.stat_prefix:
        context.reporter.report("ACMG021", about, f"{field}.statPrefix", "statPrefix names a statistic of Envoy's")
    source = None
    if not match.gateways and (match.source_namespace or match.source_labels):
        source = SourceMatch(namespace=match.source_namespace, labels=match.source_labels)
    return MatchSpec(
        name=match.name,
        path=_path(match),
        method=_string(match.method),
        scheme=_string(match.scheme),
        authority=_string(match.authority),
        headers=(*_named(match.headers, header=True), *_named(match.without_headers, header=True, invert=True)),
        query=tuple(_named(match.query_params, header=False)),
        source=source,
    )


def never_holds(context: Context, match: HTTPMatch, *, port: int, bound: frozenset[str]) -> str:
    """Return why an entry cannot hold on a port, "" if it can. The arguments are those of `translate_match`."""
    if match.port is not None and match.port != port:
        return f"it is for port {match.port}"
    # An entry's own gateways switch its source conditions off, as in Istio (sourceMatchHTTP).
    if match.gateways and not bound & bound_gateways(context, match.gateways):
        return f"it is for {', '.join(match.gateways)}"
    return _claim(match)


def _claim(match: HTTPMatch) -> str:
    names = [name for name in (*match.headers, *match.without_headers) if name.startswith("@")]
    return f"{names[0]} is a claim of a verified token, which this gateway does not have" if names else ""


def catches_all(match: MatchSpec) -> bool:
    """Tell whether an entry holds for every request of every caller."""
    path = match.path
    if path is not None:
        every = (path.kind == "prefix" and path.value in {"", "/"}) or (path.kind == "regex" and path.value == ".*")
        if not every:
            return False
    return match == MatchSpec(name=match.name, path=path)


class Ineffective:
    """Finds match entries that no request reaches, as those before take them all.

    Two forms are found, those that people write: an entry given twice, and a narrower path after a bare prefix.
    """

    __slots__ = ("_lengths", "_prefixes", "_reporter", "_seen")

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._seen: dict[bytes, str] = {}
        self._prefixes: dict[str, str] = {}
        self._lengths: list[int] = []  # of the prefixes, each once, the shortest first: an object may have thousands of long ones

    def __repr__(self) -> str:
        return f"<Ineffective {len(self._seen)} entries>"

    def check(self, about: VirtualService, match: MatchSpec, field: str) -> None:
        """Report an entry if one before takes all its requests."""
        bare = replace(match, name="") if match.name else match
        earlier = self._seen.setdefault(msgspec.msgpack.encode(bare), field)
        if earlier == field:
            earlier = self._covering(bare.path) or field
        if earlier != field:
            self._reporter.report("IST0131", about, field, f"{earlier} before it takes every request that it could match")
        path = bare.path
        if path is not None and path.kind == "prefix" and not path.ignore_case and bare == MatchSpec(path=path):
            if path.value and len(path.value) not in self._lengths:
                insort(self._lengths, len(path.value))
            self._prefixes.setdefault(path.value, field)

    def _covering(self, path: PathMatch | None) -> str:
        """Return the path of an entry whose bare prefix covers a path, "" if there is none."""
        if path is None or path.kind == "regex" or path.ignore_case:
            return ""
        return next((field for end in self._lengths if (field := self._prefixes.get(path.value[:end]))), "")


def _path(match: HTTPMatch) -> PathMatch | None:
    uri = _string(match.uri)
    if uri is None or uri.kind == "present":
        return None
    return PathMatch(kind=uri.kind, value=uri.value, ignore_case=match.ignore_uri_case)


def _string(match: UserMatch | None) -> StringMatch | None:
    """Return a condition on a part that every request has; one that only asks for presence is none."""
    if match is None:
        return None
    found = _condition(match)
    return None if found.kind == "present" else found


def _condition(match: UserMatch | None) -> StringMatch:
    if match is not None:
        if match.exact is not None:
            return StringMatch(kind="exact", value=match.exact)
        if match.prefix is not None:
            return StringMatch(kind="prefix", value=match.prefix)
        # Istio's own way to ask for presence; it is no valid expression.
        if match.regex is not None and match.regex != "*":
            return StringMatch(kind="regex", value=match.regex)
    return StringMatch(kind="present")


def _named(conditions: Mapping[str, UserMatch | None], *, header: bool, invert: bool = False) -> Iterator[NamedMatch]:
    for name, match in conditions.items():
        yield NamedMatch(name=name.lower() if header else name, match=_condition(match), invert=invert)
