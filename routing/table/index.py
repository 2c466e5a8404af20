# SPDX-License-Identifier: Apache-2.0
"""The index of a rule list: which entry wins, without asking every entry.

The rule is simple: the first entry, in order, whose conditions all hold. `compile_rules` returns a function that gives the same
answer as that loop. For a few entries it *is* that loop, over prepared closures; nothing beats it. For more, entries are filed:

* by path. Exact paths in a dict. Prefixes in a sorted list with, for each, the longest other prefix that it extends (its parent).
  The prefixes of a path are then found by one bisection: the last prefix not greater than the path, or its nearest ancestor that
  the path begins with, and all ancestors of that. So each exact path and each prefix gets, when compiled, one *bucket* with
  everything that can still win there, its own entries and its ancestors' in order, cut off after the first unconditional one.
* patterns in one `PatternSet`; entries that ignore case in a second table of folded paths; entries without a path condition in a
  bucket of their own.

Inside a bucket, entries that ask for one exact value of a header or query parameter are filed in a dict by that value. Every
part knows the order of its first entry and is skipped when an earlier entry has already matched. A request costs what the
longest chain of nested prefixes with conditions costs, whatever the number of rules.
"""

from __future__ import annotations

import sys
from bisect import bisect
from collections import defaultdict
from typing import TYPE_CHECKING, TypeAlias

from routing.regex import PatternSet
from routing.request import getter
from routing.table.conditions import Condition, PathCondition, all_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from routing.request import Getter, Key, RequestView
    from routing.table.head import Caller, Find, Test
    from routing.table.route import Route

__all__ = ["LINEAR_LIMIT", "Entry", "compile_rules"]

LINEAR_LIMIT = 6
"""Up to this many entries, of which few are patterns, the plain loop is faster than the index (bench/micro/test_match.py)."""

LINEAR_PATTERNS = 2
"""A pattern asked alone costs 0.5 microseconds, all patterns of a list together about 1."""

_NEVER = sys.maxsize

_Filed: TypeAlias = "tuple[int, tuple[Condition, ...], Route]"
"""An entry in the making of a bucket: order, conditions still to be tested, route."""
_Hit: TypeAlias = "tuple[int, Test | None, Route]"


class Entry:
    """A match entry of a rule, with its route."""

    __slots__ = ("conditions", "path", "route")

    def __init__(self, path: PathCondition, conditions: tuple[Condition, ...], route: Route) -> None:
        self.path = path
        self.conditions = conditions
        self.route = route

    @property
    def unconditional(self) -> bool:
        """Whether it matches every request."""
        return self.path.kind == "any" and not self.conditions


def compile_rules(entries: Sequence[Entry]) -> Find:
    """Return the function that finds the route of the first matching entry."""
    reachable: list[Entry] = []
    for entry in entries:
        reachable.append(entry)
        if entry.unconditional:
            break
    patterns = sum(entry.path.pattern is not None for entry in reachable)
    if len(reachable) <= LINEAR_LIMIT and patterns <= LINEAR_PATTERNS:
        return _linear(reachable)
    return _Index(reachable).find


def _linear(entries: Sequence[Entry]) -> Find:
    tests = [(all_of([entry.path.test, *(c.test for c in entry.conditions)]), entry.route) for entry in entries]
    fallback = tests.pop()[1] if tests and tests[-1][0] is None else None
    pairs = [(test, route) for test, route in tests if test is not None]
    if not pairs:
        return lambda head, caller: fallback
    if len(pairs) == 1:
        ((only, route),) = pairs
        if entries[0].path.kind == "exact" and not entries[0].path.fold and not entries[0].conditions:
            path = entries[0].path.value
            return lambda head, caller: route if head.path == path else fallback
        return lambda head, caller: route if only(head) else fallback

    def find(head: RequestView, caller: Caller | None) -> Route | None:
        for test, route in pairs:
            if test(head):
                return route
        return fallback

    return find


class _Bucket:
    """Entries that only their conditions other than the path decide, in order."""

    __slots__ = ("_keyed", "_linear", "first")

    def __init__(self, filed: Iterable[_Filed]) -> None:
        entries: list[_Filed] = []
        for entry in sorted(filed, key=lambda item: item[0]):
            entries.append(entry)
            if not entry[1]:
                break
        self.first = entries[0][0] if entries else _NEVER
        keys = _choose_keys(entries) if len(entries) > LINEAR_LIMIT else {}
        tables: dict[Key, dict[bytes, list[_Filed]]] = defaultdict(lambda: defaultdict(list))
        linear: list[_Hit] = []
        for order, conditions, route in entries:
            chosen = keys.get(order)
            if chosen is None or chosen.key is None:
                linear.append((order, all_of(c.test for c in conditions), route))
            else:
                rest = tuple(c for c in conditions if c is not chosen)
                tables[chosen.key][chosen.value].append((order, rest, route))
        self._linear = tuple(linear)
        keyed = [(getter(key), {value: _Bucket(group) for value, group in table.items()}) for key, table in tables.items()]
        self._keyed: tuple[tuple[int, Getter, dict[bytes, _Bucket]], ...] = tuple(
            (min(bucket.first for bucket in table.values()), get, table) for get, table in keyed
        )

    def best(self, head: RequestView, limit: int) -> _Hit | None:
        """Return the first entry before `limit` whose conditions hold."""
        best = None
        for hit in self._linear:
            if hit[0] >= limit:
                break
            test = hit[1]
            if test is None or test(head):
                best = hit
                limit = hit[0]
                break
        for first, get, table in self._keyed:
            if first < limit:
                value = get(head)
                bucket = table.get(value) if value is not None else None
                if bucket is not None:
                    hit_below = bucket.best(head, limit)
                    if hit_below is not None:
                        best = hit_below
                        limit = hit_below[0]
        return best


