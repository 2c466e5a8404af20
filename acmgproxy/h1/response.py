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
from acmgproxy.h1.fields import HOP_BY_HOP, NEVER_LISTED, FieldSink, NameTable, connection_tokens, field_map, without
from acmgproxy.h1.request import CHUNKED, KEEP_ALIVE

if TYPE_CHECKING:
    from acmgproxy.h1.limits import Limits

__all__ = ["UNTIL_CLOSE", "ResponseHead", "parse_response_head"]

UNTIL_CLOSE = -2
"""Body length of a body that ends when the upstream closes, in place of a count of bytes."""

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: [\t \x21-\x7e\x80-\xff]*)?")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_TABLE = NameTable(
    HOP_BY_HOP | {b"content-length", b"x-envoy-upstream-service-time", b"x-envoy-decorator-operation", b"x-envoy-attempt-count"}
)


class ResponseHead(msgspec.Struct, gc=False):
    """A judged response head.

    Attributes:
        status: status code.
        status_line: as the upstream wrote it, from the status code on.
        lines: field lines that may be forwarded, as written, without CRLF.
        special: (lower-case name, value) of the fields the proxy acts on.
        body_length: bytes of body that follow, 0 for none, CHUNKED or UNTIL_CLOSE.
        content_length: the Content-Length given, which a HEAD or 304 answer has without a body; None when missing.
        chunked: Transfer-Encoding was given, which a HEAD answer has without a body.
        keep_alive: the connection may carry another request.
        upgrade: value of Upgrade if Connection lists it, else b"".
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
    match = _STATUS_LINE.fullmatch(raw, 0, line_end)
    if match is None:
        raise HeadError(502, "invalid status line")
    sink = FieldSink(_TABLE)
    try:
        httptools.HttpResponseParser(sink).feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise HeadError(502, str(error)) from error
    if len(sink.lines) + len(sink.special) > limits.max_fields:
        raise HeadError(502, "too many field lines")
    minor = raw[7] - 0x30
    head = ResponseHead(int(match[2]), raw[9:line_end], sink.lines, sink.special, minor == 1)
    _judge_fields(head, method, minor)
    return head


def _judge_fields(head: ResponseHead, method: bytes, minor: int) -> None:
    lengths: list[bytes] = []
    codings: list[bytes] = []
    connection: list[bytes] = []
    upgrade: list[bytes] = []
    for name, value in head.special:
        if name == b"content-length":
            lengths.append(value)
        elif name == b"connection":
            connection.append(value)
        elif name == b"transfer-encoding":
            codings.append(value)
        elif name == b"upgrade":
            upgrade.append(value)
    if connection:
        _judge_connection(head, connection, upgrade, minor)
    if lengths:
        if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
            raise HeadError(502, "invalid Content-Length")
        head.content_length = int(lengths[0])
    if codings:
        if lengths or minor == 0 or len(codings) > 1 or codings[0].lower() != b"chunked":
            raise HeadError(502, "ambiguous or unknown transfer coding")
        head.chunked = True
    head.body_length = _body_length(head, method)


def _judge_connection(head: ResponseHead, values: list[bytes], upgrade: list[bytes], minor: int) -> None:
    if values == KEEP_ALIVE:
        head.keep_alive = True
        return
    tokens = connection_tokens(values)
    if b"close" in tokens:
        head.keep_alive = False
    elif minor == 0:
        head.keep_alive = b"keep-alive" in tokens
    if b"upgrade" in tokens:
        head.upgrade = b",".join(upgrade)
    named = tokens - {b"close", b"keep-alive", b"upgrade"}
    if named:
        # an upstream that lists an end-to-end field harms only itself: the field stays
        head.lines = without(head.lines, named - NEVER_LISTED)


def _body_length(head: ResponseHead, method: bytes) -> int:
    """RFC 9112 section 6.3, items 1 to 8."""
    if method == b"HEAD" or head.status < 200 or head.status in (204, 304):
        return 0
    if head.chunked:
        return CHUNKED
    if head.content_length is not None:
        return head.content_length
    head.keep_alive = False
    return UNTIL_CLOSE
