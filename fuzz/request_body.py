# SPDX-License-Identifier: Apache-2.0
"""Parsed, or HeadError; whole, byte by byte and line by line the same; what goes on reads in the strict model as what was sent.

The input is a chunked body and what follows it; the head is always the same.
"""

from __future__ import annotations

from fuzz.ways import read_every_way
from tests.conformance.requests import REQUESTS
from tests.h1_kit import forward_request, read_request
from tests.strict_http import read_request as read_strictly

__all__ = ["SEEDS", "check"]

_HEAD = b"POST / HTTP/1.1\r\nHost: h\r\ntransfer-encoding: chunked\r\n\r\n"

SEEDS = [row.data[len(_HEAD) :] for row in REQUESTS if row.data.startswith(_HEAD)]


def check(data: bytes) -> None:
    """Try one input."""
    reading = read_every_way(read_request, _HEAD + data)
    if reading.status or not reading.done:
        return
    sent = read_strictly(_HEAD + data)
    onward = forward_request(reading)
    received = read_strictly(onward)
    assert received.end == len(onward)
    assert received.body == sent.body == reading.body
    assert reading.rest == (_HEAD + data)[sent.end :], "the body ends elsewhere"
    assert received.fields == ((b"host", b"h"), (b"transfer-encoding", b"chunked"))
