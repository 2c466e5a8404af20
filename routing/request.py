# SPDX-License-Identifier: Apache-2.0
"""What routing sees of a request: its head, and how a single value is read from it.

Everything is bytes, as it came: no decoding, no normalisation. Header values are fetched by name, so a head that indexes its
fields lazily pays only for the rules that look at them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from routing.regex import Pattern

if TYPE_CHECKING:
    from routing.specs import StringMatch

__all__ = ["Getter", "Key", "RequestView", "cookie_value", "first_value", "getter", "value_test"]


class RequestView(Protocol):
    """The head of a request.

    Attributes:
        path: the target without its query. query: without its "?", b"" for none. authority: the Host value as sent. host: the
        same in lower case, without port and trailing dot. port: its port, 0 for none.
    """

    @property
    def method(self) -> bytes: ...  # noqa: D102 (described above)
    @property
    def path(self) -> bytes: ...  # noqa: D102
    @property
    def query(self) -> bytes: ...  # noqa: D102
    @property
    def authority(self) -> bytes: ...  # noqa: D102
    @property
    def host(self) -> bytes: ...  # noqa: D102
    @property
    def port(self) -> int: ...  # noqa: D102
    @property
    def scheme(self) -> bytes: ...  # noqa: D102

    def header(self, name: bytes) -> bytes | None:
        """Return the value of a field by its lower-case name, several values joined by a comma; None when missing."""


Key: TypeAlias = tuple[Literal["header", "query"], str]
"""Names a value of the head. Pseudo-headers such as `:method` are headers here."""

Getter: TypeAlias = Callable[[RequestView], bytes | None]


def getter(key: Key) -> Getter:
    """Return the function that reads the value named by `key` from a head; None when the head does not have it."""
    source, text = key
    name = text.encode()
    if source == "query":
        return lambda head: first_value(head.query, name)
    match text:
        case ":method":
            return lambda head: head.method
        case ":scheme":
            return lambda head: head.scheme
        case ":authority":
            return lambda head: head.authority
        case ":path":
            return lambda head: head.path + b"?" + head.query if head.query else head.path
        case _:
            return lambda head: head.header(name)


def first_value(query: bytes, name: bytes) -> bytes | None:
    """Return the first value of a query parameter as Envoy reads it: nothing is percent-decoded, `a` means `a=`."""
    if name not in query:
        return None
    for item in query.split(b"&"):
        key, _, value = item.partition(b"=")
        if key == name:
            return value
    return None


def cookie_value(cookies: bytes | None, name: bytes) -> bytes:
    """Return the value of a cookie from a Cookie field, without the quotes it may have (RFC 6265 section 4.1.1); b"" for none."""
    if cookies is None or name not in cookies:
        return b""
    for pair in cookies.split(b";"):
        key, _, value = pair.partition(b"=")
        if key.strip() == name:
            value = value.strip()
            return value[1:-1] if len(value) > 1 and value[:1] == value[-1:] == b'"' else value
    return b""


def value_test(match: StringMatch) -> Callable[[bytes], object]:
    """Return a function that gives something true for the values that a condition on one (not `present`) accepts.

    Raises:
        RegexError: the pattern is not acceptable.
    """
    value = match.value.encode()
    if match.kind == "regex":
        return Pattern(match.value).matches
    if match.kind == "prefix":
        return lambda found: found.startswith(value)
    return value.__eq__
