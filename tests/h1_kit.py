# SPDX-License-Identifier: Apache-2.0
"""What the tests of acmgproxy.h1 share: its parts put together as the proxy's connections do, without the connections.

`read_request` and `read_response` take one message in any pieces; `forward_request` and `forward_response` write what goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Generic, TypeVar

import httptools

from acmgproxy.h1.buffer import HeadBuffer
from acmgproxy.h1.build import request_head, response_head
from acmgproxy.h1.chunked import LAST_CHUNK, ChunkedDecoder, encode_chunk
from acmgproxy.h1.errors import HeadError
from acmgproxy.h1.limits import Limits
from acmgproxy.h1.request import CHUNKED, RequestHead, parse_request_head
from acmgproxy.h1.response import UNTIL_CLOSE, ResponseHead, parse_response_head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "LIMITS",
    "Reading",
    "at_lines",
    "bytewise",
    "cut",
    "forward_request",
    "forward_response",
    "read_request",
    "read_response",
]

LIMITS = Limits()
_Head = TypeVar("_Head", RequestHead, ResponseHead)


@dataclass(slots=True)
class Reading(Generic[_Head]):
    """What the bytes of a message turned out to be.

    Attributes:
        head: None while there is none, or when it was refused.
        body: what has come of it; after an error that depends on the pieces.
        done: the message is complete.
        rest: what follows it.
        status: of the HeadError, 0 when nothing was refused.
    """

    head: _Head | None = None
    body: bytes = b""
    done: bool = False
    rest: bytes = b""
    status: int = 0


def read_request(pieces: Iterable[bytes]) -> Reading[RequestHead]:
    """Read one request."""
    buffer = HeadBuffer(httptools.HttpRequestParser, 431, LIMITS, skip_blank=True)
    return _read(pieces, buffer, lambda raw: parse_request_head(raw, LIMITS))


def read_response(pieces: Iterable[bytes], method: bytes = b"GET") -> Reading[ResponseHead]:
    """Read one answer, up to the end of stream if its framing says so."""
    buffer = HeadBuffer(httptools.HttpResponseParser, 502, LIMITS)
    reading = _read(pieces, buffer, lambda raw: parse_response_head(raw, method, LIMITS))
    if reading.head is not None and reading.head.body_length == UNTIL_CLOSE:
        reading.body, reading.rest, reading.done = reading.rest, b"", True
    return reading


def _read(pieces: Iterable[bytes], buffer: HeadBuffer, judge: Callable[[bytes], _Head]) -> Reading[_Head]:
    reading: Reading[_Head] = Reading()
    decoder: ChunkedDecoder | None = None
    try:
        for piece in pieces:
            reading.rest += piece
            if reading.head is None:
                found, reading.rest = buffer.add(reading.rest), b""
                if found is None:
                    continue
                reading.head, reading.rest = judge(found[0]), found[1]
                decoder = ChunkedDecoder(LIMITS) if reading.head.body_length == CHUNKED else None
                reading.done = reading.head.body_length == 0
            if not reading.done:
                _read_body(reading, reading.head.body_length, decoder)
    except HeadError as error:
        reading.status = error.status
    return reading


def _read_body(reading: Reading[_Head], length: int, decoder: ChunkedDecoder | None) -> None:
    if decoder is not None:
        data, rest = decoder.feed(reading.rest)
        reading.body += b"".join(data)
        reading.rest = rest
        reading.done = decoder.done
    elif length > 0:
        left = length - len(reading.body)
        reading.body += reading.rest[:left]
        reading.rest = reading.rest[left:]
        reading.done = len(reading.body) == length


def forward_request(reading: Reading[RequestHead]) -> bytes:
    """Write what came of a request as it goes upstream."""
    head = reading.head
    assert head is not None
    host = head.authority or b"default.example"
    return request_head(head, head.target, host, []) + _framed(reading, chunked=head.body_length == CHUNKED)


def forward_response(reading: Reading[ResponseHead], *, minor: int = 1) -> bytes:
    """Write what came of an answer as it goes downstream; a body that the client's version cannot frame ends at the close."""
    head = reading.head
    assert head is not None
    unframed = head.body_length in (CHUNKED, UNTIL_CLOSE)
    start = response_head(head, [], minor=minor, close=unframed and minor == 0)
    return start + _framed(reading, chunked=unframed and minor == 1)


def _framed(reading: Reading[_Head], *, chunked: bool) -> bytes:
    if not chunked:
        return reading.body
    return (encode_chunk(reading.body) if reading.body else b"") + (LAST_CHUNK if reading.done else b"")


def bytewise(data: bytes) -> list[bytes]:
    """Cut into single bytes."""
    return [data[position : position + 1] for position in range(len(data))]


def at_lines(data: bytes) -> list[bytes]:
    """Cut after every line feed."""
    return [line + b"\n" for line in data.split(b"\n")[:-1]] + [data.rpartition(b"\n")[2]]


def cut(data: bytes, positions: Iterable[int]) -> list[bytes]:
    """Cut at positions, which are taken modulo the length."""
    places = sorted({position % (len(data) + 1) for position in positions} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(places)]
