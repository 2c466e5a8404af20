# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from acmgproxy.h1.errors import HeadError
from acmgproxy.h1.limits import Limits
from acmgproxy.h1.request import CHUNKED, RequestHead, _framing, parse_request_head


def parse(line: bytes, *fields: bytes, host: bytes | None = b"h", limits: Limits | None = None) -> RequestHead:
    """Parse a head of these lines."""
    hosts = [b"Host: " + host] if host is not None else []
    return parse_request_head(b"\r\n".join([line, *hosts, *fields, b"\r\n"]), limits or Limits())


def get(*fields: bytes, version: bytes = b"1.1") -> RequestHead:
    return parse(b"GET / HTTP/" + version, *fields)


def error_of(line: bytes, *fields: bytes, **options: Any) -> tuple[int, str]:
    with pytest.raises(HeadError) as caught:
        parse(line, *fields, **options)
    return caught.value.status, caught.value.reason


# -- request line


def test_a_head_is_taken_apart() -> None:
    head = parse(b"POST /a/b?c=d?e HTTP/1.1", b"Content-Length: 3", b"Accept: a", b"x-Two: 2", host=b"H:80")
    assert (head.method, head.target, head.path, head.query) == (b"POST", b"/a/b?c=d?e", b"/a/b", b"c=d?e")
    assert (head.authority, head.host, head.port, head.scheme) == (b"H:80", b"h", 80, b"http")
    assert (head.minor, head.keep_alive, head.body_length) == (1, True, 3)
    assert head.lines == [b"Accept: a", b"x-Two: 2"]
    assert repr(head) == "RequestHead(b'POST' b'/a/b?c=d?e' host=b'h' body=3)"


@pytest.mark.parametrize(
    "line", [b"GET /", b"GET  / HTTP/1.1", b"GET / HTTP/1.1 ", b" GET / HTTP/1.1", b"", b"GET\t/\tHTTP/1.1", b"GET / a b"]
)
def test_a_request_line_is_three_words(line: bytes) -> None:
    assert error_of(line)[0] == 400


@pytest.mark.parametrize(
    ("version", "status"),
    [
        (b"HTTP/2.0", 505), (b"HTTP/0.9", 505), (b"HTTP/3.1", 505), (b"HTTP/1.10", 400), (b"HTTP/1", 400), (b"http/1.1", 400),
        (b"HTTP/1.1\t", 400), (b"RTSP/1.0", 400), (b"HTTP/1.a", 400), (b"HTTP/01.1", 400), (b"", 400), (b"HTTP/+1.1", 400),
    ],
)  # fmt: skip
def test_other_versions_are_refused(version: bytes, status: int) -> None:
    assert error_of(b"GET / " + version)[0] == status


@pytest.mark.parametrize("minor", b"123456789")
def test_a_later_minor_version_is_processed_as_1_1(minor: int) -> None:
    head = parse(b"GET / HTTP/1." + bytes([minor]), b"Transfer-Encoding: chunked")
    assert (head.minor, head.body_length) == (1, CHUNKED)


@pytest.mark.parametrize(
    "method", [b"GET", b"PATCH", b"QUERY", b"FROBNICATE", b"get", b"GETX", b"M-SEARCH", b"ANNOUNCE", b"!#$%&'*+.^_`|~", b"M" * 64]
)
def test_any_token_is_a_method(method: bytes) -> None:
    head = parse(method + b" /a HTTP/1.1", b"Accept: a")
    assert (head.method, head.target, head.lines) == (method, b"/a", [b"Accept: a"])


@pytest.mark.parametrize("method", [b"PRI", b"G(T", b"G\x00T", b"G\xffT", b"", b"M" * 65, b"\nGET", b"GET:"])
def test_anything_else_is_not(method: bytes) -> None:
    assert error_of(method + b" / HTTP/1.1") == (400, "invalid method")


def test_connect_is_not_served() -> None:
    assert error_of(b"CONNECT h:80 HTTP/1.1")[0] == 405


