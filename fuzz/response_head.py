# SPDX-License-Identifier: Apache-2.0
"""Parsed, or HeadError; whole, byte by byte and line by line the same; what goes on reads in the strict model as the answer.

The input is a byte of options (1: the request was HEAD; 2: the client speaks HTTP/1.0), an answer, and what follows it.
"""

from __future__ import annotations

from functools import partial

from fuzz.fields import check_fields
from fuzz.ways import read_every_way
from tests.conformance.responses import RESPONSES
from tests.h1_kit import forward_response, read_response
from tests.strict_http import read_response as read_strictly

__all__ = ["SEEDS", "check"]

_HEAD, _OLD = 1, 2

SEEDS = [
    bytes([(_HEAD if row.method == b"HEAD" else 0) | (0 if row.minor else _OLD)]) + row.data for row in RESPONSES
]  # fmt: skip


def check(data: bytes) -> None:
    """Try one input."""
    options, data = (data[0], data[1:]) if data else (0, b"")
    method = b"HEAD" if options & _HEAD else b"GET"
    minor = 0 if options & _OLD else 1
    reading = read_every_way(partial(read_response, method=method), data)
    head = reading.head
    if reading.status or not reading.done or head is None:
        return
    answered = read_strictly(data, method=method, closed=True)
    assert (head.status, reading.body) == (answered.status, answered.body)
    assert reading.rest == data[answered.end :], "the answer ends elsewhere"
    assert not (head.keep_alive and answered.ends_connection), "the connection cannot be used again"
    if head.status < 200:
        return  # not written by forward_response
    onward = forward_response(reading, minor=minor)
    received = read_strictly(onward, method=method, closed=True)
    assert received.end == len(onward)
    assert (received.status, received.body) == (answered.status, answered.body)
    assert minor or received.framing != "chunked", "chunked to an HTTP/1.0 client"
    check_fields(answered, received)
