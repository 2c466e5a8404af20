# SPDX-License-Identifier: Apache-2.0
"""Replies: routes that answer by themselves, with a redirect or a fixed response.

A reply gives status, fields and body; framing fields, header operations of the rule and standard fields are the data plane's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from routing.headers import HeaderError
from routing.table.paths import compile_rewrite

if TYPE_CHECKING:
    from routing.request import RequestView
    from routing.specs import DirectResponseSpec, PathMatch, RedirectSpec

__all__ = ["DirectReply", "Redirect", "Reply"]

Fields = list[tuple[bytes, bytes]]

_DEFAULT_PORTS = {(b"http", b":80"), (b"https", b":443")}
_NO_BODY = frozenset({204, 205, 304})


class Reply(Protocol):
    """An answer made here."""

    def render(self, head: RequestView, local_port: int) -> tuple[int, Fields, bytes]:
        """Return status, fields and body. `local_port` is the Service port on which the request arrived."""


class DirectReply:
    """A fixed response (VirtualService directResponse)."""

    __slots__ = ("_body", "_status")

    def __init__(self, spec: DirectResponseSpec) -> None:
        self._status = spec.status
        self._body = b"" if spec.status in _NO_BODY else spec.body

    def __repr__(self) -> str:
        return f"DirectReply({self._status}, {len(self._body)} bytes)"

    def render(self, head: RequestView, local_port: int) -> tuple[int, Fields, bytes]:
        """Return the response; a body is plain text, as Envoy says of its own."""
        return self._status, [(b"content-type", b"text/plain")] if self._body else [], self._body


class Redirect:
    """A redirect of one match entry.

    The port of the Location: the given one, or the one the request arrived on; `protocol-default` leaves it out; otherwise the
    port that the client put into Host stays, unless the scheme changes and the port was the old scheme's default. A port that
    was set or derived is left out when it is the scheme's default.

    Raises:
        RewriteError, RegexError: the path rewrite is not acceptable.
        HeaderError: the authority cannot stand in a field.
    """

    __slots__ = ("_authority", "_port", "_port_from", "_rewrite", "_scheme", "_status")

    def __init__(self, spec: RedirectSpec, match: PathMatch | None) -> None:
        self._status = spec.status
        self._scheme = spec.scheme.encode()
        self._authority = spec.authority.encode()
        self._port = f":{spec.port}".encode() if spec.port else b""
        self._port_from = spec.port_from
        self._rewrite = compile_rewrite(spec.path_rewrite, match) if spec.path_rewrite is not None else None
        if any(byte <= 0x20 or byte == 0x7F for byte in self._authority):
            raise HeaderError(f"redirect authority {spec.authority!r} has blanks or control characters")

    def __repr__(self) -> str:
        return f"Redirect({self._status})"

    def render(self, head: RequestView, local_port: int) -> tuple[int, Fields, bytes]:
        """Return a response without body; its Location is relative when the request named no host and the redirect names none."""
        scheme = self._scheme or head.scheme
        host, port = _split_port(self._authority or head.authority)
        path = self._rewrite(head.path) if self._rewrite is not None else head.path
        if head.query and b"?" not in path:  # a query in the replacement takes precedence, as in Envoy
            path += b"?" + head.query
        if not host:  # two leading slashes would name a host
            location = b"/" + path.lstrip(b"/")
        else:
            location = scheme + b"://" + host + self._choose_port(head.scheme, scheme, port, local_port) + path
        return self._status, [(b"location", location)], b""

    def _choose_port(self, old_scheme: bytes, scheme: bytes, port: bytes, local_port: int) -> bytes:
        chosen = b":%d" % local_port if self._port_from == "request-port" and not self._port else self._port
        if chosen:
            return b"" if (scheme, chosen) in _DEFAULT_PORTS else chosen
        if self._authority:
            return port
        if self._port_from == "protocol-default" or (scheme != old_scheme and (old_scheme, port) in _DEFAULT_PORTS):
            return b""
        return port


def _split_port(authority: bytes) -> tuple[bytes, bytes]:
    """Split `host:80` into `host` and `:80`; the port is empty when there is none, and brackets of IPv6 belong to the host."""
    host, colon, port = authority.rpartition(b":")
    if colon and (port.isdigit() or not port):
        return host, colon + port if port else b""
    return authority, b""
