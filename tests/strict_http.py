# SPDX-License-Identifier: Apache-2.0
"""A second opinion on HTTP/1.1: what a strict reader of RFC 9110 and RFC 9112 makes of a stream of bytes.

Written for clarity from the grammar alone and sharing no code with the proxy, so that the two can be held against each other:
what goes upstream must read here as what was sent, what goes downstream as what was answered. It knows no limits and reads only
whole buffers. Where the RFC lets a recipient choose between repairing and refusing, it refuses: whatever the proxy lets through
must be taken by it.
"""

from __future__ import annotations

import re  # noqa: TID251 - our own fixed, linear patterns
from dataclasses import dataclass

__all__ = ["Malformed", "Message", "Unfinished", "read_final_response", "read_request", "read_requests", "read_response"]

_TOKEN = rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e]+) HTTP/1\.([0-9])")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [\t \x21-\x7e\x80-\xff]*)?")
_FIELD_LINE = re.compile(rb"(" + _TOKEN + rb"):[ \t]*([\t \x21-\x7e\x80-\xff]*?)[ \t]*")
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_EXTENSION = rb"[ \t]*;[ \t]*" + _TOKEN + rb"(?:[ \t]*=[ \t]*(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?"
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]+)((?:" + _EXTENSION + rb")*)")
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})+)(?::[0-9]{0,5})?")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#]+)([/?][^#]*)?")


class Malformed(Exception):
    """The bytes are no message."""


class Unfinished(Exception):
    """The bytes may be the beginning of a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message.

    Attributes:
        method, target: of a request. status: of an answer.
        minor: minor version; 0 or 1.
        fields: lower-case names with values, in order.
        framing: "none", "length", "chunked" or "close".
        end: where the next one begins.
    """

    method: bytes = b""
    target: bytes = b""
    status: int = 0
    minor: int = 1
    fields: tuple[tuple[bytes, bytes], ...]
    framing: str
    body: bytes
    end: int

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of all lines of a field."""
        return [value for known, value in self.fields if known == name]

    @property
    def options(self) -> set[bytes]:
        """What Connection lists."""
        return {item.strip(b" \t").lower() for value in self.values(b"connection") for item in value.split(b",")} - {b""}

    @property
    def ends_connection(self) -> bool:
        """Whether nothing may follow it (RFC 9112 section 9.3)."""
        return b"close" in self.options or (self.minor == 0 and b"keep-alive" not in self.options) or self.framing == "close"


def read_requests(data: bytes) -> tuple[list[Message], str]:
    """Read requests up to the end or the first that is none.

    Returns:
        The complete requests, and what stopped the reading: "" (nothing is left, or nothing may follow), "unfinished", or why
        the next one is malformed.
    """
    found: list[Message] = []
    at = 0
    try:
        while at < len(data):
            found.append(read_request(data, at))
            at = found[-1].end
            if found[-1].ends_connection:
                break
    except Unfinished:
        return found, "unfinished"
    except Malformed as error:
        return found, str(error)
    return found, ""


def read_request(data: bytes, at: int = 0) -> Message:
    """Read one request; absolute-form is reduced to origin-form, with its authority as Host.

    Raises:
        Malformed: it is none, or two readers could understand it differently.
        Unfinished: there is more to come.
    """
    if data.startswith(b"\r\n", at):  # RFC 9112 section 2.2: one empty line
        at += 2
    line, at = _line(data, at)
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise Malformed("no request line of HTTP/1.x")
    method, target, minor = match[1], match[2], int(match[3])
    fields, at = _fields(data, at)
    target, fields = _route(method, target, minor, fields)
    framing, length = _framing(minor, fields)
    if framing == "chunked":
        body, at = _chunked(data, at)
    else:
        body, at = _counted(data, at, length)
    return Message(method=method, target=target, minor=min(minor, 1), fields=tuple(fields), framing=framing, body=body, end=at)


def read_response(data: bytes, at: int = 0, *, method: bytes = b"GET", closed: bool) -> Message:
    """Read one answer, interim or final.

    Args:
        data: from the beginning of the connection.
        at: where the answer begins.
        method: of the request it answers.
        closed: nothing comes after `data`.

    Raises:
        Malformed: it is none.
        Unfinished: there is more to come; it was cut short if `closed`.
    """
    line, at = _line(data, at)
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise Malformed("no status line of HTTP/1.0 or HTTP/1.1" if line else "empty line before the status line")
    minor, status = int(match[1]), int(match[2])
    fields, at = _fields(data, at)
    framing, length = _framing(minor, fields)
    body = b""
    if method == b"HEAD" or status < 200 or status in (204, 304):
        framing = "none"
    elif framing == "chunked":
        body, at = _chunked(data, at)
    elif framing == "length":
        body, at = _counted(data, at, length)
    else:
        framing = "close"
        if not closed:
            raise Unfinished
        body, at = data[at:], len(data)
    return Message(status=status, minor=minor, fields=tuple(fields), framing=framing, body=body, end=at)


def read_final_response(data: bytes, at: int = 0, *, method: bytes = b"GET", closed: bool) -> Message:
    """Read interim answers and return the final one.

    Raises:
        Malformed: one is none, or the connection is said to switch protocols.
        Unfinished: there is more to come; it was cut short if `closed`.
    """
    while True:
        message = read_response(data, at, method=method, closed=closed)
        if message.status == 101:
            raise Malformed("101 to a request that asked for no upgrade")
        if message.status >= 200:
            return message
        at = message.end


def _line(data: bytes, at: int) -> tuple[bytes, int]:
    end = data.find(b"\r\n", at)
    line = data[at:] if end < 0 else data[at:end]
    if b"\n" in line or b"\r" in line[:-1] or (end >= 0 and b"\r" in line):
        raise Malformed("CR or LF alone")
    if end < 0:
        raise Unfinished
    return line, end + 2


def _fields(data: bytes, at: int) -> tuple[list[tuple[bytes, bytes]], int]:
    fields: list[tuple[bytes, bytes]] = []
    while True:
        line, at = _line(data, at)
        if not line:
            return fields, at
        match = _FIELD_LINE.fullmatch(line)
        if match is None:
            raise Malformed("invalid field line")
        fields.append((match[1].lower(), match[2]))


def _route(
    method: bytes, target: bytes, minor: int, fields: list[tuple[bytes, bytes]]
) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Check Host and the form of the target (RFC 9112 section 3.2)."""
    hosts = [value for name, value in fields if name == b"host"]
    if len(hosts) > 1 or (not hosts and minor > 0):
        raise Malformed("not exactly one Host")
    if method == b"CONNECT" or b"#" in target:
        raise Malformed("request target in none of the forms a gateway serves")
    if target != b"*" and not target.startswith(b"/"):
        match = _ABSOLUTE.fullmatch(target)
        if match is None:
            raise Malformed("request target in none of the forms a gateway serves")
        hosts = [*hosts, match[1]]
        fields = [field for field in fields if field[0] != b"host"] + [(b"host", match[1])]
        target = match[2] or (b"*" if method == b"OPTIONS" else b"/")
        target = target if target[:1] in b"/*" else b"/" + target
    elif target == b"*" and method != b"OPTIONS":
        raise Malformed("asterisk-form without OPTIONS")
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise Malformed("invalid Host")
    return target, fields


