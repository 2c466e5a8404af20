# SPDX-License-Identifier: Apache-2.0
"""Header operations of a VirtualService, at either level."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import re2

from routing.specs import HeaderOps

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from routing.resources import VirtualService
    from routing.resources.virtual_service import HeaderOperations, Headers
    from routing.translate._context import Context

__all__ = ["HeaderChanges", "translate_headers"]

FRAMING_HEADERS = frozenset(
    {"connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
)
"""The data plane's own: where a message ends (RFC 9112 section 6), what concerns one connection (RFC 9110 section 7.6.1)."""

_HOST = frozenset({"host", ":authority"})
_PERCENT = re2.compile(r"%%|%[A-Z][A-Z0-9_]*(\([^()]*\))?(:[0-9]+)?%")


class HeaderChanges(NamedTuple):
    """Changes of one level. Setting Host is a host rewrite, not a header operation."""

    request: HeaderOps | None = None
    response: HeaderOps | None = None
    host_rewrite: str = ""


def translate_headers(context: Context, about: VirtualService, headers: Headers | None, field: str) -> HeaderChanges:
    """Return the changes of a rule or destination."""
    if headers is None:
        return HeaderChanges()
    request = headers.request
    host = ""
    if request is not None:
        hosts = [value for fields in (request.set, request.add) for name, value in fields.items() if name.lower() in _HOST]
        host = hosts[0] if hosts else ""
    return HeaderChanges(
        _operations(context, about, request, f"{field}.request"),
        _operations(context, about, headers.response, f"{field}.response"),
        host,
    )


def _operations(context: Context, about: VirtualService, operations: HeaderOperations | None, field: str) -> HeaderOps | None:
    if operations is None:
        return None
    remove = []
    for index, name in enumerate(operations.remove):
        if name.lower() in FRAMING_HEADERS:
            context.reporter.report("ACMG001", about, f"{field}.remove[{index}]", f"{name} belongs to the gateway; it is kept")
        else:
            remove.append(name.lower())
    ops = HeaderOps(
        remove=tuple(remove),
        set=tuple(_fields(context, about, operations.set, f"{field}.set")),
        add=tuple(_fields(context, about, operations.add, f"{field}.add")),
    )
    return None if ops == HeaderOps() else ops


def _fields(context: Context, about: VirtualService, fields: Mapping[str, str], field: str) -> Iterator[tuple[str, str]]:
    for name, value in fields.items():
        lower = name.lower()
        if lower in _HOST:
            continue
        if lower in FRAMING_HEADERS:
            context.reporter.report("ACMG001", about, f"{field}.{name}", f"{name} belongs to the gateway; it is not changed")
            continue
        literal = _literal(value)
        if literal is None:
            message = f"substitutions such as in {value!r} are not supported; the header is not changed"
            context.reporter.report("ACMG001", about, f"{field}.{name}", message)
            continue
        yield lower, literal


def _literal(value: str) -> str | None:
    """Return a header value as it is sent: `%%` is a percent sign. None if Envoy would put something else in."""
    parts, end = [], 0
    for found in _PERCENT.finditer(value):
        if found[0] != "%%":
            return None
        parts.append(value[end : found.start()] + "%")
        end = found.end()
    return "".join(parts) + value[end:]
