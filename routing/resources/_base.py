# SPDX-License-Identifier: Apache-2.0
"""What every resource is made of: metadata, the base types, durations, notes and the error of a refused object.

All types are immutable plain data without reference cycles (`gc=False`: a cluster has tens of thousands of them). Field names
are those of the Kubernetes API in snake case.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import ClassVar, Literal, NamedTuple, Self

import msgspec
import re2

__all__ = ["Duration", "FieldNote", "Fields", "ObjectMeta", "OwnerReference", "Problem", "Resource", "ResourceError"]

_OLDEST = datetime.min.replace(tzinfo=UTC)
_DURATION = re2.compile(r"([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
_UNIT_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class Problem(NamedTuple):
    """A field that is not valid, by its path from the object's root, and why."""

    field: str
    reason: str


class ResourceError(Exception):
    """An object was refused as a whole.

    Args:
        kind: Kind of the object, "" when it has none.
        namespace: Its namespace, "" when unknown or cluster-wide.
        name: Its name, "" when unknown.
        problems: What is wrong with it; at least one.
    """

    def __init__(self, kind: str, namespace: str, name: str, problems: tuple[Problem, ...]) -> None:
        self.kind = kind
        self.namespace = namespace
        self.name = name
        self.problems = problems
        who = "/".join(part for part in (namespace, name) if part) or "(no name)"
        what = "; ".join(f"{problem.field}: {problem.reason}" if problem.field else problem.reason for problem in problems)
        super().__init__(f"{kind or 'object'} {who}: {what}")

    @property
    def field(self) -> str:
        """The first field that is not valid."""
        return self.problems[0].field

    @property
    def reason(self) -> str:
        """Why the first field is not valid."""
        return self.problems[0].reason


class FieldNote(NamedTuple):
    """A field that was given and has no effect: not supported here, or no field of its kind at all."""

    field: str
    reason: Literal["unsupported", "unknown"]


class Duration(float):
    """Seconds, written as in Go: `1.5s`, `100ms`, `1m30s`."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read a duration.

        Raises:
            ValueError: It is not one.
        """
        if text == "0":
            return cls(0.0)
        seconds, position = 0.0, 0
        if isinstance(text, str):
            for part in _DURATION.finditer(text):
                if part.start() != position:
                    break
                seconds += float(part[1]) * _UNIT_S[part[3]]
                position = part.end()
        if not isinstance(text, str) or not text or position != len(text):
            raise ValueError(f"expected a duration such as 1.5s or 100ms, got {text!r}")
        return cls(seconds)


class Fields(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename="camel"):
    """Base of every part of a resource."""

    unsupported: ClassVar[frozenset[str]] = frozenset()
    """Fields of the API that have an effect elsewhere but none here; each one given is noted."""

    unknown: ClassVar[Literal["note", "refuse", "skip"]] = "note"
    """What a field means that is in neither list: a slip of the pen to note, one that would widen a condition and is refused,
    or just a part of a large API type that is not read."""


class OwnerReference(Fields, frozen=True, kw_only=True):
    """Who made this object."""

    unknown: ClassVar[Literal["note", "refuse", "skip"]] = "skip"
    kind: str
    name: str
    controller: bool = False


class ObjectMeta(Fields, frozen=True, kw_only=True):
    """An object's metadata."""

    unknown: ClassVar[Literal["note", "refuse", "skip"]] = "skip"
    name: str
    namespace: str = ""
    uid: str = ""
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    generation: int = 0
    resource_version: str = ""
    owner_references: tuple[OwnerReference, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """(namespace, name)."""
        return self.namespace, self.name

    @property
    def age(self) -> tuple[datetime, str, str]:
        """Sort key, oldest first: creation time, then name and namespace, as Istio breaks ties.

        Objects without a creation time (files) count as the oldest.
        """
        created = self.creation_timestamp or _OLDEST
        # YAML timestamps without a zone are UTC.
        return created if created.tzinfo else created.replace(tzinfo=UTC), self.name, self.namespace


class Resource(Fields, frozen=True, kw_only=True):
    """Base of the kinds. `notes` is what decoding found without effect."""

    kind: ClassVar[str]
    api_versions: ClassVar[tuple[str, ...]]
    namespaced: ClassVar[bool] = True

    meta: ObjectMeta = msgspec.field(name="metadata")
    notes: tuple[FieldNote, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """(namespace, name)."""
        return self.meta.key
