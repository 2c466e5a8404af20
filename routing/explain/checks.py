# SPDX-License-Identifier: Apache-2.0
"""Why match entries hold or do not: the table's own compiled conditions, asked one by one.

What a condition means is decided where it is compiled (`routing.table.conditions`); here each is only put beside the text that
says what it wants. The texts come in the order in which conditions are compiled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from routing.explain.model import Check
from routing.request import getter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from routing.request import Key, RequestView
    from routing.specs import MatchSpec, PathMatch, SourceMatch, StringMatch
    from routing.table import Caller
    from routing.table.rule_set import EntryPlan

__all__ = ["check_entry", "quoted"]

_PATHS = {"exact": "exactly", "prefix": "begins with", "segments": "is or is below", "regex": "matches"}
_STRINGS = {"exact": "exactly", "prefix": "begins with", "regex": "matches"}


def check_entry(spec: MatchSpec, entry: EntryPlan, head: RequestView, caller: Caller | None) -> tuple[Check, ...]:
    """Return all conditions of a match entry, those on the caller first.

    Args:
        spec: The entry.
        entry: The same, compiled.
        head: The request.
        caller: Who calls.
    """
    checks = [*_source(spec.source, entry, caller)]
    if spec.path is not None:
        holds = entry.path.test is None or entry.path.test(head)
        checks.append(Check(field="uri", wanted=_path(spec.path), got=quoted(head.path), holds=holds))
    for (field, key, wanted), condition in zip(_conditions(spec), entry.conditions, strict=True):
        got = getter(key)(head)
        holds = condition.test(head)
        checks.append(Check(field=field, wanted=wanted, got=quoted(got) if got is not None else None, holds=holds))
    return tuple(checks)


def quoted(value: bytes) -> str:
    """Return bytes of a head as text in quotes."""
    return f'"{value.decode(errors="replace")}"'


def _source(source: SourceMatch | None, entry: EntryPlan, caller: Caller | None) -> Iterator[Check]:
    if source is None:
        return
    admits = entry.admits(caller)
    if source.namespace:
        got = caller.namespace if caller is not None else None
        yield Check(field="sourceNamespace", wanted=source.namespace, got=got, holds=admits or got == source.namespace)
    for name, value in source.labels.items():
        got = caller.labels.get(name) if caller is not None else None
        yield Check(field=f"sourceLabels[{name}]", wanted=value, got=got, holds=admits or got == value)


def _path(match: PathMatch) -> str:
    folded = ", ignoring case" if match.ignore_case and match.kind != "regex" else ""
    return f'{_PATHS[match.kind]} "{match.value}"{folded}'


def _conditions(spec: MatchSpec) -> Iterator[tuple[str, Key, str]]:
    """Yield the conditions that `routing.table.conditions.compile_conditions` compiles, in its order."""
    for name, match in (("method", spec.method), ("scheme", spec.scheme), ("authority", spec.authority)):
        if match is not None:
            yield name, ("header", f":{name}"), _wanted(match, invert=False)
    for named in spec.headers:
        field = f"withoutHeaders[{named.name}]" if named.invert else f"headers[{named.name}]"
        yield field, ("header", named.name), _wanted(named.match, invert=named.invert)
    for named in spec.query:
        yield f"queryParams[{named.name}]", ("query", named.name), _wanted(named.match, invert=named.invert)


def _wanted(match: StringMatch, *, invert: bool) -> str:
    if match.kind == "present":
        return "none at all" if invert else "any value"
    return f'{"not " if invert else ""}{_STRINGS[match.kind]} "{match.value}"'
