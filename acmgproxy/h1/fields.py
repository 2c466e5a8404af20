# SPDX-License-Identifier: Apache-2.0
"""Field lines: which ones the proxy acts on, which ones travel on.

llhttp calls back for each line of a head. A line with an ordinary name becomes a line to forward at once; a line
with one of the names of interest is put aside for the judge. Names are looked up as they were written, in a table that learns
every spelling it meets (bounded), because lower-casing each name costs more than the look-up.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, TypeAlias

import httptools

from acmgproxy.h1.errors import HeadError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "HOP_BY_HOP",
    "NEVER_LISTED",
    "TRACE_CONTEXT",
    "UNDERSCORED",
    "NameTable",
    "connection_tokens",
    "field_map",
    "field_reader",
    "single_values",
    "without",
]

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

TRACE_CONTEXT = frozenset(
    {b"traceparent", b"tracestate", b"b3", b"x-b3-traceid", b"x-b3-spanid", b"x-b3-parentspanid", b"x-b3-sampled", b"x-b3-flags"}
)
"""Fields that carry a trace context (W3C Trace Context, B3). A span of the gateway's own replaces them all."""

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


Fields: TypeAlias = tuple[list[bytes], list[tuple[bytes, bytes]]]
"""Lines that travel on, and (lower-case name, value) of the fields the proxy acts on."""

_SINGLE = frozenset({b"host", b"content-length", b"transfer-encoding"})

UNDERSCORED = b"_"
"""What a NameTable makes of a name that only looks like one of interest."""


class NameTable:
    """Maps a field name in any spelling to its lower-case form if it is of interest, else to b"".

    Args:
        names: lower-case names of interest.
        underscore: also report names that differ from one of them only by "_" for "-", as UNDERSCORED.
    """

    __slots__ = ("_learned", "_names", "_underscore", "get")

    _MOST = 2048
    _LONGEST = 64

    def __init__(self, names: frozenset[bytes], *, underscore: bool = False) -> None:
        self._names = names
        self._underscore = underscore
        self._learned: dict[bytes, bytes] = {}
        self.get = self._learned.get

    def learn(self, name: bytes) -> bytes:
        """Return what `name` stands for and remember this spelling."""
        known = name.lower()
        if known not in self._names:
            known = UNDERSCORED if self._underscore and known.replace(b"_", b"-") in self._names else b""
        if len(name) <= self._LONGEST:
            if len(self._learned) >= self._MOST:
                self._learned.clear()
            self._learned[name] = known
        return known


def field_reader(parser: type, table: NameTable, error_status: int) -> Callable[[bytes], Fields]:
    """Return a function that parses the fields of a whole head.

    The function returns the lines of ordinary fields as `Name: value`, and (lower-case name, value) of the fields of interest,
    both in order. It raises HeadError when the head violates the grammar of RFC 9112.

    Everything a head needs is made once and lives in the closure, because this runs for every request and every response and
    each attribute costs; so the function must not be entered again from itself. A parser is as cheap to make (0.2 us) as to keep
    clean: each head gets its own.

    Args:
        parser: httptools.HttpRequestParser or HttpResponseParser.
        table: the names of interest.
        error_status: status of the error.
    """
    lines: list[bytes] = []
    special: list[tuple[bytes, bytes]] = []
    add_line, add_special, known, learn = lines.append, special.append, table.get, table.learn

    def on_header(name: bytes, value: bytes) -> None:
        kind = known(name)
        if kind is None:
            kind = learn(name)
        if kind:
            # llhttp leaves trailing white space in the value (RFC 9112 section 5.1 excludes it)
            add_special((kind, value.rstrip(b" \t")))
        else:
            add_line(name + b": " + value)

    callbacks = SimpleNamespace(on_header=on_header)

    def read(raw: bytes) -> Fields:
        lines.clear()  # first, so that nothing is left of an earlier head, however its reading ended
        special.clear()
        try:
            parser(callbacks).feed_data(raw)
        except httptools.HttpParserUpgrade:
            pass  # llhttp stops at a head that asks for an upgrade, and rightly so: what follows is not for it to read
        except httptools.HttpParserError as error:
            raise HeadError(error_status, str(error)) from error
        return lines[:], special[:]

    return read


def single_values(special: list[tuple[bytes, bytes]], error_status: int) -> dict[bytes, bytes]:
    """Return the fields of interest by name, repeated lines joined by "," (RFC 9110 section 5.3).

    Raises:
        HeadError: a field that must not be repeated is: Host (RFC 9112 section 3.2), Content-Length and Transfer-Encoding, where
            even equal values are refused, because the next reader may choose another one.
    """
    fields = dict(special)
    if len(fields) == len(special):
        return fields
    fields = {}
    for name, value in special:
        if name not in fields:
            fields[name] = value
        elif name in _SINGLE:
            raise HeadError(error_status, f"more than one {name.decode()} field")
        else:
            fields[name] += b"," + value
    return fields


def connection_tokens(value: bytes) -> set[bytes]:
    """Return the lower-case options that Connection lists (RFC 9110 section 7.6.1)."""
    return {token for item in value.lower().split(b",") if (token := item.strip(b" \t"))}


def field_map(lines: list[bytes], special: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return every field by lower-case name, repeated lines joined by "," (RFC 9110 section 5.3)."""
    fields: dict[bytes, bytes] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        fields[name] = fields[name] + b"," + value if name in fields else value
    for name, value in special:
        fields[name] = fields[name] + b"," + value if name in fields else value
    return fields


def without(lines: list[bytes], names: frozenset[bytes] | set[bytes]) -> list[bytes]:
    """Return the lines whose lower-case name is not among `names`."""
    return [line for line in lines if line[: line.index(b":")].lower() not in names]
