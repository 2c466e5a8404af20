# SPDX-License-Identifier: Apache-2.0
r"""Recognising heads: a request that differs from the one before on its connection in a few values only.

Clients write their heads from a template. What changes from request to request is the target, the request id and the trace
context; the rest is the same to the byte. A `Recall` is made of a head that has been parsed and judged. It cuts the raw bytes at
the places where such values stand, and a later head that has the same bytes in between has the same meaning but for these values:

    GET /orders/17 HTTP/1.1\r\nHost: shop\r\nX-Request-Id: 5b3f...\r\nAccept: */*\r\n\r\n
        ^^^^^^^^^^                                        ^^^^^^^
    fixed    |                fixed                          |          fixed

Nothing is judged more gently by this. A value must consist of characters that stand for themselves wherever they may be (no white
space, control, delimiter of a line or of a list), the target must be an origin-form of plain URI characters, and any other
difference, in length or order or anywhere else, makes the head one to be parsed. `parse_request_head` is the plain twin: what
`match` returns equals what it returns (tests/property/test_recall.py).
"""

from __future__ import annotations

import re  # noqa: TID251 - fixed patterns, linear in what they match
from typing import TYPE_CHECKING

from acmgproxy.h1.fields import TRACE_CONTEXT
from acmgproxy.h1.request import RequestHead

if TYPE_CHECKING:
    from acmgproxy.h1.limits import Limits

__all__ = ["Recall"]

_REQUEST_ID = b"x-request-id"

_TARGET = re.compile(rb"/[A-Za-z0-9/._~%!$&'()*+,;=:@?-]*")
"""Targets that need no further look: origin-form, of the characters of RFC 3986 section 3.3 and 3.4."""

_VALUE = re.compile(rb"[A-Za-z0-9._:=-]{1,256}")
"""Values that need no further look; ids and trace contexts are like this."""


class Recall:
    """What is the same in the heads of a connection.

    Args:
        head: as it was judged.
        pieces: the bytes between the values, in order; the first is the method with its space.
        places: what each value is but for the target, which is the first: the position in `head.lines`, or -1 for the request id.
        names: what stands before each of these values in its line as it goes on, b"" for the request id.
    """

    __slots__ = ("_head", "_names", "_pieces", "_places")

    def __init__(self, head: RequestHead, pieces: tuple[bytes, ...], places: tuple[int, ...], names: tuple[bytes, ...]) -> None:
        self._head = head
        self._pieces = pieces
        self._places = places
        self._names = names

    def __repr__(self) -> str:
        return f"Recall({self._head!r}, values={len(self._pieces) - 1})"

    @classmethod
    def of(cls, raw: bytes, head: RequestHead) -> Recall | None:
        """Cut a head into what may change and what may not; None if that is not clear.

        Args:
            raw: the bytes.
            head: what `parse_request_head` made of them.
        """
        first, *lines = raw[:-4].split(b"\r\n")
        words = first.split(b" ")
        if words[1] != head.target or not _TARGET.fullmatch(head.target):
            return None  # absolute-form, or something unusual
        pieces, places, names = [words[0] + b" "], [], []
        piece = b" " + words[2] + b"\r\n"
        for line in lines:
            name, _, value = line.partition(b": ")
            place = _place(head, name, line) if _VALUE.fullmatch(value) else None
            if place is None:
                piece += line + b"\r\n"
                continue
            pieces.append(piece + name + b": ")
            places.append(place)
            names.append(name + b": ")
            piece = b"\r\n"
        if len(set(places)) != len(places) or sum(kind == _REQUEST_ID for kind, _ in head.special) > 1:
            return None  # repeated fields are for the judge
        return cls(head, (*pieces, piece + b"\r\n"), tuple(places), tuple(names))

    def match(self, raw: bytes, limits: Limits) -> RequestHead | None:
        """Return the head that `raw` is, None if it has to be parsed.

        Args:
            raw: a whole head.
            limits: bounds; raw is already known to be within max_head_bytes.
        """
        pieces = self._pieces
        start = len(pieces[0])
        end = raw.find(b" ", start)
        target = raw[start:end]
        if not raw.startswith(pieces[0]) or len(target) > limits.max_target_bytes or not _TARGET.fullmatch(target):
            return None
        values = []
        for piece in pieces[1:-1]:
            if not raw.startswith(piece, end):
                return None
            start = end + len(piece)
            end = raw.find(b"\r", start)
            value = raw[start:end]
            if not _VALUE.fullmatch(value):
                return None
            values.append(value)
        if raw[end:] != pieces[-1]:
            return None
        return self._head_with(target, values)

    def _head_with(self, target: bytes, values: list[bytes]) -> RequestHead:
        known = self._head
        lines, block, special, request_id = known.lines, known.block, known.special, known.request_id
        for place, name, value in zip(self._places, self._names, values, strict=True):
            if place < 0:
                request_id = value
                special = [(kind, value if kind == _REQUEST_ID else old) for kind, old in special]
                continue
            if lines is known.lines:
                lines, block = lines[:], None
            lines[place] = name + value
        path, _, query = target.partition(b"?")
        return RequestHead(
            known.method, target, known.minor, known.keep_alive, lines, special, path, query, known.authority, known.host,
            known.port, known.body_length, known.expects_continue, known.upgrade, block, request_id, known.forwarded_for,
        )  # fmt: skip


def _place(head: RequestHead, name: bytes, line: bytes) -> int | None:
    """Return where the value of a line stands in the judged head if it may change, else None."""
    kind = name.lower()
    if kind == _REQUEST_ID:
        return -1
    if kind in TRACE_CONTEXT and line in head.lines:
        return head.lines.index(line)
    return None
