# SPDX-License-Identifier: Apache-2.0
"""Parsed, or HeadError; whole, byte by byte and line by line the same; what goes on reads in the strict model as what was sent.

The input is the head of a request; whatever body it announces is put behind it.
"""

from __future__ import annotations

from acmgproxy.h1.request import CHUNKED
from fuzz.fields import check_fields
from fuzz.ways import read_every_way
from tests.conformance.requests import REQUESTS
from tests.h1_kit import forward_request, read_request
from tests.strict_http import read_request as read_strictly

__all__ = ["SEEDS", "check"]

_LONGEST_BODY = 4096

SEEDS = [row.data[: row.data.find(b"\r\n\r\n", 2) + 4] for row in REQUESTS if b"\r\n\r\n" in row.data[2:]]


def check(data: bytes) -> None:
    """Try one input."""
    reading = read_every_way(read_request, data)
    head = reading.head
    if reading.status or head is None:
        return
    message = data[: len(data) - len(reading.rest) - len(reading.body)]
    if head.body_length == CHUNKED:
        message = message[: message.find(b"\r\n\r\n", 2) + 4] + b"0\r\n\r\n"
    elif head.body_length <= _LONGEST_BODY:
        message += b"x" * head.body_length
    else:
        return
    reading = read_every_way(read_request, message)
    assert reading.done, "a body that fits is not taken"
    assert not reading.rest
    sent = read_strictly(message)
    received = read_strictly(forward_request(reading))
    assert sent.end == len(message), "the strict model sees more than one request"
    assert (received.method, received.target, received.body) == (sent.method, sent.target, sent.body)
    assert received.values(b"host") == (sent.values(b"host") or [b"default.example"])
    check_fields(sent, received)
