# SPDX-License-Identifier: Apache-2.0
"""User regular expressions: RE2 on bytes, nothing else.

Owns the only door to a regular expression engine for patterns that users write. RE2 runs in time linear in the input, refuses
look-around and back-references, and is what Envoy and Istio use, so a pattern means the same here. A pattern must match the
whole value.

Matching goes through `re2.Set` even for a single pattern: its answer is a plain list of indexes, which costs half of a
`fullmatch` that builds a match object (0.5 against 1.2 microseconds). A Set has one trap: it runs on a DFA only, and when the
program is too big for its memory it answers "no match" instead of an error. So a Set never holds more than `SET_BUDGET`
instructions; a pattern above that alone is matched by `fullmatch`, which falls back to an NFA.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import re2

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["MAX_PATTERN_LENGTH", "SET_BUDGET", "Pattern", "PatternSet", "RegexError", "Substitution"]

MAX_PATTERN_LENGTH = 1024
"""Characters in a pattern: the limit of Istio's StringMatch.regex."""

SET_BUDGET = 20_000
"""RE2 instructions in one Set. With the default of 8 MiB per Set, 100,000 still work and 200,000 fail at compile time."""


_DIGITS = frozenset("0123456789")


class RegexError(ValueError):
    """A pattern or its substitution is not acceptable."""


def _options() -> re2.Options:
    options = re2.Options()
    options.log_errors = False
    return options


def _compile(pattern: str) -> re2._Regexp:
    if len(pattern) > MAX_PATTERN_LENGTH:
        raise RegexError(f"regular expression is longer than {MAX_PATTERN_LENGTH} characters")
    try:
        return re2.compile(pattern.encode(), _options())
    except re2.error as exc:
        raise RegexError(f"regular expression {pattern!r}: {exc.args[0].decode()}") from exc


def _compile_set(patterns: Sequence[str]) -> Callable[[bytes], list[int] | None]:
    found = re2.Set.FullMatchSet(_options())
    for pattern in patterns:
        found.Add(pattern.encode())
    found.Compile()
    match: Callable[[bytes], list[int] | None] = found.Match
    return match


class Pattern:
    """One compiled pattern.

    Raises:
        RegexError: RE2 does not accept the pattern, or it is too long.
    """

    __slots__ = ("matches", "size", "text")

    def __init__(self, pattern: str) -> None:
        compiled = _compile(pattern)
        self.text = pattern
        self.size: int = compiled.programsize
        self.matches: Callable[[bytes], object] = compiled.fullmatch if self.size > SET_BUDGET else _compile_set([pattern])
        """Return something true if the whole value matches."""

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"


class PatternSet:
    """Many patterns asked at once: the cost hardly depends on how many there are.

    `match(value)` returns the indexes of all patterns that match the whole value, in ascending order.
    """

    __slots__ = ("_sets", "_single", "match")

    match: Callable[[bytes], Sequence[int]]

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self._single = [(index, pattern.matches) for index, pattern in enumerate(patterns) if pattern.size > SET_BUDGET]
        self._sets = [(indexes, _compile_set([patterns[i].text for i in indexes])) for indexes in _chunks(patterns)]
        self.match = self._match_one_set if len(self._sets) == 1 and not self._single else self._match_all

    def _match_one_set(self, value: bytes) -> Sequence[int]:
        """Match where indexes of the only Set are indexes of the patterns; RE2 gives them in no order."""
        hits = self._sets[0][1](value)
        if hits is None:
            return ()
        hits.sort()
        return hits

    def _match_all(self, value: bytes) -> Sequence[int]:
        found = [index for index, matches in self._single if matches(value)]
        for indexes, match in self._sets:
            found += [indexes[hit] for hit in match(value) or ()]
        found.sort()
        return found


def _chunks(patterns: Sequence[Pattern]) -> list[list[int]]:
    """Share the patterns that fit a Set out over as few Sets as the budget allows, keeping their order."""
    chunks: list[list[int]] = []
    room = 0
    for index, pattern in enumerate(patterns):
        if pattern.size > SET_BUDGET:
            continue
        if pattern.size > room:
            chunks.append([])
            room = SET_BUDGET
        chunks[-1].append(index)
        room -= pattern.size
    return chunks


class Substitution:
    r"""Replacement of every match of a pattern, as RE2's GlobalReplace does it (VirtualService rewrite.uriRegexRewrite).

    In `rewrite`, `\0` is the whole match, `\1` to `\9` are groups and `\\` is a backslash.

    Raises:
        RegexError: the pattern is not acceptable, or the rewrite names a group that it does not have.
    """

    __slots__ = ("_parts", "_pattern")

    def __init__(self, pattern: str, rewrite: str) -> None:
        self._pattern = _compile(pattern)
        self._parts = _parse_rewrite(rewrite, self._pattern.groups)

    def apply(self, value: bytes) -> bytes:
        """Return `value` with all matches replaced."""
        out: list[bytes] = []
        end = 0
        last = -1
        for match in self._pattern.finditer(value):
            start, stop = match.span()
            if start == stop == last:  # RE2 allows no empty match where the last match ended
                continue
            out.append(value[end:start])
            out.extend(part if isinstance(part, bytes) else match[part] or b"" for part in self._parts)
            end = last = stop
        out.append(value[end:])
        return b"".join(out)


def _parse_rewrite(rewrite: str, groups: int) -> list[bytes | int]:
    parts: list[bytes | int] = []
    text = ""
    characters = iter(rewrite)
    for character in characters:
        if character != "\\":
            text += character
            continue
        escaped = next(characters, "")
        if escaped == "\\":
            text += escaped
        elif escaped in _DIGITS and int(escaped) <= groups:
            parts += (text.encode(), int(escaped))
            text = ""
        else:
            raise RegexError(f"rewrite {rewrite!r}: \\{escaped} is neither a group of the pattern nor a backslash")
    return [*parts, text.encode()]
