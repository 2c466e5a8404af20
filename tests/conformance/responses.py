# SPDX-License-Identifier: Apache-2.0
"""Clauses of RFC 9110 and RFC 9112 that bind an intermediary in framing the answers it passes on.

Date is put aside by the reader and written again by whoever forwards the answer, so no row has one.
"""

from __future__ import annotations

from tests.conformance.rows import Row, no, ok, waits

__all__ = ["RESPONSES"]

_L = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n"
_T = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
_0 = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"

RESPONSES: list[Row] = [
    # -- status line
    ok("plain", "9112 4", _L + b"abc"),
    ok("reason-empty", "9112 4", b"HTTP/1.1 200 \r\ncontent-length: 0\r\n\r\n"),
    ok("reason-missing", "9112 4", b"HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", b"HTTP/1.1 200 \r\ncontent-length: 0\r\n\r\n"),
    ok("reason-obs-text", "9112 4", b"HTTP/1.1 404 D\xe9sol\xe9\tx\r\ncontent-length: 0\r\n\r\n"),
    ok("status-unknown", "9110 15", b"HTTP/1.1 299 Odd\r\ncontent-length: 0\r\n\r\n"),
    ok("status-beyond-599", "9110 15 + passed on", b"HTTP/1.1 799 Odd\r\ncontent-length: 0\r\n\r\n"),
    ok("version-1-0", "9110 2.5", b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", _L + b"abc"),
    no("version-2-0", "9112 2.3", b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
    no("version-1-2", "9110 2.5 + nobody sends it", b"HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n"),
    no("version-lower-case", "9112 2.3", b"http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    no("other-protocol", "9112 2.3", b"ICY 200 OK\r\nContent-Length: 0\r\n\r\n"),
    no("no-status-line", "9112 4", b"<html>hello</html>\r\n\r\n"),
    no("blank-line-before", "9112 2.2 + said of requests only", b"\r\n" + _0),
    no("status-two-digits", "9112 4", b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n"),
    no("status-four-digits", "9112 4", b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n"),
    no("status-below-100", "9110 15", b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n"),
    no("status-not-a-number", "9112 4", b"HTTP/1.1 2xx OK\r\nContent-Length: 0\r\n\r\n"),
    no("status-missing", "9112 4", b"HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n"),
    no("two-spaces-before-status", "9112 4", b"HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n"),
    no("no-space-after-status", "9112 4", b"HTTP/1.1 200OK\r\nContent-Length: 0\r\n\r\n"),
    no("reason-control", "9112 4", b"HTTP/1.1 200 O\x01K\r\nContent-Length: 0\r\n\r\n"),
    no("bare-lf-after-status-line", "9112 2.2 + may be recognized, is not", b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n"),
    no("bare-cr-in-status-line", "9112 2.2", b"HTTP/1.1 200 OK\rA: b\r\n\r\n"),
    # -- field lines
    ok("field-as-written", "9110 5.1", b"HTTP/1.1 200 OK\r\nX-oDD: a\xe9\tb\r\ncontent-length: 0\r\n\r\n"),
    ok("set-cookie-not-joined", "9110 5.3", b"HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nSet-Cookie: b\r\ncontent-length: 0\r\n\r\n"),
    no("space-before-colon", "9112 5.1 + may be removed, is refused", b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n"),
    no("obs-fold", "9112 5.2 + may be replaced, is refused", b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n"),
    no("bare-lf-after-field", "9112 2.2", b"HTTP/1.1 200 OK\r\nA: b\nContent-Length: 0\r\n\r\n"),
    no("bare-cr-in-value", "9112 2.2", b"HTTP/1.1 200 OK\r\nA: b\rSet-Cookie: c\r\nContent-Length: 0\r\n\r\n"),
    no("value-nul", "9110 5.5", b"HTTP/1.1 200 OK\r\nA: b\x00\r\nContent-Length: 0\r\n\r\n"),
    no("no-colon", "9112 5", b"HTTP/1.1 200 OK\r\nA\r\nContent-Length: 0\r\n\r\n"),
    no("empty-name", "9110 5.1", b"HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 0\r\n\r\n"),
    no("too-many-fields", "9110 5.4", b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 101 + b"\r\n"),
    no("head-too-large", "9110 5.4", b"HTTP/1.1 200 OK\r\n" + b"A: %b\r\n" % (b"b" * 4000) * 16 + b"\r\n"),
    # -- fields of the hop
    ok("hop-by-hop", "9110 7.6.1", b"HTTP/1.1 200 OK\r\nConnection: close\r\nKeep-Alive: a\r\nContent-Length: 0\r\n\r\n", _0),
    ok("connection-listed", "9110 7.6.1", b"HTTP/1.1 200 OK\r\nX-A: 1\r\nConnection: x-a\r\nContent-Length: 0\r\n\r\n", _0),
    ok(
        "connection-lists-length",
        "9110 7.6.1",
        b"HTTP/1.1 200 OK\r\nConnection: content-length\r\nContent-Length: 3\r\n\r\nabc",
        _L + b"abc",
    ),
    ok(
        "proxy-authenticate",
        "9110 11.7.1 + of this hop",
        b"HTTP/1.1 200 OK\r\nProxy-Authenticate: a\r\nContent-Length: 0\r\n\r\n",
        _0,
    ),
    ok("upgrade-offer", "9110 7.8", b"HTTP/1.1 200 OK\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n", _0),
    ok(
        "trailer-announced",
        "9110 6.6.2 + trailers are dropped",
        _T.replace(b"OK\r\n", b"OK\r\nTrailer: X\r\n") + b"0\r\nX: 1\r\n\r\n",
        _T + b"0\r\n\r\n",
    ),
    # -- framing
    ok("head-with-length", "9112 6.3 (1)", _L, method=b"HEAD"),
    ok("head-with-chunked", "9112 6.3 (1)", _T, method=b"HEAD"),
    ok("head-without-framing", "9112 6.3 (1)", b"HTTP/1.1 200 OK\r\n\r\n", method=b"HEAD"),
    ok("no-content", "9112 6.3 (1)", b"HTTP/1.1 204 No Content\r\n\r\n"),
    ok(
        "no-content-with-length",
        "9110 8.6",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
    ),
    ok(
        "no-content-with-chunked",
        "9112 6.1",
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
    ),
    ok("not-modified", "9112 6.3 (1)", b"HTTP/1.1 304 Not Modified\r\n\r\n"),
    ok("not-modified-with-length", "9110 8.6", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 3\r\n\r\n"),
    ok(
        "not-modified-with-chunked",
        "9112 6.1",
        b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\n\r\n",
    ),
    ok("length", "9112 6.3 (6)", _L + b"abc"),
    ok("length-zero", "9112 6.3 (6)", _0),
    ok("chunked", "9112 6.3 (4)", _T + b"3\r\nabc\r\n0\r\n\r\n"),
    ok("until-close", "9112 6.3 (8)", b"HTTP/1.1 200 OK\r\n\r\nabc", _T + b"3\r\nabc\r\n0\r\n\r\n"),
    ok("until-close-1-0", "9112 6.3 (8)", b"HTTP/1.0 200 OK\r\n\r\nabc", _T + b"3\r\nabc\r\n0\r\n\r\n"),
    ok("until-close-empty", "9112 6.3 (8)", b"HTTP/1.1 200 OK\r\n\r\n", _T + b"0\r\n\r\n"),
    ok(
        "until-close-to-1-0",
        "9112 6.1",
        b"HTTP/1.1 200 OK\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc",
        minor=0,
    ),
    ok(
        "chunked-to-1-0",
        "9112 6.1",
        _T + b"3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc",
        minor=0,
    ),
    ok("length-to-1-0", "9112 9.3", _L + b"abc", _L[:-2] + b"connection: keep-alive\r\n\r\nabc", minor=0),
    ok("length-leading-zero", "9110 8.6", b"HTTP/1.1 200 OK\r\nContent-Length: 03\r\n\r\nabc", _L + b"abc"),
    ok("length-surrounded-by-space", "9112 5.1", b"HTTP/1.1 200 OK\r\nContent-Length: \t3 \r\n\r\nabc", _L + b"abc"),
    ok("coding-name-case", "9112 7", _T.replace(b"chunked", b"Chunked") + b"0\r\n\r\n", _T + b"0\r\n\r\n"),
    waits("length-unfinished", "9112 8", _L + b"ab"),
    waits("chunked-unfinished", "9112 8", _T + b"3\r\nab", _T + b"2\r\nab\r\n"),
    waits("chunked-without-last", "9112 8", _T + b"3\r\nabc\r\n"),
    no("length-and-chunked", "9112 6.1", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    no("chunked-and-length", "9112 6.1", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"),
    no("length-contradicts", "9112 6.3 (5)", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
    no(
        "length-twice",
        "9112 6.3 (5) + may be merged, is not",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    ),
    no("length-list", "9110 8.6 + may be merged, is not", b"HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\nabc"),
    no("length-negative", "9110 8.6", b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabc"),
    no("length-signed", "9110 8.6", b"HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc"),
    no("length-overflow", "9110 8.6", b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551619\r\n\r\nabc"),
    no("length-empty", "9110 8.6", b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nabc"),
    no("length-invalid-to-head", "9112 6.3 (5)", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", method=b"HEAD"),
    no("chunked-in-1-0", "9112 6.1", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    no("coding-unknown", "9112 6.3 (4) + may end at close, is refused", _T.replace(b"chunked", b"gzip") + b"abc"),
    no("coding-before-chunked", "9112 7 + no TE was sent", _T.replace(b"chunked", b"gzip, chunked") + b"0\r\n\r\n"),
    no("chunked-twice", "9112 6.1", _T.replace(b"chunked", b"chunked, chunked") + b"0\r\n\r\n"),
    no("chunk-size-not-hexadecimal", "9112 7.1", _T + b"3g\r\nabc\r\n0\r\n\r\n"),
    no("chunk-size-empty", "9112 7.1", _T + b"\r\nabc\r\n0\r\n\r\n"),
    no("chunk-size-overflow", "9112 7.1", _T + b"10000000000000003\r\nabc\r\n0\r\n\r\n"),
    no("chunk-size-bare-lf", "9112 2.2", _T + b"3\nabc\r\n0\r\n\r\n"),
    no("chunk-data-too-long", "9112 7.1", _T + b"3\r\nabcd\r\n0\r\n\r\n"),
    no("trailer-malformed", "9112 7.1.2", _T + b"0\r\nX Sum: 1\r\n\r\n"),
]
