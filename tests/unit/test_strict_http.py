# SPDX-License-Identifier: Apache-2.0
"""The strict model agrees with the conformance tables: it takes what goes on, and refuses what is ambiguous."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conformance.requests import REQUESTS
from tests.conformance.responses import RESPONSES
from tests.strict_http import Malformed, Unfinished, read_final_response, read_request, read_requests, read_response

if TYPE_CHECKING:
    from tests.conformance.rows import Row

LIMITS_OF_THE_GATEWAY = {
    *["target-too-long", "too-many-fields", "head-too-large", "chunk-extension-too-long", "chunk-extensions-too-many"],
    *["trailers-too-large", "trailers-too-many"],
}
CHOICES_OF_THE_GATEWAY = LIMITS_OF_THE_GATEWAY | {
    *["expect-other", "http2-preface-as-1-1", "host-port-too-large", "length-leading-zero"],
    *["connection-lists-host", "connection-lists-length", "connection-lists-credentials"],
    "host-bare-ipv6",
}
"""Rows that the gateway refuses although the bytes are HTTP/1.1."""


@pytest.mark.parametrize("row", [row for row in REQUESTS if not row.status and row.complete], ids=lambda row: row.id)
def test_a_sound_request_reads_as_what_goes_on(row: Row) -> None:
    sent, received = read_request(row.data), read_request(row.expected)
    assert (sent.method, sent.target, sent.body) == (received.method, received.target, received.body)


def test_bad_requests_are_refused() -> None:
    taken = set()
    for row in REQUESTS:
        found, problem = read_requests(row.data)
        if row.status and found and not problem:
            taken.add(row.id)
    assert taken <= CHOICES_OF_THE_GATEWAY
    assert taken >= LIMITS_OF_THE_GATEWAY - {"head-too-large"}


def test_bad_answers_are_refused() -> None:
    for row in RESPONSES:
        if not row.status or row.id in LIMITS_OF_THE_GATEWAY:
            continue
        with pytest.raises((Malformed, Unfinished)):
            read_response(row.data, method=row.method, closed=True)


@pytest.mark.parametrize("row", [row for row in RESPONSES if not row.status], ids=lambda row: row.id)
def test_a_sound_answer_reads_as_what_goes_on(row: Row) -> None:
    data, expected, method = row.data, row.expected, row.method
    if not row.complete:
        with pytest.raises(Unfinished):
            read_response(data, method=method, closed=True)
        return
    given, got = read_response(data, method=method, closed=True), read_response(expected, method=method, closed=True)
    assert (given.status, given.body) == (got.status, got.body)


def test_requests_are_read_to_the_last_of_the_connection() -> None:
    get = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
    close = get.replace(b"Host", b"Connection: a, Close\r\nHost")
    assert len(read_requests(get * 3)[0]) == 3
    assert len(read_requests(get + close + b"anything")[0]) == 2
    assert read_requests(get + get[:9])[1] == "unfinished"
    assert read_requests(get + b"GET /\r\n\r\n")[1] == "no request line of HTTP/1.x"


def test_an_interim_answer_is_passed_over() -> None:
    final = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    assert read_final_response(early * 2 + final, closed=False).body == b"a"
    with pytest.raises(Malformed, match="101"):
        read_final_response(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", closed=False)


def test_an_answer_without_length_ends_with_the_connection() -> None:
    data = b"HTTP/1.1 200 OK\r\n\r\nabc"
    assert read_response(data, closed=True).body == b"abc"
    with pytest.raises(Unfinished):
        read_response(data, closed=False)
