# SPDX-License-Identifier: Apache-2.0
"""Conditions: the parts of a match entry, compiled to closures over a head.

Owns what a match means for one request (VirtualService and HTTPRoute semantics); which entry wins is the index's matter. A
condition that asks for one exact value also says which value of the head it reads (its `key`), so that the index can look it up
in a dict instead of asking every entry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from routing.regex import Pattern
from routing.request import getter, value_test

if TYPE_CHECKING:
    from collections.abc import Iterable

    from routing.request import Key, RequestView
    from routing.specs import MatchSpec, PathMatch, StringMatch
    from routing.table.head import Test

__all__ = ["Condition", "PathCondition", "all_of", "compile_conditions"]


class PathCondition:
    """A condition on the path.

    Kind "any" is the absent condition. A prefix of `/` counts as absent and the other way round: in Istio an absent uri *is* the
    prefix `/`, and so the target of `OPTIONS *` is let through too.
    """

    __slots__ = ("fold", "kind", "pattern", "test", "value")

    def __init__(self, spec: PathMatch | None) -> None:
        self.kind: Literal["any", "exact", "prefix", "segments", "regex"] = "any" if spec is None else spec.kind
        text = "" if spec is None else spec.value
        self.fold = spec is not None and spec.ignore_case and self.kind != "regex"
        self.value = text.encode().lower() if self.fold else text.encode()
        if self.kind == "segments":
            self.value = self.value.rstrip(b"/")
        if (self.kind in {"prefix", "segments"} and self.value in {b"", b"/"}) or (self.kind == "regex" and text == ".*"):
            self.kind = "any"
        self.pattern = Pattern(text) if self.kind == "regex" else None
        self.test = self._compile()

    def _compile(self) -> Test | None:
        value = self.value
        if self.kind == "any":
            return None
        if self.pattern is not None:
            matches = self.pattern.matches
            return lambda head: bool(matches(head.path))
        if self.kind == "exact":
            return (lambda head: head.path.lower() == value) if self.fold else (lambda head: head.path == value)
        if self.kind == "prefix":
            return (lambda head: head.path.lower().startswith(value)) if self.fold else (lambda head: head.path.startswith(value))
        below = value + b"/"
        if self.fold:
            return lambda head: (path := head.path.lower()) == value or path.startswith(below)
        return lambda head: (path := head.path) == value or path.startswith(below)


class Condition:
    """Any other condition of a match entry.

    `key` and `value` are set when the condition is met exactly if the value of the head that `key` names equals `value`.
    """

    __slots__ = ("key", "test", "value")

    def __init__(self, test: Test, key: Key | None = None, value: bytes = b"") -> None:
        self.test = test
        self.key = key
        self.value = value


def compile_conditions(spec: MatchSpec) -> tuple[Condition, ...]:
    """Return all conditions on the request but the one on the path, cheapest first.

    Raises:
        RegexError: a pattern is not acceptable.
    """
    conditions = [
        _named(("header", name), match)
        for name, match in ((":method", spec.method), (":scheme", spec.scheme), (":authority", spec.authority))
        if match is not None
    ]
    conditions += [_named(("header", named.name), named.match, invert=named.invert) for named in spec.headers]
    conditions += [_named(("query", named.name), named.match, invert=named.invert) for named in spec.query]
    return tuple(conditions)


def all_of(tests: Iterable[Test | None]) -> Test | None:
    """Return one test for several; None when there is nothing to test."""
    real = [test for test in tests if test is not None]
    if len(real) < 2:
        return real[0] if real else None
    if len(real) == 2:
        first, second = real
        return lambda head: first(head) and second(head)

    def every(head: RequestView) -> bool:
        for test in real:  # noqa: SIM110 (all() with a generator takes twice as long)
            if not test(head):
                return False
        return True

    return every


def _named(key: Key, match: StringMatch, *, invert: bool = False) -> Condition:
    get = getter(key)
    if match.kind == "present":
        return Condition((lambda head: get(head) is None) if invert else (lambda head: get(head) is not None))
    if match.kind == "exact" and not invert:
        value = match.value.encode()
        return Condition(lambda head: get(head) == value, key, value)
    matches = value_test(match)
    if invert:  # a missing value counts as an empty one (Envoy treat_missing_header_as_empty)
        return Condition(lambda head: not matches(get(head) or b""))
    return Condition(lambda head: (found := get(head)) is not None and bool(matches(found)))
