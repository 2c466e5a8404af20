# SPDX-License-Identifier: Apache-2.0
"""Reads the filter of an access log: the part of CEL that says something about how a request ended.

    response.code >= 500 || (response.code == 404 && request.duration > duration("1s"))

Comparisons of `response.code` with numbers and of `request.duration` with durations, joined by `&&`, `||` and `!`. Everything
else that CEL and Envoy's attributes offer is refused with the reason. The result is a choice of conjunctions, which is what a
worker can ask quickest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import re2

from routing.resources import Duration
from routing.specs import ComparisonSpec

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["UnsupportedFilterError", "read_filter"]

MAX_LENGTH = 1000
MAX_DEPTH = 20
"""Parentheses and negations within each other."""

MAX_CONJUNCTIONS = 64
"""Choices that an expression may amount to; people write a handful."""

_TOKEN = re2.compile(
    r"\s*(?:(?P<operator>&&|\|\||[=!<>]=|[<>!()])|(?P<number>[0-9]+\b)|(?P<text>\"[^\"\\]*\"|'[^'\\]*')|(?P<name>[A-Za-z_][A-Za-z0-9_.]*))"
)
_COMPARISONS: dict[str, Literal["==", "!=", "<", "<=", ">", ">="]] = {
    "==": "==", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">=",
}  # fmt: skip
_OPPOSITE: dict[str, str] = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
_TURNED: dict[str, str] = {"==": "==", "!=": "!=", "<": ">", ">": "<", "<=": ">=", ">=": "<="}
_OF: dict[str, Literal["status", "duration_s"]] = {"response.code": "status", "request.duration": "duration_s"}

_DURATION = "duration"
"""CEL's function that makes one of a text."""

_Choice = tuple[tuple[ComparisonSpec, ...], ...]
"""One of several conjunctions."""


class UnsupportedFilterError(Exception):
    """An expression is none, or asks for more than is known here. The text says why, for people."""


class _Value(NamedTuple):
    """One side of a comparison: something of a request (`of`), or a number to compare it with."""

    of: Literal["status", "duration_s"]
    number: float | None = None


def read_filter(expression: str) -> _Choice:
    """Return what an expression asks for; () for an empty one, which asks for nothing.

    Raises:
        UnsupportedFilterError: it cannot be read, or not be carried out.
    """
    if not expression.strip():
        return ()
    if len(expression) > MAX_LENGTH:
        raise UnsupportedFilterError(f"it is longer than {MAX_LENGTH} characters")
    reader = _Reader(_tokens(expression))
    found = reader.choice(negated=False)
    if reader.present:
        raise UnsupportedFilterError(f"{reader.present!r} is not expected there")
    return found


def _tokens(expression: str) -> list[str]:
    tokens, position = [], 0
    text = expression.rstrip()
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise UnsupportedFilterError(f"{text[position:].strip()[:20]!r} is not understood")
        tokens.append(found.group().strip())
        position = found.end()
    return tokens


class _Reader:
    """Reads tokens from the first to the last. A negation is carried down to the comparisons."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._position = 0
        self._depth = 0

    def __repr__(self) -> str:
        return f"<_Reader at {self.present!r}>"

    @property
    def present(self) -> str:
        """The token to be read next, "" after the last."""
        return self._tokens[self._position] if self._position < len(self._tokens) else ""

    def choice(self, *, negated: bool) -> _Choice:
        """Read what is joined by `||`."""
        return self._joined("||", lambda: self._conjunction(negated=negated), is_choice=not negated)

    def _conjunction(self, *, negated: bool) -> _Choice:
        return self._joined("&&", lambda: self._term(negated=negated), is_choice=negated)

    def _joined(self, by: str, read: Callable[[], _Choice], *, is_choice: bool) -> _Choice:
        found = read()
        while self.present == by:
            self._position += 1
            other = read()
            found = (*found, *other) if is_choice else tuple((*one, *more) for one in found for more in other)
            if len(found) > MAX_CONJUNCTIONS:
                raise UnsupportedFilterError("it has too many alternatives")
        return found

    def _term(self, *, negated: bool) -> _Choice:
        if self.present not in {"!", "("}:
            return self._comparison(negated=negated)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise UnsupportedFilterError("it is nested too deeply")
        if self._take() == "!":
            found = self._term(negated=not negated)
        else:
            found = self.choice(negated=negated)
            self._expect(")")
        self._depth -= 1
        return found

    def _comparison(self, *, negated: bool) -> _Choice:
        left = self._value()
        sign = self._take()
        if sign not in _COMPARISONS:
            raise UnsupportedFilterError(f"expected a comparison, found {sign or 'the end'!r}")
        right = self._value()
        if left.number is not None:
            left, right, sign = right, left, _TURNED[sign]
        if left.number is not None or right.number is None or left.of != right.of:
            raise UnsupportedFilterError('response.code is compared with a number, request.duration with duration("1s")')
        sign = _OPPOSITE[sign] if negated else sign
        return ((ComparisonSpec(of=left.of, operator=_COMPARISONS[sign], value=right.number),),)

    def _value(self) -> _Value:
        token = self._take()
        if token.isdecimal():
            return _Value("status", float(token))
        if token in _OF:
            return _Value(_OF[token])
        if token == _DURATION:
            return _Value("duration_s", self._duration())
        raise UnsupportedFilterError(f"{token or 'the end'!r} is not supported: only response.code and request.duration are")

    def _duration(self) -> float:
        self._expect("(")
        token = self._take()
        self._expect(")")
        try:
            return float(Duration.parse(token[1:-1]))
        except ValueError as error:
            raise UnsupportedFilterError(str(error)) from None

    def _take(self) -> str:
        token = self.present
        self._position += 1
        return token

    def _expect(self, wanted: str) -> None:
        found = self._take()
        if found != wanted:
            raise UnsupportedFilterError(f"expected {wanted!r}, found {found or 'the end'!r}")
