# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from acmgproxy.h1 import response
from acmgproxy.h1.errors import HeadError
from acmgproxy.h1.limits import Limits
from acmgproxy.h1.request import CHUNKED
from acmgproxy.h1.response import UNTIL_CLOSE, ResponseHead, parse_response_head


def parse(line: bytes, *fields: bytes, method: bytes = b"GET", limits: Limits | None = None) -> ResponseHead:
    """Parse a head of these lines."""
    return parse_response_head(b"\r\n".join([line, *fields, b"\r\n"]), method, limits or Limits())


def ok(*fields: bytes, minor: int = 1, status: int = 200, method: bytes = b"GET") -> ResponseHead:
    return parse(b"HTTP/1.%d %d OK" % (minor, status), *fields, method=method)


def reason_of(line: bytes, *fields: bytes) -> str:
    with pytest.raises(HeadError) as caught:
        parse(line, *fields)
    assert caught.value.status == 502
    return caught.value.reason


def test_a_head_is_taken_apart() -> None:
    head = parse(b"HTTP/1.1 404 Not  Found\xff", b"Content-Length: 3", b"Server: x", b"X-Two:\t2 ")
    assert (head.status, head.status_line, head.body_length) == (404, b"404 Not  Found\xff", 3)
    assert head.lines == [b"Server: x", b"X-Two: 2 "]
    assert repr(head) == "ResponseHead(404, body=3, keep_alive=True)"


@pytest.mark.parametrize("line", [b"HTTP/1.1 200 ", b"HTTP/1.1 200"])
def test_the_space_before_an_empty_reason_is_there(line: bytes) -> None:
    assert parse(line).status_line == b"200 "


def test_status_lines_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    remembered: dict[bytes, object] = {}
    monkeypatch.setattr(response, "_status_lines", remembered)
    monkeypatch.setattr(response, "_MOST_STATUS_LINES", 3)
    for status in range(200, 210):
        assert parse(b"HTTP/1.1 %d" % status).status == status
        assert 1 <= len(remembered) <= 3
    assert parse(b"HTTP/1.1 200 " + b"a" * 51).status == 200
    assert parse(b"HTTP/1.1 200 " + b"b" * 52).status == 200
    assert b"HTTP/1.1 200 " + b"a" * 51 in remembered
    assert b"HTTP/1.1 200 " + b"b" * 52 not in remembered


@pytest.mark.parametrize(
    "line",
    [
        b"", b"HTTP/1.1", b"HTTP/1.1 ", b"HTTP/1.1 20", b"HTTP/1.1 2000", b"HTTP/1.1 099 x", b"HTTP/1.1 20a", b"HTTP/1.1  200 OK",
        b"HTTP/1.1\t200 OK", b" HTTP/1.1 200 OK", b"http/1.1 200 OK", b"HTTP/2.0 200 OK", b"HTTP/1.2 200 OK", b"HTTP/0.9 200 OK",
        b"ICE/1.0 200 OK", b"HTTP/1.1 200OK", b"HTTP/1.1 200\tOK", b"HTTP/1.1 200 O\x00K", b"HTTP/1.1 200 O\x7f",
        b"GET / HTTP/1.1",
        b"HTTP/1.1 200 OK\r", b"HTTP/1.1 200 OK\n", b"HTTP/1.1 +20 OK", b"HTTP/1.1 -20 OK",
    ],
)  # fmt: skip
def test_a_malformed_status_line_is_refused(line: bytes) -> None:
    assert reason_of(line) == "invalid status line"


@pytest.mark.parametrize("field", [b"X : a", b"X", b"X: a\x00", b"X: a\r\n b", b"X: a\nb: c", b"X: a\rb", b": a"])
def test_a_malformed_field_line_is_refused(field: bytes) -> None:
    assert reason_of(b"HTTP/1.1 200 OK", field)


def test_the_number_of_fields_is_limited() -> None:
    limits = Limits(max_fields=2)
    assert parse(b"HTTP/1.1 200 OK", b"A: 1", b"Content-Length: 0", limits=limits).body_length == 0
    with pytest.raises(HeadError, match="too many"):
        parse(b"HTTP/1.1 200 OK", b"A: 1", b"Content-Length: 0", b"B: 2", limits=limits)


