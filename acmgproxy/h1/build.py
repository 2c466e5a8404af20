# SPDX-License-Identifier: Apache-2.0
"""Heads that go on: the request to the upstream, the response to the downstream, and answers of our own."""

from __future__ import annotations

from http import HTTPStatus

from acmgproxy.h1.fields import without
from acmgproxy.h1.request import CHUNKED, RequestHead
from acmgproxy.h1.response import UNTIL_CLOSE, ResponseHead

__all__ = ["CONTINUE", "STATUS_LINES", "informational_head", "local_response", "request_head", "response_head"]

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_NO_LENGTH = frozenset({b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"TRACE"})
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
    if drop:
        lines += _request_lines(head, drop)
    else:
        if head.block is None:
            head.block = b"\r\n".join(_request_lines(head, drop))
        if head.block:
            lines.append(head.block)
    lines += added
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def _request_lines(head: RequestHead, drop: frozenset[bytes]) -> list[bytes]:
    """Return the client's fields that go on, and the one that frames the body anew."""
    lines = without(head.lines, drop) if drop else head.lines[:]
    if head.body_length > 0:
        lines.append(b"content-length: %d" % head.body_length)
    elif head.body_length == CHUNKED:
        lines.append(b"transfer-encoding: chunked")
    elif head.method not in _NO_LENGTH:
        lines.append(b"content-length: 0")
    return lines


def response_head(
    head: ResponseHead,
    added: list[bytes],
    *,
    minor: int,
    close: bool,
    length: int | None = None,
    drop: frozenset[bytes] = frozenset(),
) -> bytes:
    """Build the head of an upstream's final answer as it goes downstream.

    Args:
        head: the upstream's. Without a Content-Length, a body that is to follow is announced as chunked.
        added: field lines to append, without CRLF.
        minor: the client's minor HTTP version; 0 gets no chunked body (RFC 9112 section 6.1).
        close: announce that the connection ends with this answer.
        length: bytes of a body whose length the upstream has not given but which is here as a whole.
        drop: lower-case names of fields to leave out.
    """
    if drop:
        lines = _response_lines(head, drop)
    else:
        if head.block is None:
            head.block = b"\r\n".join(_response_lines(head, drop))
        lines = [head.block]
    if length is not None:
        lines.append(b"content-length: %d" % length)
    elif head.content_length is None and minor and _is_unmeasured(head):
        lines.append(b"transfer-encoding: chunked")
    lines += added
    if close:
        lines.append(b"connection: close")
    elif not minor:
        lines.append(b"connection: keep-alive")
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def _is_unmeasured(head: ResponseHead) -> bool:
    """Whether the answer has a body (or would have one, after HEAD) whose length nobody has given."""
    return (head.chunked or head.body_length == UNTIL_CLOSE) and head.status not in _NO_BODY


def _response_lines(head: ResponseHead, drop: frozenset[bytes]) -> list[bytes]:
    """Return the upstream's status line, its fields that go on, and its Content-Length."""
    lines = [b"HTTP/1.1 " + head.status_line]
    lines += without(head.lines, drop) if drop else head.lines
    if head.content_length is not None and head.status != 204:
        lines.append(b"content-length: %d" % head.content_length)
    return lines


def informational_head(head: ResponseHead) -> bytes:
    """Build the head of a 1xx answer that is passed on (RFC 9110 section 15.2)."""
    return b"\r\n".join([b"HTTP/1.1 " + head.status_line, *head.lines, b"\r\n"])


def local_response(
    status: int, fields: list[tuple[bytes, bytes]], body: bytes, *, minor: int, close: bool, is_head: bool
) -> bytes:
    """Build a whole answer of the proxy's own. Names and values come from checked configuration: no CR, no LF."""
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
