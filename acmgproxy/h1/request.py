# SPDX-License-Identifier: Apache-2.0
"""Request heads: parsed, judged, and sorted into what travels on.

`parse_request_head` takes the bytes from the request line to the empty line. llhttp parses the fields and refuses whatever is not
RFC 9112 grammar; this module adds the rules that llhttp leaves to its user (the comments name the clause), decides the framing of
the body and keeps in `RequestHead.lines` only what may be forwarded.
"""

from __future__ import annotations

import re  # noqa: TID251 - our own fixed, linear patterns; users' expressions only ever run in RE2
from typing import TYPE_CHECKING, Any, ClassVar

import httptools
import msgspec

from acmgproxy.h1.authority import Authority, parse_authority
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

if TYPE_CHECKING:
    from acmgproxy.h1.limits import Limits

__all__ = ["CHUNKED", "IDEMPOTENT", "RequestHead", "parse_request_head"]

CHUNKED = -1
"""Body length of a chunked body, in place of a count of bytes."""

IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE", b"PROPFIND", b"SEARCH", b"QUERY"})
"""Methods that may be repeated without harm (RFC 9110 section 9.2.2, RFC 4918, RFC 5323, the QUERY draft)."""

LLHTTP_METHODS = frozenset(
    b"DELETE GET HEAD POST PUT OPTIONS TRACE COPY LOCK MKCOL MOVE PROPFIND PROPPATCH SEARCH UNLOCK BIND REBIND UNBIND ACL "
    b"REPORT MKACTIVITY CHECKOUT MERGE NOTIFY SUBSCRIBE UNSUBSCRIBE PATCH PURGE MKCALENDAR LINK UNLINK QUERY".split()
)
"""Methods of HTTP that llhttp knows. It knows more, but only for other protocols (RTSP, ICE)."""

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_LATER_MINOR = re.compile(rb"HTTP/1\.[2-9]")
_OTHER_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")
_ABSOLUTE = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)(.*)")
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,17}")
_DIGIT_ONE = 0x31

_TABLE = NameTable(
    HOP_BY_HOP
    | {
        b"host",
        b"content-length",
        b"expect",
        b"x-request-id",
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"x-forwarded-host",
        b"forwarded",
        b"x-envoy-attempt-count",
        b"x-envoy-expected-rq-timeout-ms",
        b"x-envoy-original-path",
        b"x-envoy-internal",
        b"x-envoy-external-address",
        b"x-envoy-decorator-operation",
    },
    underscore=True,
)
"""Fields that are read, replaced or removed. Servers that build CGI variables cannot tell `Transfer_Encoding` from the real one,
so such a field is dropped (as nginx does with every name that has a "_"); other names with "_" harm nobody and pass."""

_read_fields = field_reader(httptools.HttpRequestParser, _TABLE, 400)


class RequestHead(msgspec.Struct, gc=False):
    """A judged request head. Not to be changed: a client that repeats itself is served from the same object.

    Attributes:
        method, target: as written.
        path, query: the target without and after its first "?"; absolute-form already reduced to origin-form.
        authority, host, port: the Host value (or the authority of an absolute-form target, which overrides it, RFC 9112
            section 3.2.2) as written, and lower-cased without port; port 0 when none was given; empty in HTTP/1.0 without Host.
        minor: minor version, 0 or 1.
        body_length: count of bytes, 0 for no body, CHUNKED for a chunked one.
        keep_alive: the client wants the connection kept (RFC 9112 section 9.3).
        expects_continue: the client waits for 100 (RFC 9110 section 10.1.1).
        upgrade: value of Upgrade if Connection lists it and the version is 1.1, else b"".
        request_id, forwarded_for: values of those fields, b"" when missing.
        lines: field lines that may be forwarded, as written, without CRLF.
        block: the same in one piece with the field that frames the body, filled in when it is first sent on.
        special: (lower-case name, value) of the fields the proxy acts on.
        fields: all fields by name, filled in when `header` is first asked.
        sent: for whoever sends it on: what does not change when the same head comes again.
    """

    method: bytes
    target: bytes
    minor: int
    keep_alive: bool
    lines: list[bytes]
    special: list[tuple[bytes, bytes]]
    path: bytes = b""
    query: bytes = b""
    authority: bytes = b""
    host: bytes = b""
    port: int = 0
    body_length: int = 0
    expects_continue: bool = False
    upgrade: bytes = b""
    block: bytes | None = None
    request_id: bytes = b""
    forwarded_for: bytes = b""
    fields: dict[bytes, bytes] | None = None
    sent: dict[Any, tuple[bytes, bytes]] | None = None

    scheme: ClassVar[bytes] = b"http"

    def __repr__(self) -> str:
        return f"RequestHead({self.method!r} {self.target!r} host={self.host!r} body={self.body_length})"

    def header(self, name: bytes) -> bytes | None:
        """Return the value of a field by its lower-case name, repeated lines joined by ",", None when it is missing."""
        if self.fields is None:
            self.fields = field_map(self.lines, self.special)
        return self.fields.get(name)


def parse_request_head(raw: bytes, limits: Limits) -> RequestHead:
    """Judge a request head.

    Args:
        raw: request line, field lines and the empty line, nothing before or after.
        limits: bounds; raw is already known to be within max_head_bytes.

    Raises:
        HeadError: with the status to answer; the connection must be closed after it.
    """
    line_end = raw.find(b"\r\n")
    head = _request_line(raw[:line_end], limits)
    _parse_fields(raw, line_end, head)
    if len(head.lines) + len(head.special) > limits.max_fields:
        raise HeadError(431, "too many field lines")
    _judge_fields(head)
    if not head.authority and head.minor == 1:
        raise HeadError(400, "missing Host")  # also with absolute-form (RFC 9112 section 3.2)
    if head.target[:1] != b"/":
        _judge_other_form(head)
    head.path, _, head.query = head.target.partition(b"?")
    return head


