# SPDX-License-Identifier: Apache-2.0
"""Hash policies: which number stands for a request when a cluster balances by consistent hashing.

Owns the hash function and what it is computed of; where a number leads is for routing.balance.hashed. Hashes, cookies and their
defaults are Envoy's (xxHash64, seed 0), so a request goes where an Envoy with the same endpoints would send it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xxhash import xxh64_intdigest

from routing.headers import HeaderError, field_value
from routing.request import cookie_value, getter

if TYPE_CHECKING:
    from collections.abc import Callable

    from routing.request import RequestView
    from routing.specs import HashSpec

__all__ = ["CompiledHash", "hash64"]

hash64 = xxh64_intdigest
"""Return the 64-bit hash of bytes, with an optional seed."""

_NOT_IN_NAME = frozenset(b'()<>@,;:\\"/[]?={} \t')
"""RFC 6265 section 4.1.1: the name of a cookie is a token."""


class CompiledHash:
    """A HashSpec ready to be asked.

    `of(head, source_ip, draw)` returns the hash of a request and the `set-cookie` line of an answer to it. Without a hash (what
    it is computed of is missing) the request may go anywhere. A line there is only for a cookie that was just generated: its
    value is random, drawn with `draw`.

    Raises:
        HeaderError: the cookie cannot be written.
    """

    __slots__ = ("_after", "_before", "_get", "_name", "of")

    of: Callable[[RequestView, str, Callable[[], float]], tuple[int | None, bytes | None]]

    def __init__(self, spec: HashSpec) -> None:
        self._before = self._after = b""
        self._name = spec.name.encode()
        match spec.kind:
            case "cookie":
                self.of = self._of_cookie
                if spec.ttl_s is not None:
                    self._before, self._after = _cookie_line(spec, int(spec.ttl_s))
            case "source-ip":
                self.of = self._of_source
            case "query":
                self._get = getter(("query", spec.name))
                self.of = self._of_value
            case _:
                self._get = getter(("header", spec.name.lower()))
                self.of = self._of_value

    def __repr__(self) -> str:
        return f"CompiledHash({self.of.__name__.removeprefix('_')}, {self._name.decode()!r})"

    def _of_value(self, head: RequestView, source_ip: str, draw: Callable[[], float]) -> tuple[int | None, bytes | None]:
        value = self._get(head)
        return (hash64(value) if value is not None else None), None

    def _of_source(self, head: RequestView, source_ip: str, draw: Callable[[], float]) -> tuple[int | None, bytes | None]:
        return hash64(source_ip.encode()), None

    def _of_cookie(self, head: RequestView, source_ip: str, draw: Callable[[], float]) -> tuple[int | None, bytes | None]:
        value = cookie_value(head.header(b"cookie"), self._name)
        if value:
            return hash64(value), None
        if not self._before:
            return None, None
        value = b"%08x%08x" % (int(draw() * 0x1_0000_0000), int(draw() * 0x1_0000_0000))
        return hash64(value), self._before + value + self._after


def _cookie_line(spec: HashSpec, ttl_s: int) -> tuple[bytes, bytes]:
    """Return what comes before and after the value, as Envoy writes it (Utility::makeSetCookieValue)."""
    name = field_value(spec.name)
    if not name or not _NOT_IN_NAME.isdisjoint(name) or min(name) < 0x21:
        raise HeaderError(f"cookie name {spec.name!r} is not a token (RFC 6265 section 4.1.1)")
    parts = [b'"']
    if ttl_s:
        parts.append(b"Max-Age=%d" % ttl_s)
    if spec.path:
        parts.append(b"Path=" + field_value(spec.path))
    parts += (field_value(f"{key}={value}" if value else key) for key, value in spec.attributes)
    parts.append(b"HttpOnly")
    return b"set-cookie: " + name + b'="', b"; ".join(parts)
