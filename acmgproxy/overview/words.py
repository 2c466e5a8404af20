# SPDX-License-Identifier: Apache-2.0
"""A rule in a few words, as the person who wrote it would say it: what it matches and what it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from routing.specs import DirectResponseSpec, ForwardSpec, RedirectSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from routing.specs import MatchSpec, NamedMatch, PathMatch, RuleSpec, StringMatch

__all__ = ["action_of", "conditions_of"]

_SIGNS = {"exact": "=", "prefix": "begins with", "regex": "matches"}
_PATHS = {"exact": "path =", "prefix": "path begins with", "segments": "path under", "regex": "path matches"}


def conditions_of(rule: RuleSpec) -> list[str]:
    """Return one text for each match of a rule, of which one has to hold; none when it takes every request."""
    return [", ".join(_conditions(match)) or "every request" for match in rule.matches]


def action_of(rule: RuleSpec) -> str:
    """Say what becomes of a request."""
    match rule.action:
        case ForwardSpec():
            return "forward"
        case RedirectSpec() as redirect:
            return f"redirect ({redirect.status})"
        case DirectResponseSpec() as direct:
            return f"direct response ({direct.status})"


def _conditions(match: MatchSpec) -> Iterator[str]:
    if match.path is not None:
        yield _path(match.path)
    for name in ("method", "scheme", "authority"):
        condition: StringMatch | None = getattr(match, name)
        if condition is not None:
            yield f"{name} {_value(condition)}"
    for header in match.headers:
        yield _named("header", header)
    for parameter in match.query:
        yield _named("query", parameter)
    if match.source is not None:
        labels = ", ".join(f"{name}={value}" for name, value in sorted(match.source.labels.items()))
        namespace = f"namespace {match.source.namespace}" if match.source.namespace else ""
        yield f"from {' '.join(part for part in (namespace, labels) if part)}"


def _path(path: PathMatch) -> str:
    return f"{_PATHS[path.kind]} {path.value}{' (any case)' if path.ignore_case else ''}"


def _named(what: str, named: NamedMatch) -> str:
    return f"{'not ' if named.invert else ''}{what} {named.name} {_value(named.match)}"


def _value(match: StringMatch) -> str:
    return "is present" if match.kind == "present" else f"{_SIGNS[match.kind]} {match.value}"