def test_the_length_of_the_target_is_limited() -> None:
    limits = Limits(max_target_bytes=10)
    assert parse(b"GET /123456789 HTTP/1.1", limits=limits).path == b"/123456789"
    assert error_of(b"GET /1234567890 HTTP/1.1", limits=limits)[0] == 414


# -- target


@pytest.mark.parametrize(
    ("target", "passed_on", "authority"),
    [
        (b"http://A:81/b?c", b"/b?c", (b"A:81", b"a", 81)),
        (b"http://a", b"/", (b"a", b"a", 0)),
        (b"HTTP://a?b=/", b"/?b=/", (b"a", b"a", 0)),
        (b"https://a/", b"/", (b"a", b"a", 0)),
        (b"http://[::1]:1/", b"/", (b"[::1]:1", b"[::1]", 1)),
        (b"http://a//b", b"//b", (b"a", b"a", 0)),
    ],
)
def test_absolute_form_is_reduced_and_overrides_host(
    target: bytes, passed_on: bytes, authority: tuple[bytes, bytes, int]
) -> None:
    head = parse(b"GET " + target + b" HTTP/1.1")
    assert head.target == passed_on
    assert (head.path, head.query) == (passed_on.partition(b"?")[0], passed_on.partition(b"?")[2])
    assert (head.authority, head.host, head.port) == authority


def test_asterisk_form_is_for_options() -> None:
    assert parse(b"OPTIONS * HTTP/1.1").target == b"*"
    assert parse(b"OPTIONS http://a HTTP/1.1").target == b"*"
    assert parse(b"OPTIONS http://a? HTTP/1.1").target == b"/?"
    assert parse(b"OPTIONS http://a/ HTTP/1.1").target == b"/"
    assert error_of(b"GET * HTTP/1.1")[0] == 400
    assert error_of(b"OPTIONS ** HTTP/1.1")[0] == 400


@pytest.mark.parametrize(
    "target",
    [
        b"a", b"a/b", b"h:80", b"?a", b"http:/a", b"http:a", b"http:///a", b"http://", b"http://:80/", b"http://u@a/", b"ftp://a/",
        b"file:///a", b"://a", b"/a#b", b"http://a/#b", b"http://a#b", b"/\xc3\xa4", b"/\x7f", b"/\t", b"/a\x00b", b"http://a b/",
        b"http://a,b/", b"",
    ],
)  # fmt: skip
def test_other_targets_are_refused(target: bytes) -> None:
    assert error_of(b"GET " + target + b" HTTP/1.1")[0] == 400
    assert error_of(b"FROBNICATE " + target + b" HTTP/1.1")[0] == 400


# -- Host


def test_http_1_1_needs_exactly_one_host() -> None:
    assert error_of(b"GET / HTTP/1.1", host=None) == (400, "missing Host")
    assert error_of(b"GET http://a/ HTTP/1.1", host=None) == (400, "missing Host")
    assert error_of(b"GET / HTTP/1.1", b"Host: h") == (400, "more than one host field")
    assert error_of(b"GET http://a/ HTTP/1.1", b"Host: a")[0] == 400
    assert error_of(b"GET / HTTP/1.1", host=b"")[0] == 400
    assert error_of(b"GET http://a/ HTTP/1.1", host=b"not valid")[0] == 400


def test_http_1_0_may_come_without_host() -> None:
    head = parse(b"GET / HTTP/1.0", host=None)
    assert (head.authority, head.host, head.port) == (b"", b"", 0)
    assert parse(b"GET http://a/ HTTP/1.0", host=None).host == b"a"
    assert parse(b"GET / HTTP/1.0").host == b"h"


# -- framing


