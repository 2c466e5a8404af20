# SPDX-License-Identifier: Apache-2.0
"""How every target feeds its bytes: whole, byte by byte, and cut after every line end."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from tests.h1_kit import Reading, at_lines, bytewise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from acmgproxy.h1.request import RequestHead
    from acmgproxy.h1.response import ResponseHead

__all__ = ["WAYS", "read_every_way"]

_GOOD_ENDS = (b"\r\n\r\n", b"\r\nHost: h\r\n\r\n", b" HTTP/1.1\r\nHost: h\r\n\r\n")
_Head = TypeVar("_Head", "RequestHead", "ResponseHead")


def _whole(data: bytes) -> list[bytes]:
    return [data]


def _at_lines(data: bytes) -> list[bytes]:
    return [piece for piece in at_lines(data) if piece]


WAYS: tuple[Callable[[bytes], list[bytes]], ...] = (_whole, bytewise, _at_lines)


def read_every_way(read: Callable[[Iterable[bytes]], Reading[_Head]], data: bytes) -> Reading[_Head]:
    """Read a message in each way and require the same verdict; return it as read whole."""
    whole, *others = (read(way(data)) for way in WAYS)
    for other in others:
        if bool(other.status) != bool(whole.status):
            # a head that has not ended may be refused now or later; but then it can have no good end
            assert (whole if other.status else other).head is None, f"refused with {whole.status} whole, {other.status} in pieces"
            for end in _GOOD_ENDS:
                assert read([data + end]).status, f"refused early, accepted with {end!r}"
        elif not whole.status:
            assert other.head == whole.head, "another head in pieces"
            assert (other.body, other.done, other.rest) == (whole.body, whole.done, whole.rest), "another body in pieces"
    return whole