def _request_line(line: bytes, limits: Limits) -> RequestHead:
    """Take the request line apart (RFC 9112 section 3: exactly two single spaces)."""
    parts = line.split(b" ")
    if len(parts) != 3:
        raise HeadError(400, "request line is not three words with single spaces")
    method, target, version = parts
    if version == b"HTTP/1.1":
        minor = 1
    elif version == b"HTTP/1.0":
        minor = 0
    elif _LATER_MINOR.fullmatch(version):
        minor = 1  # RFC 9110 section 2.5: a higher minor version is processed as the highest that is known
    else:
        raise HeadError(505 if _OTHER_VERSION.fullmatch(version) else 400, "unsupported HTTP version")
    if len(target) > limits.max_target_bytes:
        raise HeadError(414, "request target too long")
    if b"#" in target:
        raise HeadError(400, "fragment in the request target")
    if method == b"CONNECT":
        raise HeadError(405, "CONNECT is not served")
    return RequestHead(method, target, minor, minor == 1, [], [])


def _parse_fields(raw: bytes, line_end: int, head: RequestHead) -> None:
    """Let llhttp parse the fields and refuse whatever is not RFC 9112 grammar.

    llhttp knows a fixed list of methods and versions. Any other token is a legal method (RFC 9110 section 9.1), so that is
    checked here, and the rest is parsed under a request line that llhttp knows.
    """
    is_known = head.method in LLHTTP_METHODS
    if not is_known and (head.method == b"PRI" or not _TOKEN.fullmatch(head.method)):
        raise HeadError(400, "invalid method")
    if not is_known or raw[line_end - 1] > _DIGIT_ONE:
        method = head.method if is_known else b"GET"
        raw = method + b" " + head.target + (b" HTTP/1.1" if head.minor else b" HTTP/1.0") + raw[line_end:]
    head.lines, head.special = _read_fields(raw)


def _judge_fields(head: RequestHead) -> None:
    """Act on the fields of interest, and on what they mean together."""
    fields = single_values(head.special, 400)
    if b"host" in fields:
        _set_authority(head, parse_authority(fields[b"host"]))
    if b"connection" in fields:
        _judge_connection(head, fields[b"connection"], fields.get(b"upgrade", b""))
    if b"content-length" in fields or b"transfer-encoding" in fields:
        head.body_length = _framing(head.minor, fields.get(b"content-length"), fields.get(b"transfer-encoding"))
    if b"expect" in fields:
        # RFC 9110 section 10.1.1: 100-continue is the only expectation, and an HTTP/1.0 client cannot have it
        if fields[b"expect"].lower() != b"100-continue":
            raise HeadError(417, "unknown expectation")
        head.expects_continue = head.minor == 1
    if b"x-request-id" in fields:
        head.request_id = fields[b"x-request-id"]
    if b"x-forwarded-for" in fields:
        head.forwarded_for = fields[b"x-forwarded-for"]


def _judge_connection(head: RequestHead, value: bytes, upgrade: bytes) -> None:
    """Apply Connection (RFC 9110 section 7.6.1): persistence, Upgrade, and the fields meant for this hop only."""
    if value == b"keep-alive":
        head.keep_alive = True
        return
    tokens = connection_tokens(value)
    if b"close" in tokens:
        head.keep_alive = False
    elif head.minor == 0:
        head.keep_alive = b"keep-alive" in tokens
    if b"upgrade" in tokens and head.minor:  # RFC 9110 section 7.8: ignored in HTTP/1.0
        head.upgrade = upgrade
    named = tokens - {b"close", b"keep-alive", b"upgrade"}
    if named:
        if named & NEVER_LISTED:
            raise HeadError(400, "Connection lists a field that is not for this hop only")
        head.lines = without(head.lines, named)


def _set_authority(head: RequestHead, authority: Authority) -> None:
    head.authority = authority.raw
    head.host = authority.host
    head.port = authority.port


def _framing(minor: int, length: bytes | None, coding: bytes | None) -> int:
    """Decide the body's framing (RFC 9112 section 6.3) and refuse whatever two readers could understand differently."""
    if coding is not None:
        if length is not None:
            raise HeadError(400, "Content-Length with Transfer-Encoding")
        if minor == 0:
            raise HeadError(400, "Transfer-Encoding in HTTP/1.0")
        if coding.lower() != b"chunked":
            raise HeadError(501 if coding.lower().endswith(b"chunked") else 400, "transfer coding other than chunked")
        return CHUNKED
    if length is None or not _LENGTH.fullmatch(length):
        raise HeadError(400, "invalid Content-Length")
    return int(length)


def _judge_other_form(head: RequestHead) -> None:
    """RFC 9112 section 3.2: asterisk-form only with OPTIONS, absolute-form reduced to origin-form, nothing else."""
    if head.target == b"*":
        if head.method != b"OPTIONS":
            raise HeadError(400, "asterisk-form without OPTIONS")
        return
    match = _ABSOLUTE.fullmatch(head.target)
    if match is None or match.group(1).lower() not in (b"http", b"https"):
        raise HeadError(400, "request target in none of the four forms")
    _set_authority(head, parse_authority(match.group(2)))
    rest = match.group(3)
    if not rest and head.method == b"OPTIONS":
        head.target = b"*"
    else:
        head.target = rest if rest.startswith(b"/") else b"/" + rest
