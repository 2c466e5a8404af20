# SPDX-License-Identifier: Apache-2.0
"""What sources and the pipeline say to each other: which objects changed and which could not be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from routing.resources import Resource

__all__ = ["Key", "ObjectChanges", "SourceProblem", "key_of"]


class Key(NamedTuple):
    """What identifies an object."""

    kind: str
    namespace: str
    name: str


class SourceProblem(msgspec.Struct, frozen=True, order=True, kw_only=True):
    """Something a source could not read. The last good version of what it concerns stays in force.

    Args:
        origin: where it was read: a file, with the number of the document if it holds several.
        kind, namespace, name: the object, "" as far as unknown.
        field: path of the field, "" for the object or file as a whole.
        reason: what is wrong.
    """

    origin: str
    kind: str = ""
    namespace: str = ""
    name: str = ""
    field: str = ""
    reason: str

    def __str__(self) -> str:
        who = " ".join(part for part in (self.kind, "/".join(part for part in (self.namespace, self.name) if part)) if part)
        return ": ".join(part for part in (self.origin, who, self.field, self.reason) if part)


class ObjectChanges(NamedTuple):
    """What changed since the last time, and all problems there are now."""

    put: Mapping[Key, Resource]
    removed: frozenset[Key]
    problems: tuple[SourceProblem, ...]


def key_of(resource: Resource) -> Key:
    """Return the key of a resource."""
    return Key(type(resource).kind, resource.meta.namespace, resource.meta.name)