@pytest.mark.parametrize(
    ("fields", "length"),
    [
        ([], 0),
        ([b"Content-Length: 0"], 0),
        ([b"Content-Length:42 \t"], 42),
        ([b"content-length: 999999999999999999"], 999999999999999999),
        ([b"Transfer-Encoding: chunked"], CHUNKED),
        ([b"transfer-encoding:\tChunked "], CHUNKED),
    ],
)
def test_the_framing_is_decided(fields: list[bytes], length: int) -> None:
    head = parse(b"POST / HTTP/1.1", *fields, b"X-A: 1")
    assert head.body_length == length
    assert head.lines == [b"X-A: 1"]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([b"Content-Length: 5", b"Transfer-Encoding: chunked"], 400),
        ([b"Transfer-Encoding: chunked", b"Content-Length: 5"], 400),
        ([b"Content-Length: 5", b"Content-Length: 5"], 400),
        ([b"Content-Length: 5, 5"], 400),
        ([b"Content-Length: +5"], 400),
        ([b"Content-Length: -5"], 400),
        ([b"Content-Length: 0x5"], 400),
        ([b"Content-Length: 05"], 400),
        ([b"Content-Length: 5 5"], 400),
        ([b"Content-Length: 1000000000000000000"], 400),
        ([b"Content-Length:"], 400),
        ([b"Transfer-Encoding: gzip"], 400),
        ([b"Transfer-Encoding:"], 400),
        ([b"Transfer-Encoding: chunked, gzip"], 400),
        ([b"Transfer-Encoding: chunked, chunked"], 400),
        ([b"Transfer-Encoding: gzip, chunked"], 501),
        ([b"Transfer-Encoding: identity, chunked"], 501),
        ([b"Transfer-Encoding: xchunked"], 400),
        ([b"Transfer-Encoding: chunked;a=b"], 400),
        ([b'Transfer-Encoding: "chunked"'], 400),
        ([b"Transfer-Encoding: \x0bchunked"], 400),
        ([b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"], 400),
        ([b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"], 400),
    ],
)
def test_doubtful_framing_is_refused(fields: list[bytes], status: int) -> None:
    assert error_of(b"POST / HTTP/1.1", *fields)[0] == status


def test_the_framing_does_not_rely_on_llhttp_alone() -> None:
    """Before the judge sees both together, llhttp refuses them."""
    with pytest.raises(HeadError, match="Content-Length with Transfer-Encoding"):
        _framing(1, b"5", b"chunked")


def test_http_1_0_knows_no_transfer_coding() -> None:
    assert error_of(b"POST / HTTP/1.0", b"Transfer-Encoding: chunked") == (400, "Transfer-Encoding in HTTP/1.0")
    assert parse(b"POST / HTTP/1.0", b"Content-Length: 1").body_length == 1


# -- fields


@pytest.mark.parametrize(
    "field",
    [b"X : a", b" X: a", b"X\x00: a", b"X(: a", b": a", b"X", b"X: a\x00", b"X: a\x01b", b"X: a\x7f", b"X: a\nY: b",
     b"X: a\rY: b",
     b"X: a\r\n b", b"X: a\r\n\tb", b"\xc3\xa4: a", b"Host : h"],
)  # fmt: skip
def test_a_malformed_field_line_is_refused(field: bytes) -> None:
    assert error_of(b"GET / HTTP/1.1", field)[0] == 400


def test_the_number_of_fields_is_limited() -> None:
    limits = Limits(max_fields=3)
    assert len(parse(b"GET / HTTP/1.1", b"A: 1", b"TE: 2", limits=limits).lines) == 1
    assert error_of(b"GET / HTTP/1.1", b"A: 1", b"TE: 2", b"B: 3", limits=limits) == (431, "too many field lines")


def test_fields_pass_as_written_and_those_of_the_hop_do_not() -> None:
    head = get(
        b"USER-agent:  a  b\t", b"TE: trailers", b"Keep-Alive: 5", b"Trailer: X", b"Upgrade: h2c", b"HTTP2-Settings: A",
        b"Proxy-Connection: close", b"Proxy-Authorization: x", b"Proxy-Authenticate: x", b"X-Forwarded-Proto: https",
        b"X-Envoy-Internal: true", b"Empty:", b"Obs: \xff", b"Content_Length: 5", b"X-Forwarded_For: 1.2.3.4", b"x_other: 1",
    )  # fmt: skip
    assert head.lines == [b"USER-agent: a  b\t", b"Empty: ", b"Obs: \xff", b"x_other: 1"]
    assert head.keep_alive


def test_header_finds_every_field() -> None:
    head = get(b"Accept: a", b"ACCEPT: b ", b"X-Request-Id: 7")
    assert head.header(b"accept") == b"a,b"
    assert head.header(b"host") == b"h"
    assert head.header(b"x-request-id") == b"7"
    assert head.header(b"missing") is None


def test_what_the_gateway_continues_is_kept() -> None:
    head = get(b"X-Request-Id: 7", b"X-Forwarded-For: 1.1.1.1, 2.2.2.2", b"x-forwarded-for: 3.3.3.3")
    assert (head.request_id, head.forwarded_for) == (b"7", b"1.1.1.1, 2.2.2.2,3.3.3.3")
    assert (get().request_id, get().forwarded_for) == (b"", b"")


def test_only_100_continue_can_be_expected() -> None:
    assert get(b"Expect: 100-Continue ").expects_continue
    assert not get().expects_continue
    assert not get(b"Expect: 100-continue", version=b"1.0").expects_continue
    for fields in ([b"Expect: 200-ok"], [b"Expect:"], [b"Expect: 100-continue", b"Expect: x"]):
        assert error_of(b"POST / HTTP/1.1", *fields)[0] == 417


# -- Connection


@pytest.mark.parametrize(
    ("version", "fields", "keep_alive"),
    [
        (b"1.1", [], True),
        (b"1.1", [b"Connection: close"], False),
        (b"1.1", [b"Connection: keep-alive"], True),
        (b"1.1", [b"Connection: keep-alive, CLOSE"], False),
        (b"1.1", [b"Connection: keep-alive", b"Connection: x, close"], False),
        (b"1.1", [b"Connection: x"], True),
        (b"1.0", [], False),
        (b"1.0", [b"Connection: keep-alive"], True),
        (b"1.0", [b"Connection: Keep-Alive"], True),
        (b"1.0", [b"Connection: x, keep-alive"], True),
        (b"1.0", [b"Connection: close, keep-alive"], False),
        (b"1.0", [b"Connection: x"], False),
    ],
)
def test_the_client_says_whether_the_connection_lasts(version: bytes, fields: list[bytes], keep_alive: bool) -> None:
    assert get(*fields, version=version).keep_alive is keep_alive


def test_fields_that_connection_lists_go_no_further() -> None:
    head = get(b"Connection: close, X-One,x-two", b"x-one: 1", b"X-TWO: 2", b"X-Three: 3", b"X-One: 4")
    assert head.lines == [b"X-Three: 3"]


@pytest.mark.parametrize("name", [b"Host", b"content-length", b"Authorization", b"X-Forwarded-For", b"Cookie"])
def test_connection_may_not_list_what_the_next_hop_relies_on(name: bytes) -> None:
    assert error_of(b"GET / HTTP/1.1", b"Connection: close, " + name)[0] == 400


def test_upgrade_counts_when_connection_lists_it() -> None:
    assert get(b"Connection: Upgrade", b"Upgrade: websocket").upgrade == b"websocket"
    assert get(b"Connection: keep-alive, upgrade", b"Upgrade: a", b"Upgrade: b").upgrade == b"a,b"
    assert get(b"Upgrade: websocket").upgrade == b""
    assert get(b"Connection: Upgrade").upgrade == b""
    assert get(b"Connection: keep-alive, Upgrade", b"Upgrade: websocket", version=b"1.0").upgrade == b""
    assert parse(b"POST / HTTP/1.1", b"Connection: upgrade", b"Upgrade: a", b"Content-Length: 3").body_length == 3