@pytest.mark.parametrize(
    ("head", "length"),
    [
        (ok(b"Content-Length: 5"), 5),
        (ok(b"Content-Length: 0"), 0),
        (ok(b"Content-Length: 007 "), 7),
        (ok(b"Transfer-Encoding: CHUNKED "), CHUNKED),
        (ok(), UNTIL_CLOSE),
        (ok(minor=0), UNTIL_CLOSE),
        (ok(b"Content-Length: 5", minor=0), 5),
        (ok(b"Content-Length: 5", method=b"HEAD"), 0),
        (ok(b"Transfer-Encoding: chunked", method=b"HEAD"), 0),
        (ok(method=b"HEAD"), 0),
        (ok(b"Content-Length: 5", status=204), 0),
        (ok(b"Content-Length: 5", status=304), 0),
        (ok(status=304), 0),
        (ok(status=100), 0),
        (ok(b"Content-Length: 5", status=103), 0),
        (ok(b"Connection: upgrade", b"Upgrade: x", status=101), 0),
        (ok(b"Content-Length: 5", status=205), 5),
        (ok(b"Content-Length: 5", status=999), 5),
    ],
)
def test_the_framing_is_decided(head: ResponseHead, length: int) -> None:
    assert head.body_length == length


def test_a_body_until_close_ends_the_connection() -> None:
    assert not ok().keep_alive
    assert not ok(b"Connection: keep-alive").keep_alive
    assert ok(method=b"HEAD").keep_alive


def test_a_length_without_a_body_is_known() -> None:
    assert ok(b"Content-Length: 5", method=b"HEAD").content_length == 5
    assert ok(b"Content-Length: 5", status=304).content_length == 5
    assert ok(method=b"HEAD").content_length is None
    assert ok(b"Transfer-Encoding: chunked", method=b"HEAD").chunked
    assert not ok().chunked


@pytest.mark.parametrize(
    "fields",
    [
        [b"Content-Length: 5", b"Content-Length: 5"],
        [b"Content-Length: 5, 5"],
        [b"Content-Length: -1"],
        [b"Content-Length: 1000000000000000000"],
        [b"Content-Length:"],
        [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: chunked", b"Content-Length: 5"],
        [b"Transfer-Encoding: gzip"],
        [b"Transfer-Encoding: gzip, chunked"],
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
    ],
)
def test_doubtful_framing_is_refused(fields: list[bytes]) -> None:
    assert reason_of(b"HTTP/1.1 200 OK", *fields)


def test_http_1_0_knows_no_transfer_coding() -> None:
    assert reason_of(b"HTTP/1.0 200 OK", b"Transfer-Encoding: chunked")


@pytest.mark.parametrize(
    ("minor", "fields", "keep_alive"),
    [
        (1, [], True),
        (1, [b"Connection: close"], False),
        (1, [b"Connection: keep-alive"], True),
        (1, [b"Connection: x, Close"], False),
        (1, [b"Connection: x"], True),
        (0, [], False),
        (0, [b"Connection: keep-alive"], True),
        (0, [b"Connection: Keep-Alive"], True),
        (0, [b"Connection: x"], False),
        (0, [b"Connection: keep-alive", b"Connection: close"], False),
    ],
)
def test_the_upstream_says_whether_the_connection_lasts(minor: int, fields: list[bytes], keep_alive: bool) -> None:
    assert ok(b"Content-Length: 0", *fields, minor=minor).keep_alive is keep_alive


def test_fields_of_the_hop_go_no_further() -> None:
    head = ok(
        b"Connection: X-Hop, Content-Type", b"x-hop: 1", b"Content-Type: a", b"Keep-Alive: 5", b"Trailer: a", b"TE: x",
        b"Upgrade: h2",
        b"Proxy-Authenticate: x", b"X-Envoy-Upstream-Service-Time: 1", b"x_under_score: 1", b"Set-Cookie: a", b"set-cookie: b",
    )  # fmt: skip
    assert head.lines == [b"Content-Type: a", b"x_under_score: 1", b"Set-Cookie: a", b"set-cookie: b"]


def test_upgrade_counts_when_connection_lists_it() -> None:
    assert ok(b"Connection: Upgrade", b"Upgrade: a", b"Upgrade: b", status=101).upgrade == b"a,b"
    assert ok(b"Upgrade: a").upgrade == b""


def test_the_date_is_put_aside() -> None:
    head = ok(b"Date: Mon, 23 Nov 2026 12:00:00 GMT", b"Server: x")
    assert head.date == b"Mon, 23 Nov 2026 12:00:00 GMT"
    assert head.lines == [b"Server: x"]
    assert ok().date == b""


def test_header_finds_every_field() -> None:
    head = ok(b"Server: a", b"server: b", b"Content-Length: 0")
    assert head.header(b"server") == b"a,b"
    assert head.header(b"content-length") == b"0"
    assert head.header(b"missing") is None