def _choose_keys(entries: Sequence[_Filed]) -> dict[int, Condition]:
    """Choose, for each entry that has one, the exact condition to file it by: of the most varied header or parameter."""
    values: dict[Key, set[bytes]] = defaultdict(set)
    for _, conditions, _ in entries:
        for condition in conditions:
            if condition.key is not None:
                values[condition.key].add(condition.value)
    chosen: dict[int, Condition] = {}
    for order, conditions, _ in entries:
        exact = [(len(values[c.key]), c) for c in conditions if c.key is not None]
        if exact:
            chosen[order] = max(exact, key=lambda item: item[0])[1]
    return chosen


class _PathTable:
    """Buckets by exact path and by prefix."""

    __slots__ = ("_buckets", "_exact", "_parents", "_prefixes", "first")

    def __init__(self, exact: dict[bytes, list[_Filed]], prefixes: dict[bytes, list[_Filed]]) -> None:
        self._prefixes = sorted(prefixes)
        self._parents: list[int] = []
        merged: list[list[_Filed]] = []
        open_prefixes: list[int] = []
        for index, prefix in enumerate(self._prefixes):
            while open_prefixes and not prefix.startswith(self._prefixes[open_prefixes[-1]]):
                open_prefixes.pop()
            parent = open_prefixes[-1] if open_prefixes else -1
            self._parents.append(parent)
            merged.append(prefixes[prefix] + (merged[parent] if parent >= 0 else []))
            open_prefixes.append(index)
        self._buckets = [_Bucket(filed) for filed in merged]
        self._exact: dict[bytes, _Bucket] = {}
        for path, filed in exact.items():
            index = self._longest(path)
            self._exact[path] = _Bucket(filed + (merged[index] if index >= 0 else []))
        self.first = min((bucket.first for bucket in (*self._buckets, *self._exact.values())), default=_NEVER)

    def _longest(self, path: bytes) -> int:
        prefixes = self._prefixes
        index = bisect(prefixes, path) - 1
        while index >= 0 and not path.startswith(prefixes[index]):
            index = self._parents[index]
        return index

    def lookup(self, path: bytes) -> _Bucket | None:
        """Return the bucket with all entries whose path condition holds."""
        bucket = self._exact.get(path)
        if bucket is None:
            index = self._longest(path)
            if index >= 0:
                return self._buckets[index]
        return bucket


class _Filing:
    """Collects entries for a path table."""

    __slots__ = ("exact", "prefixes")

    def __init__(self) -> None:
        self.exact: dict[bytes, list[_Filed]] = defaultdict(list)
        self.prefixes: dict[bytes, list[_Filed]] = defaultdict(list)

    def add(self, path: PathCondition, filed: _Filed) -> None:
        if path.kind == "prefix":
            self.prefixes[path.value].append(filed)
            return
        self.exact[path.value].append(filed)
        if path.kind == "segments":
            self.prefixes[path.value + b"/"].append(filed)


class _Index:
    """A long rule list."""

    __slots__ = ("_folded", "_paths", "_pattern_buckets", "_pattern_first", "_patterns", "_rest")

    def __init__(self, entries: Sequence[Entry]) -> None:
        plain, folded = _Filing(), _Filing()
        rest: list[_Filed] = []
        patterns: dict[str, list[_Filed]] = defaultdict(list)
        compiled = {entry.path.pattern.text: entry.path.pattern for entry in entries if entry.path.pattern is not None}
        for order, entry in enumerate(entries):
            filed = (order, entry.conditions, entry.route)
            if entry.path.pattern is not None:
                patterns[entry.path.pattern.text].append(filed)
            elif entry.path.kind == "any":
                rest.append(filed)
            else:
                (folded if entry.path.fold else plain).add(entry.path, filed)
        self._paths = _PathTable(plain.exact, plain.prefixes)
        self._folded = _PathTable(folded.exact, folded.prefixes)
        self._rest = _Bucket(rest)
        self._patterns = PatternSet([compiled[text] for text in patterns])
        self._pattern_buckets = [_Bucket(filed) for filed in patterns.values()]
        self._pattern_first = self._pattern_buckets[0].first if patterns else _NEVER

    def find(self, head: RequestView, caller: Caller | None) -> Route | None:
        """Return the route of the first matching entry."""
        limit = _NEVER
        best = None
        path = head.path
        bucket = self._paths.lookup(path)
        if bucket is not None:
            best = bucket.best(head, limit)
            if best is not None:
                limit = best[0]
        if self._folded.first < limit:
            bucket = self._folded.lookup(path.lower())
            hit = bucket.best(head, limit) if bucket is not None else None
            if hit is not None:
                best = hit
                limit = hit[0]
        if self._rest.first < limit:
            hit = self._rest.best(head, limit)
            if hit is not None:
                best = hit
                limit = hit[0]
        if self._pattern_first < limit:
            for index in self._patterns.match(path):
                hit = self._pattern_buckets[index].best(head, limit)
                if hit is not None:
                    best = hit
                    limit = hit[0]
        return best[2] if best is not None else None
