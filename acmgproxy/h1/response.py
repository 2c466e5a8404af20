# SPDX-License-Identifier: Apache-2.0
"""Response heads: parsed, judged, framed (RFC 9112 section 6.3).

The counterpart of `request`: whatever is doubtful about an upstream's answer is a `HeadError`, which the proxy turns into 502 and
the end of that connection.
"""

from __future__ import annotations

import re  # noqa: TID251 - our own fixed, linear patterns; users' expressions only ever run in RE2
from typing import TYPE_CHECKING

import httptools
import msgspec

from acmgproxy.h1.errors import HeadError
from acmgproxy.h1.fields import (
    HOP_BY_HOP,
    NEVER_LISTED,
    NameTable,
    connection_tokens,
    field_map,
    field_reader,
    single_values,
    without,
)
from acmgproxy.h1.request import CHUNKED

if TYPE_CHECKING:
    from acmgproxy.h1.limits import Limits

__all__ = ["UNTIL_CLOSE", "ResponseHead", "parse_response_head"]

UNTIL_CLOSE = -2
"""Body length of a body that ends when the upstream closes, in place of a count of bytes."""

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: [\t \x21-\x7e\x80-\xff]*)?")
_MOST_STATUS_LINES = 256
_LONGEST_STATUS_LINE = 64
_status_lines: dict[bytes, tuple[int, int, bytes]] = {}
_LENGTH = re.compile(rb"[0-9]{1,18}")
_TABLE = NameTable(
    HOP_BY_HOP
    | {b"content-length", b"date", b"x-envoy-upstream-service-time", b"x-envoy-decorator-operation", b"x-envoy-attempt-count"}
)

_read_fields = field_reader(httptools.HttpResponseParser, _TABLE, 502)


class ResponseHead(msgspec.Struct, gc=False):
    """A judged response head. Not to be changed: an upstream that repeats itself is served from the same object.

    Attributes:
        status: status code.
        status_line: as the upstream wrote it, from the status code on, with the space that ends the code.
        lines: field lines that may be forwarded, as written, without CRLF.
        special: (lower-case name, value) of the fields the proxy acts on.
        block: status line and lines in one piece with the Content-Length that goes on, filled in when it is first sent on.
        body_length: bytes of body that follow, 0 for none, CHUNKED or UNTIL_CLOSE.
        content_length: the Content-Length given, which a HEAD or 304 answer has without a body; None when missing.
        chunked: Transfer-Encoding was given, which a HEAD answer has without a body.
        keep_alive: the connection may carry another request.
        upgrade: value of Upgrade if Connection lists it, else b"".
        date: value of Date, b"" when missing (whoever forwards the answer must then add one, RFC 9110 section 6.6.1).
        fields: all fields by name, filled in when `header` is first asked.
    """

    status: int
    status_line: bytes
    lines: list[bytes]
    special: list[tuple[bytes, bytes]]
    keep_alive: bool
    body_length: int = 0
    content_length: int | None = None
    chunked: bool = False
    upgrade: bytes = b""
    block: bytes | None = None
    date: bytes = b""
    fields: dict[bytes, bytes] | None = None

    def __repr__(self) -> str:
        return f"ResponseHead({self.status}, body={self.body_length}, keep_alive={self.keep_alive})"

    def header(self, name: bytes) -> bytes | None:
        """Return the value of a field by its lower-case name, repeated lines joined by ",", None when it is missing."""
        if self.fields is None:
            self.fields = field_map(self.lines, self.special)
        return self.fields.get(name)


def parse_response_head(raw: bytes, method: bytes, limits: Limits) -> ResponseHead:
    """Judge a response head.

    Args:
        raw: status line, field lines and the empty line, nothing before or after.
        method: method of the request it answers.
        limits: bounds; raw is already known to be within max_head_bytes.

    Raises:
        HeadError: the answer must not be relayed and the connection not be used again.
    """
    line_end = raw.find(b"\r\n")
    line = raw[:line_end]
    status, minor, status_line = _status_lines.get(line) or _read_status_line(line)
    lines, special = _read_fields(raw)
    if len(lines) + len(special) > limits.max_fields:
        raise HeadError(502, "too many field lines")
    head = ResponseHead(status, status_line, lines, special, minor == 1)
    _judge_fields(head, method, minor)
    return head


def _read_status_line(line: bytes) -> tuple[int, int, bytes]:
    """Return status, minor version and what goes on, and remember them: an upstream uses few different status lines."""
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise HeadError(502, "invalid status line")
    # the space before the reason phrase is sent even when there is none (RFC 9112 section 4)
    found = (int(match[2]), int(match[1]), line[9:] if len(line) > 12 else line[9:] + b" ")
    if len(line) <= _LONGEST_STATUS_LINE:
        if len(_status_lines) >= _MOST_STATUS_LINES:
            _status_lines.clear()
        _status_lines[line] = found
    return found


def _judge_fields(head: ResponseHead, method: bytes, minor: int) -> None:
    """Act on the fields of interest, and on what they mean together."""
    fields = single_values(head.special, 502)
    if b"connection" in fields:
        _judge_connection(head, fields[b"connection"], fields.get(b"upgrade", b""), minor)
    if b"content-length" in fields:
        length = fields[b"content-length"]
        if not _LENGTH.fullmatch(length):
            raise HeadError(502, "invalid Content-Length")
        head.content_length = int(length)
    if b"date" in fields:
        head.date = fields[b"date"]
    if b"transfer-encoding" in fields:
        if head.content_length is not None or minor == 0 or fields[b"transfer-encoding"].lower() != b"chunked":
            raise HeadError(502, "ambiguous or unknown transfer coding")
        head.chunked = True
    head.body_length = _body_length(head, method)


def _judge_connection(head: ResponseHead, value: bytes, upgrade: bytes, minor: int) -> None:
    if value == b"keep-alive":
        head.keep_alive = True
        return
    tokens = connection_tokens(value)
    if b"close" in tokens:
        head.keep_alive = False
    elif minor == 0:
        head.keep_alive = b"keep-alive" in tokens
    if b"upgrade" in tokens:
        head.upgrade = upgrade
    named = tokens - {b"close", b"keep-alive", b"upgrade"}
    if named:
        # an upstream that lists an end-to-end field harms only itself: the field stays
        head.lines = without(head.lines, named - NEVER_LISTED)


def _body_length(head: ResponseHead, method: bytes) -> int:
    """RFC 9112 section 6.3, items 1 to 8."""
    if method == b"HEAD" or head.status < 200 or head.status in (204, 304):
        return 0
    if head.content_length is not None:
        return head.content_length
    if head.chunked:
        return CHUNKED
    head.keep_alive = False
    return UNTIL_CLOSE
