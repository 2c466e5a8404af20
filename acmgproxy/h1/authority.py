# SPDX-License-Identifier: Apache-2.0
"""The authority of a request: Host field values and the authority part of absolute-form targets.

RFC 9110 section 7.2: Host = uri-host [ ":" port ]; RFC 3986 section 3.2.2 for uri-host. Userinfo, lists and empty names are
refused. Results are remembered, because a gateway sees few different hosts very often; the memory is bounded, because a client
may send as many as it likes.
"""

from __future__ import annotations

import ipaddress
import re  # noqa: TID251 - our own fixed, linear patterns; users' expressions only ever run in RE2

from acmgproxy.h1.errors import HeadError

__all__ = ["Authority", "parse_authority"]

_CACHE_SIZE = 4096
_MAX_CACHED = 260
"""Octets of the longest value remembered: a DNS name (RFC 1035 section 3.1: 253) and a port."""

_REG_NAME = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})+")
_PORT = re.compile(rb"[0-9]{0,5}")


class Authority:
    """A judged authority.

    Args:
        raw: as the client wrote it.
        host: lower case, without port and without a trailing dot; an IPv6 literal keeps its brackets.
        port: the port given, 0 when there is none.
    """

    __slots__ = ("host", "port", "raw")

    def __init__(self, raw: bytes, host: bytes, port: int) -> None:
        self.raw = raw
        self.host = host
        self.port = port

    def __repr__(self) -> str:
        return f"Authority({self.host!r}, {self.port})"


_cache: dict[bytes, Authority] = {}


def parse_authority(value: bytes) -> Authority:
    """Judge a Host value.

    Raises:
        HeadError: 400 when it is not `uri-host [":" port]`, is empty or names a port above 65535.
    """
    known = _cache.get(value)
    if known is not None:
        return known
    judged = _judge(value)
    if len(value) <= _MAX_CACHED:
        if len(_cache) >= _CACHE_SIZE:
            _cache.clear()
        _cache[value] = judged
    return judged


def _judge(value: bytes) -> Authority:
    if value.startswith(b"["):
        host, bracket, rest = value[1:].partition(b"]")
        if not bracket or not _is_ipv6(host) or (rest and not rest.startswith(b":")):
            raise HeadError(400, "invalid IP literal in Host")
        name, port = b"[" + host.lower() + b"]", rest[1:]
    else:
        name, _, port = value.partition(b":")
        if not _REG_NAME.fullmatch(name):
            raise HeadError(400, "invalid Host")
        name = name.lower()
        name = name[:-1] if name.endswith(b".") and len(name) > 1 else name
    if not _PORT.fullmatch(port) or int(port or 0) > 65535:
        raise HeadError(400, "invalid port in Host")
    return Authority(value, name, int(port or 0))


def _is_ipv6(text: bytes) -> bool:
    try:
        ipaddress.IPv6Address(text.decode("ascii"))
    except ValueError:
        return False
    return b"%" not in text
