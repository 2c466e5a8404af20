# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from acmgproxy.h1.build import CONTINUE, STATUS_LINES, informational_head, local_response, request_head, response_head
from acmgproxy.h1.limits import Limits
from acmgproxy.h1.request import RequestHead, parse_request_head
from acmgproxy.h1.response import ResponseHead, parse_response_head

FIELDS = [b"Accept: a", b"X-One: 1", b"x-one: 2"]
KEPT = [b"Accept: a"]
NOTHING: frozenset[bytes] = frozenset()
X_ONE = frozenset({b"x-one"})


def request(method: bytes = b"GET", *framing: bytes) -> RequestHead:
    return parse_request_head(b"\r\n".join([method + b" / HTTP/1.1", b"Host: old", *framing, *FIELDS, b"\r\n"]), Limits())


def response(status: int = 200, *framing: bytes, method: bytes = b"GET") -> ResponseHead:
    return parse_response_head(b"\r\n".join([b"HTTP/1.1 %d OK" % status, *framing, *FIELDS, b"\r\n"]), method, Limits())


def lines_of(head: bytes) -> list[bytes]:
    """Return the lines of a head, without the empty one that must end it."""
    assert head.endswith(b"\r\n\r\n")
    lines = head[:-4].split(b"\r\n")
    assert all(lines)
    return lines


def test_a_request_goes_on_with_its_fields() -> None:
    assert request_head(request(), b"/new", b"h:80", [b"x-request-id: 7"]) == (
        b"GET /new HTTP/1.1\r\nHost: h:80\r\nAccept: a\r\nX-One: 1\r\nx-one: 2\r\nx-request-id: 7\r\n\r\n"
    )


def test_a_request_may_have_no_fields() -> None:
    head = parse_request_head(b"GET / HTTP/1.0\r\n\r\n", Limits())
    assert request_head(head, b"/", b"h", []) == b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
    assert request_head(head, b"/", b"h", [], X_ONE) == b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
    head = parse_request_head(b"POST / HTTP/1.0\r\n\r\n", Limits())
    assert request_head(head, b"/", b"h", []) == b"POST / HTTP/1.1\r\nHost: h\r\ncontent-length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "framing"),
    [
        (request(b"POST", b"Content-Length: 5"), [b"content-length: 5"]),
        (request(b"GET", b"Content-Length: 5"), [b"content-length: 5"]),
        (request(b"POST", b"Transfer-Encoding: Chunked"), [b"transfer-encoding: chunked"]),
        (request(b"GET", b"Transfer-Encoding: chunked"), [b"transfer-encoding: chunked"]),
        (request(b"POST", b"Content-Length: 0"), [b"content-length: 0"]),
        (request(b"POST"), [b"content-length: 0"]),
        (request(b"FROBNICATE"), [b"content-length: 0"]),
        (request(b"GET", b"Content-Length: 0"), []),
        (request(b"GET"), []),
        (request(b"HEAD"), []),
        (request(b"DELETE"), []),
        (request(b"OPTIONS"), []),
        (request(b"TRACE"), []),
    ],
)
def test_a_request_is_framed_anew(head: RequestHead, framing: list[bytes]) -> None:
    start = [head.method + b" / HTTP/1.1", b"Host: h"]
    assert lines_of(request_head(head, b"/", b"h", [])) == [*start, *FIELDS, *framing]
    assert lines_of(request_head(head, b"/", b"h", [b"a: b"])) == [*start, *FIELDS, *framing, b"a: b"]
    assert lines_of(request_head(head, b"/", b"h", [b"a: b"], X_ONE)) == [*start, *KEPT, *framing, b"a: b"]


@pytest.mark.parametrize(
    ("head", "framing"),
    [
        (response(200, b"Content-Length: 5"), [b"content-length: 5"]),
        (response(200, b"Content-Length: 5", method=b"HEAD"), [b"content-length: 5"]),
        (response(200, b"Content-Length: 0"), [b"content-length: 0"]),
        (response(200, b"Transfer-Encoding: Chunked"), [b"transfer-encoding: chunked"]),
        (response(200, b"Transfer-Encoding: chunked", method=b"HEAD"), [b"transfer-encoding: chunked"]),
        (response(200), [b"transfer-encoding: chunked"]),
        (response(200, method=b"HEAD"), []),
        (response(204, b"Content-Length: 0"), []),
        (response(204, b"Transfer-Encoding: chunked"), []),
        (response(304, b"Content-Length: 5"), [b"content-length: 5"]),
        (response(304, b"Transfer-Encoding: chunked"), []),
    ],
)
@pytest.mark.parametrize(("drop", "kept"), [(NOTHING, FIELDS), (X_ONE, KEPT)], ids=["all", "kept"])
def test_a_response_is_framed_anew(head: ResponseHead, framing: list[bytes], drop: frozenset[bytes], kept: list[bytes]) -> None:
    start = [b"HTTP/1.1 " + head.status_line, *kept, *framing]
    for _ in range(2):  # the second time from memory
        assert lines_of(response_head(head, [], minor=1, close=False, drop=drop)) == start
    assert lines_of(response_head(head, [b"a: b"], minor=1, close=True, drop=drop)) == [*start, b"a: b", b"connection: close"]


@pytest.mark.parametrize("framing", [[], [b"Transfer-Encoding: chunked"]])
def test_a_body_that_is_here_as_a_whole_gets_its_length(framing: list[bytes]) -> None:
    built = response_head(response(200, *framing), [], minor=1, close=False, length=7)
    assert lines_of(built) == [b"HTTP/1.1 200 OK", *FIELDS, b"content-length: 7"]


def test_an_http_1_0_client_gets_no_chunked_body() -> None:
    start = [b"HTTP/1.1 200 OK", *FIELDS]
    chunked = response(200, b"Transfer-Encoding: chunked")
    assert lines_of(response_head(chunked, [], minor=0, close=True)) == [*start, b"connection: close"]
    counted = response(200, b"Content-Length: 5")
    assert lines_of(response_head(counted, [], minor=0, close=False)) == [*start, b"content-length: 5", b"connection: keep-alive"]


def test_an_informational_answer_has_no_framing() -> None:
    head = response(103, b"Content-Length: 5")
    assert lines_of(informational_head(head)) == [b"HTTP/1.1 103 OK", *FIELDS]
    assert CONTINUE == b"HTTP/1.1 100 Continue\r\n\r\n"


def local(status: int = 503, body: bytes = b"no", *, minor: int = 1, close: bool = False, is_head: bool = False) -> bytes:
    return local_response(status, [(b"x-a", b"1")], body, minor=minor, close=close, is_head=is_head)


def test_an_answer_of_the_proxys_own() -> None:
    start = b"HTTP/1.1 503 Service Unavailable\r\nx-a: 1\r\ncontent-length: 2\r\n"
    assert local() == start + b"\r\nno"
    assert local(close=True) == start + b"connection: close\r\n\r\nno"
    assert local(minor=0) == start + b"connection: keep-alive\r\n\r\nno"
    assert local(minor=0, close=True) == start + b"connection: close\r\n\r\nno"
    assert local(is_head=True) == start + b"\r\n"


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_has_no_length(status: int) -> None:
    assert local(status, b"ignored") == STATUS_LINES[status] + b"\r\nx-a: 1\r\n\r\n"


def test_a_status_that_is_not_registered_still_has_a_line() -> None:
    assert local(599, b"").startswith(b"HTTP/1.1 599 Unknown\r\n")
    assert STATUS_LINES[404] == b"HTTP/1.1 404 Not Found"
