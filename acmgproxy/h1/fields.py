# SPDX-License-Identifier: Apache-2.0
"""Field lines: which ones the proxy acts on, which ones travel on.

llhttp calls `FieldSink.on_header` for each line of a head. A line with an ordinary name becomes a line to forward at once; a line
with one of the names of interest is put aside for the judge. Names are looked up as they were written, in a table that learns
every spelling it meets (bounded), because lower-casing each name costs more than the look-up.
"""

from __future__ import annotations

__all__ = ["HOP_BY_HOP", "NEVER_LISTED", "UNDERSCORED", "FieldSink", "NameTable", "connection_tokens", "field_map", "without"]

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    }
)
"""RFC 9110 section 7.6.1 and the fields of RFC 2616 that old peers still send. Never forwarded in either direction."""

NEVER_LISTED = frozenset(
    {
        b"host",
        b"content-length",
        b"content-type",
        b"content-encoding",
        b"transfer-encoding",
        b"authorization",
        b"cookie",
        b"set-cookie",
        b"cache-control",
        b"date",
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"x-real-ip",
        b"x-request-id",
    }
)
"""Names Connection may not list (RFC 9110 section 7.6.1: fields intended for all recipients): a peer could make the proxy drop
what the next hop relies on. Envoy answers 400 when it lists Host."""


UNDERSCORED = b"_"
"""What a NameTable makes of a name that only looks like one of interest."""


class NameTable:
    """Maps a field name in any spelling to its lower-case form if it is of interest, else to b"".

    Args:
        names: lower-case names of interest.
        underscore: also report names that differ from one of them only by "_" for "-", as UNDERSCORED.
    """

    __slots__ = ("_learned", "_names", "get")

    _MOST = 2048

    def __init__(self, names: frozenset[bytes], *, underscore: bool = False) -> None:
        self._names = {name: name for name in names}
        if underscore:
            self._names |= {name.replace(b"-", b"_"): UNDERSCORED for name in names if b"-" in name}
        self._learned: dict[bytes, bytes] = {}
        self.get = self._learned.get

    def learn(self, name: bytes) -> bytes:
        """Return what `name` stands for and remember this spelling."""
        known = self._names.get(name.lower(), b"")
        if len(self._learned) >= self._MOST:
            self._learned.clear()
        self._learned[name] = known
        return known


class FieldSink:
    """Collects the field lines of one head: llhttp's callback object.

    Attributes:
        lines: `Name: value` of ordinary fields, as written, in order.
        special: (lower-case name, value) of the fields of interest, in order.
    """

    __slots__ = ("_kind", "_learn", "lines", "special")

    def __init__(self, table: NameTable) -> None:
        self._kind = table.get
        self._learn = table.learn
        self.lines: list[bytes] = []
        self.special: list[tuple[bytes, bytes]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Sort one field line. llhttp leaves trailing white space in the value (RFC 9112 section 5.1 excludes it)."""
        kind = self._kind(name)
        if kind is None:
            kind = self._learn(name)
        if kind:
            self.special.append((kind, value.rstrip(b" \t")))
        else:
            self.lines.append(name + b": " + value)


def connection_tokens(values: list[bytes]) -> set[bytes]:
    """Return the lower-case options that all Connection lines list (RFC 9110 section 7.6.1)."""
    return {token for value in values for item in value.lower().split(b",") if (token := item.strip(b" \t"))}


def field_map(lines: list[bytes], special: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return every field by lower-case name, repeated lines joined by "," (RFC 9110 section 5.3)."""
    fields: dict[bytes, bytes] = {}
    for line in lines:
        name, _, value = line.partition(b": ")
        name, value = name.lower(), value.rstrip(b" \t")
        fields[name] = fields[name] + b"," + value if name in fields else value
    for name, value in special:
        fields[name] = fields[name] + b"," + value if name in fields else value
    return fields


def without(lines: list[bytes], names: frozenset[bytes] | set[bytes]) -> list[bytes]:
    """Return the lines whose lower-case name is not among `names`."""
    return [line for line in lines if line[: line.index(b":")].lower() not in names]
