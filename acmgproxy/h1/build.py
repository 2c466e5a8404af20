# SPDX-License-Identifier: Apache-2.0
"""Heads that go on: the request to the upstream, the response to the downstream, and answers of our own."""

from __future__ import annotations

from http import HTTPStatus

from acmgproxy.h1.fields import without
from acmgproxy.h1.request import CHUNKED, RequestHead
from acmgproxy.h1.response import UNTIL_CLOSE, ResponseHead

__all__ = ["CONTINUE", "STATUS_LINES", "informational_head", "local_response", "request_head", "response_head"]

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_NO_LENGTH = frozenset({b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"TRACE", b"CONNECT"})
"""Methods whose requests say nothing by default about a body (RFC 9110 section 8.6: others should send Content-Length: 0)."""

_NO_BODY = frozenset({204, 304})

STATUS_LINES = {status.value: b"HTTP/1.1 %d %b" % (status.value, status.phrase.encode()) for status in HTTPStatus}
"""Status line without CRLF of each registered status."""


def request_head(
    head: RequestHead, target: bytes, host: bytes, added: list[bytes], drop: frozenset[bytes] = frozenset()
) -> bytes:
    """Build the head of a client's request as it goes upstream, with the body framed anew.

    Args:
        head: the client's.
        target: request target to ask for.
        host: value of Host.
        added: field lines to append, without CRLF.
        drop: lower-case names of the client's fields to leave out.
    """
    lines = [head.method + b" " + target + b" HTTP/1.1", b"Host: " + host]
    lines += without(head.lines, drop) if drop else head.lines
    lines += added
    if head.body_length > 0:
        lines.append(b"content-length: %d" % head.body_length)
    elif head.body_length == CHUNKED:
        lines.append(b"transfer-encoding: chunked")
    elif head.method not in _NO_LENGTH:
        lines.append(b"content-length: 0")
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def response_head(head: ResponseHead, drop: frozenset[bytes], added: list[bytes], *, minor: int, close: bool) -> bytes:
    """Build the head of an upstream's final answer as it goes downstream.

    Args:
        head: the upstream's; a `content_length` is sent, else a body that is to follow is announced as chunked.
        drop: lower-case names of fields to leave out.
        added: field lines to append, without CRLF.
        minor: the client's minor HTTP version; 0 gets no chunked body (RFC 9112 section 6.1).
        close: announce that the connection ends with this answer.
    """
    lines = [b"HTTP/1.1 " + head.status_line]
    lines += without(head.lines, drop) if drop else head.lines
    if head.content_length is not None:
        if head.status != 204:
            lines.append(b"content-length: %d" % head.content_length)
    elif minor and (head.chunked or head.body_length == UNTIL_CLOSE) and head.status not in _NO_BODY:
        lines.append(b"transfer-encoding: chunked")
    lines += added
    if close:
        lines.append(b"connection: close")
    elif not minor:
        lines.append(b"connection: keep-alive")
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def informational_head(head: ResponseHead) -> bytes:
    """Build the head of a 1xx answer that is passed on (RFC 9110 section 15.2)."""
    return b"\r\n".join([b"HTTP/1.1 " + head.status_line, *head.lines, b"\r\n"])


def local_response(
    status: int, fields: list[tuple[bytes, bytes]], body: bytes, *, minor: int, close: bool, is_head: bool
) -> bytes:
    """Build a whole answer of the proxy's own. Names and values must be free of CR and LF; they come from checked configuration."""
    lines = [STATUS_LINES.get(status) or b"HTTP/1.1 %d Unknown" % status]
    lines += [name + b": " + value for name, value in fields]
    if status not in _NO_BODY:
        lines.append(b"content-length: %d" % len(body))
    if close:
        lines.append(b"connection: close")
    elif not minor:
        lines.append(b"connection: keep-alive")
    lines.append(b"\r\n")
    answer = b"\r\n".join(lines)
    return answer if is_head or status in _NO_BODY else answer + body
