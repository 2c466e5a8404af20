# SPDX-License-Identifier: Apache-2.0
"""Memory: results of an earlier translation that stand in the next one.

A translation is a pure function made of many smaller ones: a host's clusters, its virtual host, the rules of a VirtualService.
Of each the memory keeps what went in, what came out, what was found, and which *questions* were asked on the way (what does this
host name mean, which DestinationRules hold for it) with the answers. A result stands when the same went in and every question
has the same answer still; else it is worked out again. So nobody has to know what depends on what: a function that asks its
questions through the context cannot forget a dependency, and a translation with memory gives what one without it gives.

What goes in is compared by value, which costs next to nothing as it mostly is the same object. Results that nobody asked for
during a translation are dropped after it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Container, Hashable

    from routing.diagnostics import Diagnostic

__all__ = ["Memory", "Question", "Remembered"]


class Question(NamedTuple):
    """Something that was asked of the context: the name of its method, the arguments, the answer."""

    method: str
    arguments: tuple[Any, ...]
    answer: object


class Remembered(NamedTuple):
    """A result and what it rests on."""

    inputs: tuple[object, ...]
    value: Any
    questions: tuple[Question, ...] = ()
    findings: tuple[Diagnostic, ...] = ()


class Memory:
    """Results by table and name, and how often their world has changed.

    `versions` counts the translations before which objects of a kind changed, `members` those before which the members of a host
    did: a number in the place of everything it counts.
    """

    __slots__ = ("_before", "_kept", "_tables", "changed", "members", "versions")

    def __init__(self) -> None:
        self._before: dict[str, dict[Hashable, Remembered]] = {}
        self._kept: dict[str, dict[Hashable, Remembered]] = {}
        self._tables: dict[str, tuple[dict[Hashable, Remembered], dict[Hashable, Remembered]]] = {}
        self.changed: frozenset[str] = frozenset()
        self.versions: dict[str, int] = {}
        self.members: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Memory {sum(map(len, self._kept.values()))} results>"

    def begin(self, changed: frozenset[str]) -> None:
        """Begin a translation, before which objects of these kinds changed."""
        self._before, self._kept, self._tables, self.changed = self._kept, {}, {}, changed
        for kind in changed:
            self.versions[kind] = self.versions.get(kind, 0) + 1

    def end(self, hosts: Container[str]) -> None:
        """End it; `hosts` are those that there are."""
        self._before, self._tables = {}, {}
        self.members = {name: version for name, version in self.members.items() if name in hosts}

    def tables(self, table: str) -> tuple[dict[Hashable, Remembered], dict[Hashable, Remembered]]:
        """Return a table's results of the translation before, for reading, and those that stand or are new."""
        found = self._tables.get(table)
        if found is None:
            found = self._tables[table] = self._before.get(table, {}), self._kept.setdefault(table, {})
        return found

    def kept(self, table: str) -> dict[Hashable, Remembered]:
        """Return a table's results that stand or are new."""
        return self.tables(table)[1]

    def keep_all(self, table: str) -> None:
        """Keep a table whose names are not all going to be asked for, because nothing changed that they rest on."""
        self._kept[table] = self._before.pop(table, {})
        self._tables.pop(table, None)

    def note_members(self, host: str) -> None:
        """Note that the members of a host changed."""
        self.members[host] = self.members.get(host, 0) + 1