def _framing(minor: int, fields: list[tuple[bytes, bytes]]) -> tuple[str, int]:
    """Return how the body is framed, and its length (RFC 9112 section 6.3)."""
    codings = [value for name, value in fields if name == b"transfer-encoding"]
    lengths = [value for name, value in fields if name == b"content-length"]
    if codings and (lengths or minor == 0 or [coding.lower() for coding in codings] != [b"chunked"]):
        raise Malformed("Transfer-Encoding other than exactly chunked, in HTTP/1.0, or with Content-Length")
    if lengths and (len(lengths) > 1 or not re.fullmatch(rb"[0-9]+", lengths[0]) or int(lengths[0]) >= 1 << 63):
        raise Malformed("Content-Length that is not one number")
    if codings:
        return "chunked", 0
    return ("length", int(lengths[0])) if lengths else ("none", 0)


def _counted(data: bytes, at: int, length: int) -> tuple[bytes, int]:
    if len(data) - at < length:
        raise Unfinished
    return data[at : at + length], at + length


def _chunked(data: bytes, at: int) -> tuple[bytes, int]:
    pieces = []
    while True:
        line, at = _line(data, at)
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise Malformed("invalid chunk size or extension")
        size = int(match[1], 16)
        if size >= 1 << 63:
            raise Malformed("chunk size too large")
        if not size:
            break
        if not b"\r\n".startswith(data[at + size : at + size + 2]):
            raise Malformed("chunk longer than its size")
        piece, at = _counted(data, at, size + 2)
        pieces.append(piece[:-2])
    _, at = _fields(data, at)  # trailers
    return b"".join(pieces), at
