# SPDX-License-Identifier: Apache-2.0
"""What the API sends, as far as a watch looks at it: events, pages, statuses, and which object something is about.

The object itself stays bytes (`msgspec.Raw`, no copy) until its kind's decoder reads it: a broken object must not cost its
neighbours, and its name must be known to say which one it was.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

__all__ = [
    "INITIAL_END",
    "Event",
    "Head",
    "Page",
    "WireError",
    "read_bookmark",
    "read_event",
    "read_head",
    "read_page",
]

INITIAL_END = "k8s.io/initial-events-end"
"""Annotation of the bookmark behind a stream's initial events, with the value "true"."""


class WireError(Exception):
    """What came is not what the API sends."""


class Event(msgspec.Struct, gc=False):
    """A line of a watch. Types are ADDED, MODIFIED, DELETED, BOOKMARK and ERROR."""

    type: str
    object: msgspec.Raw


class Head(NamedTuple):
    """Which object, and which version of it. A part that is missing or of another type is ""."""

    namespace: str
    name: str
    version: str


class Page(NamedTuple):
    """A page of a list."""

    version: str
    token: str
    items: list[msgspec.Raw]


class _Meta(msgspec.Struct, gc=False):
    name: str = ""
    namespace: str = ""
    version: str = msgspec.field(default="", name="resourceVersion")


class _Object(msgspec.Struct, gc=False):
    metadata: _Meta = msgspec.field(default_factory=_Meta)


class _BookmarkMeta(msgspec.Struct, gc=False):
    version: str = msgspec.field(default="", name="resourceVersion")
    annotations: dict[str, str] | None = None


class _Bookmark(msgspec.Struct, gc=False):
    metadata: _BookmarkMeta


class _ListMeta(msgspec.Struct, gc=False):
    version: str | None = msgspec.field(default=None, name="resourceVersion")
    token: str | None = msgspec.field(default=None, name="continue")


class _List(msgspec.Struct, gc=False):
    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


_EVENT = msgspec.json.Decoder(Event)
_OBJECT = msgspec.json.Decoder(_Object)
_BOOKMARK = msgspec.json.Decoder(_Bookmark)
_LIST = msgspec.json.Decoder(_List)


def read_event(line: bytes) -> Event:
    """Read a line of a watch.

    Raises:
        WireError: It is no event.
    """
    try:
        return _EVENT.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise WireError(f"no event: {error}: {line[:100]!r}") from error


def read_head(raw: msgspec.Raw | bytes) -> Head:
    """Tell which object something is, as far as that can be told. Never raises."""
    try:
        meta = _OBJECT.decode(raw).metadata
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _rough_head(raw)
    return Head(meta.namespace, meta.name, meta.version)


def _rough_head(raw: msgspec.Raw | bytes) -> Head:
    """Do the same for an object whose metadata is broken."""
    try:
        found = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Head("", "", "")
    meta = found.get("metadata") if isinstance(found, dict) else None
    parts = [meta.get(name) if isinstance(meta, dict) else None for name in ("namespace", "name", "resourceVersion")]
    return Head(*(part if isinstance(part, str) else "" for part in parts))


def read_bookmark(raw: msgspec.Raw | bytes) -> tuple[str, bool]:
    """Return a bookmark's version and whether it is the one behind the initial events.

    Raises:
        WireError: It is no bookmark.
    """
    try:
        meta = _BOOKMARK.decode(raw).metadata
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise WireError(f"no bookmark: {error}") from error
    return meta.version, (meta.annotations or {}).get(INITIAL_END) == "true"


def read_page(data: bytes) -> Page:
    """Read a page of a list.

    Raises:
        WireError: It is none.
    """
    try:
        found = _LIST.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise WireError(f"no list: {error}: {data[:100]!r}") from error
    if not found.metadata.version:
        raise WireError("a list without resourceVersion")
    return Page(found.metadata.version, found.metadata.token or "", found.items or [])
