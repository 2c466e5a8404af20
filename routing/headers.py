# SPDX-License-Identifier: Apache-2.0
"""Header programs: header operations compiled to "take these names out, then append these bytes".

Owns the order of operations, which is Envoy's: inside one level remove, then set, then add, whatever order the user wrote them
in; several levels run one after the other. What is left for a request is one set look-up per field and one append, because none
of it depends on the request. Building and writing heads is the data plane's work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from routing.specs import HeaderOps

__all__ = ["HeaderError", "HeaderProgram", "field_value"]

_TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")
_HOST_NAMES = frozenset({"host", ":authority"})
_FRAMING = frozenset(
    {"connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
)
"""Fields that say how a message is delimited or a connection used: the data plane's alone, operations on them have no effect."""


class HeaderError(ValueError):
    """An operation would write a malformed field."""


def field_value(value: str) -> bytes:
    """Return a field value as bytes.

    Raises:
        HeaderError: it has a line break or NUL.
    """
    raw = value.encode()
    if b"\r" in raw or b"\n" in raw or b"\0" in raw:
        raise HeaderError(f"header value {value!r} has a line break or NUL (RFC 9110 section 5.5)")
    return raw


class HeaderProgram:
    """Operations on the fields of one head.

    Args:
        drop: lower-case names; fields of the incoming head with such a name are taken out.
        lines: complete field lines to append.
        host: the new Host, `b""` to keep it (requests only).
    """

    __slots__ = ("drop", "host", "lines")

    def __init__(self, drop: frozenset[bytes], lines: bytes, host: bytes = b"") -> None:
        self.drop = drop
        self.lines = lines
        self.host = host

    def __repr__(self) -> str:
        return f"HeaderProgram(drop={sorted(self.drop)}, lines={self.lines!r}, host={self.host!r})"

    @classmethod
    def for_request(cls, *levels: HeaderOps | None) -> HeaderProgram | None:
        """Compile levels that run in the given order; None when nothing is left to do.

        Setting or adding Host rewrites the Host instead of appending a second one; it cannot be removed.
        """
        return cls._compile(levels, hosts=_HOST_NAMES)

    @classmethod
    def for_response(cls, *levels: HeaderOps | None) -> HeaderProgram | None:
        """Compile levels that run in the given order; None when nothing is left to do."""
        return cls._compile(levels, hosts=frozenset())

    @classmethod
    def _compile(cls, levels: tuple[HeaderOps | None, ...], hosts: frozenset[str]) -> HeaderProgram | None:
        drop: set[str] = set()
        fields: list[tuple[str, str]] = []
        host = ""
        for ops in levels:
            if ops is None:
                continue
            replaced = {*ops.remove, *(name for name, _ in ops.set)} - hosts - _FRAMING
            drop |= replaced
            last = dict(ops.set)  # of several values set for a name the last stays, where the first stood
            fields = [
                *(field for field in fields if field[0] not in replaced),
                *(field for field in last.items() if field[0] in replaced),
                *(field for field in ops.add if field[0] not in hosts | _FRAMING),
            ]
            for name, value in (*ops.set, *ops.add):
                if name in hosts:
                    host = value
        if not (drop or fields or host):
            return None
        lines = b"".join(_line(name, value) for name, value in fields)
        return cls(frozenset(name.encode() for name in drop), lines, field_value(host))


def _line(name: str, value: str) -> bytes:
    raw = name.encode()
    if not raw or not _TOKEN.issuperset(raw):
        raise HeaderError(f"header name {name!r} is not a lower-case token (RFC 9110 section 5.1)")
    return raw + b": " + field_value(value) + b"\r\n"
